//! The figures of a line.

use std::collections::BTreeMap;

use countersign_statistics::{
    binomial::{Interval, clopper_pearson},
    comparison::{AuditCounts, Measured, difference},
    groups::{self, GroupCell},
    quantile::{Quantile, quantile},
};
use serde::{Deserialize, Serialize};

use super::case::{Case, people};
use crate::report::comparison::Share;

/// What a person, as auditor, judged of gold items: known to be wrong and of these found wrong, known to be right and of these
/// found correct.
pub(super) type Gold = [[u64; 2]; 2];

/// What is shown.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The fewest cases of which a figure is shown.
    pub(super) minimum: u64,
    /// The fewest people of whom a figure is shown that is not one person's.
    pub(super) peers: usize,
}

/// The figures of a person, or of several together, and of a rule or a stratum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewerLine {
    /// The person; absent for all others together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// How many people it is about.
    pub people: usize,
    /// The rule; absent for all decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The stratum; absent for all of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<String>,
    /// Actions decided on. Each counts once for a person, with the last decision.
    pub cases: u64,
    /// The confidence of each interval of the line alone, 0 to 1: those of one figure hold together with 95 % in all lines of a
    /// kind (all, rules, strata).
    pub confidence: f64,
    /// Approved, of what was decided.
    pub approved: Shown<Share>,
    /// The same of all other reviewers in the same stratum, and the difference; absent outside of strata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Shown<PeerDifference>>,
    /// Found wrong by auditors, of what they approved and was executed; estimated from the audits that were drawn.
    pub approved_wrong: Shown<Share>,
    /// Rejections found wrong by auditors, of what they rejected; estimated in the same way.
    pub rejected_wrong: Shown<Share>,
    /// Decided otherwise at first, on the same content.
    pub changed: Shown<Share>,
    /// The time from the request to the first decision.
    pub time: Shown<Times>,
    /// How they judge gold items as auditors; absent where they judged none, and in lines of rules and strata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<GoldShares>,
}

/// A figure, unless it rests on too few cases or people.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown<T> {
    /// Too few cases, or people, for a figure.
    TooFew,
    /// The figure.
    Figure(T),
}

/// A rate beside that of peers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerDifference {
    /// How many peers.
    pub people: usize,
    /// Their rate.
    pub peers: Share,
    /// The person's rate less theirs.
    pub difference: f64,
    /// The lower end of its interval, which is made of those of both rates.
    pub lower: f64,
    /// The upper end of its interval.
    pub upper: f64,
}

/// Percentiles of times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many decisions were timed.
    pub cases: u64,
    /// The tenth percentile: one in ten took no longer.
    pub p10: Percentile,
    /// The median.
    pub median: Percentile,
    /// The ninetieth percentile.
    pub p90: Percentile,
}

/// A percentile with an interval that assumes nothing of the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// Seconds.
    pub seconds: f64,
    /// The lower end; absent where there are too few cases for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<f64>,
    /// The upper end; absent where there are too few cases for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<f64>,
}

/// How a person judges what is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldShares {
    /// Found wrong, of what is known to be wrong.
    pub sensitivity: Shown<Share>,
    /// Found correct, of what is known to be right.
    pub specificity: Shown<Share>,
}

