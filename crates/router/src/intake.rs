//! The actions lane: accepts agents' proposals and cancellations.

mod candidate;
mod lineage;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    digest::{Salt, salted},
    evidence::{ActionLink, ActionLinkedBy, Event, ProposalRefused},
    ids::{ActionId, ActionRef},
    refusal::{Code, Complaint},
};
use countersign_runtime::{batch_handler::BatchHandler, process};
use countersign_store::{
    Pipeline, StoreError, Transaction, actions,
    actions::NewAction,
    cancellations,
    evidence::{self, Evidence},
    generation::Active,
    payloads::{self, Payload},
    quarantine,
};

use self::candidate::{Candidate, Draft};
use crate::{
    cancel,
    context::EvaluationContext,
    evaluation::Evaluation,
    inbound::{Inbound, Message},
    incoming::{Compensation, Incoming},
    limit_usage::{Before, LimitUsage},
    outgoing_messages::{self, PendingNotifications},
    quota::{self, Admission},
    shared::Router,
    write_set::WriteSet,
};

/// Accepts proposals and cancellations.
pub(crate) struct Intake {
    router: Router,
    /// The queues to be left alone for a while after the last batches.
    pauses: BTreeMap<String, Duration>,
}

impl Intake {
    pub(crate) fn new(router: Router) -> Self {
        Self { router, pauses: BTreeMap::new() }
    }
}

#[async_trait]
impl BatchHandler for Intake {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let router = &self.router;
        let max_bytes = router.process.settings.limits.message_bytes;
        let batch: Vec<Inbound<'_>> =
            batch.iter().map(|delivery| Inbound::decode(delivery, max_bytes)).collect();
        let references: Vec<ActionRef> = batch.iter().filter_map(Inbound::proposes).cloned().collect();
        let references: Vec<&ActionRef> = references.iter().collect();
        let (tx, active, withdrawn) = cancellations::begin(&router.process.store, &references).await?;
        let mut result = ingest(router, &tx, &active, batch, withdrawn).await?;
        let pauses = std::mem::take(&mut result.pauses);
        let PendingNotifications { now, permits, others } = &result.pending;
        let writes = result.writes(&tx).await?;
        let mut outgoing = outgoing_messages::commit(tx, writes, others, &router.keys.permit).await?;
        outgoing.extend(outgoing_messages::issued(permits, &router.keys.permit, *now));
        for (exchange, pause) in pauses {
            *self.pauses.entry(exchange).or_default() += pause;
        }
        Ok(outgoing)
    }

    fn pauses(&mut self) -> Vec<(String, Duration)> {
        std::mem::take(&mut self.pauses).into_iter().collect()
    }
}

/// The result of a batch: what to write, and what to send messages about.
pub(crate) struct IntakeResult {
    payloads: Vec<Payload>,
    write_set: WriteSet,
    pub(crate) pending: PendingNotifications,
    /// The queues to be left alone for a while: see [`Admission`].
    pauses: BTreeMap<String, Duration>,
}

impl IntakeResult {
    /// Adds what agents use up of their rates, in seconds.
    pub(crate) fn use_rates(&mut self, seconds: BTreeMap<String, f64>) {
        self.write_set.rates = seconds;
    }

    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let mut writes = self.write_set.writes(tx).await?;
        payloads::insert(tx, &mut writes, &self.payloads).await?;
        Ok(writes)
    }
}

