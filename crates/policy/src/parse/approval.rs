//! The fields of a rule that describe its approval.

use std::{collections::BTreeSet, time::Duration};

use countersign_core::{
    approval::{ApprovalSpec, Escalation, Requirement as RequiredGroup},
    message::Decision,
};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{reader::Reader, yaml::line};
use crate::expr::EXCLUSION;

const LEAST_EXPIRY: Duration = Duration::from_secs(1);
const MOST_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_GROUPS: usize = 10;
const MAX_PEOPLE: u32 = 20;
const MAX_CODES: usize = 50;

/// All fields of an approval. In the file they are fields of the rule itself.
#[derive(Default)]
pub(super) struct Approval {
    pub(super) group: Option<Spanned<String>>,
    pub(super) require: Option<Spanned<Vec<Requirement>>>,
    pub(super) expires_after: Option<Spanned<String>>,
    pub(super) on_expiry: Option<Spanned<OnExpiry>>,
    pub(super) escalate: Option<Spanned<Vec<EscalationStep>>>,
    pub(super) reject_after: Option<Spanned<u32>>,
    pub(super) decisions: Option<Spanned<Vec<Decision>>>,
    pub(super) reason_codes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) edit_counts: Option<Spanned<bool>>,
    pub(super) exclude: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirement {
    group: Spanned<String>,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EscalationStep {
    after: Option<Spanned<String>>,
    also: Spanned<String>,
    /// The required group for which it stands in; may be omitted if there is only one.
    #[serde(rename = "for")]
    stands_for: Option<Spanned<String>>,
}

/// What happens if nobody has decided in time.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnExpiry {
    /// The action expires.
    Reject,
    /// The last step of `escalate` is asked and has the same time again.
    Escalate,
}

impl Approval {
    /// The first field that is present and its line, for a rule that cannot require an approval.
    pub(super) fn first_field(&self) -> Option<(&'static str, u64)> {
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

    /// Checks the approval of a rule. `at` is the line of its verdict.
    pub(super) fn into_model(self, reader: &mut Reader, at: u64) -> Option<ApprovalSpec> {
        let require = required_groups(reader, at, self.group, self.require);
        let Some(expires_after) = self.expires_after else {
            reader.problems.add(at, "the approval has no expires_after", "add expires_after: 30m");
            return None;
        };
        let period = reader.problems.duration("expires_after", &expires_after, LEAST_EXPIRY, MOST_EXPIRY);
        let on_expiry = self.on_expiry.as_ref().map_or(OnExpiry::Reject, |given| given.value);
        let required = require.as_deref().unwrap_or_default();
        let escalate = escalation(reader, at, self.escalate, required, on_expiry, period);
        Some(ApprovalSpec {
            reject_after: self.reject_after.as_ref().map_or(1, |given| reject_after(reader, given)),
            expires_after: match on_expiry {
                OnExpiry::Reject => period.as_secs(),
                OnExpiry::Escalate => period.as_secs() * 2,
            },
            escalate,
            decisions: decisions(reader, self.decisions),
            reason_codes: reason_codes(reader, self.reason_codes),
            edit_counts: self.edit_counts.is_some_and(|given| given.value),
            exclude: self.exclude.and_then(|text| exclusion(reader, text)).into_iter().collect(),
            require: require?,
        })
    }
}

fn required_groups(
    reader: &mut Reader,
    at: u64,
    group: Option<Spanned<String>>,
    require: Option<Spanned<Vec<Requirement>>>,
) -> Option<Vec<RequiredGroup>> {
    let groups = match (group, require) {
        (Some(group), None) => vec![Requirement { group, count: 1 }],
        (None, Some(require)) => require.value,
        (Some(group), Some(_)) => {
            let help = "write one of them: group: x is short for require: [{group: x, count: 1}]";
            reader.problems.add(line(&group), "the rule has both group and require", help);
            return None;
        }
        (None, None) => {
            let help = "add group: supervisors, or require: [{group: treasury, count: 2}]";
            reader.problems.add(at, "the approval has no group", help);
            return None;
        }
    };
    let people: u32 = groups.iter().map(|required| required.count.min(MAX_PEOPLE + 1)).sum();
    let fits = (1..=MAX_GROUPS).contains(&groups.len()) && people <= MAX_PEOPLE;
    if !fits || groups.iter().any(|required| required.count == 0) {
        let message = format!("require lists {} groups and {people} people", groups.len());
        let help = format!(
            "list 1 to {MAX_GROUPS} groups, each with a count of at least 1, and at most {MAX_PEOPLE} people in total"
        );
        reader.problems.add(at, message, help);
    }
    let mut seen = BTreeSet::new();
    for required in &groups {
        if !seen.insert(required.group.value.clone()) {
            let message = format!("the group {:?} is required twice", required.group.value);
            reader.problems.add(line(&required.group), message, "list it once, with its count");
        }
        reader.references.approving(&required.group, required.count);
    }
    let model = |required: Requirement| RequiredGroup { group: required.group.value, count: required.count };
    Some(groups.into_iter().map(model).collect())
}

fn reject_after(reader: &mut Reader, count: &Spanned<u32>) -> u32 {
    if !(1..=MAX_PEOPLE).contains(&count.value) {
        let message = format!("reject_after is {}", count.value);
        reader.problems.add(line(count), message, format!("write 1 to {MAX_PEOPLE}"));
    }
    count.value
}

fn escalation(
    reader: &mut Reader,
    at: u64,
    steps: Option<Spanned<Vec<EscalationStep>>>,
    required: &[RequiredGroup],
    on_expiry: OnExpiry,
    period: Duration,
) -> Vec<Escalation> {
    let steps = steps.map(|steps| steps.value).unwrap_or_default();
    let last = steps.len().saturating_sub(1);
    let open = steps.last().is_some_and(|step| step.after.is_none());
    if open != (on_expiry == OnExpiry::Escalate) {
        let help = "omit after in the last step of escalate if and only if on_expiry is escalate: that step is \
                    asked once expires_after is over, and has the same time again";
        reader.problems.add(at, "on_expiry and escalate contradict each other", help);
    }
    let mut checked: Vec<Escalation> = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        let after = match &step.after {
            Some(after) => reader.problems.duration("after", after, LEAST_EXPIRY, period),
            None => period,
        };
        let ascends = checked.last().is_none_or(|before| before.after < after.as_secs());
        if !ascends || (step.after.is_none() && index != last) {
            let help = "order the steps by after, and give each a different one";
            reader.problems.add(line(&step.also), "the escalation step is out of order", help);
        }
        reader.references.approving(&step.also, 1);
        let stands_for = stands_for(reader, &step, required);
        checked.push(Escalation { after: after.as_secs(), also: step.also.value, stands_for });
    }
    checked
}

