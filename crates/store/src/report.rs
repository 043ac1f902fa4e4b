//! The trade-off between approval before and audit after, measured on the actions of a time range.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::{StoreError, Transaction};

/// Seconds at the 50th, 95th and 99th percentile (`percentile_cont`: interpolated).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95 of 100 took no longer.
    pub p95: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
}

/// The numbers of a pattern or a rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// `approval` (before execution), `audit` (after it) or `deny`.
    pub pattern: String,
    /// The rule; absent in the line of a whole pattern.
    pub rule: Option<String>,
    /// Actions accepted.
    pub actions: i64,
    /// Actions whose tool was called.
    pub executed: i64,
    /// Human decisions.
    pub reviews: i64,
    /// Audits opened.
    pub audits: i64,
    /// Audits judged.
    pub audits_judged: i64,
    /// Rejected by a human before they had an effect.
    pub errors_prevented: i64,
    /// Found wrong by an auditor after they had one.
    pub errors_found: i64,
    /// In doubt at some point.
    pub in_doubt: i64,
    /// Expired.
    pub expired: i64,
    /// Not ended yet.
    pub open: i64,
    /// From acceptance to the start of the call.
    pub added_latency: Option<Percentiles>,
    /// The part spent waiting for a human.
    pub human_latency: Option<Percentiles>,
    /// The rest.
    pub machine_latency: Option<Percentiles>,
}

impl Line {
    /// Executed of all, 0 to 1.
    pub fn executed_share(&self) -> f64 {
        ratio(self.executed, self.actions)
    }

    /// Reviews per 100 actions.
    pub fn reviews_per_100(&self) -> f64 {
        100.0 * ratio(self.reviews, self.actions)
    }

    /// Audits per 100 actions.
    pub fn audits_per_100(&self) -> f64 {
        100.0 * ratio(self.audits, self.actions)
    }
}

fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percentiles(row: &Row, column: &str) -> Option<Percentiles> {
    let values: Option<Vec<Option<f64>>> = row.get(column);
    match values?.as_slice() {
        [Some(p50), Some(p95), Some(p99)] => Some(Percentiles { p50: *p50, p95: *p95, p99: *p99 }),
        _ => None,
    }
}

/// A line per pattern and rule of the actions accepted in `from..to`.
pub async fn lines(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Line>, StoreError> {
    let rows = tx.query(include_str!("sql/report.sql"), &[&from, &to]).await?;
    let line = |row: &Row| Line {
        pattern: row.get("pattern"),
        rule: row.get("rule"),
        actions: row.get("actions"),
        executed: row.get("executed"),
        reviews: row.get("reviews"),
        audits: row.get("audits"),
        audits_judged: row.get("audits_judged"),
        errors_prevented: row.get("errors_prevented"),
        errors_found: row.get("errors_found"),
        in_doubt: row.get("in_doubt"),
        expired: row.get("expired"),
        open: row.get("open"),
        added_latency: percentiles(row, "added"),
        human_latency: percentiles(row, "human"),
        machine_latency: percentiles(row, "machine"),
    };
    Ok(rows.iter().map(line).collect())
}
