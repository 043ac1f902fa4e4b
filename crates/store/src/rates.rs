//! Error rates of executed actions, estimated from the audits that the coin has drawn.

use chrono::{DateTime, Utc};
use countersign_statistics::{
    binomial::Interval,
    estimate::{Estimate, Group, estimate},
};
use serde::{Deserialize, Serialize};

use crate::{StoreError, Transaction};

/// What is known of a stratum, or of all together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// The stratum; absent for all together.
    pub stratum: Option<String>,
    /// Actions whose tool was called.
    pub executed: u64,
    /// Audits that were drawn and judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
    /// Audits that were drawn and not judged yet: they widen the interval.
    pub missing: u64,
    /// Horvitz and Thompson's estimate of the number of errors.
    pub errors: f64,
    /// Errors that nobody has looked at.
    pub undetected: f64,
    /// Hájek's estimate of the error rate; absent where nothing was judged.
    pub rate: Option<f64>,
    /// The lower end of its 95 % interval.
    pub lower: f64,
    /// The upper end of its 95 % interval.
    pub upper: f64,
}

impl Rate {
    pub(crate) fn of(stratum: Option<String>, executed: &[u64], groups: &[Group]) -> Self {
        let Estimate { errors, rate, interval, undetected } = estimate(executed, groups);
        let sum = |pick: fn(&Group) -> u64| groups.iter().map(pick).sum();
        Self {
            stratum,
            executed: executed.iter().sum(),
            judged: sum(|group| group.judged),
            wrong: sum(|group| group.wrong),
            missing: sum(|group| group.missing),
            errors,
            undetected,
            rate,
            lower: interval.lower,
            upper: interval.upper,
        }
    }

    /// The estimate alone.
    pub(crate) fn estimate(&self) -> Estimate {
        let interval = Interval { lower: self.lower, upper: self.upper };
        Estimate { errors: self.errors, rate: self.rate, interval, undetected: self.undetected }
    }
}

/// Estimates the actions accepted in `from..to`: all together, then by stratum. Empty where nothing was executed.
pub async fn rates(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Rate>, StoreError> {
    let rows = tx.query(include_str!("sql/rates.sql"), &[&from, &to]).await?;
    let mut strata: Vec<(String, u64, Vec<Group>)> = Vec::new();
    for row in &rows {
        let name: String = row.get("stratum");
        let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
        if strata.last().is_none_or(|(last, _, _)| *last != name) {
            strata.push((name, 0, vec![]));
        }
        let stratum = strata.len() - 1;
        if let Some((_, executed, groups)) = strata.last_mut() {
            *executed += count("executed");
            groups.push(Group {
                stratum,
                pi: row.get("pi"),
                judged: count("judged"),
                wrong: count("wrong"),
                missing: count("missing"),
            });
        }
    }
    if strata.is_empty() {
        return Ok(vec![]);
    }
    let executed: Vec<u64> = strata.iter().map(|(_, executed, _)| *executed).collect();
    let all: Vec<Group> = strata.iter().flat_map(|(_, _, groups)| groups.clone()).collect();
    let mut rates = vec![Rate::of(None, &executed, &all)];
    rates.extend(strata.into_iter().map(|(name, executed, groups)| {
        let alone: Vec<Group> = groups.into_iter().map(|group| Group { stratum: 0, ..group }).collect();
        Rate::of(Some(name), &[executed], &alone)
    }));
    Ok(rates)
}