/// The one required group for which the people of a step stand in.
fn stands_for(reader: &mut Reader, step: &EscalationStep, required: &[RequiredGroup]) -> String {
    let at = line(step.stands_for.as_ref().unwrap_or(&step.also));
    match (&step.stands_for, required) {
        (None, [only]) => return only.group.clone(),
        // That the approval has no group is reported already.
        (None, []) => {}
        (None, _) => reader.problems.add(
            at,
            format!("the escalation to {:?} does not say for which required group", step.also.value),
            "add for: and that group; an escalation stands in for one group only",
        ),
        (Some(group), _) if required.iter().any(|known| known.group == group.value) => {
            return group.value.clone();
        }
        (Some(group), _) => reader.problems.add(
            at,
            format!("the rule does not require the group {:?}", group.value),
            "write one of the groups that the rule requires",
        ),
    }
    String::new()
}

fn decisions(reader: &mut Reader, listed: Option<Spanned<Vec<Decision>>>) -> Vec<Decision> {
    let Some(listed) = listed else { return Decision::ALL.to_vec() };
    if ![Decision::Approve, Decision::Reject].iter().all(|must| listed.value.contains(must)) {
        let help = "list both approve and reject; edit and respond are optional";
        reader.problems.add(line(&listed), "decisions lacks approve or reject", help);
    }
    listed.value
}

fn reason_codes(reader: &mut Reader, listed: Option<Spanned<Vec<Spanned<String>>>>) -> Vec<String> {
    let Some(listed) = listed else { return vec![] };
    if !(1..=MAX_CODES).contains(&listed.value.len()) {
        let message = format!("reason_codes has {} entries", listed.value.len());
        reader.problems.add(line(&listed), message, format!("list 1 to {MAX_CODES}, such as [fraud, other]"));
    }
    for code in &listed.value {
        reader.problems.id("a reason", code);
    }
    listed.value.into_iter().map(|code| code.value).collect()
}

fn exclusion(reader: &mut Reader, text: Spanned<String>) -> Option<String> {
    let compiled = reader.problems.expression("exclude", &text, &EXCLUSION)?;
    reader.exclusions.insert(text.value.clone(), compiled);
    Some(text.value)
}
