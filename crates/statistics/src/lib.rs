//! What audits say about error rates, and with what confidence: exact intervals, estimates from samples drawn with
//! unequal probabilities, tests that stay valid after every audit, and rules for switching between approval and sampled
//! audits.
//!
//! **No normal approximation of a rate**: a Wald interval of nominal 95 % covered 42 to 68 % on mixed rates. Only the
//! correction for auditors' errors has one, whose coverage is simulated.
//!
//! How many errors are among 1,000 executed actions, of which 100 were drawn with probability 0.1, judged, and 3 found
//! wrong?
//!
//! ```
//! use countersign_statistics::estimate::{ALPHA, Cell, estimate};
//!
//! let audited = Cell { pi: 0.1, executed: 1_000, judged: 100, wrong: 3, missing: 0 };
//! let found = estimate(&[audited], ALPHA);
//! assert_eq!(found.errors, Some(30.0));
//! assert!(found.interval.contains(0.03) && found.interval.upper < 0.1);
//! ```
//!
//! And how many has nobody found, at most, however often one looks and whatever the agents do?
//!
//! ```
//! use countersign_statistics::{anytime::at_most, estimate::{ALPHA, Cell}};
//!
//! let audited = Cell { pi: 0.1, executed: 1_000, judged: 100, wrong: 3, missing: 0 };
//! assert_eq!(at_most(&[audited], ALPHA).undetected, 107);
//! ```
//!
//! Is the rate above 2 %? An e-process may be evaluated after every audit:
//!
//! ```
//! use countersign_statistics::sequential::EProcess;
//!
//! let mut evidence = EProcess::new(0.02);
//! for audit in 0..60 {
//!     evidence.observe(audit % 5 == 0);
//! }
//! assert!(evidence.ln_value() > 20_f64.ln(), "one in five is not 2 %");
//! ```
//!
//! How many clean approvals in a row clear a stratum, if at most 0.5 % of all actions may be wrong and undetected?
//!
//! ```
//! use countersign_statistics::switching::{Plan, PlanState, SwitchingEvent, SwitchingState, Wanted};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plan = Plan::solve(Wanted { limit: 0.02, pi: 0.2, aoql: 0.005, lag: 50 })?;
//! let mut stratum = SwitchingState::new(PlanState::PreApproval);
//! for _ in 0..plan.clearance {
//!     stratum = stratum.after(&plan, SwitchingEvent::Reviewed { wrong: false });
//! }
//! assert_eq!(stratum.state, PlanState::Normal);
//! # Ok(())
//! # }
//! ```

pub mod agreement;
pub mod anytime;
pub mod auditor_error;
pub mod binomial;
pub mod comparison;
pub mod csp;
pub mod difference;
pub mod efficacy;
pub mod estimate;
#[cfg(test)]
mod fixtures;
pub mod groups;
pub mod multiple;
pub mod quantile;
pub mod sequential;
pub mod simulated;
pub mod switching;
