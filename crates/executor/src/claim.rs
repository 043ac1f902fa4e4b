//! The execution lane: opens packs of permits and claims their actions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    digest::{salted, tagged},
    evidence::{Event, PermitRefused},
    ids::ActionId,
    message::{self, CloudEvent, kind},
    permit::{PACK_MAX, Permit, PermitPack},
    refusal::{Code, Complaint},
    transition::Completion,
};
use countersign_policy::Tool;
use countersign_runtime::{batch_handler::BatchHandler, governed::Governed, messages, process};
use countersign_store::{
    Client, Pipeline, StoreError, Transaction,
    claims::{self, Claim, ClaimRequest},
    evidence::{self, Evidence},
    generation, quarantine,
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    call::{CallCompletion, ClaimedCall, Settled},
    shared::Executor,
    tools::{ToolCall, lease},
};

/// Claims actions.
pub(crate) struct Claims {
    executor: Executor,
    call_slots: Option<OwnedSemaphorePermit>,
    /// The calls of this batch that have begun: if the batch is retried, their permits are not reported as used.
    begun: HashSet<ActionId>,
}

impl Claims {
    pub(crate) fn new(executor: Executor) -> Self {
        Self { executor, call_slots: None, begun: HashSet::new() }
    }
}

/// The result of claiming.
#[derive(Default)]
struct Claimed {
    calls: Vec<ClaimedCall>,
    /// Claimed, but the stored content is not what the permit was signed for: ended without a call.
    tampered: Vec<(ActionId, i32)>,
}

#[async_trait]
impl BatchHandler for Claims {
    fn restart(&mut self) {
        self.call_slots = None;
    }

    async fn admit(&mut self, batch: &[Delivery]) {
        let most = batch.iter().map(size).sum::<usize>() as u32;
        let limit = self.executor.process.settings.limits.calls;
        self.begun.clear();
        // Slots in hand are given back first: together with those waited for they could exceed all there are.
        self.call_slots = None;
        self.call_slots = self.executor.calls.reserve(most.min(limit)).await;
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let outgoing = self.claim(batch).await?;
        // The slots for which no call was begun.
        self.call_slots = None;
        Ok(outgoing)
    }
}

impl Claims {
    async fn claim(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let executor = self.executor.clone();
        let (mut permits, refused) = open(&executor, batch);
        permits.retain(|action, _| !self.begun.contains(action));
        // Usually this claims everything. The rest is examined under locks.
        if let Some(governed) = executor.process.governed.latest() {
            let mut ready = Ready::of(&executor, &governed, &permits);
            // One statement, so that the calls it has claimed begin before anything else can fail.
            ready.wanted.truncate(claims::BATCH_MAX);
            let client = executor.process.store.client().await?;
            let claimed = ready.claim(&client, &mut permits).await?;
            self.begin(claimed);
        }
        if permits.is_empty() && refused.is_empty() {
            return Ok(vec![]);
        }
        let (claimed, outgoing) = under_locks(&executor, permits, refused).await?;
        self.begin(claimed);
        Ok(outgoing)
    }

    fn begin(&mut self, claimed: Claimed) {
        let (calls, call_slots) = (&self.executor.calls, &mut self.call_slots);
        let mut slot = || call_slots.as_mut().and_then(|call_slots| call_slots.split(1));
        self.begun.extend(claimed.calls.iter().map(|call| call.action));
        self.begun.extend(claimed.tampered.iter().map(|(action, _)| *action));
        for call in claimed.calls {
            calls.start(call, slot());
        }
        for (action, fence) in claimed.tampered {
            let message = "the stored content is not what the permit was signed for; nothing was called";
            let error = Some(message::Failure::new(Code::DigestMismatch, message));
            let completion = CallCompletion {
                error,
                slot: slot(),
                ..CallCompletion::of(action, fence, Completion::Failed)
            };
            calls.settle(Settled::Completed(completion));
        }
    }
}

/// How many permits a delivery may hold: no more slots are waited for.
fn size(delivery: &Delivery) -> usize {
    let event: Result<CloudEvent<PermitPack>, _> = serde_json::from_slice(&delivery.body);
    event.map_or(0, |event| event.data.permits.len().min(PACK_MAX))
}

