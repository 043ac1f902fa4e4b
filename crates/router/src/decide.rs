//! The decisions lane: applies what reviewers decided.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    approval::{ApprovalSpec, RequestEvent, RequestState},
    config::{Directory, Member},
    digest::{tagged, untagged},
    ids::{ActionId, ApprovalId},
    json::{canonical, parse_strict},
    message::{CloudEvent, Decision, DecisionData, Failure as Reason, kind},
    proposal::Proposal,
    transition::{Event, Illegal, transition},
};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord, ApprovalRecord},
    approvals::{self, DecisionRow},
    evidence::Evidence,
    generation, quarantine,
};
use countersign_worker::{failure, process};
use serde_json::json;

use crate::{
    Router, again, author,
    change::Changes,
    entitled::Bench,
    follow,
    judge::{Court, Judged},
    tally::Tally,
};

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

/// Who said what, in which event.
struct Said<'a> {
    decision: &'a DecisionData,
    reviewer: &'a Member,
    event: &'a str,
    /// What an edit then adds to limits.
    tally: &'a Tally,
}

/// When a decision that counts was applied.
enum Applied {
    Now,
    Before,
}

/// Applies a batch of decisions. Returns the actions of which there is something to tell.
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
    let court = Court { governed: &governed, limits: &router.process.settings.limits, now, tally: None };
    let edits = edits(&court, &read, &about, &records);
    let (edited, proposals): (Vec<_>, Vec<_>) = edits.into_iter().unzip();
    let tally = Tally::of(tx, &court, proposals.iter(), &edited).await?;
    let mut changes = Changes::default();
    // What nobody needs to hear again is not told: a vote more leaves the request as it was.
    let mut told = BTreeSet::new();
    for (delivery, event, reviewer) in &read {
        let decision = &event.data;
        let Some(record) = about.get(&decision.approval).and_then(|action| records.get_mut(action)) else {
            let why = format!("there never was an approval request {}", decision.approval);
            keep(tx, delivery, "approval_unknown", &why).await?;
            continue;
        };
        let by = router.keys.pseudonyms.of(&reviewer.id);
        let mut noted = json!({
            "event": event.id, "approval": decision.approval, "decision": decision.decision, "by": by,
            "digest_shown": decision.digest,
        });
        let said = Said { decision, reviewer, event: &event.id, tally: &tally };
        let before = standing(record);
        let applied = apply(&court, &mut changes, record, &said);
        // Come again, the message may be one whose consequences were never sent.
        let again = matches!(applied, Ok(Applied::Before) | Err(("superseded", _)));
        if again || before != standing(record) {
            told.insert(record.id);
        }
        let kind = match applied {
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
    Ok(told.into_iter().collect())
}

/// The proposals as they would be edited: what they then add to a limit is counted anew.
fn edits(
    court: &Court<'_>,
    read: &[(&Delivery, CloudEvent<DecisionData>, &Member)],
    about: &HashMap<ApprovalId, ActionId>,
    records: &HashMap<ActionId, ActionRecord>,
) -> Vec<(ActionId, Proposal)> {
    let edited = |data: &DecisionData| {
        let record = records.get(about.get(&data.approval)?)?;
        let mut proposal = again::proposal_of(court, record).ok()?;
        proposal.action["arguments"] = data.arguments.clone()?;
        Some((record.id, proposal))
    };
    let edits = read.iter().filter(|(_, event, _)| event.data.decision == Decision::Edit);
    edits.filter_map(|(_, event, _)| edited(&event.data)).collect()
}

/// What others are told of an action: where it stands, and what is asked.
fn standing(record: &ActionRecord) -> (State, Option<(ApprovalId, ApprovalSpec)>) {
    let asked = record.approval.as_ref().map(|approval| (approval.id, approval.request.spec.clone()));
    (record.ruling.state, asked)
}

async fn keep(tx: &Transaction<'_>, delivery: &Delivery, code: &str, why: &str) -> Result<(), StoreError> {
    tracing::warn!(code, why, "decision quarantined");
    quarantine::insert(tx, &process::entry(delivery, code, why)).await.map(drop)
}

fn decode<'d>(
    delivery: &Delivery,
    directory: &'d Directory,
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
    said: &Said<'_>,
) -> Result<Applied, Complaint> {
    let decision = said.decision;
    let approval = about(record, decision)?;
    if repeated(approval, said) {
        return Ok(Applied::Before);
    }
    if record.ruling.state != State::PendingApproval {
        return Err(("not_open", format!("the action is {}", record.ruling.state)));
    }
    look_again(court, changes, record)?;
    let proposal = again::proposal_of(court, record).map_err(|refusal| (refusal.code, refusal.message))?;
    let tools = &court.governed.configuration.tools;
    let tool = tools.get(&proposal.tool).ok_or(("unknown_tool", "the tool is gone".to_owned()))?;
    let agent = record.agent.clone();
    let bench = Bench::new(court, &agent, &proposal, tool);
    let request = about(record, decision)?.request.clone();
    bench.may(said.reviewer, &request)?;
    reasons(decision, &request.spec)?;
    let edited = match decision.decision {
        Decision::Edit => {
            let counting = Court { tally: Some(said.tally), ..*court };
            Some(edited(&counting, record, decision)?)
        }
        _ => None,
    };
    let state = vote(court, changes, record, said, &bench)?;
    match (state, edited) {
        (RequestState::Approved, _) => approve(court, changes, record)?,
        (RequestState::Rejected, _) => reject(court, changes, record, decision)?,
        (RequestState::Closed, Some(edited)) => edit(court, changes, record, said, edited)?,
        _ => {}
    }
    Ok(Applied::Now)
}

