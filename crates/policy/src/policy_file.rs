//! `policy.yaml` as it is written, and its way to a checked [`Policy`].

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::approval_file::{OnExpiry, RawApproval, RawEscalation, RawRequirement};
use super::audit_file::{RawAudit, RawAudits, RawSwitching};
use super::directory::Directory;
use super::expr::{CONDITION, Expression};
use super::limit_file::RawLimit;
use super::policy::{Consequence, DEFAULT, INTAKE, ON_ERROR, Policy, Rule};
use super::tools::ToolRegistry;
use super::yaml::{self, Problems, line};
use super::{POLICY_FILE, Problem};
use countersign_core::message::Decision;
use countersign_core::verdict::Verdict;

const MAX_RULES: usize = 500;
const MAX_TEXT_CHARS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    version: Spanned<String>,
    author: Option<Spanned<String>>,
    audits: Option<RawAudits>,
    default: Spanned<RawRule>,
    on_error: Spanned<RawRule>,
    rules: Vec<Spanned<RawRule>>,
}

/// A rule; `default` and `on_error` are rules without `id` and `when`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: Option<Spanned<String>>,
    description: Option<Spanned<String>>,
    when: Option<Spanned<String>>,
    verdict: Spanned<Verdict>,
    reason: Option<Spanned<String>>,
    audit: RawAudit,
    switching: Option<Spanned<RawSwitching>>,
    limit: Option<Spanned<RawLimit>>,
    group: Option<Spanned<String>>,
    require: Option<Spanned<Vec<RawRequirement>>>,
    expires_after: Option<Spanned<String>>,
    on_expiry: Option<Spanned<OnExpiry>>,
    escalate: Option<Spanned<Vec<RawEscalation>>>,
    reject_after: Option<Spanned<u32>>,
    decisions: Option<Spanned<Vec<Decision>>>,
    reason_codes: Option<Spanned<Vec<Spanned<String>>>>,
    edit_counts: Option<Spanned<bool>>,
    exclude: Option<Spanned<String>>,
}

impl RawRule {
    fn take_approval(&mut self) -> RawApproval {
        RawApproval {
            group: self.group.take(),
            require: self.require.take(),
            expires_after: self.expires_after.take(),
            on_expiry: self.on_expiry.take(),
            escalate: self.escalate.take(),
            reject_after: self.reject_after.take(),
            decisions: self.decisions.take(),
            reason_codes: self.reason_codes.take(),
            edit_counts: self.edit_counts.take(),
            exclude: self.exclude.take(),
        }
    }
}

/// Names in the policy that other files declare.
#[derive(Debug, Default)]
pub(super) struct References {
    /// How many people of a group must approve, and where it says so.
    approving: BTreeMap<String, (u32, u64)>,
    /// How many people of a group must be able to evaluate, and where it says so.
    auditing: BTreeMap<String, (u32, u64)>,
    /// Groups that are only named.
    named: BTreeMap<String, u64>,
    tools: BTreeMap<String, u64>,
}

/// Parses and checks the text, as far as it can be checked alone.
pub(super) fn parse(text: &str) -> Result<(Policy, References), Vec<Problem>> {
    let raw: RawPolicy = yaml::read(POLICY_FILE, text)?;
    let mut reader = Reader {
        problems: Problems::new(POLICY_FILE),
        references: References::default(),
        exclusions: HashMap::new(),
    };
    reader.version(&raw.version);
    if let Some(author) = &raw.author {
        reader.problems.id("a person", author);
    }
    reader.on_error(&raw.on_error.value);
    reader.unique_ids(&raw.rules);
    let default = reader.fallback(raw.default);
    let on_error = reader.fallback(raw.on_error);
    let audits = reader.audits(raw.audits);
    let rules = raw.rules.into_iter().map(|rule| reader.rule(rule)).collect::<Vec<_>>();
    let Reader { problems, mut references, exclusions } = reader;
    if audits.twice > 0.0 {
        // A third settles what two disagree on.
        references.auditing.values_mut().for_each(|(count, _)| *count = (*count).max(3));
    }
    let (Some(default), Some(on_error), Some(rules)) = (default, on_error, rules.into_iter().collect())
    else {
        return problems.refused();
    };
    let digest = format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())));
    let policy = Policy {
        version: raw.version.value,
        author: raw.author.map(|author| author.value),
        digest,
        text: text.to_owned(),
        audits,
        rules,
        default,
        on_error,
        exclusions,
    };
    problems.unless_found((policy, references))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the parts of a policy and keeps what is wrong with them.
