//! The actions lane: takes proposals in.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    action::State,
    digest::{Salt, salted},
    evidence::{ActingAgent, ActionLink, ActionLinkedBy, Event, ProposalRefused},
    ids::{ActionId, ActionRef},
    json::{canonical, envelope_ids},
    message,
    proposal::{self, Proposal},
    refusal::{Code, Complaint},
    transition::Standing,
};
use countersign_runtime::{author, batch_handler::BatchHandler, process};
use countersign_store::{
    Pipeline, StoreError, Transaction, actions,
    actions::NewAction,
    cancellations,
    evidence::{self, Evidence},
    generation::Active,
    payloads::{self, Payload},
    quarantine,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Router, cancel,
    evaluation::{Evaluated, EvaluationContext},
    limit_usage::LimitUsage,
    outgoing_messages::{self, PendingNotifications},
    write_set::{Subject, WriteSet},
};

/// The source of what Countersign itself proposes: to undo an action, under that action's id.
pub(crate) const COMPENSATIONS: &str = "/countersign/compensations";

/// A proposal, and resolve_author it is.
pub(crate) struct InboundMessage<'a> {
    delivery: &'a Delivery,
    /// What an auditor has asked to be undone, and for which agent; an agent's own proposals undo nothing.
    undoes: Option<(ActionId, &'a str)>,
}

/// Takes proposals in.
pub(crate) struct Intake {
    pub(crate) router: Router,
}

#[async_trait]
impl BatchHandler for Intake {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let router = &self.router;
        let asked = references(router, batch);
        let asked: Vec<&ActionRef> = asked.iter().collect();
        let (tx, active, withdrawn) = cancellations::begin(&router.process.store, &asked).await?;
        let taken = ingest(router, &tx, &active, batch, withdrawn).await?;
        let PendingNotifications { now, permits, others } = &taken.pending;
        let writes = taken.writes(&tx).await?;
        let mut outgoing = outgoing_messages::commit(tx, writes, others, &router.keys.permit).await?;
        outgoing.extend(outgoing_messages::issued(permits, &router.keys.permit, *now));
        Ok(outgoing)
    }
}

/// A proposal with everything that is stored of it if it is new.
struct Candidate<'a> {
    delivery: &'a Delivery,
    action: NewAction,
    payload: Payload,
    /// What tells a repetition from a conflict: the proposal in canonical form, or the raw bytes.
    fingerprint: Vec<u8>,
    /// The agent's earlier action in resolve_author place it comes.
    supersedes: Option<ActionRef>,
    write_set: WriteSet,
}

/// What has been taken in, and is to be written.
pub(crate) struct IntakeResult {
    payloads: Vec<Payload>,
    write_set: WriteSet,
    pub(crate) pending: PendingNotifications,
}

impl IntakeResult {
    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let mut writes = self.write_set.writes(tx).await?;
        payloads::insert(tx, &mut writes, &self.payloads).await?;
        Ok(writes)
    }
}

/// Applies a batch of agents' messages. `withdrawn` are those that were withdrawn before they arrived.
pub(crate) async fn ingest(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    batch: &[Delivery],
    mut withdrawn: Vec<ActionRef>,
) -> Result<IntakeResult, StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let limits = &router.process.settings.limits;
    let context = EvaluationContext { governed: &governed, limits, now: active.now, limit_usage: None };
    let (withdrawals, batch): (Vec<_>, Vec<_>) = batch.iter().partition(|delivery| cancel::is_one(delivery));
    // First: a batch may hold a proposal and its cancellation, in any order; and everybody locks actions before limits.
    let ended = cancel::withdraw(tx, &context, &withdrawals).await?;
    if !withdrawals.is_empty() {
        withdrawn = self::withdrawn(router, tx, &batch).await?;
    }
    let batch = batch.into_iter().map(|delivery| InboundMessage { delivery, undoes: None }).collect();
    let mut taken = accept(router, tx, &context, batch, withdrawn.into_iter().collect()).await?;
    taken.pending.others.extend(ended);
    Ok(taken)
}

/// Applies what Countersign itself proposes: each undoes an action of an agent.
pub(crate) async fn propose(
    router: &Router,
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    proposals: &[(Delivery, ActionId, String)],
) -> Result<Vec<ActionId>, StoreError> {
    let batch: Vec<&Delivery> = proposals.iter().map(|(delivery, ..)| delivery).collect();
    let withdrawn = withdrawn(router, tx, &batch).await?;
    let inbound = proposals
        .iter()
        .map(|(delivery, undone, agent)| InboundMessage { delivery, undoes: Some((*undone, agent)) });
    let taken = accept(router, tx, context, inbound.collect(), withdrawn.into_iter().collect()).await?;
    tx.run(&taken.writes(tx).await?).await?;
    Ok(taken.pending.all())
}

