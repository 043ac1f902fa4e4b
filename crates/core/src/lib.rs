//! Countersign's domain: states, policy, permits, sampling, message types.
//!
//! **No I/O, no clock, no randomness.** Time and entropy come in as arguments, so that everything here can be
//! tested in milliseconds and computed again by others. The reading order below is the order of an action's
//! life.

pub mod action;
pub mod approval;
pub mod attempt;
pub mod audit;
pub mod digest;
pub mod evidence;
pub mod ids;
pub mod json;
pub mod keyed;
pub mod message;
pub mod permit;
pub mod proposal;
pub mod refusal;
pub mod signed;
pub mod sources;
pub mod stratum;
pub mod transition;
pub mod verdict;
