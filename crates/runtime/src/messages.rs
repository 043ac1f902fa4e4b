//! Messages about stored states. They do not depend on which process sends them, and a repetition has the same id.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_broker::{
    publisher::Outgoing,
    topology::{APPROVALS, AUDITS, COMMANDS, FEEDBACK, OUTCOMES, SETTLED, agent_key},
};
use countersign_core::{
    action::State,
    digest::tagged,
    ids::ActionId,
    message::{
        ActionView, ApprovalRequest, AuditRequest, Call, CloudEvent, Command, FeedbackData, FeedbackKind,
        Offer, OutcomeData, SettledPack, Severity, Timings, Why, kind,
    },
    permit::PACK_MAX,
    person::IdsAlone,
};
use countersign_policy::{Configuration, ToolRegistry};
use countersign_store::{actions::ActionRecord, audits::Request, gold::GoldRecord};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(bytes).ok()
}

/// The outcome for an action's agent, where it has one.
pub fn outcome(record: &ActionRecord) -> Option<Outgoing> {
    let stored = record.outcome.as_ref()?;
    let ended_at = record.ended_at?;
    let data = OutcomeData {
        action: record.reference.clone(),
        outcome: record.status.state.outcome()?,
        result: stored.result.as_deref().and_then(raw),
        error: stored.error.clone(),
        verdict: record.status.verdict,
        rule: record.status.rule.clone(),
        policy_version: record.status.policy_version.clone(),
        approvers: record.status.approvers.clone(),
        timings: Timings {
            proposed_at: record.proposed_at,
            decided_at: record.decided_at,
            started_at: record.started_at,
            ended_at,
        },
    };
    let mut event = CloudEvent::new(stored.event, "/countersign", kind::OUTCOME, ended_at, data);
    event.traceparent = record.traceparent.clone();
    Some(Outgoing::event(OUTCOMES, agent_key(&record.agent), &event))
}

/// The parts of the canonical content and of the proposal that a human is shown.
fn view(record: &ActionRecord) -> Option<ActionView> {
    #[derive(Deserialize)]
    struct Content {
        arguments: Box<RawValue>,
        agent: Box<RawValue>,
    }
    let content: Content = serde_json::from_slice(record.content.as_deref()?).ok()?;
    let body: Value =
        record.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let member = |member: &str| body.pointer(&format!("/data/{member}")).cloned();
    Some(ActionView {
        source: record.reference.source.clone(),
        id: record.reference.id.clone(),
        tool: record.tool.clone(),
        arguments: content.arguments,
        agent: content.agent,
        reason: member("reason").and_then(|reason| reason.as_str().map(str::to_owned)),
        task: member("task"),
        context: member("context"),
        supersedes: member("supersedes"),
        compensates: member("compensates"),
    })
}

/// The requests for a pending action's approval: one to each group that may decide now.
pub fn approval_requests(record: &ActionRecord) -> Vec<Outgoing> {
    let pending = record.status.state == State::PendingApproval;
    let (true, Some(approval), Some(action)) = (pending, &record.approval, view(record)) else {
        return vec![];
    };
    let request = &approval.request;
    let groups: Vec<String> =
        request.spec.groups(request.opened_at, record.now).into_iter().map(str::to_owned).collect();
    let data = ApprovalRequest {
        approval: approval.id,
        action,
        digest: tagged(&record.digest),
        why: Why {
            rule: approval.rule.clone(),
            text: approval.rule_text.clone(),
            policy_version: record.status.policy_version.clone(),
        },
        on_approve: format!("{} is called once with exactly these arguments", record.tool),
        on_reject: "nothing is executed, and the agent receives your reason".into(),
        groups: groups.clone(),
        require: request.spec.require.clone(),
        quorum: request.spec.quorum(),
        approvers: request.approvers(&request.spec, &IdsAlone).map(str::to_owned).collect(),
        allowed_decisions: request.spec.decisions.clone(),
        reason_codes: request.spec.reason_codes.clone(),
        opened_at: request.opened_at,
        expires_at: request.expires_at,
    };
    // A repetition has the same id; a changed request, or one to other groups, is another event.
    let id = Uuid::new_v5(&approval.id.0, &serde_json::to_vec(&data).unwrap_or_default());
    let event = CloudEvent::new(id, "/countersign", kind::APPROVAL_REQUESTED, request.opened_at, data);
    groups.into_iter().map(|group| Outgoing::event(APPROVALS, group, &event)).collect()
}

