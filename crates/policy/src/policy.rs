//! The policy: ordered rules, first match wins, and what is said about an action.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::audit_file::{AuditSpec, Audits, Switching};
use super::directory::Member;
use super::explanation::{Explanation, Look, Looked};
use super::expr::{self, Bindings, EXCLUSION, Expression};
use super::limit_file::{Limit, LimitUse};
use super::tools::Tool;
use countersign_core::{approval::ApprovalSpec, verdict::Verdict};

/// The rule that a evaluation names when no rule matched.
pub(super) const DEFAULT: &str = "default";
/// The rule that a evaluation names when a rule could not be evaluated.
pub(super) const ON_ERROR: &str = "on-error";
/// The rule that is named where a proposal is refused before the policy sees it.
pub const INTAKE: &str = "intake";

/// What a rule, the default or `on_error` leads to.
#[derive(Debug)]
pub(super) struct Consequence {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
    pub(super) approval: Option<ApprovalSpec>,
    pub(super) audit: AuditSpec,
    pub(super) band: Option<Expression>,
    pub(super) switching: Option<Switching>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) description: Option<String>,
    pub(super) when: String,
    pub(super) condition: Expression,
    pub(super) limit: Option<Limit>,
    pub(super) then: Consequence,
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    pub(super) version: String,
    pub(super) author: Option<String>,
    pub(super) digest: String,
    pub(super) text: String,
    pub(super) audits: Audits,
    pub(super) rules: Vec<Rule>,
    pub(super) default: Consequence,
    pub(super) on_error: Consequence,
    /// The compiled exclusions of its rules.
    pub(super) exclusions: HashMap<String, Expression>,
}

/// What a evaluation is about.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `source`, `id`, `tool`, `arguments` and what else the proposal has, as one object.
    pub action: &'a Value,
    /// `id`, `version`, `model`, `on_behalf_of`, as one object.
    pub agent: &'a Value,
    /// The registered tool.
    pub tool: &'a Tool,
    /// The time of the evaluation.
    pub now: DateTime<Utc>,
}

/// A rule that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleError {
    /// The rule's id.
    pub rule: String,
    /// What went wrong, without the values involved.
    pub message: String,
}

/// What the policy says about one action, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation<'p> {
    /// The verdict.
    pub verdict: Verdict,
    /// The id of the rule that decided, `default` or `on-error`.
    pub rule: &'p str,
    /// The rule's description, or its condition.
    pub text: String,
    /// Why an action is denied.
    pub reason: Option<String>,
    /// Who approves; given when the verdict is `require_approval`, or may become so: by a limit or by switching.
    pub approval: Option<&'p ApprovalSpec>,
    /// What the action adds to the rule's limit.
    pub limit: Option<LimitUse>,
    /// How often actions of this rule are audited once executed.
    pub audit: &'p AuditSpec,
    /// The risk band, where the rule has any.
    pub band: Option<String>,
    /// How the rule moves between approval and audit, where it does.
    pub switching: Option<&'p Switching>,
    /// The rule that could not be evaluated; given exactly when `on-error` decided.
    pub errored: Option<RuleError>,
}

/// The longest name of a risk band, in characters.
const BAND_MAX: usize = 64;

impl Evaluation<'_> {
    /// The evaluation of a class that must be approved as things stand.
    #[must_use]
    pub fn approved_first(mut self) -> Self {
        if self.verdict == Verdict::Allow {
            self.verdict = Verdict::RequireApproval;
            self.text = format!("{}; its class is approved first as things stand", self.text);
        }
        self
    }

    /// The evaluation if the limit is exceeded: the stricter of the rule's verdict and the limit's.
    #[must_use]
    pub fn exceeded(mut self) -> Self {
        if let Some(limit) = &self.limit {
            self.text = format!("{}; it exceeds the limit of {}", self.text, limit.text);
            if limit.exceeded == Verdict::Deny {
                self.verdict = Verdict::Deny;
                self.reason = Some(format!("it exceeds the limit of {}", limit.text));
            } else if self.verdict == Verdict::Allow {
                self.verdict = limit.exceeded;
            }
        }
        self
    }
}