async fn accept(
    router: &Router,
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    inbound: Vec<InboundMessage<'_>>,
    withdrawn: HashSet<ActionRef>,
) -> Result<IntakeResult, StoreError> {
    let batch: Vec<&Delivery> = inbound.iter().map(|inbound| inbound.delivery).collect();
    let (limit_usage, mut counted) = limit_usage(tx, context, &batch).await?;
    let counting = EvaluationContext { limit_usage: Some(&limit_usage), ..*context };
    let mut candidates = Vec::with_capacity(batch.len());
    for inbound in inbound {
        match candidate(router, [context, &counting], &mut counted, &withdrawn, &inbound) {
            Ok(candidate) => candidates.push(candidate),
            Err((code, message)) => {
                tracing::warn!(%code, message, "proposal quarantined");
                quarantine::insert(tx, &process::entry(inbound.delivery, code.as_str(), &message)).await?;
            }
        }
    }
    let earlier = superseded(tx, &candidates).await?;
    for candidate in &mut candidates {
        candidate.action.supersedes =
            candidate.supersedes.as_ref().and_then(|reference| earlier.get(reference).copied());
    }
    // Everybody inserts in the same order, so nobody waits for each other in a ring.
    candidates.sort_by(|a, b| a.action.reference.cmp(&b.action.reference));
    let rows: Vec<NewAction> = candidates.iter().map(|candidate| candidate.action.clone()).collect();
    let mut new: HashSet<ActionId> = actions::insert(tx, &rows).await?.into_iter().collect();
    let (fresh, known): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| new.contains(&candidate.action.id));
    let mut payloads = Vec::with_capacity(fresh.len());
    let mut write_set = WriteSet::default();
    for candidate in fresh {
        payloads.push(candidate.payload);
        write_set.merge(candidate.write_set);
        if let Some(earlier) = candidate.action.supersedes {
            let id = candidate.action.id;
            let (link, by) = (ActionLink { action: earlier }, ActionLinkedBy { by: id });
            write_set.evidence.push(Evidence::of(id, Event::ActionSupersedes(link)));
            write_set.evidence.push(Evidence::of(earlier, Event::ActionSuperseded(by)));
        }
        if let Some(undone) = candidate.action.compensates {
            let id = candidate.action.id;
            let (link, by) = (ActionLink { action: undone }, ActionLinkedBy { by: id });
            write_set.evidence.push(Evidence::of(id, Event::ActionCompensates(link)));
            write_set.evidence.push(Evidence::of(undone, Event::ActionCompensationProposed(by)));
        }
    }
    let pending = PendingNotifications { now: context.now, permits: write_set.issued(), others: vec![] };
    let mut taken = IntakeResult { payloads, write_set, pending };
    if !known.is_empty() {
        // What has come twice in one batch is compared with what is stored of it.
        tx.run(&taken.writes(tx).await?).await?;
        (taken.payloads, taken.write_set) = (vec![], WriteSet::default());
        new.extend(repeated(tx, &known).await?);
    }
    for permit in &taken.pending.permits {
        new.remove(&permit.action);
    }
    taken.pending.others.extend(new);
    Ok(taken)
}

/// Which proposals of a batch have been withdrawn before they arrived.
pub(crate) async fn withdrawn(
    router: &Router,
    tx: &Transaction,
    batch: &[&Delivery],
) -> Result<Vec<ActionRef>, StoreError> {
    let references = references(router, batch.iter().copied());
    cancellations::of(tx, &references.iter().collect::<Vec<_>>()).await
}

/// How the agents call the actions of a batch, as far as that can be read.
fn references<'a>(router: &Router, batch: impl IntoIterator<Item = &'a Delivery>) -> Vec<ActionRef> {
    let most = router.process.settings.limits.message_bytes;
    batch
        .into_iter()
        .filter(|delivery| delivery.body.len() <= most)
        .filter_map(|delivery| envelope_ids(&delivery.body))
        .map(|(source, id)| ActionRef { source, id })
        .collect()
}

