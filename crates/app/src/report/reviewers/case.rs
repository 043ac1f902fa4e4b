//! Decisions of people.

use std::collections::BTreeSet;

use countersign_store::reviewers::ReviewedCase;

/// A person's last decision on an action.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) person: &'a str,
    pub(super) row: &'a ReviewedCase,
}

/// How many people these decisions are from.
pub(super) fn people(cases: &[Case<'_>]) -> usize {
    cases.iter().map(|case| case.person).collect::<BTreeSet<_>>().len()
}
