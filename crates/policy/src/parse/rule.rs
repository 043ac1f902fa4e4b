//! A rule of `policy.yaml`, and its fallbacks `default` and `on_error`.

use countersign_core::{message::Decision, verdict::Verdict};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    approval::{Approval, EscalationStep, OnExpiry, Requirement},
    audit::{Audit, Switching},
    limit::Limit,
    reader::Reader,
    yaml::line,
};
use crate::{
    expr::CONDITION,
    policy::{self, RuleEffect},
};

/// A rule; `default` and `on_error` are rules without `id` and `when`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) id: Option<Spanned<String>>,
    description: Option<Spanned<String>>,
    when: Option<Spanned<String>>,
    pub(super) verdict: Spanned<Verdict>,
    reason: Option<Spanned<String>>,
    audit: Audit,
    switching: Option<Spanned<Switching>>,
    limit: Option<Spanned<Limit>>,
    group: Option<Spanned<String>>,
    require: Option<Spanned<Vec<Requirement>>>,
    expires_after: Option<Spanned<String>>,
    on_expiry: Option<Spanned<OnExpiry>>,
    escalate: Option<Spanned<Vec<EscalationStep>>>,
    reject_after: Option<Spanned<u32>>,
    decisions: Option<Spanned<Vec<Decision>>>,
    reason_codes: Option<Spanned<Vec<Spanned<String>>>>,
    edit_counts: Option<Spanned<bool>>,
    exclude: Option<Spanned<String>>,
}

impl Rule {
    /// Checks `default` or `on_error`.
    pub(super) fn into_fallback(self, reader: &mut Reader) -> Option<RuleEffect> {
        let fields = [
            ("id", self.id.as_ref().map(line), "remove it: default and on_error apply without being matched"),
            (
                "when",
                self.when.as_ref().map(line),
                "remove it: default and on_error apply without being matched",
            ),
            ("limit", self.limit.as_ref().map(line), "move it to a rule"),
            ("switching", self.switching.as_ref().map(line), "move it to a rule"),
            ("score", self.audit.score.as_ref().map(line), "move it to a rule"),
        ];
        for (field, at, help) in fields {
            if let Some(at) = at {
                reader.problems.add(at, format!("{field} is allowed only in rules"), help);
            }
        }
        self.into_effect(reader, None)
    }

    /// Checks a rule, which begins on line `at`.
    pub(super) fn into_model(mut self, reader: &mut Reader, at: u64) -> Option<policy::Rule> {
        let (id, when) = (self.id.take(), self.when.take());
        for (field, missing) in [("id", id.is_none()), ("when", when.is_none())] {
            if missing {
                reader.problems.add(at, format!("the rule has no {field}"), format!("add {field}:"));
            }
        }
        let description = self.description.take();
        if let Some(description) = &description {
            reader.short("description", description);
        }
        let limit = self.limit.take().map(|limit| {
            let at = line(&limit);
            let limit = limit.value.into_model(&mut reader.problems, at)?;
            reader.one_period(&limit);
            Some(limit)
        });
        let when_exceeded = limit.as_ref().and_then(Option::as_ref).map(|limit| limit.verdict_when_exceeded);
        let effect = self.into_effect(reader, when_exceeded);
        let (id, when) = id.zip(when)?;
        let context = format!("when of the rule {:?}", id.value);
        let condition = reader.problems.expression(&context, &when, &CONDITION)?;
        for tool in condition.tools() {
            reader.references.tool(tool, line(&when));
        }
        let limit = match limit {
            Some(limit) => Some(limit?),
            None => None,
        };
        Some(policy::Rule {
            id: id.value,
            description: description.map(|description| description.value),
            when: when.value,
            condition,
            limit,
            effect: effect?,
        })
    }

    /// Checks what follows when the rule decides. `when_exceeded` is the verdict of its limit, which may require an
    /// approval as well.
    fn into_effect(mut self, reader: &mut Reader, when_exceeded: Option<Verdict>) -> Option<RuleEffect> {
        let verdict = self.verdict.value;
        let at = line(&self.verdict);
        let approval = self.take_approval();
        let (audit, band, score) = self.audit.into_model(reader);
        let switching = self.switching.take().and_then(|switching| {
            let at = line(&switching);
            if verdict != Verdict::Allow {
                let message = format!("switching is not allowed with the verdict {verdict}");
                reader.problems.add(
                    at,
                    message,
                    "remove it: only a rule that allows can switch to approval and back",
                );
            }
            reader.references.confirming(&audit.group, at);
            switching.value.into_model(&mut reader.problems, at, &audit)
        });
        let asks =
            switching.is_some() || [Some(verdict), when_exceeded].contains(&Some(Verdict::RequireApproval));
        let approval = match (asks, approval.first_field()) {
            (true, _) => Some(approval.into_model(reader, at)?),
            (false, None) => None,
            (false, Some((field, at))) => {
                let message = format!("{field} is not allowed with the verdict {verdict}");
                let help = "remove it: it applies only to a rule that can require an approval";
                reader.problems.add(at, message, help);
                None
            }
        };
        check_reason(reader, self.reason.as_ref(), verdict, at);
        let reason = self.reason.map(|reason| reason.value);
        Some(RuleEffect { verdict, reason, approval, audit, band, score, switching })
    }

    fn take_approval(&mut self) -> Approval {
        Approval {
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

/// `at` is the line of the verdict.
fn check_reason(reader: &mut Reader, reason: Option<&Spanned<String>>, verdict: Verdict, at: u64) {
    match (reason, verdict) {
        (None, Verdict::Deny) => {
            reader.problems.add(
                at,
                "the verdict deny has no reason",
                "add reason: and what to tell the agent",
            );
        }
        (Some(reason), Verdict::Deny) => reader.short("reason", reason),
        (Some(reason), _) => {
            let message = format!("reason is not allowed with the verdict {verdict}");
            let help = "remove it: only deny takes a reason; describe the rule with description";
            reader.problems.add(line(reason), message, help);
        }
        (None, _) => {}
    }
}
