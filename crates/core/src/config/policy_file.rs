//! `policy.yaml` as it is written, and its way to a checked [`Policy`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::directory::{Directory, Member};
use super::expr::{CONDITION, Expression};
use super::policy::{ApprovalSpec, AuditSpec, Consequence, DEFAULT, ON_ERROR, Policy, Rule, Verdict};
use super::tools::ToolRegistry;
use super::yaml::{self, Problems, line};
use super::{POLICY_FILE, Problem};

const MAX_RULES: usize = 500;
const MAX_TEXT_CHARS: usize = 1_000;
const LEAST_EXPIRY: Duration = Duration::from_secs(1);
const MOST_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    version: Spanned<String>,
    default: Spanned<RawConsequence>,
    on_error: Spanned<RawConsequence>,
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: Spanned<String>,
    description: Option<Spanned<String>>,
    when: Spanned<String>,
    verdict: Spanned<Verdict>,
    group: Option<Spanned<String>>,
    expires_after: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
    audit: RawAudit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConsequence {
    verdict: Spanned<Verdict>,
    group: Option<Spanned<String>>,
    expires_after: Option<Spanned<String>>,
    reason: Option<Spanned<String>>,
    audit: RawAudit,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAudit {
    rate: Spanned<f64>,
    group: Spanned<String>,
}

/// Names in the policy that other files declare.
#[derive(Debug, Default)]
pub(super) struct References {
    approving: BTreeMap<String, u64>,
    auditing: BTreeMap<String, u64>,
    tools: BTreeMap<String, u64>,
}

/// Parses and checks the text, as far as it can be checked alone.
pub(super) fn parse(text: &str) -> Result<(Policy, References), Vec<Problem>> {
    let raw: RawPolicy = yaml::read(POLICY_FILE, text)?;
    let mut reader = Reader { problems: Problems::new(POLICY_FILE), references: References::default() };
    reader.version(&raw.version);
    reader.on_error(&raw.on_error.value);
    reader.unique_ids(&raw.rules);
    let default = reader.consequence(raw.default.value);
    let on_error = reader.consequence(raw.on_error.value);
    let rules = raw.rules.into_iter().map(|rule| reader.rule(rule)).collect::<Vec<_>>();
    let Reader { problems, references } = reader;
    let (Some(default), Some(on_error), Some(rules)) = (default, on_error, rules.into_iter().collect())
    else {
        return problems.refused();
    };
    let digest = format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())));
    let policy =
        Policy { version: raw.version.value, digest, text: text.to_owned(), rules, default, on_error };
    problems.unless_found((policy, references))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Reader {
    problems: Problems,
    references: References,
}

impl Reader {
    fn version(&mut self, version: &Spanned<String>) {
        if version.value.is_empty() || version.value.len() > 64 {
            let message = format!("the version {:?} has {} bytes", version.value, version.value.len());
            self.problems.add(line(version), message, "write 1 to 64, such as \"2026-11-01\"");
        }
    }

    fn on_error(&mut self, raw: &RawConsequence) {
        if raw.verdict.value == Verdict::Allow {
            self.problems.add(
                line(&raw.verdict),
                "on_error allows actions that a rule could not judge",
                "write require_approval or deny",
            );
        }
    }

    fn unique_ids(&mut self, rules: &[RawRule]) {
        if let Some(rule) = rules.get(MAX_RULES) {
            let message = format!("there are {} rules", rules.len());
            self.problems.add(line(&rule.id), message, format!("keep it within {MAX_RULES}"));
        }
        let mut seen = BTreeMap::new();
        for RawRule { id, .. } in rules {
            self.problems.id("a rule", id);
            if [DEFAULT, ON_ERROR].contains(&id.value.as_str()) {
                let message = format!("the rule id {:?} is reserved", id.value);
                self.problems.add(
                    line(id),
                    message,
                    "choose another: judgements by default: and on_error: use it",
                );
            }
            if let Some(first) = seen.insert(id.value.as_str(), line(id)) {
                let message = format!("the rule id {:?} is already used in line {first}", id.value);
                self.problems.add(line(id), message, "give each rule an id of its own");
            }
        }
    }

    fn rule(&mut self, raw: RawRule) -> Option<Rule> {
        let RawRule { id, description, when, verdict, group, expires_after, reason, audit } = raw;
        let then = self.consequence(RawConsequence { verdict, group, expires_after, reason, audit });
        if let Some(description) = &description {
            self.short("description", description);
        }
        let condition = self.condition(&id.value, &when)?;
        for tool in condition.tools() {
            self.references.tools.entry(tool.clone()).or_insert(line(&when));
        }
        let description = description.map(|description| description.value);
        Some(Rule { id: id.value, description, when: when.value, condition, then: then? })
    }

