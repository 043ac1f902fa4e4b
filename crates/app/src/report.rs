//! The trade-off between approval before and audit after, measured on the actions of a time range.

pub mod comparison;
pub mod explanation;
mod gold;
mod learning;
mod rates;
pub mod reviewers;
mod scores;
mod versions;

use chrono::{DateTime, Utc};
use countersign_store::{
    Transaction, generation,
    rates::{draws, scores},
    report::lines,
};
pub use countersign_store::{
    learning::Lowered,
    report::{Line, Percentiles},
    sampling_plans::PlanChange,
};
use serde::{Deserialize, Serialize};

pub use self::{
    gold::{Auditors, CorrectedRate, Gold, Share},
    learning::{Agreement, Correction, Learning, Prevented, Remediations},
    rates::{Bound, Rate, RateCell},
    scores::ScoredRate,
    versions::Version,
};
use crate::{AppError, Connections};

/// The time range that is measured.
#[derive(Clone, Copy, Debug)]
pub struct MeasureReport {
    /// Actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// When it was measured, by the database's clock: what was committed later is not in it.
    pub measured_at: DateTime<Utc>,
    /// One line per pattern, and one per rule within it.
    pub lines: Vec<Line>,
    /// Error rates of what was executed: all together, then each rule, followed by its
    /// strata.
    pub rates: Vec<Rate>,
    /// The error rates of rules with a score, estimated with its help.
    #[serde(default)]
    pub scored: Vec<ScoredRate>,
    /// How auditors judge gold items, and rates corrected for that.
    pub gold: Gold,
    /// Errors corrected and prevented by humans, and the effect of their feedback.
    pub learning: Learning,
}

/// Measures the actions of a time range.
///
/// # Errors
/// Where the database cannot be read.
pub async fn report(connections: &Connections, request: MeasureReport) -> Result<Report, AppError> {
    // One snapshot, so that all figures are about the same actions and audits.
    let tx = connections.store()?.snapshot().await?;
    measure(&tx, request).await
}

/// The same in a transaction.
///
/// # Errors
/// Where the database cannot be read.
pub async fn measure(tx: &Transaction, request: MeasureReport) -> Result<Report, AppError> {
    let MeasureReport { from, to } = request;
    let measured_at = generation::now(tx).await?;
    let lines = lines(tx, from, to).await?;
    let counts = draws(tx, from, to).await?;
    let rates = rates::rates(&counts);
    let scored = scores::rates(&scores(tx, from, to).await?);
    let gold = gold::gold(tx, from, to, &counts).await?;
    let learning = learning::learning(tx, from, to, rates.first()).await?;
    Ok(Report { from, to, measured_at, lines, rates, scored, gold, learning })
}
