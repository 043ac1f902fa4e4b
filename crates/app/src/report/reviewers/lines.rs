//! The lines of the report: which decisions belong to which.

use std::collections::BTreeMap;

use countersign_statistics::estimate::{ALPHA, each_of};
use countersign_store::reviewers::ReviewedCase;

use super::{
    case::Case,
    figures::{Gold, ReviewerLine, Rules},
    viewer::Viewer,
};

/// The part of a person's decisions that a line is about: all, those under a rule, or those in a stratum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part<'a> {
    rule: Option<&'a str>,
    stratum: Option<&'a str>,
}

impl<'a> Part<'a> {
    const ALL: Part<'static> = Part { rule: None, stratum: None };

    /// The parts to which a decision belongs.
    fn of(row: &'a ReviewedCase) -> [Self; 3] {
        let (rule, stratum) = (Some(row.rule.as_str()), Some(row.stratum.as_str()));
        [Self::ALL, Part { rule, stratum: None }, Part { rule, stratum }]
    }

    /// 0 for all, 1 for a rule, 2 for a stratum: lines of one kind are compared with each other.
    fn kind(&self) -> usize {
        usize::from(self.rule.is_some()) + usize::from(self.stratum.is_some())
    }
}

/// Whose decisions a line is about, in the order of lines: not the first person's, and the person; `None` for all whom the viewer
/// sees together, who come last.
type Who<'a> = (bool, Option<&'a str>);

/// The lines that the viewer may see, the first person's first. `gold` has what a person judged of gold items, as auditor.
pub(super) fn lines<'a>(
    cases: &[Case<'a>],
    viewer: &Viewer<'a>,
    rules: Rules,
    gold: impl Fn(&str) -> Gold,
) -> Vec<ReviewerLine> {
    let mut parts: BTreeMap<(Who<'_>, Part<'_>), Vec<Case<'_>>> = BTreeMap::new();
    let mut strata: BTreeMap<&str, Vec<Case<'_>>> = BTreeMap::new();
    for case in cases {
        strata.entry(&case.row.stratum).or_default().push(*case);
        let first = viewer.first == Some(case.person);
        let who = (!first, Some(case.person).filter(|_| first || viewer.operator));
        for part in Part::of(case.row) {
            parts.entry((who, part)).or_default().push(*case);
        }
    }
    let enough = |cases: &[Case<'_>]| cases.len() as u64 >= rules.minimum;
    let mut compared = [0; 3];
    for (_, part) in parts.iter().filter(|(_, own)| enough(own)).map(|(key, _)| key) {
        compared[part.kind()] += 1;
    }
    let line = |(((_, who), part), own): (&(Who<'_>, Part<'_>), &Vec<Case<'_>>)| {
        // Only within a stratum peers decide on what is alike.
        let peers = who.zip(part.stratum).and_then(|(who, stratum)| {
            let others = strata.get(stratum)?.iter().filter(|case| case.person != who);
            Some(others.copied().collect::<Vec<_>>())
        });
        let alpha = each_of(compared[part.kind()], ALPHA);
        let gold = who.filter(|_| *part == Part::ALL).map(&gold);
        ReviewerLine {
            rule: part.rule.map(str::to_owned),
            stratum: part.stratum.map(str::to_owned),
            ..ReviewerLine::of(*who, own, peers.as_deref(), gold, rules, alpha)
        }
    };
    parts.iter().map(line).collect()
}
