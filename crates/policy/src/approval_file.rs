//! What a rule of `policy.yaml` says about its approval, and its way to an [`ApprovalSpec`].

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::expr::{EXCLUSION, Expression};
use super::policy_file::Reader;
use super::yaml::line;
use countersign_core::approval::{ApprovalSpec, Escalation, Requirement};
use countersign_core::message::Decision;

const LEAST_EXPIRY: Duration = Duration::from_secs(1);
const MOST_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_GROUPS: usize = 10;
const MAX_PEOPLE: u32 = 20;
const MAX_CODES: usize = 50;

/// All that can be said about an approval. The fields stand directly in the rule.
#[derive(Default)]
pub(super) struct RawApproval {
    pub(super) group: Option<Spanned<String>>,
    pub(super) require: Option<Spanned<Vec<RawRequirement>>>,
    pub(super) expires_after: Option<Spanned<String>>,
    pub(super) on_expiry: Option<Spanned<OnExpiry>>,
    pub(super) escalate: Option<Spanned<Vec<RawEscalation>>>,
    pub(super) reject_after: Option<Spanned<u32>>,
    pub(super) decisions: Option<Spanned<Vec<Decision>>>,
    pub(super) reason_codes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) edit_counts: Option<Spanned<bool>>,
    pub(super) exclude: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequirement {
    group: Spanned<String>,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEscalation {
    after: Option<Spanned<String>>,
    also: Spanned<String>,
    /// The required group for which it then counts; may be left out where there is only one.
    #[serde(rename = "for")]
    stands_for: Option<Spanned<String>>,
}

/// What happens when nobody has decided in time.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnExpiry {
    /// The action expires.
    Reject,
    /// The last step of `escalate` is asked, for as long again.
    Escalate,
}

impl RawApproval {
    /// The first field that is there, for a verdict that has no approval.
    pub(super) fn given(&self) -> Option<(&'static str, u64)> {
        let fields = [
            ("group", self.group.as_ref().map(line)),
            ("require", self.require.as_ref().map(line)),
            ("expires_after", self.expires_after.as_ref().map(line)),
            ("on_expiry", self.on_expiry.as_ref().map(line)),
            ("escalate", self.escalate.as_ref().map(line)),
            ("reject_after", self.reject_after.as_ref().map(line)),
            ("decisions", self.decisions.as_ref().map(line)),
            ("reason_codes", self.reason_codes.as_ref().map(line)),
            ("edit_counts", self.edit_counts.as_ref().map(line)),
            ("exclude", self.exclude.as_ref().map(line)),
        ];
        fields.into_iter().find_map(|(name, at)| Some((name, at?)))
    }
}

impl Reader {
    /// Checks what a rule says about its approval. `at` is the line of its verdict.
    pub(super) fn approval(&mut self, at: u64, raw: RawApproval) -> Option<ApprovalSpec> {
        let require = self.require(at, raw.group, raw.require);
        let Some(expires_after) = raw.expires_after else {
            self.problems.add(at, "require_approval has no expires_after", "add expires_after: 30m");
            return None;
        };
        let period = self.problems.duration("expires_after", &expires_after, LEAST_EXPIRY, MOST_EXPIRY);
        let on_expiry = raw.on_expiry.as_ref().map_or(OnExpiry::Reject, |given| given.value);
        let required = require.as_deref().unwrap_or_default();
        let escalate = self.escalate(at, raw.escalate, required, on_expiry, period);
        let spec = ApprovalSpec {
            reject_after: raw.reject_after.as_ref().map_or(1, |given| self.people(given)),
            expires_after: match on_expiry {
                OnExpiry::Reject => period.as_secs(),
                OnExpiry::Escalate => period.as_secs() * 2,
            },
            escalate,
            decisions: self.decisions(raw.decisions),
            reason_codes: self.reason_codes(raw.reason_codes),
            edit_counts: raw.edit_counts.is_some_and(|given| given.value),
            exclude: raw.exclude.and_then(|text| self.exclude(text)).into_iter().collect(),
            require: require?,
        };
        Some(spec)
    }