/// The request that a decision is about.
fn about<'r>(record: &'r ActionRecord, decision: &DecisionData) -> Result<&'r ApprovalRecord, Complaint> {
    let named = record.approval.as_ref().filter(|approval| approval.id == decision.approval);
    named.ok_or_else(|| ("superseded", "another request has taken this one's place".into()))
}

/// The same decision by the same person again: a redelivery, or an app that was not sure.
fn repeated(approval: &ApprovalRecord, said: &Said<'_>) -> bool {
    approval.request.votes.get(&said.reviewer.id) == Some(&said.decision.decision)
        && tagged(&approval.request.digest) == said.decision.digest
}

/// Judges the action under the generation in force before anybody decides it: policy may have ended it, or ask more.
fn look_again(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord) -> Result<(), Complaint> {
    let judged = again::judge(court, record).map_err(|error| ("illegal", error.to_string()))?;
    let same = again::same_content(&judged, record);
    let code = match judged.ruling.state {
        State::PendingApproval if same => {
            if judged.ruling.generation != record.ruling.generation {
                again::apply(changes, court, record, judged);
            }
            return Ok(());
        }
        State::Expired => "expired",
        State::Denied => "denied_by_policy",
        _ => "changed",
    };
    again::apply(changes, court, record, judged);
    let why = format!("judged again when the decision came, the action is {}", record.ruling.state);
    Err((code, why))
}

fn reasons(decision: &DecisionData, spec: &ApprovalSpec) -> Result<(), Complaint> {
    let reason = decision.reason.as_deref().unwrap_or_default();
    if reason.len() > REASON_MAX {
        return Err(("reason_too_long", format!("a reason has at most {REASON_MAX} bytes")));
    }
    match (decision.decision, &decision.reason_code) {
        (Decision::Reject, Some(code))
            if !spec.reason_codes.is_empty() && !spec.reason_codes.contains(code) =>
        {
            let why = format!("reason_code {code:?} is none of {}", spec.reason_codes.join(", "));
            Err(("reason_unknown", why))
        }
        (Decision::Reject, None) if !spec.reason_codes.is_empty() => {
            let why = format!("a rejection needs a reason_code: one of {}", spec.reason_codes.join(", "));
            Err(("reason_missing", why))
        }
        (Decision::Reject | Decision::Respond, _)
            if reason.trim().is_empty() && spec.reason_codes.is_empty() =>
        {
            Err(("reason_missing", "it needs a reason: the agent and the auditors read it".into()))
        }
        (Decision::Respond, _) if reason.trim().is_empty() => {
            Err(("reason_missing", "it needs a reason: the message to the agent".into()))
        }
        _ => Ok(()),
    }
}