    fn condition(&mut self, rule: &str, when: &Spanned<String>) -> Option<Expression> {
        match Expression::compile(&when.value, &CONDITION) {
            Ok(condition) => Some(condition),
            Err(complaints) => {
                for complaint in complaints {
                    let message = format!("when: of the rule {rule:?}: {}", complaint.message);
                    self.problems.add(line(when), message, complaint.help);
                }
                None
            }
        }
    }

    fn consequence(&mut self, raw: RawConsequence) -> Option<Consequence> {
        let verdict = raw.verdict.value;
        let at = line(&raw.verdict);
        let approval = self.approval(at, verdict, raw.group, raw.expires_after);
        match (&raw.reason, verdict) {
            (None, Verdict::Deny) => {
                self.problems.add(at, "deny has no reason", "add reason: what the agent is told");
            }
            (Some(reason), Verdict::Deny) => self.short("reason", reason),
            (Some(reason), _) => {
                let message = format!("{verdict} has a reason");
                self.problems.add(line(reason), message, "remove it: only deny has one; use description");
            }
            (None, _) => {}
        }
        let audit = self.audit(raw.audit);
        let reason = raw.reason.map(|reason| reason.value);
        let complete = approval.is_some() == (verdict == Verdict::RequireApproval);
        complete.then_some(Consequence { verdict, reason, approval, audit })
    }

    fn approval(
        &mut self,
        at: u64,
        verdict: Verdict,
        group: Option<Spanned<String>>,
        expires_after: Option<Spanned<String>>,
    ) -> Option<ApprovalSpec> {
        if verdict != Verdict::RequireApproval {
            for (field, given) in [("group", &group), ("expires_after", &expires_after)] {
                if let Some(given) = given {
                    let message = format!("{verdict} has {field}");
                    self.problems.add(line(given), message, "remove it: only require_approval has it");
                }
            }
            return None;
        }
        for (field, example, missing) in
            [("group", "supervisors", group.is_none()), ("expires_after", "30m", expires_after.is_none())]
        {
            if missing {
                let message = format!("require_approval has no {field}");
                self.problems.add(at, message, format!("add {field}: {example}"));
            }
        }
        let (group, expires_after) = group.zip(expires_after)?;
        let expires_after =
            self.problems.duration("expires_after", &expires_after, LEAST_EXPIRY, MOST_EXPIRY);
        self.references.approving.entry(group.value.clone()).or_insert(line(&group));
        Some(ApprovalSpec { group: group.value, expires_after })
    }

    fn audit(&mut self, raw: RawAudit) -> AuditSpec {
        let rate = raw.rate.value;
        if !(0.0..=1.0).contains(&rate) {
            let message = format!("the audit rate {rate} is not a probability");
            self.problems.add(line(&raw.rate), message, "write 0.0 (never) to 1.0 (always)");
        }
        self.references.auditing.entry(raw.group.value.clone()).or_insert(line(&raw.group));
        AuditSpec { rate, group: raw.group.value }
    }

    fn short(&mut self, field: &str, text: &Spanned<String>) {
        let chars = text.value.chars().count();
        if chars > MAX_TEXT_CHARS {
            let message = format!("the {field} has {chars} characters");
            self.problems.add(line(text), message, format!("keep it within {MAX_TEXT_CHARS}"));
        }
    }
}

impl References {
    /// Every group must have somebody who can serve it: an approval that nobody may decide would
    /// only ever expire, an audit that nobody may judge would never be.
    pub(super) fn check_groups(&self, directory: &Directory) -> Vec<Problem> {
        let uses = [
            (&self.approving, "reviewer", directory.reviewers()),
            (&self.auditing, "auditor", directory.auditors()),
        ];
        let mut problems = Vec::new();
        for (groups, role, members) in uses {
            for (group, &at) in groups {
                let serves = |member: &Member| member.groups.contains(group);
                if !directory.groups().contains(group) {
                    let message = format!("unknown group {group:?}");
                    let help = "declare it under groups: in directory.yaml, or use a declared one";
                    problems.push(Problem::new(POLICY_FILE, at, message, help));
                } else if !members.iter().any(serves) {
                    let message = format!("the group {group:?} has no {role}");
                    let help = format!("add it to the groups of a {role} in directory.yaml");
                    problems.push(Problem::new(POLICY_FILE, at, message, help));
                }
            }
        }
        problems
    }

    /// A rule about a tool that does not exist is a rule that never matches.
    pub(super) fn check_tools(&self, tools: &ToolRegistry) -> Vec<Problem> {
        let unknown = self.tools.iter().filter(|(name, _)| tools.get(name).is_none());
        let problem = |(name, &at): (&String, &u64)| {
            let message = format!("unknown tool {name:?}");
            Problem::new(POLICY_FILE, at, message, "write the name of a tool in tools.yaml")
        };
        unknown.map(problem).collect()
    }
}
