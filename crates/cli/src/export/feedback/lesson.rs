//! What an action teaches: which call would have been better than which, and how much that weighs.

use countersign_core::{
    action::State,
    message::{Call, FeedbackData, Finding, Lesson, Severity},
};
use countersign_store::lessons::{Heard, Judged, Reason};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// An auditor found the executed action wrong.
    Correction,
    /// A reviewer put other arguments in place of the agent's.
    Edit,
    /// A reviewer rejected the action, or answered with a message.
    Rejection,
    /// A reviewer approved it as it was proposed, and no auditor found otherwise.
    Approval,
    /// An auditor found it correct.
    JudgedCorrect,
}

impl Source {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Source::Correction => "correction",
            Source::Edit => "edit",
            Source::Rejection => "rejection",
            Source::Approval => "approval",
            Source::JudgedCorrect => "judged_correct",
        }
    }
}

/// What is stored of an action's payload.
pub(super) struct Known {
    /// The proposal's event.
    pub(super) body: Value,
    /// Who acted, in canonical form.
    pub(super) agent: Box<RawValue>,
    /// What the agent proposed.
    proposed: Call,
    /// What was, or was to be, executed.
    call: Call,
}

impl Known {
    /// Nothing where the payload is erased.
    pub(super) fn of(heard: &Heard) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            arguments: Value,
            agent: Box<RawValue>,
        }
        let body: Value = serde_json::from_slice(heard.body.as_deref()?).ok()?;
        let content: Content = serde_json::from_slice(heard.content.as_deref()?).ok()?;
        let proposed = body.pointer("/data/arguments")?.clone();
        let call = |arguments| Call { tool: heard.tool.clone(), arguments };
        Some(Self { agent: content.agent, proposed: call(proposed), call: call(content.arguments), body })
    }

    /// Whether it was rejected, and an auditor found that wrong.
    pub(super) fn overturned(&self, heard: &Heard) -> bool {
        heard.state == State::Rejected && found(heard, Finding::Wrong).is_some()
    }

    /// What an auditor says that the call should have been.
    fn corrected(&self, judged: &Judged) -> (Option<Value>, Option<Call>) {
        let correction: Option<Value> =
            judged.correction.as_deref().and_then(|correction| serde_json::from_slice(correction).ok());
        let corrected = correction.as_ref().and_then(|correction| self.call.corrected(correction));
        (correction, corrected)
    }
}

fn found(heard: &Heard, finding: Finding) -> Option<&Judged> {
    heard.judged.as_ref().filter(|judged| judged.settled.finding == finding)
}

/// A better call, a worse one, or both.
#[derive(Debug, PartialEq)]
pub(super) struct Taught {
    pub(super) source: Source,
    pub(super) better: Option<Call>,
    pub(super) worse: Option<Call>,
    pub(super) reason: Reason,
    pub(super) severity: Option<Severity>,
    /// 1/π where the coin drew the audit. What every reviewer decides, and what a look back was asked to judge, is no
    /// sample: 1.
    pub(super) weight: f64,
}

/// The weight of what an audit says.
fn weight(heard: &Heard) -> f64 {
    heard.pi.filter(|pi| *pi > 0.0).map_or(1.0, |pi| 1.0 / pi)
}

/// What an action teaches: at most one edit, and one of rejection, approval and audit.
pub(super) fn taught(heard: &Heard, known: &Known) -> Vec<Taught> {
    let wrong = found(heard, Finding::Wrong);
    let plain = |source, better, worse, reason: &Reason| Taught {
        source,
        better,
        worse,
        reason: reason.clone(),
        severity: None,
        weight: 1.0,
    };
    let mut all = Vec::new();
    if let Some(reason) = heard.edit.as_ref().filter(|_| heard.edited.is_some()) {
        // What was edited and then refused, or found wrong, is no example.
        let stands = heard.state != State::Rejected && wrong.is_none();
        let better = stands.then(|| known.call.clone());
        all.push(plain(Source::Edit, better, Some(known.proposed.clone()), reason));
    }
    if let Some(reason) = &heard.rejection {
        if wrong.is_none() {
            all.push(plain(Source::Rejection, None, Some(known.call.clone()), reason));
        }
    } else if !heard.executed {
        // Whatever was said of it, nobody has seen what it would have done.
    } else if let Some(judged) = wrong {
        all.push(Taught {
            source: Source::Correction,
            better: known.corrected(judged).1,
            worse: Some(known.call.clone()),
            reason: judged.reason.clone(),
            severity: judged.settled.severity,
            weight: weight(heard),
        });
    } else if heard.approved {
        // One of all that were approved, whether the coin has drawn it or not: the sample would count it twice. What
        // was edited has said so above.
        if heard.edited.is_none() {
            all.push(plain(Source::Approval, Some(known.call.clone()), None, &heard.approval));
        }
    } else if let Some(judged) = found(heard, Finding::Correct) {
        let call = Some(known.call.clone());
        all.push(Taught {
            weight: weight(heard),
            ..plain(Source::JudgedCorrect, call, None, &judged.reason)
        });
    }
    all
}

/// The lessons as they are published to the agent: rejections, edits and corrections.
pub(super) fn published(heard: &Heard, known: &Known) -> Vec<(Source, FeedbackData)> {
    let data = |lesson, call: &Call, corrected: Option<Call>, reason: &Reason| FeedbackData {
        action: heard.reference.clone(),
        lesson,
        call: call.clone(),
        patch: corrected.as_ref().and_then(|corrected| call.patch(corrected)),
        corrected,
        reason_code: reason.code.clone(),
        severity: None,
        rationale: reason.text.clone(),
        pi: None,
        agent: known.agent.clone(),
        rule: heard.rule.clone(),
        policy_version: heard.policy_version.clone(),
    };
    let mut all = Vec::new();
    if let Some(reason) = heard.edit.as_ref().filter(|_| heard.edited.is_some()) {
        let edit = data(Lesson::Edit, &known.proposed, Some(known.call.clone()), reason);
        all.push((Source::Edit, edit));
    }
    if let Some(reason) = &heard.rejection {
        all.push((Source::Rejection, data(Lesson::Rejection, &known.call, None, reason)));
    }
    if let Some(judged) = found(heard, Finding::Wrong) {
        let (correction, corrected) = known.corrected(judged);
        let wrong = FeedbackData {
            patch: correction.and_then(|correction| known.call.correcting(&correction)),
            severity: judged.settled.severity,
            pi: heard.pi,
            ..data(Lesson::Correction, &known.call, corrected, &judged.reason)
        };
        all.push((Source::Correction, wrong));
    }
    all
}

#[cfg(test)]
mod tests;
