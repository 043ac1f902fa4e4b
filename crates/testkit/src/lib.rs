//! Private RabbitMQ and PostgreSQL, fault injection and builders. For development only.

pub mod services;
pub mod isolation;
pub mod wait;
pub mod proxy;
pub mod process;
pub mod system;
pub mod clients;
pub mod tools;