/// Applies a batch of agents' messages. `withdrawn` are the actions that were withdrawn before they arrived.
pub(crate) async fn ingest(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    batch: Vec<Inbound<'_>>,
    mut withdrawn: Vec<ActionRef>,
) -> Result<IntakeResult, StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let limits = &router.process.settings.limits;
    let context = EvaluationContext { governed: &governed, limits, now: active.now };
    let (mut cancellations, mut proposals) = (Vec::new(), Vec::with_capacity(batch.len()));
    for inbound in batch {
        match inbound.message {
            Message::Cancellation(event) => cancellations.push((inbound.delivery, event)),
            message => proposals.push(Inbound { message, ..inbound }),
        }
    }
    // Cancellations first: a batch may hold one before its proposal or after it, and actions are locked before limits.
    let ended = cancel::withdraw(tx, &context, &cancellations).await?;
    if !cancellations.is_empty() {
        withdrawn = self::withdrawn(tx, proposals.iter()).await?;
    }
    let Admission { incoming, rates, pauses } =
        quota::admit(tx, &context, router.process.settings.quotas, proposals).await?;
    let mut result = accept(router, tx, &context, incoming, withdrawn.into_iter().collect()).await?;
    result.use_rates(rates);
    result.pauses = pauses;
    result.pending.others.extend(ended);
    Ok(result)
}

/// Applies what Countersign itself proposes: each proposal undoes an action of an agent.
pub(crate) async fn propose(
    router: &Router,
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    proposals: &[(Delivery, Compensation<'_>)],
) -> Result<Vec<ActionId>, StoreError> {
    // Made of a message within the limit and the tool's answer: an agent must not be able to make it too large.
    let batch: Vec<Incoming<'_>> = proposals
        .iter()
        .map(|(delivery, undoes)| Incoming {
            compensation: Some(*undoes),
            ..Incoming::of(Inbound::decode(delivery, usize::MAX))
        })
        .collect();
    let withdrawn = withdrawn(tx, batch.iter().map(|incoming| &incoming.inbound)).await?;
    let result = accept(router, tx, context, batch, withdrawn.into_iter().collect()).await?;
    tx.run(&result.writes(tx).await?).await?;
    Ok(result.pending.all())
}

/// Evaluates proposals and stores those that are new.
pub(crate) async fn accept<'a>(
    router: &Router,
    tx: &Transaction,
    context: &EvaluationContext<'a>,
    batch: Vec<Incoming<'a>>,
    withdrawn: HashSet<ActionRef>,
) -> Result<IntakeResult, StoreError> {
    let mut drafts = Vec::with_capacity(batch.len());
    for incoming in batch {
        let delivery = incoming.inbound.delivery;
        match Draft::new(context, incoming) {
            Ok(draft) => drafts.push(draft),
            Err(complaint) => refuse(tx, delivery, complaint).await?,
        }
    }
    let mut limits = BatchLimits::lock(tx, &drafts).await?;
    let mut candidates = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        let (delivery, reference) = (draft.delivery, draft.reference.clone());
        let before = limits.admit(&mut draft);
        match draft.into_candidate(router, context, &withdrawn) {
            Ok(candidate) => {
                // What ends at once, such as one that was withdrawn, must not count against others.
                if let Some(before) = before.filter(|_| !candidate.write_set.counts()) {
                    limits.usage.restore(before);
                }
                candidates.push(candidate);
            }
            Err(complaint) => {
                limits.counted.remove(&reference);
                if let Some(before) = before {
                    limits.usage.restore(before);
                }
                refuse(tx, delivery, complaint).await?;
            }
        }
    }
    let earlier = superseded(tx, &candidates).await?;
    for candidate in &mut candidates {
        candidate.action.supersedes =
            candidate.supersedes.as_ref().and_then(|reference| earlier.get(reference).copied());
    }
    // All transactions insert in the same order, so that they cannot deadlock. The sort is stable: of two proposals
    // with the same reference the first is stored, which is the one that was admitted.
    candidates.sort_by(|a, b| a.action.reference.cmp(&b.action.reference));
    let rows: Vec<NewAction> = candidates.iter().map(|candidate| candidate.action.clone()).collect();
    let new = actions::insert(tx, &rows).await?.into_iter().collect();
    store(tx, context, candidates, new).await
}