/// Permits by action, and packs that authorise nothing.
type Opened<'d> = (HashMap<ActionId, Permit>, Vec<(&'d Delivery, Complaint)>);

fn open<'d>(executor: &Executor, batch: &'d [Delivery]) -> Opened<'d> {
    let (mut permits, mut refused) = (HashMap::new(), Vec::new());
    for delivery in batch {
        match pack(executor, delivery) {
            Ok(pack) => permits.extend(pack.into_iter().map(|permit| (permit.action, permit))),
            Err(complaint) => refused.push((delivery, complaint)),
        }
    }
    (permits, refused)
}

/// The claims that valid permits ask for.
struct Ready {
    generation: i64,
    /// In the order of their actions, so that two executors do not wait for each other.
    wanted: Vec<ClaimRequest>,
    calls: HashMap<ActionId, Arc<ToolCall>>,
    /// Actions whose tools this process cannot call.
    uncallable: HashSet<ActionId>,
}

impl Ready {
    fn of(executor: &Executor, governed: &Governed, permits: &HashMap<ActionId, Permit>) -> Self {
        let (mut wanted, mut calls, mut uncallable) = (Vec::new(), HashMap::new(), HashSet::new());
        let registry = &governed.configuration.tools;
        for permit in permits.values() {
            let Some(tool) = valid(permit, governed) else { continue };
            match executor.calls.tools.call(tool, registry.egress()) {
                Ok(call) => {
                    calls.insert(permit.action, call);
                    wanted.push(ClaimRequest {
                        action: permit.action,
                        permit: permit.permit,
                        expires_at: permit.expires_at,
                        lease: lease(tool).as_secs_f64(),
                        repeatable: tool.idempotent(),
                    });
                }
                Err(error) => {
                    tracing::error!(tool = tool.name(), %error, "the tool cannot be called; its actions wait");
                    uncallable.insert(permit.action);
                }
            }
        }
        wanted.sort_unstable_by_key(|wanted| wanted.action);
        Self { generation: governed.generation, wanted, calls, uncallable }
    }

    /// Claims what is wanted, if the generation is the active one. Removes the claimed actions from `permits`.
    async fn claim(
        &mut self,
        client: &Client,
        permits: &mut HashMap<ActionId, Permit>,
    ) -> Result<Claimed, StoreError> {
        let mut claimed = Claimed::default();
        for wanted in self.wanted.chunks(claims::BATCH_MAX) {
            let begun = Instant::now();
            for claim in claims::claim(client, self.generation, wanted).await? {
                let Some(permit) = permits.remove(&claim.action) else { continue };
                // The lease runs from here at the earliest: waiting for locks has not shortened it.
                let from = begun + Duration::try_from_secs_f64(claim.waited).unwrap_or_default();
                match (bound(&claim, &permit), self.calls.remove(&claim.action)) {
                    (Some(content), Some(call)) => claimed.calls.push(assemble(claim, call, content, from)),
                    _ => claimed.tampered.push((claim.action, claim.fence)),
                }
            }
        }
        Ok(claimed)
    }
}

/// Claims what can be claimed, and finds out why the rest cannot.
async fn under_locks(
    executor: &Executor,
    mut permits: HashMap<ActionId, Permit>,
    refused: Vec<(&Delivery, Complaint)>,
) -> Result<(Claimed, Vec<Outgoing>), StoreError> {
    let named: Vec<ActionId> = permits.keys().copied().collect();
    let (tx, active) = generation::begin_locked(&executor.process.store, &named).await?;
    let governed = executor.process.governed.under(&tx, &active).await?;
    for (delivery, (code, why)) in refused {
        refuse_pack(&tx, delivery, code, &why).await?;
    }
    let mut ready = Ready::of(executor, &governed, &permits);
    let claimed = ready.claim(&tx, &mut permits).await?;
    let mut evidence = Vec::with_capacity(permits.len());
    let mut outgoing = explain(&tx, &permits, &mut evidence).await?;
    // An action whose tool cannot be called is not sent back at once, which would loop: the router's sweep returns to it.
    outgoing.retain(|(action, _)| !ready.uncallable.contains(action));
    let outgoing = outgoing.into_iter().map(|(_, command)| command).collect();
    let mut writes = Pipeline::default();
    evidence::write(&tx, &mut writes, &evidence).await?;
    tx.commit_with(&writes).await?;
    Ok((claimed, outgoing))
}

