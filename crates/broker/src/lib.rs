//! All AMQP of Countersign: the topology as data, sessions, the lane and the publisher.
//!
//! **One task owns a publishing channel, and every await has a timeout.** Anything unexpected (a nack, a
//! return, a closed channel, `Ok(false)` from an ack) is an error that drops the connections of the lane; an
//! unacked delivery comes back, and nothing else needs to be remembered.

pub mod access;
pub mod contract;
pub mod crash;
pub mod declare;
pub mod definitions;
mod error;
pub mod lane;
pub mod management;
mod properties;
pub mod publisher;
pub mod reader;
pub mod rpc;
pub mod session;
pub mod stream;
pub mod topology;

pub use error::BrokerError;
