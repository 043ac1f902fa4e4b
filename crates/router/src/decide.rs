//! The decisions lane: applies what reviewers decided.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    config::Member,
    digest::tagged,
    ids::ActionId,
    json::parse_strict,
    message::{CloudEvent, Decision, DecisionData, kind},
    transition::{Event, transition},
};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord},
    approvals::{self, Closed},
    evidence::Evidence,
    generation, quarantine,
};
use countersign_worker::{failure, process};
use serde_json::json;

use crate::{Router, again, author, change::Changes, follow, judge::Court};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// Applies decisions.
pub(crate) struct Decisions {
    pub(crate) router: Router,
}

#[async_trait]
impl Handler for Decisions {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.router.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let router = &self.router;
        let work = async {
            let mut client = router.process.store.client().await?;
            let tx = client.transaction().await?;
            let ids = decide(router, &tx, batch).await?;
            let outgoing = follow::stored(&tx, &ids, &router.keys.permit).await?;
            tx.commit().await?;
            Ok(outgoing)
        };
        work.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.router.process.quarantine(delivery, code, reason).await
    }
}

type Complaint = (&'static str, String);

/// When a decision that counts was applied.
enum Applied {
    Now,
    Before,
}

/// Applies a batch of decisions. Returns the actions that they are about.
pub(crate) async fn decide(
    router: &Router,
    tx: &Transaction<'_>,
    batch: &[Delivery],
) -> Result<Vec<ActionId>, StoreError> {
    let active = generation::lock_shared(tx).await?;
    let governed = router.process.governed.under(tx, &active).await?;
    let mut read = Vec::with_capacity(batch.len());
    for delivery in batch {
        match decode(
            delivery,
            &governed.configuration.directory,
            router.process.settings.limits.message_bytes,
        ) {
            Ok((event, reviewer)) => read.push((delivery, event, reviewer)),
            Err((code, why)) => keep(tx, delivery, code, &why).await?,
        }
    }
    let approvals: Vec<_> = read.iter().map(|(_, event, _)| event.data.approval).collect();
    let about: HashMap<_, _> = approvals::actions_of(tx, &approvals).await?.into_iter().collect();
    let ids: Vec<ActionId> = about.values().copied().collect();
    actions::lock(tx, &ids).await?;
    let mut records: HashMap<ActionId, ActionRecord> =
        actions::load(tx, &ids, true).await?.into_iter().map(|record| (record.id, record)).collect();
    // The clock is read after the locks: waiting for them counts against the deadline.
    let now = records.values().map(|record| record.now).max().unwrap_or(active.now);
    let court = Court { governed: &governed, limits: &router.process.settings.limits, now };
    let mut changes = Changes::default();
    for (delivery, event, reviewer) in &read {
        let decision = &event.data;
        let Some(record) = about.get(&decision.approval).and_then(|action| records.get_mut(action)) else {
            let why =
                format!("there is no approval request {}, or another has taken its place", decision.approval);
            keep(tx, delivery, "approval_unknown", &why).await?;
            continue;
        };
        let by = router.keys.pseudonyms.of(&reviewer.id);
        let mut noted = json!({
            "event": event.id, "approval": decision.approval, "decision": decision.decision, "by": by,
            "digest_shown": decision.digest,
        });
        let kind = match apply(&court, &mut changes, record, decision, reviewer) {
            Ok(Applied::Now) => "decision.recorded",
            Ok(Applied::Before) => "decision.repeated",
            Err((code, why)) => {
                tracing::info!(action = %record.reference, code, why, "decision refused");
                noted["code"] = code.into();
                noted["message"] = why.into();
                "decision.refused"
            }
        };
        noted["state"] = record.ruling.state.as_str().into();
        changes.evidence.push(Evidence::of(record.id, kind, noted));
    }
    changes.write(tx).await?;
    Ok(ids)
}

async fn keep(tx: &Transaction<'_>, delivery: &Delivery, code: &str, why: &str) -> Result<(), StoreError> {
    tracing::warn!(code, why, "decision quarantined");
    quarantine::insert(tx, &process::entry(delivery, code, why)).await.map(drop)
}

fn decode<'d>(
    delivery: &Delivery,
    directory: &'d countersign_core::config::Directory,
    max_bytes: usize,
) -> Result<(CloudEvent<DecisionData>, &'d Member), Complaint> {
    let user = author::of(delivery)?;
    let reviewer = directory.reviewer_of_user(user).ok_or_else(|| author::unknown(user, "reviewer"))?;
    if delivery.body.len() > max_bytes {
        return Err(("message_too_large", format!("the limit is {max_bytes} bytes")));
    }
    let value = parse_strict(&delivery.body).map_err(|error| (error.code(), error.to_string()))?;
    let event: CloudEvent<DecisionData> =
        serde_json::from_value(value).map_err(|error| ("invalid_decision", error.to_string()))?;
    if event.kind != kind::APPROVAL_DECIDED {
        let why = format!("the type is {:?}; send {:?}", event.kind, kind::APPROVAL_DECIDED);
        return Err(("unknown_type", why));
    }
    Ok((event, reviewer))
}

