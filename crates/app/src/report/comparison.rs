//! Drift and fairness: rates of groups compared with a reference, or with themselves at an earlier time.

mod figures;
mod groups;
mod pointer;

use std::time::Duration;

use chrono::{DateTime, Utc};
use countersign_store::comparison::{GroupBy, GroupQuery, group_counts};
use serde::{Deserialize, Serialize};

pub use self::figures::{Difference, Group, Measured, Share};
use self::groups::{Counted, compared};
use crate::{AppError, Connections, configuration};

/// Into how many blocks a period is divided. The test learns the groups' rates from earlier blocks, so that few show little;
/// more than this gain nearly nothing.
const BLOCKS: u32 = 20;

/// The most groups that are compared.
pub const GROUPS: u32 = 20;

/// The most counts that are read.
const ROWS: u32 = 200_000;

/// What is compared with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Each agent, tool and stratum from this time on with itself before.
    Drift(DateTime<Utc>),
    /// Groups with one of them.
    Fairness {
        /// The JSON pointer to the group.
        by: String,
        /// The group with which the others are compared; absent: the largest.
        reference: Option<String>,
    },
}

/// A request for a comparison.
#[derive(Clone, Debug)]
pub struct CompareGroups {
    /// Actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// What is compared.
    pub compare: Compare,
    /// The fewest cases of which a rate is shown.
    pub least: u64,
    /// How long a request for approval may wait.
    pub slow: Duration,
    /// The false discovery rate of the flags, and the probability outside the intervals; 0 to 1.
    pub level: f64,
}

/// Groups compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparisons {
    /// Actions accepted since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// When the later period begins; absent in a report on fairness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<DateTime<Utc>>,
    /// The JSON pointer to the group; absent in a report on drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The group with which the others are compared; absent in a report on drift, and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Of all flags, at most this share is wrong on average, 0 to 1. Also the probability outside the intervals of a measure
    /// all together.
    pub level: f64,
    /// The fewest cases of which a rate is shown.
    pub least: u64,
    /// After how many seconds a request for approval has waited long.
    pub slow_seconds: f64,
    /// All actions of the time range, without compensations.
    pub actions: u64,
    /// Actions whose group is not known: it is not in their content, or that is erased.
    pub not_known: u64,
    /// Actions of groups that are not listed: too small, or beyond the largest.
    pub not_listed: u64,
    /// The groups, the reference first, then by name.
    pub groups: Vec<Group>,
}

/// Compares groups.
///
/// # Errors
/// Where the request makes no sense, there is more than can be compared, or the database cannot be read.
pub async fn compare(connections: &Connections, request: CompareGroups) -> Result<Comparisons, AppError> {
    let CompareGroups { from, to, compare, least, slow, level } = request;
    let wrong = |text: &str| Err(AppError::Usage(text.into()));
    if !(level > 0.0 && level < 1.0) {
        return wrong("the level is a probability between 0 and 1, such as 0.05");
    }
    let (split, by, reference, pointer) = match compare {
        Compare::Drift(split) => (Some(split), None, None, None),
        Compare::Fairness { by, reference } => (None, Some(pointer::grouping(&by)?), reference, Some(by)),
    };
    if !(from < split.unwrap_or(to) && split.is_none_or(|split| split < to)) {
        return wrong("the times must be in order: --from before --to, and --split between them");
    }
    let store = connections.store()?;
    let by = match by {
        None => GroupBy::Stratum,
        Some(pointer::Grouping::Content(path)) => GroupBy::Content(path),
        Some(pointer::Grouping::Directory(attribute)) => {
            GroupBy::Agent(attribute.of(&configuration::active(&store).await?.directory))
        }
    };
    let query = GroupQuery {
        from,
        to,
        split: split.unwrap_or(to),
        by,
        reference: reference.clone(),
        least: least.max(1),
        groups: GROUPS,
        blocks: BLOCKS,
        slow_seconds: slow.as_secs_f64(),
        rows: ROWS,
    };
    let tx = store.snapshot().await?;
    let counts = group_counts(&tx, &query).await?;
    tx.commit().await?;
    if counts.len() >= ROWS as usize {
        return wrong(
            "these actions were drawn with too many inclusion probabilities; narrow the time range",
        );
    }
    let counted = Counted::of(&counts, BLOCKS as usize);
    let (groups, reference) = compared(&counted, split.is_some(), reference, least.max(1), level);
    Ok(Comparisons {
        from,
        to,
        split,
        by: pointer,
        reference,
        level,
        least: least.max(1),
        slow_seconds: slow.as_secs_f64(),
        actions: counted.actions,
        not_known: counted.not_known,
        not_listed: counted.not_listed,
        groups,
    })
}
