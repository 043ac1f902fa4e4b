//! The training examples of an action: the better and the worse call, and the example's weight.

use countersign_core::{
    action::State,
    message::{Call, FeedbackData, FeedbackKind, Finding, Severity},
};
use countersign_store::feedback::{AuditResult, FeedbackItem, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// The source of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An auditor found the executed action wrong.
    Correction,
    /// A reviewer replaced the agent's arguments.
    Edit,
    /// A reviewer rejected the action, or answered with a message.
    Rejection,
    /// A reviewer approved it as it was proposed, and no auditor found otherwise.
    Approval,
    /// An auditor found it correct.
    JudgedCorrect,
}

impl Source {
    /// The value in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Correction => "correction",
            Source::Edit => "edit",
            Source::Rejection => "rejection",
            Source::Approval => "approval",
            Source::JudgedCorrect => "judged_correct",
        }
    }
}

/// The stored payload of an action.
pub(super) struct Payload {
    /// The proposal's event.
    pub(super) body: Value,
    /// Who acted, in canonical form.
    pub(super) agent: Box<RawValue>,
    /// What the agent proposed.
    proposed: Call,
    /// What was, or was to be, executed.
    call: Call,
}

impl Payload {
    /// `None` if the payload is erased.
    pub(super) fn of(item: &FeedbackItem) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            arguments: Value,
            agent: Box<RawValue>,
        }
        let body: Value = serde_json::from_slice(item.body.as_deref()?).ok()?;
        let content: Content = serde_json::from_slice(item.content.as_deref()?).ok()?;
        let proposed = body.pointer("/data/arguments")?.clone();
        let call = |arguments| Call { tool: item.tool.clone(), arguments };
        Some(Self { agent: content.agent, proposed: call(proposed), call: call(content.arguments), body })
    }

    /// Whether it was rejected, and an auditor found that wrong.
    pub(super) fn overturned(&self, item: &FeedbackItem) -> bool {
        item.state == State::Rejected && found(item, Finding::Wrong).is_some()
    }

    /// The auditor's correction, and the corrected call.
    fn corrected(&self, judged: &AuditResult) -> (Option<Value>, Option<Call>) {
        let correction: Option<Value> =
            judged.correction.as_deref().and_then(|correction| serde_json::from_slice(correction).ok());
        let corrected = correction.as_ref().and_then(|correction| self.call.corrected(correction));
        (correction, corrected)
    }
}

fn found(item: &FeedbackItem, finding: Finding) -> Option<&AuditResult> {
    item.audit.as_ref().filter(|judged| judged.settled.finding == finding)
}

/// A better call, a worse call, or both.
#[derive(Debug, PartialEq)]
pub(super) struct Example {
    pub(super) source: Source,
    pub(super) better: Option<Call>,
    pub(super) worse: Option<Call>,
    pub(super) reason: Reason,
    pub(super) severity: Option<Severity>,
    /// 1/π if the audit was drawn; 1 for decisions and look-back audits, which are no samples.
    pub(super) weight: f64,
}

/// The weight of an audit's example.
fn weight(item: &FeedbackItem) -> f64 {
    item.pi.filter(|pi| *pi > 0.0).map_or(1.0, |pi| 1.0 / pi)
}

/// The examples of an action: at most one edit, and one of rejection, approval and audit.
pub(super) fn examples(item: &FeedbackItem, payload: &Payload) -> Vec<Example> {
    let wrong = found(item, Finding::Wrong);
    let plain = |source, better, worse, reason: &Reason| Example {
        source,
        better,
        worse,
        reason: reason.clone(),
        severity: None,
        weight: 1.0,
    };
    let mut all = Vec::new();
    if let Some(reason) = item.edit.as_ref().filter(|_| item.edited.is_some()) {
        // An edit that was then refused or found wrong is no example.
        let stands = item.state != State::Rejected && wrong.is_none();
        let better = stands.then(|| payload.call.clone());
        all.push(plain(Source::Edit, better, Some(payload.proposed.clone()), reason));
    }
    if let Some(reason) = &item.rejection {
        if wrong.is_none() {
            all.push(plain(Source::Rejection, None, Some(payload.call.clone()), reason));
        }
    } else if !item.executed {
        // Its effect was never seen.
    } else if let Some(judged) = wrong {
        all.push(Example {
            source: Source::Correction,
            better: payload.corrected(judged).1,
            worse: Some(payload.call.clone()),
            reason: judged.reason.clone(),
            severity: judged.settled.severity,
            weight: weight(item),
        });
    } else if item.approved {
        // Each approved action counts once, whether or not an audit was drawn; the sample would count it twice. An
        // edit has its own example, above.
        if item.edited.is_none() {
            all.push(plain(Source::Approval, Some(payload.call.clone()), None, &item.approval));
        }
    } else if let Some(judged) = found(item, Finding::Correct) {
        let call = Some(payload.call.clone());
        all.push(Example {
            weight: weight(item),
            ..plain(Source::JudgedCorrect, call, None, &judged.reason)
        });
    }
    all
}

/// The feedback as it is published to the agent: rejections, edits and corrections.
pub(super) fn published(item: &FeedbackItem, payload: &Payload) -> Vec<(Source, FeedbackData)> {
    let data = |kind, call: &Call, corrected: Option<Call>, reason: &Reason| FeedbackData {
        action: item.reference.clone(),
        kind,
        call: call.clone(),
        patch: corrected.as_ref().and_then(|corrected| call.patch(corrected)),
        corrected,
        reason_code: reason.code.clone(),
        severity: None,
        rationale: reason.text.clone(),
        agent: payload.agent.clone(),
        rule: item.rule.clone(),
        policy_version: item.policy_version.clone(),
    };
    let mut all = Vec::new();
    if let Some(reason) = item.edit.as_ref().filter(|_| item.edited.is_some()) {
        let edit = data(FeedbackKind::Edit, &payload.proposed, Some(payload.call.clone()), reason);
        all.push((Source::Edit, edit));
    }
    if let Some(reason) = &item.rejection {
        all.push((Source::Rejection, data(FeedbackKind::Rejection, &payload.call, None, reason)));
    }
    if let Some(judged) = found(item, Finding::Wrong) {
        let (correction, corrected) = payload.corrected(judged);
        let wrong = FeedbackData {
            patch: correction.and_then(|correction| payload.call.correcting(&correction)),
            severity: judged.settled.severity,
            ..data(FeedbackKind::Correction, &payload.call, corrected, &judged.reason)
        };
        all.push((Source::Correction, wrong));
    }
    all
}

#[cfg(test)]
mod tests;
