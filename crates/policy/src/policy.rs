//! The policy: ordered rules of which the first that matches decides.

use std::collections::HashMap;

use countersign_core::{approval::ApprovalSpec, verdict::Verdict};
use serde_json::{Value, json};

use crate::{
    audit::{AuditSpec, Audits, Switching},
    directory::Member,
    evaluation::{Evaluation, RuleError},
    explanation::{Explanation, RuleResult, RuleTrace},
    expr::{self, Bindings, EXCLUSION, Expression},
    facts::Facts,
    limit::Limit,
    score::{Score, ScoreExpression},
};

/// The rule that an evaluation names if no rule matched.
pub(crate) const DEFAULT: &str = "default";
/// The rule that an evaluation names if a rule could not be evaluated.
pub(crate) const ON_ERROR: &str = "on-error";
/// The rule that is recorded for a proposal that is refused before the policy is evaluated.
pub const INTAKE: &str = "intake";

/// The longest name of a risk band, in characters.
const BAND_MAX: usize = 64;

/// What follows when a rule, `default` or `on_error` decides.
#[derive(Debug)]
pub(crate) struct RuleEffect {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<String>,
    pub(crate) approval: Option<ApprovalSpec>,
    pub(crate) audit: AuditSpec,
    pub(crate) band: Option<Expression>,
    pub(crate) score: Option<ScoreExpression>,
    pub(crate) switching: Option<Switching>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: String,
    pub(crate) description: Option<String>,
    pub(crate) when: String,
    pub(crate) condition: Expression,
    pub(crate) limit: Option<Limit>,
    pub(crate) effect: RuleEffect,
}

/// A cumulative limit, for those who apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSummary<'p> {
    /// Identifies the limit: sums of actions go on under a policy that has the same one.
    pub limit: &'p str,
    /// The rule that has it.
    pub rule: &'p str,
    /// The limit as a person reads it.
    pub text: &'p str,
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    pub(crate) version: String,
    pub(crate) author: Option<String>,
    pub(crate) digest: String,
    pub(crate) text: String,
    pub(crate) audits: Audits,
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: RuleEffect,
    pub(crate) on_error: RuleEffect,
    /// The compiled `exclude` expressions of its rules, by their text.
    pub(crate) exclusions: HashMap<String, Expression>,
}