impl ReviewerLine {
    /// The figures of these decisions of a person, or of several together, and of those of `peers` beside them. Each interval misses
    /// with probability `alpha`.
    pub(super) fn of(
        person: Option<&str>,
        own: &[Case<'_>],
        peers: Option<&[Case<'_>]>,
        gold: Option<Gold>,
        rules: Rules,
        alpha: f64,
    ) -> Self {
        let people = people(own);
        // What is not shown by name must be of several.
        let visible = person.is_some() || people >= rules.peers;
        let minimum = if visible { rules.minimum } else { u64::MAX };
        let share = |share: Option<Share>| enough(share, |share| share.cases, minimum);
        let approves = |case: &Case<'_>| case.row.decision == "approve";
        Self {
            person: person.map(str::to_owned),
            people,
            rule: None,
            stratum: None,
            cases: own.len() as u64,
            confidence: 1.0 - alpha,
            approved: share(counted(own, approves, alpha)),
            peers: peers.map(|peers| beside(own, peers, rules, alpha)),
            approved_wrong: share(overturned(own, "approve", alpha)),
            rejected_wrong: share(overturned(own, "reject", alpha)),
            changed: share(counted(own, |case| case.row.changed, alpha)),
            time: enough(times(own, alpha), |times| times.cases, minimum),
            gold: gold.filter(|known| *known != Gold::default()).map(|[wrong, right]| GoldShares {
                sensitivity: share(recognised(wrong, alpha)),
                specificity: share(recognised(right, alpha)),
            }),
        }
    }
}

/// A figure that rests on at least `minimum` cases.
fn enough<T>(figure: Option<T>, cases: impl Fn(&T) -> u64, minimum: u64) -> Shown<T> {
    figure.filter(|figure| cases(figure) >= minimum).map_or(Shown::TooFew, Shown::Figure)
}

/// The rate of a group of cells, with its interval.
fn rate(cells: &[GroupCell], alpha: f64) -> Option<Share> {
    let Measured { rate, interval } = groups::rate(cells, alpha)?;
    let AuditCounts { judged, wrong } = groups::judged(cells);
    let missing = cells.iter().map(|cell| cell.missing).sum();
    Some(Share {
        cases: judged,
        positive: wrong,
        missing,
        rate,
        lower: interval.lower,
        upper: interval.upper,
    })
}

/// The share of the decisions that are so.
fn counted(cases: &[Case<'_>], is: impl Fn(&Case<'_>) -> bool, alpha: f64) -> Option<Share> {
    let judged = cases.len() as u64;
    let wrong = cases.iter().filter(|case| is(case)).count() as u64;
    let blocks = vec![AuditCounts { judged, wrong }];
    rate(&[GroupCell { pi: 1.0, executed: judged, missing: 0, blocks }], alpha)
}

/// The share that auditors found wrong of what these decisions led to, by cells of one inclusion probability.
fn overturned(cases: &[Case<'_>], decision: &str, alpha: f64) -> Option<Share> {
    let mut cells: BTreeMap<u64, GroupCell> = BTreeMap::new();
    for row in cases.iter().map(|case| case.row).filter(|row| row.stands && row.decision == decision) {
        // Doubles from 0 to 1 are in the order of their bits.
        let cell = cells.entry(row.pi.to_bits()).or_insert_with(|| GroupCell {
            pi: row.pi,
            executed: 0,
            missing: 0,
            blocks: vec![AuditCounts::default()],
        });
        cell.executed += 1;
        match (&row.finding, cell.blocks.first_mut()) {
            (Some(finding), Some(counts)) => {
                counts.judged += 1;
                counts.wrong += u64::from(finding == "wrong");
            }
            _ => cell.missing += u64::from(row.selected),
        }
    }
    rate(&cells.into_values().collect::<Vec<_>>(), alpha)
}

fn recognised([items, recognised]: [u64; 2], alpha: f64) -> Option<Share> {
    let interval = clopper_pearson(recognised as f64, items as f64, alpha);
    let rate = (items > 0).then(|| recognised as f64 / items as f64)?;
    Some(Share {
        cases: items,
        positive: recognised,
        missing: 0,
        rate,
        lower: interval.lower,
        upper: interval.upper,
    })
}

/// The share of approvals beside that of peers in the same stratum.
fn beside(own: &[Case<'_>], peers: &[Case<'_>], rules: Rules, alpha: f64) -> Shown<PeerDifference> {
    let approves = |case: &Case<'_>| case.row.decision == "approve";
    let shown =
        |cases: &[Case<'_>]| counted(cases, approves, alpha).filter(|share| share.cases >= rules.minimum);
    let (Some(one), Some(others)) = (shown(own), shown(peers)) else { return Shown::TooFew };
    let people = people(peers);
    if people < rules.peers {
        return Shown::TooFew;
    }
    let [of, base] = [one, others].map(|share| Measured {
        rate: share.rate,
        interval: Interval { lower: share.lower, upper: share.upper },
    });
    let Measured { rate, interval } = difference(of, base);
    let (lower, upper) = (interval.lower, interval.upper);
    Shown::Figure(PeerDifference { people, peers: others, difference: rate, lower, upper })
}

fn times(cases: &[Case<'_>], alpha: f64) -> Option<Times> {
    let mut seconds: Vec<f64> = cases.iter().filter_map(|case| case.row.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let at = |p: f64| {
        let Quantile { value, lower, upper } = quantile(&seconds, p, alpha)?;
        Some(Percentile { seconds: value, lower, upper })
    };
    Some(Times { cases: seconds.len() as u64, p10: at(0.1)?, median: at(0.5)?, p90: at(0.9)? })
}