impl Policy {
    /// Judges an action: the first rule that matches decides. A rule that cannot be evaluated ends
    /// the search with `on_error`; nothing below it is looked at.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Evaluation<'_> {
        self.look(facts, |_, _| ())
    }

    /// Judges an action and tells about every rule that was looked at.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        let mut looks = Vec::new();
        let evaluation = self.look(facts, |rule, looked| {
            looks.push(Look { rule: rule.id.clone(), when: rule.when.clone(), looked });
        });
        Explanation {
            policy_version: self.version.clone(),
            policy_digest: self.digest.clone(),
            looks,
            verdict: evaluation.verdict,
            rule: evaluation.rule.to_owned(),
            text: evaluation.text,
            reason: evaluation.reason,
            approval: evaluation.approval.cloned(),
            audit: evaluation.audit.clone(),
            errored: evaluation.errored,
        }
    }

    /// The version that the policy's author gave it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether an exclusion, of this policy or of one before it, keeps the reviewer from deciding. One that cannot
    /// be evaluated does.
    pub fn excludes(&self, exclusion: &str, facts: &Facts<'_>, reviewer: &Member) -> bool {
        let who = json!({"id": reviewer.id, "groups": reviewer.groups});
        let holds = |expression: &Expression| {
            let mut bindings = bind(facts, |name| expression.roots().contains(&name))?;
            expr::bind_fields(&mut bindings, "reviewer", &who);
            expression.holds(&bindings)
        };
        match self.exclusions.get(exclusion) {
            Some(known) => holds(known).unwrap_or(true),
            None => Expression::compile(exclusion, &EXCLUSION)
                .ok()
                .and_then(|old| holds(&old).ok())
                .unwrap_or(true),
        }
    }

    /// Who wrote it, and therefore may not approve what it asks about.
    pub fn author(&self) -> Option<&str> {
        self.author.as_deref()
    }

    /// `sha256:` and the hex digest of [`Policy::text`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The text as it was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The ids under which evaluations are recorded: the rules in order, `default`, `on-error`.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str()).chain([DEFAULT, ON_ERROR])
    }

    /// Whether any rule has a cumulative limit.
    pub fn has_limits(&self) -> bool {
        self.rules.iter().any(|rule| rule.limit.is_some())
    }

    /// How actions of a rule are audited.
    pub fn audit_spec(&self, rule: &str) -> Option<&AuditSpec> {
        match rule {
            DEFAULT => Some(&self.default.audit),
            ON_ERROR => Some(&self.on_error.audit),
            _ => self.rule(rule).map(|rule| &rule.then.audit),
        }
    }

    /// How actions of a rule move between approval and audit, where they do.
    pub fn switching(&self, rule: &str) -> Option<&Switching> {
        self.rule(rule).and_then(|rule| rule.then.switching.as_ref())
    }

    /// What holds for all audits.
    pub fn audits(&self) -> &Audits {
        &self.audits
    }

    fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|candidate| candidate.id == id)
    }

    fn look(&self, facts: &Facts<'_>, mut seen: impl FnMut(&Rule, Looked)) -> Evaluation<'_> {
        let bindings = self.bind(facts);
        for rule in &self.rules {
            let held = match &bindings {
                Ok(bindings) => rule.condition.holds(bindings),
                Err(message) => Err(message.clone()),
            };
            match held {
                Ok(false) => seen(rule, Looked::NotMatched),
                Ok(true) => {
                    seen(rule, Looked::Matched);
                    let text = rule.description.as_ref().unwrap_or(&rule.when).clone();
                    let mut evaluation = rule.then.evaluation(&rule.id, text, None);
                    if let (Some(band), Ok(bindings)) = (&rule.then.band, &bindings) {
                        match risk_band(band, bindings) {
                            Ok(band) => evaluation.band = Some(band),
                            Err(message) => return self.errored(rule, format!("band: {message}")),
                        }
                    }
                    return match (&rule.limit, &bindings) {
                        (Some(limit), Ok(bindings)) => match limit.usage(bindings) {
                            Ok(usage) => Evaluation { limit: Some(usage), ..evaluation },
                            Err(message) => self.errored(rule, format!("limit: {message}")),
                        },
                        _ => evaluation,
                    };
                }
                Err(message) => {
                    seen(rule, Looked::Errored(message.clone()));
                    return self.errored(rule, message);
                }
            }
        }
        self.default.evaluation(DEFAULT, "no rule matched".to_owned(), None)
    }

    fn errored(&self, rule: &Rule, message: String) -> Evaluation<'_> {
        let text = format!("the rule {} could not be evaluated: {message}", rule.id);
        let errored = RuleError { rule: rule.id.clone(), message };
        self.on_error.evaluation(ON_ERROR, text, Some(errored))
    }

    /// Binds the names that the rules use, and no others.
    fn bind<'v>(&self, facts: &Facts<'v>) -> Result<Bindings<'v>, String> {
        bind(facts, |name| {
            self.rules.iter().any(|rule| {
                let limits = rule.limit.iter().flat_map(Limit::roots);
                let bands = rule.then.band.iter().flat_map(|band| band.roots());
                rule.condition.roots().iter().chain(limits).chain(bands).any(|root| *root == name)
            })
        })
    }
}

/// A short name: strata have one each.
fn risk_band(band: &Expression, bindings: &Bindings<'_>) -> Result<String, String> {
    match band.to_json(bindings)? {
        Value::String(name) if (1..=BAND_MAX).contains(&name.chars().count()) => Ok(name),
        _ => Err(format!("the expression must give a string of 1 to {BAND_MAX} characters")),
    }
}

/// Binds those of the names of [`Facts`] that are used.
pub(super) fn bind<'v>(facts: &Facts<'v>, used: impl Fn(&str) -> bool) -> Result<Bindings<'v>, String> {
    let mut bindings = expr::bindings()?;
    for (name, value) in [("action", facts.action), ("agent", facts.agent), ("tool", facts.tool.facts())] {
        if used(name) {
            expr::bind_fields(&mut bindings, name, value);
        }
    }
    if used("now") {
        expr::bind_time(&mut bindings, "now", facts.now);
    }
    Ok(bindings)
}

impl Consequence {
    fn evaluation<'p>(&'p self, rule: &'p str, text: String, errored: Option<RuleError>) -> Evaluation<'p> {
        Evaluation {
            verdict: self.verdict,
            rule,
            text,
            reason: self.reason.clone(),
            approval: self.approval.as_ref(),
            limit: None,
            audit: &self.audit,
            band: None,
            switching: self.switching.as_ref(),
            errored,
        }
    }
}
