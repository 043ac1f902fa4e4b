//! The airline of the demo: its tool service, and recorded or written actions with their labels.

mod actions;
mod service;

pub(crate) use actions::{Labels, read};
pub(crate) use service::Airline;