pub(super) struct Reader {
    pub(super) problems: Problems,
    pub(super) references: References,
    pub(super) exclusions: HashMap<String, Expression>,
}

impl Reader {
    fn version(&mut self, version: &Spanned<String>) {
        if version.value.is_empty() || version.value.len() > 64 {
            let message = format!("the version {:?} has {} bytes", version.value, version.value.len());
            self.problems.add(line(version), message, "write 1 to 64, such as \"2026-11-01\"");
        }
    }

    fn on_error(&mut self, raw: &RawRule) {
        if raw.verdict.value == Verdict::Allow {
            self.problems.add(
                line(&raw.verdict),
                "on_error allows actions that a rule could not evaluate",
                "write require_approval or deny",
            );
        }
    }

    fn unique_ids(&mut self, rules: &[Spanned<RawRule>]) {
        if let Some(rule) = rules.get(MAX_RULES) {
            let message = format!("there are {} rules", rules.len());
            self.problems.add(line(rule), message, format!("keep it within {MAX_RULES}"));
        }
        let mut seen = BTreeMap::new();
        for id in rules.iter().filter_map(|rule| rule.value.id.as_ref()) {
            self.problems.id("a rule", id);
            if [DEFAULT, ON_ERROR, INTAKE].contains(&id.value.as_str()) {
                let message = format!("the rule id {:?} is reserved", id.value);
                let help = "choose another: what no rule of yours decided is recorded under it";
                self.problems.add(line(id), message, help);
            }
            if let Some(first) = seen.insert(id.value.as_str(), line(id)) {
                let message = format!("the rule id {:?} is already used in line {first}", id.value);
                self.problems.add(line(id), message, "give each rule an id of its own");
            }
        }
    }

    /// `default` or `on_error`: what follows when no rule decides.
    fn fallback(&mut self, raw: Spanned<RawRule>) -> Option<Consequence> {
        let named = [("id", raw.value.id.as_ref()), ("when", raw.value.when.as_ref())];
        for (field, given) in named.into_iter().filter_map(|(field, given)| Some((field, given?))) {
            let help = "remove it: default and on_error are no rules that could match";
            self.problems.add(line(given), format!("{field} stands outside of rules"), help);
        }
        let moved = [
            ("a limit", raw.value.limit.as_ref().map(line)),
            ("switching", raw.value.switching.as_ref().map(line)),
        ];
        for (what, at) in moved.into_iter().filter_map(|(what, at)| Some((what, at?))) {
            self.problems.add(at, format!("{what} stands outside of rules"), "move it to a rule");
        }
        self.consequence(raw.value)
    }

