//! The result of evaluating a policy.

use countersign_core::{approval::ApprovalSpec, verdict::Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    audit::{AuditSpec, Switching},
    limit::LimitUse,
    score::Score,
};

/// A rule that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleError {
    /// The rule's id.
    pub rule: String,
    /// What went wrong. It never contains values from the action, which may be personal data.
    pub message: String,
}

/// The policy's verdict on one action, and everything that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation<'p> {
    /// The verdict.
    pub verdict: Verdict,
    /// The id of the rule that decided, `default` or `on-error`.
    pub rule: &'p str,
    /// The rule's description, or its condition if it has none.
    pub text: String,
    /// Why an action is denied.
    pub reason: Option<String>,
    /// Who approves. Present if the verdict is `require_approval` or can become so, by a limit or by switching.
    pub approval: Option<&'p ApprovalSpec>,
    /// What the action adds to the rule's limit.
    pub limit: Option<LimitUse>,
    /// How often actions of this rule are audited once executed.
    pub audit: &'p AuditSpec,
    /// The risk band, if the rule has one.
    pub band: Option<String>,
    /// How likely the action is wrong, if the rule has a score.
    pub score: Option<Score>,
    /// How the rule switches between approval and audit, if it does.
    pub switching: Option<&'p Switching>,
    /// The rule that could not be evaluated; present exactly when `on-error` decided.
    pub errored: Option<RuleError>,
}

impl Evaluation<'_> {
    /// The audit rate of the action: that of its rule, or more if its score asks for it.
    pub fn audit_rate(&self) -> f64 {
        self.audit.scored(self.score.as_ref().map(|score| score.value))
    }

    /// Turns `allow` into `require_approval`, for a stratum whose sampling plan currently requires approval.
    #[must_use]
    pub fn with_approval_first(mut self) -> Self {
        if self.verdict == Verdict::Allow {
            self.verdict = Verdict::RequireApproval;
            self.text = format!("{}; actions of its stratum are currently approved first", self.text);
        }
        self
    }

    /// Applies the stricter of the rule's verdict and the limit's, for an action that exceeds the limit.
    #[must_use]
    pub fn with_limit_exceeded(mut self) -> Self {
        if let Some(limit) = &self.limit {
            self.text = format!("{}; it exceeds the limit of {}", self.text, limit.text);
            if limit.verdict_when_exceeded == Verdict::Deny {
                self.verdict = Verdict::Deny;
                self.reason = Some(format!("it exceeds the limit of {}", limit.text));
            } else if self.verdict == Verdict::Allow {
                self.verdict = limit.verdict_when_exceeded;
            }
        }
        self
    }
}
