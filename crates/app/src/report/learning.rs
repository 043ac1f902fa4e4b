//! Errors that humans have prevented and corrected, their agreement, and the effect of their feedback.

use chrono::{DateTime, Utc};
use countersign_statistics::{
    agreement::Pairs,
    binomial::Interval,
    efficacy::{self, REFERENCE},
};
use countersign_store::{
    Transaction,
    learning::{self, LearningCounts, Lowered},
    sampling_plans::{self, PlanChange},
};
use serde::{Deserialize, Serialize};

use super::{
    rates::Rate,
    versions::{Version, versions},
};
use crate::AppError;

/// The part of the report about human feedback.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learning {
    /// The share of executed errors that was corrected; absent without audits to estimate their number.
    pub correction: Option<Correction>,
    /// Errors that reviewers prevented.
    pub prevented: Prevented,
    /// Each version of an agent: the earlier and the later half of what it did. Their intervals hold together.
    pub versions: Vec<Version>,
    /// How far auditors agree.
    pub agreement: Agreement,
    /// Changes of sampling plans in the time range.
    pub plan_changes: Vec<PlanChange>,
    /// Remediation tasks.
    pub remediations: Remediations,
    /// Groups that could not judge as many audits as the rates ask for.
    pub lowered: Vec<Lowered>,
}

/// Correction efficacy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Errors found, and compensated by a tool or fixed by people.
    pub corrected: u64,
    /// The estimated number of errors among what was executed; absent where it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<f64>,
    /// The ratio of the two, 0 to 1; absent if the number is unknown or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The lower end of its 95 % interval.
    pub lower: f64,
    /// The upper end of its 95 % interval.
    pub upper: f64,
    /// The reference range: lower and upper end.
    pub reference: [f64; 2],
}

/// Errors that reviewers prevented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prevented {
    /// Actions that reviewers rejected, or answered with a message.
    pub rejections: u64,
    /// Actions whose arguments reviewers changed.
    pub edits: u64,
    /// Rejections that an auditor has judged.
    pub rejections_audited: u64,
    /// Of these, upheld.
    pub rejections_upheld: u64,
}

/// Agreement of the first two findings on each action judged by two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Actions judged by two auditors.
    pub pairs: u64,
    /// Both found it wrong.
    pub both_wrong: u64,
    /// One of the two found it wrong.
    pub one_wrong: u64,
    /// Both found it correct.
    pub both_correct: u64,
    /// The share on which they agreed.
    pub raw: Option<f64>,
    /// Agreement on what is wrong: 2a / (2a + b + c).
    pub positive: Option<f64>,
}

/// Remediation tasks at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remediations {
    /// Not closed.
    pub open: u64,
    /// Of these, overdue.
    pub overdue: u64,
}

fn correction(corrected: u64, all: &Rate) -> Option<Correction> {
    let found = efficacy::efficacy(corrected, all.executed, &all.estimate())?;
    let Interval { lower, upper } = found.interval;
    let reference = [REFERENCE.lower, REFERENCE.upper];
    Some(Correction { corrected, errors: all.errors, share: found.share, lower, upper, reference })
}

fn agreement(counts: &LearningCounts) -> Agreement {
    let LearningCounts { both_wrong, first_wrong, second_wrong, both_correct, .. } = *counts;
    let pairs = Pairs { both_wrong, first_wrong, second_wrong, both_correct };
    Agreement {
        pairs: pairs.all(),
        both_wrong,
        one_wrong: first_wrong + second_wrong,
        both_correct,
        raw: pairs.raw(),
        positive: pairs.positive(),
    }
}

/// Human feedback on the actions accepted in `from..to`; `all` is the error rate of all that were executed.
pub(super) async fn learning(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    all: Option<&Rate>,
) -> Result<Learning, AppError> {
    let counts = learning::counts(tx, from, to).await?;
    Ok(Learning {
        correction: all.and_then(|all| correction(counts.corrected, all)),
        prevented: Prevented {
            rejections: counts.rejections,
            edits: counts.edits,
            rejections_audited: counts.rejections_audited,
            rejections_upheld: counts.rejections_upheld,
        },
        versions: versions(tx, from, to).await?,
        agreement: agreement(&counts),
        plan_changes: sampling_plans::moves(tx, from, to).await?,
        remediations: Remediations { open: counts.tasks_open, overdue: counts.tasks_overdue },
        lowered: learning::lowered(tx, from, to).await?,
    })
}
