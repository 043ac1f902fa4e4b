//! What humans have prevented and put right, how far they agree, and what came of it.

mod versions;

use chrono::{DateTime, Utc};
use countersign_statistics::{
    agreement::Pairs,
    binomial::Interval,
    efficacy::{self, REFERENCE},
};
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

pub use self::versions::Version;
use crate::{
    StoreError, Transaction,
    rates::Rate,
    sampling_plans::{self, PlanChange},
};

/// What the report tells besides the trade-off itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learning {
    /// Which part of the executed errors was put right; absent where no audit tells how many there are.
    pub correction: Option<Correction>,
    /// What did not happen because a human said so.
    pub prevented: Prevented,
    /// Each version of an agent, before and after the first time that it was told of an error.
    pub versions: Vec<Version>,
    /// How far auditors agree.
    pub agreement: Agreement,
    /// Moves of classes between approval and audit in the time range.
    pub plan_changes: Vec<PlanChange>,
    /// What people have to put right.
    pub remediations: Remediations,
    /// Groups that could not judge as many audits as the rates ask for.
    pub lowered: Vec<Lowered>,
}

/// Correction efficacy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Found wrong, and undone by a tool or remedied by people.
    pub corrected: u64,
    /// Horvitz and Thompson's estimate of the errors among what was executed.
    pub errors: f64,
    /// The one divided by the other, 0 to 1; absent where no error is estimated.
    pub share: Option<f64>,
    /// The lower end of its 95 % interval.
    pub lower: f64,
    /// The upper end of its 95 % interval.
    pub upper: f64,
    /// The reference figure: its lower and its upper end.
    pub reference: [f64; 2],
}

/// What did not happen because a human said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prevented {
    /// Actions that reviewers rejected, or answered with a message.
    pub rejections: u64,
    /// Actions whose arguments reviewers changed.
    pub edits: u64,
    /// Rejections that an auditor has judged.
    pub rejections_audited: u64,
    /// Of these, found right to have been rejected.
    pub rejections_upheld: u64,
}

/// The first two opinions on each action that two have judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Actions that two have judged.
    pub pairs: u64,
    /// Both found it wrong.
    pub both_wrong: u64,
    /// One of the two did.
    pub one_wrong: u64,
    /// Both found it correct.
    pub both_correct: u64,
    /// The share on which they agreed.
    pub raw: Option<f64>,
    /// Agreement on what is wrong: 2a / (2a + b + c).
    pub positive: Option<f64>,
}

/// Remediation tasks as they stand now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediations {
    /// Not closed.
    pub open: u64,
    /// Of these, past their time.
    pub overdue: u64,
}

/// A group whose capacity lowered its rates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lowered {
    /// The group.
    pub group: String,
    /// In how many epochs of the time range.
    pub epochs: u64,
    /// What was left of its rates in the worst of them, 0 to 1.
    pub remaining: f64,
    /// The audits that an epoch would have asked for, at most.
    pub demand: f64,
    /// The audits that it can judge in an epoch, at least.
    pub capacity: Option<f64>,
}

fn count(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
}

fn correction(corrected: u64, all: &Rate) -> Option<Correction> {
    let found = efficacy::efficacy(corrected, all.executed, &all.estimate())?;
    let Interval { lower, upper } = found.interval;
    let reference = [REFERENCE.lower, REFERENCE.upper];
    Some(Correction { corrected, errors: all.errors, share: found.share, lower, upper, reference })
}

fn agreement(row: &Row) -> Agreement {
    let pairs = Pairs {
        both_wrong: count(row, "both_wrong"),
        first_wrong: count(row, "first_wrong"),
        second_wrong: count(row, "second_wrong"),
        both_correct: count(row, "both_correct"),
    };
    Agreement {
        pairs: pairs.all(),
        both_wrong: pairs.both_wrong,
        one_wrong: pairs.first_wrong + pairs.second_wrong,
        both_correct: pairs.both_correct,
        raw: pairs.raw(),
        positive: pairs.positive(),
    }
}

async fn lowered(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Lowered>, StoreError> {
    let rows = tx.query(include_str!("sql/lowered.sql"), &[&from, &to]).await?;
    let lowered = |row: &Row| Lowered {
        group: row.get("group_name"),
        epochs: count(row, "epochs"),
        remaining: row.get("remaining"),
        demand: row.get("demand"),
        capacity: row.get("capacity"),
    };
    Ok(rows.iter().map(lowered).collect())
}

/// What humans made of the actions accepted in `from..to`; `all` is the error rate of all that were executed.
pub(crate) async fn learning(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    all: Option<&Rate>,
) -> Result<Learning, StoreError> {
    let row = tx.query_one(include_str!("sql/learning.sql"), &[&from, &to]).await?;
    Ok(Learning {
        correction: all.and_then(|all| correction(count(&row, "corrected"), all)),
        prevented: Prevented {
            rejections: count(&row, "rejections"),
            edits: count(&row, "edits"),
            rejections_audited: count(&row, "rejections_audited"),
            rejections_upheld: count(&row, "rejections_upheld"),
        },
        versions: versions::versions(tx, from, to).await?,
        agreement: agreement(&row),
        plan_changes: sampling_plans::moves(tx, from, to).await?,
        remediations: Remediations { open: count(&row, "tasks_open"), overdue: count(&row, "tasks_overdue") },
        lowered: lowered(tx, from, to).await?,
    })
}
