//! How auditors judge what is known, and error rates corrected for that.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use countersign_statistics::{
    auditor_error::{Known, correct},
    binomial::clopper_pearson,
    estimate::{ALPHA, Cell, each_of, effective_audits},
};
use countersign_store::{
    Transaction,
    gold::{self, Judged},
    rates::DrawCounts,
};
use serde::{Deserialize, Serialize};

use super::rates::Rate;
use crate::AppError;

/// The part of the report about gold items: audits of which the right finding is known. No other part counts them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gold {
    /// Each group that has judged some, followed by its auditors. Their intervals hold together with 95 % confidence.
    pub auditors: Vec<Auditors>,
    /// Error rates of all that was executed, and of each rule, corrected for what the groups that audit them miss and mistake.
    /// Empty where no gold item was judged.
    pub corrected: Vec<CorrectedRate>,
}

/// How a group, or one of its auditors, judges what is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Auditors {
    /// The group.
    pub group: String,
    /// The auditor; absent for the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auditor: Option<String>,
    /// Of what is known to be wrong, the share that was found wrong.
    pub sensitivity: Share,
    /// Of what is known to be right, the share that was found correct.
    pub specificity: Share,
}

/// The share of known items that were judged as they are known to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many there were.
    pub items: u64,
    /// Of these, judged as they are known to be.
    pub recognised: u64,
    /// The share, 0 to 1; absent without items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The lower end of its interval (Clopper and Pearson).
    pub lower: f64,
    /// The upper end of its interval.
    pub upper: f64,
}

/// An error rate, plain and corrected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrectedRate {
    /// The rule; absent for all that was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The plain rate, which takes what auditors found for the truth.
    pub plain: f64,
    /// Of the gold items of the groups that audit it, those known to be wrong, and of these found wrong.
    pub known_wrong: [u64; 2],
    /// Those known to be right, and of these found correct.
    pub known_right: [u64; 2],
    /// Rogan and Gladen's estimate; absent where there are not enough gold items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The lower end of its 95 % interval (Lang and Reiczigel); absent where `rate` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// The upper end of its 95 % interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
}

impl Share {
    fn of(items: u64, recognised: u64, alpha: f64) -> Self {
        let interval = clopper_pearson(recognised as f64, items as f64, alpha);
        let share = (items > 0).then(|| recognised as f64 / items as f64);
        Self { items, recognised, share, lower: interval.lower, upper: interval.upper }
    }
}

/// Gold items settled in `from..to`, and the rates of the actions accepted then, which were counted as `counts`.
pub(super) async fn gold(
    tx: &Transaction,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    counts: &[DrawCounts],
) -> Result<Gold, AppError> {
    let judged = gold::judged(tx, from, to).await?;
    if judged.is_empty() {
        return Ok(Gold { auditors: vec![], corrected: vec![] });
    }
    let groups = gold::rules_of_groups(tx, from, to).await?;
    Ok(Gold { auditors: auditors(&judged), corrected: corrected(counts, &groups, &judged) })
}

fn auditors(judged: &[Judged]) -> Vec<Auditors> {
    let alpha = each_of(2 * judged.len(), ALPHA);
    let line = |judged: &Judged| Auditors {
        group: judged.group.clone(),
        auditor: judged.auditor.clone(),
        sensitivity: Share::of(judged.wrong, judged.wrong_found, alpha),
        specificity: Share::of(judged.right, judged.right_found, alpha),
    };
    judged.iter().map(line).collect()
}