impl Policy {
    /// Evaluates an action: the first rule that matches decides. A rule that cannot be evaluated ends
    /// the search with `on_error`; no rule below it is tried.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Evaluation<'_> {
        self.evaluate_rules(facts, |_, _| ())
    }

    /// Evaluates an action and reports the result of every rule that was tried.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        let mut trace = Vec::new();
        let evaluation = self.evaluate_rules(facts, |rule, result| {
            trace.push(RuleTrace { rule: rule.id.clone(), when: rule.when.clone(), result });
        });
        Explanation {
            policy_version: self.version.clone(),
            policy_digest: self.digest.clone(),
            trace,
            verdict: evaluation.verdict,
            rule: evaluation.rule.to_owned(),
            text: evaluation.text,
            reason: evaluation.reason,
            approval: evaluation.approval.cloned(),
            audit: evaluation.audit.clone(),
            score: evaluation.score,
            errored: evaluation.errored,
        }
    }

    /// The version that the policy's author gave it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether an `exclude` expression, of this policy or of an earlier one, bars the reviewer from deciding.
    /// An expression that cannot be evaluated bars everybody.
    pub fn excludes(&self, exclusion: &str, facts: &Facts<'_>, reviewer: &Member) -> bool {
        let who = json!({"id": reviewer.id, "person": reviewer.person, "groups": reviewer.groups});
        let holds = |expression: &Expression| {
            let mut bindings = facts.bind(|name| expression.roots().contains(&name))?;
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

    /// The person who wrote the policy, and therefore may not approve actions for which it requires approval.
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

    /// The cumulative limits, in the order of their rules.
    pub fn limits(&self) -> impl Iterator<Item = LimitSummary<'_>> {
        self.rules.iter().filter_map(|rule| {
            let limit = rule.limit.as_ref()?;
            Some(LimitSummary { limit: &limit.identity, rule: &rule.id, text: &limit.text })
        })
    }

    /// How actions of a rule are audited; `None` if there is no such rule.
    pub fn audit_spec(&self, rule: &str) -> Option<&AuditSpec> {
        match rule {
            DEFAULT => Some(&self.default.audit),
            ON_ERROR => Some(&self.on_error.audit),
            _ => self.rule(rule).map(|rule| &rule.effect.audit),
        }
    }

    /// The score that a rule gives an action; `None` if the policy has no such rule, or the rule no score.
    pub fn score(&self, rule: &str, facts: &Facts<'_>) -> Option<Score> {
        let score = self.rule(rule)?.effect.score.as_ref()?;
        let bindings = facts.bind(|name| score.expression.roots().contains(&name));
        bindings.ok().map(|bindings| score.of(&bindings))
    }

    /// Whether a rule has a score.
    pub fn has_score(&self, rule: &str) -> bool {
        self.rule(rule).is_some_and(|rule| rule.effect.score.is_some())
    }

    /// The groups that audit what the rules lead to; one may come several times.
    pub(crate) fn audit_groups(&self) -> impl Iterator<Item = &str> {
        let rules = self.rules.iter().map(|rule| &rule.effect);
        rules.chain([&self.default, &self.on_error]).map(|effect| effect.audit.group.as_str())
    }

    /// How a rule switches between approval and audit, if it does.
    pub fn switching(&self, rule: &str) -> Option<&Switching> {
        self.rule(rule).and_then(|rule| rule.effect.switching.as_ref())
    }

    /// The settings for all audits.
    pub fn audits(&self) -> &Audits {
        &self.audits
    }

    fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|candidate| candidate.id == id)
    }

    fn evaluate_rules(
        &self,
        facts: &Facts<'_>,
        mut observe: impl FnMut(&Rule, RuleResult),
    ) -> Evaluation<'_> {
        let bindings = self.bind(facts);
        for rule in &self.rules {
            let held = match &bindings {
                Ok(bindings) => rule.condition.holds(bindings).map(|holds| (holds, bindings)),
                Err(message) => Err(message.clone()),
            };
            match held {
                Ok((false, _)) => observe(rule, RuleResult::NotMatched),
                Ok((true, bindings)) => {
                    observe(rule, RuleResult::Matched);
                    return match rule.evaluation(bindings) {
                        Ok(evaluation) => evaluation,
                        Err(message) => self.errored(rule, message),
                    };
                }
                Err(message) => {
                    observe(rule, RuleResult::Errored(message.clone()));
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
        facts.bind(|name| {
            self.rules.iter().any(|rule| {
                let limits = rule.limit.iter().flat_map(Limit::roots);
                let bands = rule.effect.band.iter().flat_map(|band| band.roots());
                let scores = rule.effect.score.iter().flat_map(|score| score.expression.roots());
                let roots = rule.condition.roots().iter().chain(limits).chain(bands).chain(scores);
                roots.copied().any(|root| root == name)
            })
        })
    }
}

impl Rule {
    /// The evaluation of an action that the rule matches, with its risk band, its score and its use of the limit.
    fn evaluation(&self, bindings: &Bindings<'_>) -> Result<Evaluation<'_>, String> {
        let text = self.description.as_ref().unwrap_or(&self.when).clone();
        let mut evaluation = self.effect.evaluation(&self.id, text, None);
        if let Some(band) = &self.effect.band {
            evaluation.band = Some(risk_band(band, bindings).map_err(|message| format!("band: {message}"))?);
        }
        evaluation.score = self.effect.score.as_ref().map(|score| score.of(bindings));
        if let Some(limit) = &self.limit {
            evaluation.limit = Some(limit.usage(bindings).map_err(|message| format!("limit: {message}"))?);
        }
        Ok(evaluation)
    }
}

/// Risk bands are short names, because each makes strata of its own.
fn risk_band(band: &Expression, bindings: &Bindings<'_>) -> Result<String, String> {
    match band.to_json(bindings)? {
        Value::String(name) if (1..=BAND_MAX).contains(&name.chars().count()) => Ok(name),
        _ => Err(format!("the expression must return a string of 1 to {BAND_MAX} characters")),
    }
}

impl RuleEffect {
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
            score: None,
            switching: self.switching.as_ref(),
            errored,
        }
    }
}