/// How a succeeded action can be undone, and until when, by the tool registry in force. The record must have been read with
/// its body.
///
/// # Errors
/// Why it cannot be undone: the tool has no compensation, too much time has passed, or the arguments cannot be computed.
pub fn offer(tools: &ToolRegistry, record: &ActionRecord) -> Result<Offer, String> {
    let tool = tools.get(&record.tool).ok_or("the tool is no longer in the registry")?;
    let reversible = tool.reversible().ok_or("the tool has no compensation")?;
    let ended_at = record.ended_at.filter(|_| record.status.state == State::Succeeded);
    let ended_at = ended_at.ok_or_else(|| format!("the action is {}", record.status.state))?;
    let by = tools.get(reversible.by()).ok_or("its compensating tool is no longer in the registry")?;
    let reversible_until = TimeDelta::from_std(reversible.within())
        .ok()
        .and_then(|within| ended_at.checked_add_signed(within))
        .ok_or("the time limit of its compensation is out of range")?;
    if reversible_until <= record.now {
        return Err("the time limit for undoing it has passed".into());
    }
    let mut action = record
        .body
        .as_deref()
        .and_then(|body| serde_json::from_slice::<Value>(body).ok())
        .and_then(|mut body| body.get_mut("data").map(Value::take))
        .ok_or("the proposal has been erased")?;
    // What was executed, not what was proposed.
    let executed =
        record.content.as_deref().and_then(|content| serde_json::from_slice::<Value>(content).ok());
    if let Some(arguments) = executed.as_ref().and_then(|content| content.get("arguments")) {
        action["arguments"] = arguments.clone();
    }
    let result = record.outcome.as_ref().and_then(|outcome| outcome.result.as_deref());
    let result = result.and_then(|result| serde_json::from_slice(result).ok()).unwrap_or(Value::Null);
    let arguments = reversible.arguments(&action, &result)?;
    // Without the values, which the reason outlives.
    by.check_arguments(&arguments)
        .map_err(|_| format!("the arguments of its compensation do not fit the schema of {:?}", by.name()))?;
    Ok(Offer { tool: by.name().into(), arguments, reversible_until })
}

/// Why a succeeded action cannot be undone although its tool has a compensation. The record must have been read with its
/// body.
pub fn cannot_be_undone(tools: &ToolRegistry, record: &ActionRecord) -> Option<String> {
    is_reversible(tools, record).then(|| offer(tools, record).err()).flatten()
}

/// Whether an action has succeeded whose tool has a compensation.
fn is_reversible(tools: &ToolRegistry, record: &ActionRecord) -> bool {
    record.status.state == State::Succeeded
        && tools.get(&record.tool).is_some_and(|tool| tool.reversible().is_some())
}

/// The request for an audit. The record must have been read with its body.
pub fn audit_request(
    configuration: &Configuration,
    audit: &Request<'_>,
    record: &ActionRecord,
) -> Option<Outgoing> {
    let data = AuditRequest {
        audit: audit.id,
        action: view(record)?,
        digest: tagged(&record.digest),
        rule: record.status.rule.clone(),
        reason: audit.reason,
        outcome: record.status.state.outcome()?,
        result: record.outcome.as_ref().and_then(|outcome| outcome.result.as_deref()).and_then(raw),
        error: record.outcome.as_ref().and_then(|outcome| outcome.error.clone()),
        reason_codes: configuration.policy.audits().reason_codes.clone(),
        compensation: offer(&configuration.tools, record).ok(),
        cannot_be_undone: cannot_be_undone(&configuration.tools, record),
        group: audit.group.to_owned(),
        opened_at: audit.opened_at,
    };
    // The next auditor must not learn of earlier findings, nor take the request for one that is already known.
    let id = match audit.round {
        0 => audit.id.0,
        round => Uuid::new_v5(&audit.id.0, &round.to_be_bytes()),
    };
    let event = CloudEvent::new(id, "/countersign", kind::AUDIT_REQUESTED, audit.opened_at, data);
    Some(Outgoing::event(AUDITS, audit.group, &event))
}