fn assemble(claim: Claim, tool: Arc<ToolCall>, content: Vec<u8>, claimed_at: Instant) -> ClaimedCall {
    ClaimedCall {
        action: claim.action,
        fence: claim.fence,
        reference: (claim.source, claim.event_id),
        tool,
        content,
        salt: claim.salt,
        traceparent: claim.traceparent,
        claimed_at,
    }
}

fn pack(executor: &Executor, delivery: &Delivery) -> Result<Vec<Permit>, Complaint> {
    let event: CloudEvent<PermitPack> =
        serde_json::from_slice(&delivery.body).map_err(|error| (Code::PermitMalformed, error.to_string()))?;
    if event.kind != kind::PERMIT_PACK {
        return Err((Code::UnknownType, format!("the type is {:?}", event.kind)));
    }
    event.data.open(&executor.keys.permits).map_err(|error| (Code::PermitForged, error.to_string()))
}

/// Quarantines a pack that authorises nothing, and records the attempt as evidence.
async fn refuse_pack(tx: &Transaction, delivery: &Delivery, code: Code, why: &str) -> Result<(), StoreError> {
    tracing::error!(%code, why, "permits refused: nothing executed");
    let id = quarantine::insert(tx, &process::entry(delivery, code, why)).await?;
    let noted = PermitRefused { code, permit: None, quarantine: Some(id) };
    evidence::insert(tx, &[Evidence::global(Event::PermitRefused(noted))]).await
}

/// The tool, if the permit is of this generation and for the target as registered. The database checks its expiry.
fn valid<'g>(permit: &Permit, governed: &'g Governed) -> Option<&'g Tool> {
    let tool = governed.configuration.tools.get(&permit.target.tool)?;
    let is_valid = permit.generation == governed.generation
        && permit.target.version == tool.version()
        && permit.target.endpoint == tool.endpoint();
    is_valid.then_some(tool)
}

/// The stored content, if it is what the permit was signed for.
fn bound(claim: &Claim, permit: &Permit) -> Option<Vec<u8>> {
    let salt = claim.content_salt.as_slice().try_into().ok()?;
    let content = claim.content.as_ref()?;
    (tagged(&salted(salt, content)) == permit.digest).then(|| content.clone())
}

/// Why the remaining permits claimed nothing. An action that is still authorised goes back to the router.
async fn explain(
    tx: &Transaction,
    permits: &HashMap<ActionId, Permit>,
    evidence: &mut Vec<Evidence>,
) -> Result<Vec<(ActionId, Outgoing)>, StoreError> {
    if permits.is_empty() {
        return Ok(vec![]);
    }
    let ids: Vec<ActionId> = permits.keys().copied().collect();
    let stored: HashMap<ActionId, _> =
        claims::explain(tx, &ids).await?.into_iter().map(|stored| (stored.action, stored)).collect();
    let mut outgoing = Vec::new();
    for (action, permit) in permits {
        let noted = |code: Code| {
            Event::PermitRefused(PermitRefused { code, permit: Some(permit.permit), quarantine: None })
        };
        let Some(stored) = stored.get(action) else {
            evidence.push(Evidence::global(noted(Code::ActionUnknown)));
            continue;
        };
        let code = match stored.state.as_str() {
            "authorised" if stored.permit == Some(permit.permit) => {
                outgoing.push((*action, messages::reevaluate(*action, stored.now)));
                stale(permit, stored.now)
            }
            "authorised" | "held" | "pending_approval" => Code::Superseded,
            _ if stored.permit == Some(permit.permit) => Code::AlreadyUsed,
            _ => Code::NotAuthorised,
        };
        evidence.push(Evidence::of(*action, noted(code)));
    }
    Ok(outgoing)
}

fn stale(permit: &Permit, now: DateTime<Utc>) -> Code {
    if permit.expires_at <= now { Code::PermitExpired } else { Code::GenerationChanged }
}
