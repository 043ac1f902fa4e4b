//! Countersign's domain: states, policy, permits, sampling, message types.
//!
//! **No I/O, no clock, no randomness.** Time and entropy come in as arguments, so that everything here can be
//! tested in milliseconds and computed again by others. The reading order below is the order of an action's
//! life.

pub mod message;
pub mod json;
pub mod proposal;
pub mod config;
pub mod action;
pub mod transition;
pub mod digest;
pub mod permit;
pub mod keyed;
pub mod ids;
