//! Private RabbitMQ and PostgreSQL, fault injection and builders. For development only.

pub mod build;
pub mod clients;
pub mod clock;
pub mod isolation;
pub mod process;
pub mod proxy;
pub mod raw_amqp;
pub mod recording;
pub mod services;
pub mod system;
pub mod tools;
pub mod wait;