    fn rule(&mut self, raw: Spanned<RawRule>) -> Option<Rule> {
        let at = line(&raw);
        let mut raw = raw.value;
        let (id, when) = (raw.id.take(), raw.when.take());
        for (field, missing) in [("id", id.is_none()), ("when", when.is_none())] {
            if missing {
                self.problems.add(at, format!("the rule has no {field}"), "add the field");
            }
        }
        let description = raw.description.take();
        if let Some(description) = &description {
            self.short("description", description);
        }
        let limit = raw.limit.take().map(|limit| self.limit(limit));
        let exceeded = limit.as_ref().and_then(|limit| limit.as_ref()).map(|limit| limit.exceeded);
        let then = self.consequence_or(raw, exceeded);
        let (id, when) = id.zip(when)?;
        let condition = self.condition(&id.value, &when)?;
        for tool in condition.tools() {
            self.references.tools.entry(tool.clone()).or_insert(line(&when));
        }
        let description = description.map(|description| description.value);
        let limit = match limit {
            Some(limit) => Some(limit?),
            None => None,
        };
        Some(Rule { id: id.value, description, when: when.value, condition, limit, then: then? })
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

    fn consequence(&mut self, raw: RawRule) -> Option<Consequence> {
        self.consequence_or(raw, None)
    }

    /// What a rule leads to; `exceeded` is what its limit leads to, which may need an approval as well.
    fn consequence_or(&mut self, mut raw: RawRule, exceeded: Option<Verdict>) -> Option<Consequence> {
        let verdict = raw.verdict.value;
        let at = line(&raw.verdict);
        let asked = raw.take_approval();
        let (audit, band) = self.audit(raw.audit);
        let switching = raw.switching.and_then(|raw| {
            if verdict != Verdict::Allow {
                let help =
                    "remove it: what requires an approval never loosens; only allow moves, and falls back";
                self.problems.add(line(&raw), format!("{verdict} has switching"), help);
            }
            self.references.confirming(&audit.group, line(&raw));
            self.switching(&raw, &audit)
        });
        let asks = switching.is_some() || [Some(verdict), exceeded].contains(&Some(Verdict::RequireApproval));
        let approval = match (asks, asked.given()) {
            (true, _) => Some(self.approval(at, asked)?),
            (false, None) => None,
            (false, Some((field, at))) => {
                let message = format!("{verdict} has {field}");
                self.problems.add(at, message, "remove it: only require_approval has it");
                None
            }
        };
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
        let reason = raw.reason.map(|reason| reason.value);
        Some(Consequence { verdict, reason, approval, audit, band, switching })
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
    /// A group that must approve, with so many people.
    pub(super) fn approving(&mut self, group: &Spanned<String>, count: u32) {
        let entry = self.approving.entry(group.value.clone()).or_insert((count, line(group)));
        if count > entry.0 {
            *entry = (count, line(group));
        }
    }

    /// A group that must evaluate, with so many people.
    pub(super) fn auditing(&mut self, group: &Spanned<String>, count: u32) {
        self.auditing.entry(group.value.clone()).or_insert((count, line(group)));
    }

    /// A group in which a second auditor can confirm what the first has found.
    fn confirming(&mut self, group: &str, at: u64) {
        self.auditing.insert(group.to_owned(), (2, at));
    }

    /// A group that is named, whoever is in it.
    pub(super) fn named(&mut self, group: &Spanned<String>) {
        self.named.entry(group.value.clone()).or_insert(line(group));
    }

    /// Every group must have people enough to serve it: an approval that nobody may decide would
    /// only ever expire, an audit that nobody may evaluate would never be.
    pub(super) fn check_groups(&self, directory: &Directory) -> Vec<Problem> {
        let approving = self.approving.iter().map(|(group, (count, at))| (group, *count, *at));
        let auditing = self.auditing.iter().map(|(group, (count, at))| (group, *count, *at));
        let uses = approving
            .map(|used| (used, "reviewer", directory.reviewers()))
            .chain(auditing.map(|used| (used, "auditor", directory.auditors())));
        let unknown = self.named.iter().filter(|(group, _)| !directory.groups().contains(group));
        let unknown = unknown.map(|(group, at)| {
            let help = "declare it under groups: in directory.yaml, or use a declared one";
            Problem::new(POLICY_FILE, *at, format!("unknown group {group:?}"), help)
        });
        let mut problems: Vec<_> = unknown.collect();
        for ((group, count, at), role, members) in uses {
            let there = members.iter().filter(|member| member.groups.contains(group)).count();
            if !directory.groups().contains(group) {
                let message = format!("unknown group {group:?}");
                let help = "declare it under groups: in directory.yaml, or use a declared one";
                problems.push(Problem::new(POLICY_FILE, at, message, help));
            } else if there == 0 {
                let message = format!("the group {group:?} has no {role}");
                let help = format!("add it to the groups of a {role} in directory.yaml");
                problems.push(Problem::new(POLICY_FILE, at, message, help));
            } else if there < count as usize {
                let must = if role == "reviewer" { "approve" } else { "audit" };
                let message = format!("the group {group:?} has {there} people, and {count} must {must}");
                let help = format!("add it to the groups of more {role}s in directory.yaml");
                problems.push(Problem::new(POLICY_FILE, at, message, help));
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
