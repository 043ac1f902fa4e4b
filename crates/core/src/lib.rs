//! Countersign's domain: states, approvals, permits, messages, refusals and evidence.
//!
//! **No I/O, no clock, no randomness.** Time and entropy are arguments, so that everything here can be tested in
//! milliseconds and recomputed by others.
//!
//! In the order of an action's life:
//! - [`json`] parses messages strictly, [`message`] has the data of each type, and [`proposal`] decodes a proposal.
//! - [`ids`] has a type per id; [`digest`] binds what is approved.
//! - [`verdict`] is the policy's verdict, and [`sources`] has the texts that the policy was read from.
//! - [`action`] has the states of an action, [`transition`] what moves it from one to the next.
//! - [`approval`] is a request for approval and its quorum; [`signed`] are signed decisions and findings; [`person`] tells
//!   who is whom.
//! - [`permit`] authorises one execution, and [`attempt`] is one call to a tool.
//! - [`stratum`] names the group of comparable actions, [`keyed`] draws from it, and [`audit`] settles findings.
//! - [`evidence`] has every kind of event that is recorded.
//! - [`refusal`] has every code with its meaning.

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
pub mod person;
pub mod proposal;
pub mod quota;
pub mod refusal;
pub mod signed;
pub mod sources;
pub mod stratum;
pub mod transition;
pub mod verdict;