    fn require(
        &mut self,
        at: u64,
        group: Option<Spanned<String>>,
        require: Option<Spanned<Vec<RawRequirement>>>,
    ) -> Option<Vec<Requirement>> {
        let raw = match (group, require) {
            (Some(group), None) => vec![RawRequirement { group, count: 1 }],
            (None, Some(require)) => require.value,
            (Some(group), Some(_)) => {
                let help = "write either: group: x is short for require: [{group: x, count: 1}]";
                self.problems.add(line(&group), "the rule has group and require", help);
                return None;
            }
            (None, None) => {
                let help = "add group: supervisors, or require: [{group: treasury, count: 2}]";
                self.problems.add(at, "require_approval has no group", help);
                return None;
            }
        };
        let mut seen = BTreeSet::new();
        let people: u32 = raw.iter().map(|one| one.count.min(MAX_PEOPLE + 1)).sum();
        let fits = (1..=MAX_GROUPS).contains(&raw.len()) && people <= MAX_PEOPLE;
        if !fits || raw.iter().any(|one| one.count == 0) {
            let message = format!("require names {} groups and {people} people", raw.len());
            let help = format!(
                "name 1 to {MAX_GROUPS} groups, each with a count from 1, and {MAX_PEOPLE} people at most"
            );
            self.problems.add(at, message, help);
        }
        for one in &raw {
            if !seen.insert(one.group.value.clone()) {
                let message = format!("the group {:?} is required twice", one.group.value);
                self.problems.add(line(&one.group), message, "write it once, with its count");
            }
            self.references.approving(&one.group, one.count);
        }
        let requirement = |one: RawRequirement| Requirement { group: one.group.value, count: one.count };
        Some(raw.into_iter().map(requirement).collect())
    }

    fn people(&mut self, count: &Spanned<u32>) -> u32 {
        if !(1..=MAX_PEOPLE).contains(&count.value) {
            let message = format!("reject_after is {}", count.value);
            self.problems.add(line(count), message, format!("write 1 to {MAX_PEOPLE}"));
        }
        count.value
    }

    fn escalate(
        &mut self,
        at: u64,
        raw: Option<Spanned<Vec<RawEscalation>>>,
        required: &[Requirement],
        on_expiry: OnExpiry,
        period: Duration,
    ) -> Vec<Escalation> {
        let raw = raw.map(|raw| raw.value).unwrap_or_default();
        let last = raw.len().saturating_sub(1);
        let open = raw.last().is_some_and(|step| step.after.is_none());
        if open != (on_expiry == OnExpiry::Escalate) {
            let help = "with on_expiry: escalate, and only then, the last step of escalate has no after: \
                        it is asked when expires_after is over, and has as long again";
            self.problems.add(at, "on_expiry and escalate do not fit together", help);
        }
        let mut steps: Vec<Escalation> = Vec::new();
        for (index, step) in raw.into_iter().enumerate() {
            let after = match &step.after {
                Some(after) => self.problems.duration("after", after, LEAST_EXPIRY, period),
                None => period,
            };
            let ascends = steps.last().is_none_or(|before| before.after < after.as_secs());
            if !ascends || (step.after.is_none() && index != last) {
                let help = "write the steps in order of time, each with an after of its own";
                self.problems.add(line(&step.also), "the step is out of order", help);
            }
            self.references.approving(&step.also, 1);
            let stands_for = self.stands_for(&step, required);
            steps.push(Escalation { after: after.as_secs(), also: step.also.value, stands_for });
        }
        steps
    }

    /// The one required group whose places a step's group may fill.
    fn stands_for(&mut self, step: &RawEscalation, required: &[Requirement]) -> String {
        let at = step.stands_for.as_ref().unwrap_or(&step.also);
        match (&step.stands_for, required) {
            (None, [one]) => return one.group.clone(),
            (None, []) => {}
            (None, _) => self.problems.add(
                line(at),
                format!("for which of the required groups does {:?} count?", step.also.value),
                "add for: with that group: an escalation never joins two groups into one",
            ),
            (Some(group), _) if required.iter().any(|one| one.group == group.value) => {
                return group.value.clone();
            }
            (Some(group), _) => self.problems.add(
                line(at),
                format!("the rule does not require {:?}", group.value),
                "name a group of its require:",
            ),
        }
        String::new()
    }

    fn decisions(&mut self, raw: Option<Spanned<Vec<Decision>>>) -> Vec<Decision> {
        let Some(raw) = raw else { return Decision::ALL.to_vec() };
        if ![Decision::Approve, Decision::Reject].iter().all(|must| raw.value.contains(must)) {
            let help = "list approve and reject, and edit and respond as you like";
            self.problems.add(line(&raw), "decisions lacks approve or reject", help);
        }
        raw.value
    }

    fn reason_codes(&mut self, raw: Option<Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
        let Some(raw) = raw else { return vec![] };
        if raw.value.is_empty() || raw.value.len() > MAX_CODES {
            let message = format!("reason_codes has {} entries", raw.value.len());
            self.problems.add(line(&raw), message, format!("list 1 to {MAX_CODES}, such as [fraud, other]"));
        }
        for code in &raw.value {
            self.problems.id("a reason", code);
        }
        raw.value.into_iter().map(|code| code.value).collect()
    }

    fn exclude(&mut self, text: Spanned<String>) -> Option<String> {
        match Expression::compile(&text.value, &EXCLUSION) {
            Ok(compiled) => {
                self.exclusions.insert(text.value.clone(), compiled);
                return Some(text.value);
            }
            Err(complaints) => {
                for complaint in complaints {
                    self.problems.add(line(&text), format!("exclude: {}", complaint.message), complaint.help);
                }
            }
        }
        None
    }
}