/// Applies one decision to a locked action, or says why it does not count.
fn apply(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    decision: &DecisionData,
    reviewer: &Member,
) -> Result<Applied, Complaint> {
    if repeated(record, decision, reviewer) {
        return Ok(Applied::Before);
    }
    entitled(court, record, decision, reviewer)?;
    match decision.decision {
        Decision::Approve => approve(court, changes, record, reviewer)?,
        Decision::Reject => reject(court, changes, record, decision)?,
    }
    let state = if decision.decision == Decision::Approve { "approved" } else { "rejected" };
    changes.closed.push(Closed {
        action: record.id,
        state,
        by: Some(reviewer.id.clone()),
        reason: decision.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
    });
    if let Some(approval) = &mut record.approval {
        approval.decided_by = Some(reviewer.id.clone());
    }
    Ok(Applied::Now)
}

/// The same decision by the same person again: a redelivery, or an app that was not sure.
fn repeated(record: &ActionRecord, decision: &DecisionData, reviewer: &Member) -> bool {
    let approved = record.ruling.state != State::Rejected;
    record.approval.as_ref().is_some_and(|approval| {
        approval.id == decision.approval
            && approval.decided_by.as_deref() == Some(&reviewer.id)
            && approved == (decision.decision == Decision::Approve)
    })
}

/// Everything that must hold of the decision and of who made it.
fn entitled(
    court: &Court<'_>,
    record: &ActionRecord,
    decision: &DecisionData,
    reviewer: &Member,
) -> Result<(), Complaint> {
    let Some(approval) = record.approval.as_ref().filter(|approval| approval.id == decision.approval) else {
        return Err(("superseded", "another request has taken this one's place".into()));
    };
    if record.ruling.state != State::PendingApproval {
        return Err(("not_open", format!("the action is {}", record.ruling.state)));
    }
    if !reviewer.groups.contains(&approval.group) {
        return Err(("not_in_group", format!("only {:?} may decide this", approval.group)));
    }
    if is_requester(court, record, reviewer) {
        return Err(("requester", "who asks, or is served by it, may not approve it".into()));
    }
    if decision.digest != tagged(&record.digest) {
        return Err(("digest_mismatch", "this is not the digest of what would be executed".into()));
    }
    match &decision.reason {
        Some(reason) if reason.len() > REASON_MAX => {
            Err(("reason_too_long", format!("a reason has at most {REASON_MAX} bytes")))
        }
        None if decision.decision == Decision::Reject => {
            Err(("reason_missing", "a rejection needs a reason: the agent and the auditors read it".into()))
        }
        Some(reason) if decision.decision == Decision::Reject && reason.trim().is_empty() => {
            Err(("reason_missing", "a rejection needs a reason: the agent and the auditors read it".into()))
        }
        _ => Ok(()),
    }
}

/// The requester in every shape: the agent's owner, or the person on whose behalf it acts.
fn is_requester(court: &Court<'_>, record: &ActionRecord, reviewer: &Member) -> bool {
    let agent = court.governed.configuration.directory.agent(&record.agent);
    if agent.and_then(|agent| agent.owner.as_deref()) == Some(&reviewer.id) {
        return true;
    }
    let content: Option<serde_json::Value> =
        record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok());
    let served = content
        .as_ref()
        .and_then(|content| content.pointer("/agent/on_behalf_of"))
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    // `customer:mia` and `mia` are the same person.
    served == reviewer.id || served.rsplit(':').next() == Some(&reviewer.id)
}

/// An approval counts if policy, judged again now, still asks the same about the same.
fn approve(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    reviewer: &Member,
) -> Result<(), Complaint> {
    let mut judged = again::judge(court, record).map_err(|error| ("illegal", error.to_string()))?;
    if !again::still_asked(&judged) {
        let ruling = judged.ruling.clone();
        let code = match ruling.state {
            State::Expired => "expired",
            State::Denied => "denied_by_policy",
            _ => "changed",
        };
        again::apply(changes, court, record, judged, false);
        record.ruling = ruling;
        // What the reviewer saw is gone: another decision in this batch must not count either.
        record.approval = None;
        return Err((
            code,
            format!("judged again when the decision came, the action is {}", record.ruling.state),
        ));
    }
    let held = court.governed.holds(&record.agent, &record.tool, &judged.ruling.rule);
    let (state, effects) = transition(&again::standing(record), Event::Approved { held }, court.now)
        .map_err(|error| ("illegal", error.to_string()))?;
    judged.ruling.state = state;
    judged.ruling.approved = true;
    judged.ruling.approvers = vec![reviewer.id.clone()];
    judged.effects = effects;
    let ruling = judged.ruling.clone();
    again::apply(changes, court, record, judged, true);
    record.ruling = ruling;
    Ok(())
}

fn reject(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    decision: &DecisionData,
) -> Result<(), Complaint> {
    let (state, effects) = transition(&again::standing(record), Event::Rejected, court.now)
        .map_err(|error| ("illegal", error.to_string()))?;
    let mut judged = crate::judge::Judged::unchanged(&record.ruling, effects);
    judged.ruling.state = state;
    judged.failure = Some(match state {
        State::Rejected => countersign_core::message::Failure {
            code: "rejected".into(),
            message: decision.reason.clone().unwrap_or_default(),
        },
        _ => crate::judge::expired(),
    });
    let lapsed = state == State::Expired;
    again::apply(changes, court, record, judged.clone(), !lapsed);
    record.ruling = judged.ruling;
    if lapsed {
        return Err(("expired", "the request ran out before the decision was applied".into()));
    }
    Ok(())
}