/// The rates of all together and of each rule. Counts of one rule must follow each other.
fn corrected(counts: &[DrawCounts], groups: &[(String, String)], judged: &[Judged]) -> Vec<CorrectedRate> {
    let by_rule = counts.chunk_by(|one, other| one.rule == other.rule);
    let rules = by_rule.filter_map(|counts| Some((Some(counts.first()?.rule.as_str()), counts)));
    let line = |(rule, counts): (Option<&str>, &[DrawCounts])| {
        let auditing: BTreeSet<&str> = groups
            .iter()
            .filter(|(of, _)| rule.is_none_or(|rule| rule == of))
            .map(|(_, group)| group.as_str())
            .collect();
        let whole = |judged: &&Judged| judged.auditor.is_none() && auditing.contains(judged.group.as_str());
        let sum = |pick: fn(&Judged) -> u64| judged.iter().filter(whole).map(pick).sum::<u64>();
        let wrong = Known { items: sum(|one| one.wrong), recognised: sum(|one| one.wrong_found) };
        let right = Known { items: sum(|one| one.right), recognised: sum(|one| one.right_found) };
        let plain = Rate::of(counts, 1)?.rate?;
        let cell = |count: &DrawCounts| {
            let DrawCounts { pi, executed, judged, wrong, missing, .. } = *count;
            Cell { pi, executed, judged, wrong, missing }
        };
        let audits = effective_audits(&counts.iter().map(cell).collect::<Vec<Cell>>());
        let found = correct(plain * audits, audits, wrong, right, ALPHA);
        Some(CorrectedRate {
            rule: rule.map(str::to_owned),
            plain,
            known_wrong: [wrong.items, wrong.recognised],
            known_right: [right.items, right.recognised],
            rate: found.map(|found| found.rate),
            lower: found.map(|found| found.interval.lower),
            upper: found.map(|found| found.interval.upper),
        })
    };
    [(None, counts)].into_iter().chain(rules).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rule: &str, [executed, judged, wrong]: [u64; 3]) -> DrawCounts {
        let pi = judged as f64 / executed as f64;
        DrawCounts {
            rule: rule.into(),
            stratum: format!("{rule}/x"),
            pi,
            executed,
            judged,
            wrong,
            missing: 0,
        }
    }

    fn judged(group: &str, auditor: Option<&str>, [wrong, hits, right, passes]: [u64; 4]) -> Judged {
        Judged {
            group: group.into(),
            auditor: auditor.map(str::to_owned),
            wrong,
            wrong_found: hits,
            right,
            right_found: passes,
        }
    }

    #[test]
    fn a_rule_is_corrected_by_the_gold_items_of_the_groups_that_audit_it() {
        let groups =
            [("a", "one"), ("b", "one"), ("b", "two")].map(|(rule, group)| (rule.into(), group.into()));
        let judged = [
            judged("one", None, [50, 40, 50, 50]),
            judged("one", Some("ada"), [30, 10, 30, 30]),
            judged("two", None, [50, 50, 50, 40]),
        ];
        let counts = [counts("a", [1_000, 100, 8]), counts("b", [1_000, 100, 20])];
        let found = corrected(&counts, &groups, &judged);
        let rules: Vec<Option<&str>> = found.iter().map(|rate| rate.rule.as_deref()).collect();
        assert_eq!(rules, [None, Some("a"), Some("b")]);
        assert_eq!((found[1].known_wrong, found[1].known_right), ([50, 40], [50, 50]));
        assert_eq!((found[2].known_wrong, found[2].known_right), ([100, 90], [100, 90]));
        // 0.08 / 0.8: a fifth of what is wrong was missed, and nothing right was mistaken.
        assert!((found[1].rate.unwrap() - 0.1).abs() < 1e-12, "{found:?}");
        // (0.2 + 0.9 - 1) / (0.9 + 0.9 - 1)
        assert!((found[2].rate.unwrap() - 0.125).abs() < 1e-12, "{found:?}");
        assert!(found.iter().all(|rate| rate.lower < rate.rate && rate.rate < rate.upper), "{found:?}");
    }

    #[test]
    fn nothing_is_corrected_by_one_kind_of_item_alone() {
        let groups = [("a".into(), "one".into())];
        let found =
            corrected(&[counts("a", [1_000, 100, 8])], &groups, &[judged("one", None, [50, 40, 0, 0])]);
        assert!(found.iter().all(|rate| rate.plain == 0.08 && rate.rate.is_none() && rate.upper.is_none()));
    }

    #[test]
    fn the_intervals_of_all_auditors_hold_together() {
        let alone = auditors(&[judged("one", None, [50, 40, 0, 0])]);
        let several = auditors(&[judged("one", None, [50, 40, 0, 0]), judged("two", None, [50, 40, 0, 0])]);
        assert!(several[0].sensitivity.lower < alone[0].sensitivity.lower);
        let none = alone[0].specificity;
        assert_eq!((none.items, none.share, none.lower, none.upper), (0, None, 0.0, 1.0));
    }
}