/// The stored actions in resolve_author place others come.
async fn superseded(
    tx: &Transaction,
    candidates: &[Candidate<'_>],
) -> Result<HashMap<ActionRef, ActionId>, StoreError> {
    let references: Vec<&ActionRef> =
        candidates.iter().filter_map(|candidate| candidate.supersedes.as_ref()).collect();
    let known = actions::find(tx, &references).await?;
    Ok(known.into_iter().map(|known| (known.reference, known.id)).collect())
}

/// The sums that the new proposals of a batch add to, and which these are. One that is known has added already, and
/// one that comes twice adds once.
async fn limit_usage(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    batch: &[&Delivery],
) -> Result<(LimitUsage, HashSet<ActionRef>), StoreError> {
    let mut proposals = HashMap::new();
    if context.governed.configuration.policy.has_limits() {
        for delivery in batch {
            if let Ok(proposal) = proposal::decode(&delivery.body, context.limits.message_bytes) {
                proposals.entry(proposal.reference.clone()).or_insert(proposal);
            }
        }
    }
    let limit_usage = LimitUsage::of(tx, context, proposals.values(), &[]).await?;
    // Looked for under the locks: another router may just have taken in the same proposal, and its amount is in the sum.
    let references: Vec<&ActionRef> = proposals.keys().collect();
    for known in actions::find(tx, &references).await? {
        proposals.remove(&known.reference);
    }
    Ok((limit_usage, proposals.into_keys().collect()))
}

/// Proposals resolve_author (source, id) is known: the same again is answered from what is stored, another body under
/// the same id is quarantined and noted on the action.
async fn repeated(tx: &Transaction, known: &[Candidate<'_>]) -> Result<Vec<ActionId>, StoreError> {
    let references: Vec<&ActionRef> = known.iter().map(|candidate| &candidate.action.reference).collect();
    let stored: HashMap<ActionRef, _> = actions::find(tx, &references)
        .await?
        .into_iter()
        .map(|known| (known.reference.clone(), known))
        .collect();
    let mut same = Vec::new();
    for candidate in known {
        let Some(stored) = stored.get(&candidate.action.reference) else { continue };
        let salt: Salt = stored.salt.as_slice().try_into().unwrap_or_default();
        if salted(&salt, &candidate.fingerprint).as_slice() == stored.body_digest {
            same.push(stored.id);
            continue;
        }
        let why = format!("{} was proposed before with another body", candidate.action.reference);
        let id =
            quarantine::insert(tx, &process::entry(candidate.delivery, Code::DuplicateId.as_str(), &why))
                .await?;
        let noted = ProposalRefused { code: Code::DuplicateId, quarantine: id };
        evidence::insert(tx, &[Evidence::of(stored.id, Event::ProposalRefused(noted))]).await?;
    }
    Ok(same)
}

fn candidate<'a>(
    router: &Router,
    [context, counting]: [&EvaluationContext<'_>; 2],
    counted: &mut HashSet<ActionRef>,
    withdrawn: &HashSet<ActionRef>,
    inbound: &InboundMessage<'a>,
) -> Result<Candidate<'a>, Complaint> {
    let delivery = inbound.delivery;
    let (agent, source) = resolve_author(context, inbound)?;
    let forged = |reference: &ActionRef| {
        let why = format!("the source is {:?}, the author's is {source:?}", reference.source);
        (Code::SourceForged, why)
    };
    let salt: Salt = rand::random();
    let standing = |proposal: Option<&Proposal>| Standing {
        state: State::Proposed,
        approved: false,
        expires_at: proposal.and_then(|proposal| proposal.expires_at),
        approval_expires_at: None,
    };
    let illegal = |error: countersign_core::transition::Illegal| (Code::Illegal, error.to_string());
    let (reference, proposal, evaluated) =
        match proposal::decode(&delivery.body, context.limits.message_bytes) {
            Ok(proposal) if proposal.reference.source != source => {
                return Err(forged(&proposal.reference));
            }
            Ok(proposal) if inbound.undoes.is_none() && proposal.action.get("compensates").is_some() => {
                let message =
                    "`data.compensates` is what Countersign proposes when an auditor asks for it".into();
                let failure = message::Failure { code: Code::InvalidProposal.into(), message };
                (proposal.reference.clone(), None, context.refuse(standing(None), failure).map_err(illegal)?)
            }
            Ok(proposal) => {
                let context = if counted.remove(&proposal.reference) { counting } else { context };
                let evaluated = context
                    .evaluate(&proposal, &agent, &salt, standing(Some(&proposal)), None)
                    .map_err(illegal)?;
                let evaluated = match withdrawn.contains(&proposal.reference) {
                    true => context.withdrawn(standing(Some(&proposal)), evaluated).map_err(illegal)?,
                    false => evaluated,
                };
                (proposal.reference.clone(), Some(proposal), evaluated)
            }
            Err(refusal) => {
                let Some(reference) = refusal.reference else { return Err((refusal.code, refusal.message)) };
                if reference.source != source {
                    return Err(forged(&reference));
                }
                let failure = message::Failure { code: refusal.code.into(), message: refusal.message };
                (reference, None, context.refuse(standing(None), failure).map_err(illegal)?)
            }
        };
    Ok(assemble(router, context, inbound, &agent, reference, proposal, evaluated, salt))
}

/// The agent resolve_author proposal it is, and the source that it must name.
fn resolve_author(
    context: &EvaluationContext<'_>,
    inbound: &InboundMessage<'_>,
) -> Result<(String, String), Complaint> {
    if let Some((_, agent)) = inbound.undoes {
        return Ok((agent.to_owned(), COMPENSATIONS.to_owned()));
    }
    let user = author::of(inbound.delivery)?;
    let agent = context.governed.configuration.directory.agent_of_user(user);
    let agent = agent.ok_or_else(|| author::unknown(user, "agent"))?;
    Ok((agent.id.clone(), agent.source()))
}

#[allow(clippy::too_many_arguments, reason = "one caller; a struct would only name the same things twice")]
fn assemble<'a>(
    router: &Router,
    context: &EvaluationContext<'_>,
    inbound: &InboundMessage<'a>,
    agent: &str,
    reference: ActionRef,
    proposal: Option<Proposal>,
    mut evaluated: Evaluated,
    salt: Salt,
) -> Candidate<'a> {
    let delivery = inbound.delivery;
    let id = ActionId(Uuid::now_v7());
    let expires_at = proposal.as_ref().and_then(|proposal| proposal.expires_at);
    let subject = Subject {
        action: id,
        reference: &reference,
        expires_at,
        now: context.now,
        permit_lifetime: context.permit_lifetime(),
    };
    let mut write_set = WriteSet::default();
    let mut noted = write_set.evaluated(&subject, &mut evaluated);
    noted.agent = Some(describe(router, agent, proposal.as_ref()));
    if let Some(proposal) = &proposal {
        noted.tool = Some(proposal.tool.clone());
        noted.context = Some(lineage(&proposal.action));
    }
    write_set.note(id, noted);
    let fingerprint = proposal
        .as_ref()
        .and_then(|proposal| canonical(&proposal.action).ok())
        .unwrap_or_else(|| delivery.body.clone());
    let kept = delivery.body.len() <= context.limits.message_bytes;
    let payload = Payload {
        action: id,
        body: if kept { delivery.body.clone() } else { Vec::new() },
        digest: evaluated.content.as_ref().map_or_else(|| salted(&salt, &[]), |content| content.digest),
        content: evaluated.content.map(|content| content.bytes),
        body_digest: salted(&salt, &fingerprint),
        salt,
    };
    let supersedes = proposal.as_ref().and_then(|proposal| proposal.supersedes.clone());
    let action = NewAction {
        id,
        supersedes: None,
        compensates: inbound.undoes.map(|(undone, _)| undone),
        reference,
        agent: agent.into(),
        tool: proposal.as_ref().map(|proposal| proposal.tool.clone()).unwrap_or_default(),
        expires_at,
        traceparent: proposal.and_then(|proposal| proposal.traceparent),
        status: evaluated.status,
    };
    Candidate { delivery, action, payload, fingerprint, supersedes, write_set }
}

/// Who acted, for evidence: the person on resolve_author behalf by pseudonym.
fn describe(router: &Router, agent: &str, proposal: Option<&Proposal>) -> ActingAgent {
    let said = |member: &str| proposal.and_then(|p| p.agent.get(member)).cloned();
    ActingAgent {
        id: agent.into(),
        version: said("version"),
        model: said("model"),
        on_behalf_of: said("on_behalf_of")
            .and_then(|person| person.as_str().map(|person| router.keys.pseudonyms.of(person))),
    }
}

/// Lineage: the digests of what the decision rests on; at most 32, and not the uris, which may name people.
fn lineage(action: &Value) -> Vec<String> {
    let context = action.get("context").and_then(Value::as_array);
    context.into_iter().flatten().filter_map(digest).take(32).collect()
}

/// Only what is one: any other text could say anything about anybody.
fn digest(item: &Value) -> Option<String> {
    let text = item.get("digest")?.as_str()?;
    let hex = text.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.into())
}