/// An action as a gold item shows it: as it was when its earlier audit was opened, with all that has a time as much later as the
/// item is.
pub fn shown_again(item: &GoldRecord, record: ActionRecord) -> ActionRecord {
    let ended_at = record.ended_at.and_then(|ended| ended.checked_add_signed(item.later));
    ActionRecord { ended_at, ..record }
}

/// The particulars of human feedback on an action; whatever does not apply is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedbackDetail<'a> {
    /// Why, for programs.
    pub reason_code: Option<&'a str>,
    /// Why, for people.
    pub rationale: Option<&'a str>,
    /// The arguments that an edit has replaced.
    pub before: Option<&'a Value>,
    /// What the call should have been, according to an auditor.
    pub correction: Option<&'a Value>,
    /// How bad it was.
    pub severity: Option<Severity>,
}

/// Feedback to an action's agent. A repetition has the same id.
pub fn feedback(record: &ActionRecord, kind: FeedbackKind, detail: &FeedbackDetail<'_>) -> Option<Outgoing> {
    #[derive(Deserialize)]
    struct Content {
        arguments: Value,
        agent: Box<RawValue>,
    }
    let content: Content = serde_json::from_slice(record.content.as_deref()?).ok()?;
    let now = Call { tool: record.tool.clone(), arguments: content.arguments };
    let (call, corrected) = match detail.before {
        Some(before) => (Call { arguments: before.clone(), ..now.clone() }, Some(now)),
        None => {
            let corrected = detail.correction.and_then(|correction| now.corrected(correction));
            (now, corrected)
        }
    };
    let data = FeedbackData {
        action: record.reference.clone(),
        kind,
        patch: match detail.correction {
            Some(correction) => call.correcting(correction),
            None => corrected.as_ref().and_then(|corrected| call.patch(corrected)),
        },
        call,
        corrected,
        reason_code: detail.reason_code.map(str::to_owned),
        rationale: detail.rationale.map(str::to_owned),
        severity: detail.severity,
        agent: content.agent,
        rule: record.status.rule.clone(),
        policy_version: record.status.policy_version.clone(),
    };
    let id = Uuid::new_v5(&record.id.0, &serde_json::to_vec(&data).unwrap_or_default());
    let event = CloudEvent::new(id, "/countersign", kind::FEEDBACK, record.now, data);
    Some(Outgoing::event(FEEDBACK, agent_key(&record.agent), &event))
}

/// Actions that have ended, for the sampler, packed.
pub fn settled(source: &str, actions: &[ActionId], now: DateTime<Utc>) -> Vec<Outgoing> {
    let pack = |pack: &[ActionId]| {
        let data = SettledPack { actions: pack.to_vec() };
        let event = CloudEvent::new(Outgoing::fresh_id(), source, kind::SETTLED_PACK, now, data);
        Outgoing::event(SETTLED, "settled", &event)
    };
    actions.chunks(PACK_MAX).map(pack).collect()
}

/// A command to the worker of a role.
pub fn command(role: &str, command: Command, now: DateTime<Utc>) -> Outgoing {
    let event = CloudEvent::new(Outgoing::fresh_id(), "/countersign", kind::COMMAND, now, command);
    Outgoing::event(COMMANDS, role, &event)
}

/// A command to the router: evaluate this action again.
pub fn reevaluate(action: ActionId, now: DateTime<Utc>) -> Outgoing {
    command("router", Command::Reevaluate { action }, now)
}