/// Gathers the rows of the actions in `new`, and finds the stored actions that the others repeat.
async fn store(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    candidates: Vec<Candidate<'_>>,
    mut new: HashSet<ActionId>,
) -> Result<IntakeResult, StoreError> {
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
    let mut result = IntakeResult { payloads, write_set, pending, pauses: BTreeMap::new() };
    if !known.is_empty() {
        // A proposal that is in the batch twice is compared with the stored first one.
        tx.run(&result.writes(tx).await?).await?;
        (result.payloads, result.write_set) = (vec![], WriteSet::default());
        new.extend(repeated(tx, &known).await?);
    }
    for permit in &result.pending.permits {
        new.remove(&permit.action);
    }
    result.pending.others.extend(new);
    Ok(result)
}

/// Quarantines a proposal that cannot be attributed to an action of its author.
async fn refuse(tx: &Transaction, delivery: &Delivery, (code, message): Complaint) -> Result<(), StoreError> {
    tracing::warn!(%code, message, "proposal quarantined");
    quarantine::insert(tx, &process::entry(delivery, code, &message)).await.map(drop)
}

/// The cumulative limits that a batch counts against.
struct BatchLimits {
    usage: LimitUsage,
    /// The stored proposals, which have already been counted, and those of the batch so far: of two with the same
    /// reference the first is stored.
    counted: HashSet<ActionRef>,
}

impl BatchLimits {
    /// Locks the sums. Every draft's author may use its reference, so none is counted for another's.
    async fn lock(tx: &Transaction, drafts: &[Draft<'_>]) -> Result<Self, StoreError> {
        let limited: Vec<_> =
            drafts.iter().filter_map(|draft| Some((&draft.reference, draft.limit()?))).collect();
        let mut all = Self { usage: LimitUsage::default(), counted: HashSet::new() };
        if !limited.is_empty() {
            all.usage = LimitUsage::lock(tx, limited.iter().map(|(_, limit)| *limit), &[]).await?;
            // Read under the locks: if another router has just stored the same proposal, its amount is in the sum.
            let references: Vec<&ActionRef> = limited.iter().map(|(reference, _)| *reference).collect();
            all.counted
                .extend(actions::find(tx, &references).await?.into_iter().map(|known| known.reference));
        }
        Ok(all)
    }

    /// Admits a draft to its limit, unless it repeats another. Returns what the usage was before, if it has one.
    fn admit(&mut self, draft: &mut Draft<'_>) -> Option<Before> {
        if !self.counted.insert(draft.reference.clone()) {
            return None;
        }
        let before = self.usage.before(draft.limit()?, None);
        Evaluation::admit(draft.evaluation.as_mut().ok()?, &mut self.usage, None);
        Some(before)
    }
}

/// Which proposals of a batch were withdrawn before they arrived.
pub(crate) async fn withdrawn<'i>(
    tx: &Transaction,
    batch: impl Iterator<Item = &'i Inbound<'i>>,
) -> Result<Vec<ActionRef>, StoreError> {
    let references: Vec<&ActionRef> = batch.filter_map(Inbound::proposes).collect();
    cancellations::of(tx, &references).await
}

/// The stored actions that candidates replace.
async fn superseded(
    tx: &Transaction,
    candidates: &[Candidate<'_>],
) -> Result<HashMap<ActionRef, ActionId>, StoreError> {
    let references: Vec<&ActionRef> =
        candidates.iter().filter_map(|candidate| candidate.supersedes.as_ref()).collect();
    let known = actions::find(tx, &references).await?;
    Ok(known.into_iter().map(|known| (known.reference, known.id)).collect())
}

/// Proposals whose (source, id) is known: the same proposal is answered from the stored action, one with another body
/// is quarantined and recorded in the action's evidence.
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
        let id = quarantine::insert(tx, &process::entry(candidate.delivery, Code::DuplicateId, &why)).await?;
        let noted = ProposalRefused { code: Code::DuplicateId, quarantine: id };
        evidence::insert(tx, &[Evidence::of(stored.id, Event::ProposalRefused(noted))]).await?;
    }
    Ok(same)
}