/// Records the vote and says where the request stands then.
fn vote(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
    bench: &Bench<'_>,
) -> Result<RequestState, Complaint> {
    let decision = said.decision;
    let shown =
        untagged(&decision.digest).ok_or_else(|| ("digest_mismatch", "the digest is none".to_owned()))?;
    let Some(approval) = &mut record.approval else { return Ok(RequestState::Closed) };
    let spec = approval.request.spec.clone();
    let event = RequestEvent::Decided {
        reviewer: said.reviewer.id.clone(),
        decision: decision.decision,
        digest: shown,
    };
    let state = approval
        .request
        .apply(event, court.now, &bench.counting(&spec))
        .map_err(|refused| (refused.code(), refused.to_string()))?;
    changes.decisions.push(DecisionRow {
        action: record.id,
        digest: shown.to_vec(),
        reviewer: said.reviewer.id.clone(),
        decision: decision.decision,
        approval: approval.id,
        event: said.event.into(),
        reason_code: decision.reason_code.clone(),
        reason: decision.reason.as_ref().map(|reason| reason.replace('\0', "\u{fffd}")),
        decided_at: court.now,
    });
    if state != RequestState::Open {
        let (approval, request) = (approval.clone(), approval.request.clone());
        changes.request(again::row(record, &approval, &request));
    }
    Ok(state)
}

fn approve(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord) -> Result<(), Complaint> {
    let illegal = |error: Illegal| ("illegal", error.to_string());
    let mut judged = again::judge(court, record).map_err(illegal)?;
    let held = court.governed.holds(&record.agent, &record.tool, &record.ruling.rule);
    let (state, effects) =
        transition(&again::standing(record), Event::Approved { held }, court.now).map_err(illegal)?;
    let voters = record.approval.iter().flat_map(|approval| approval.request.voters(Decision::Approve));
    judged.ruling.approvers = voters.map(str::to_owned).collect();
    judged.ruling.state = state;
    judged.ruling.approved = true;
    judged.effects = effects;
    settle(court, changes, record, judged);
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
    let mut judged = Judged::unchanged(&record.ruling, effects);
    judged.ruling.state = state;
    let code = match (decision.decision, &decision.reason_code) {
        (Decision::Respond, _) => "responded",
        (_, Some(code)) => code,
        _ => "rejected",
    };
    let message = decision.reason.clone().unwrap_or_default();
    judged.failure = Some(Reason { code: code.into(), message });
    settle(court, changes, record, judged);
    Ok(())
}

/// Writes what a human decided.
fn settle(court: &Court<'_>, changes: &mut Changes, record: &mut ActionRecord, mut judged: Judged) {
    let mut noted = changes.judged(&again::subject(court, record), &mut judged);
    noted["again"] = true.into();
    changes.evidence.push(Evidence::of(record.id, "action.judged", noted));
    record.ruling = judged.ruling;
    changes.rule(record.id, record.ruling.clone(), true);
}

/// The action with changed arguments, and what policy says of it.
struct Edited {
    arguments: Vec<u8>,
    judged: Judged,
}

/// An edit is judged before it counts: what the schema or policy refuses leaves the request as it was.
fn edited(court: &Court<'_>, record: &ActionRecord, decision: &DecisionData) -> Result<Edited, Complaint> {
    let arguments = decision
        .arguments
        .as_ref()
        .filter(|arguments| arguments.is_object())
        .ok_or_else(|| ("arguments_missing", "an edit needs `arguments`: an object".to_owned()))?;
    let arguments = canonical(arguments).map_err(|error| (error.code(), error.to_string()))?;
    let mut changed = record.clone();
    changed.edited = Some(arguments.clone());
    let judged = again::judge(court, &changed).map_err(|error| ("illegal", error.to_string()))?;
    if again::same_content(&judged, record) && judged.ruling.state == State::PendingApproval {
        return Err(("edit_same", "these are the arguments that it has already".into()));
    }
    match (judged.ruling.state, &judged.failure) {
        (State::PendingApproval, _) => Ok(Edited { arguments, judged }),
        (_, Some(failure)) => Err(("edit_denied", format!("{}: {}", failure.code, failure.message))),
        (state, None) => Err(("edit_denied", format!("with these arguments it would be {state}"))),
    }
}

/// Another content takes the place of what was asked about, and with it another request: what was approved before
/// falls away. The editor's approval counts if the rule says so.
fn edit(
    court: &Court<'_>,
    changes: &mut Changes,
    record: &mut ActionRecord,
    said: &Said<'_>,
    edited: Edited,
) -> Result<(), Complaint> {
    record.edited = Some(edited.arguments);
    again::apply(changes, court, record, edited.judged);
    let Some(approval) = record.approval.as_ref().filter(|approval| approval.request.spec.edit_counts) else {
        return Ok(());
    };
    let approves = DecisionData {
        approval: approval.id,
        digest: tagged(&approval.request.digest),
        decision: Decision::Approve,
        reason_code: None,
        reason: None,
        arguments: None,
    };
    apply(court, changes, record, &Said { decision: &approves, ..*said }).map(drop)
}
