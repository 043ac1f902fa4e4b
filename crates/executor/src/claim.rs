//! The execution lane: opens packs of permits and claims their actions.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    config::Tool,
    digest::{salted, tagged},
    ids::ActionId,
    message::{self, CloudEvent, kind},
    permit::{PACK_MAX, Permit, PermitPack},
    refusal::{Code, Complaint},
    transition::Completion,
};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    claims::{self, Claim, Wanted},
    evidence::{self, Evidence},
    generation::{self, Active},
    quarantine,
};
use countersign_worker::{failure, governed::Governed, messages, process};
use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    Executor,
    call::{Done, Settled, Work, lease},
};

/// Claims actions.
pub(crate) struct Claims {
    executor: Executor,
    places: Option<OwnedSemaphorePermit>,
}

impl Claims {
    pub(crate) fn new(executor: Executor) -> Self {
        Self { executor, places: None }
    }
}

/// What a committed claim transaction leaves to be done.
struct Claimed {
    work: Vec<Work>,
    /// Claimed, but what is stored is not what was signed: ended without a call.
    tampered: Vec<(ActionId, i32)>,
    outgoing: Vec<Outgoing>,
}

#[async_trait]
impl Handler for Claims {
    async fn ready(&mut self) -> Result<(), Failure> {
        // Those of a batch that has failed.
        self.places = None;
        self.executor.process.ready().await
    }

    async fn admit(&mut self, batch: &[Delivery]) {
        let most = batch.len().saturating_mul(PACK_MAX) as u32;
        let limit = self.executor.process.settings.limits.calls;
        // Never waited for more with some in hand: together they may be more than there are.
        self.places = None;
        self.places = self.executor.calls.reserve(most.min(limit)).await;
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let executor = &self.executor;
        let claimed = claim(executor, batch).await.map_err(failure)?;
        let mut places = self.places.take();
        let mut place = || places.as_mut().and_then(|places| places.split(1));
        for work in claimed.work {
            executor.calls.start(work, place());
        }
        for (action, fence) in claimed.tampered {
            let message = "what is stored is not what was signed; nothing was called".into();
            executor.calls.settle(Settled::Done(Done {
                action,
                fence,
                completion: Completion::Failed,
                result: None,
                error: Some(message::Failure { code: Code::DigestMismatch.into(), message }),
                attempts: 0,
                place: place(),
            }));
        }
        Ok(claimed.outgoing)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.executor.process.quarantine(delivery, code, reason).await
    }
}

async fn claim(executor: &Executor, batch: &[Delivery]) -> Result<Claimed, StoreError> {
    let mut permits: HashMap<ActionId, Permit> = HashMap::new();
    let mut refused = Vec::new();
    for delivery in batch {
        match open(executor, delivery) {
            Ok(pack) => permits.extend(pack.into_iter().map(|permit| (permit.action, permit))),
            Err(complaint) => refused.push((delivery, complaint)),
        }
    }
    let named: Vec<ActionId> = permits.keys().copied().collect();
    let (tx, active) = generation::begin_locked(&executor.process.store, &named).await?;
    // The leases run from here: waiting for the locks does not shorten them.
    let claimed_at = Instant::now();
    let governed = executor.process.governed.under(&tx, &active).await?;
    for (delivery, (code, why)) in refused {
        refuse_pack(&tx, delivery, code, &why).await?;
    }
    let mut calls = HashMap::new();
    let mut good = Vec::with_capacity(permits.len());
    let registry = &governed.configuration.tools;
    for permit in permits.values() {
        let Some(tool) = valid(permit, &governed, &active) else { continue };
        match executor.calls.tools.call(tool, registry.egress()) {
            Ok(call) => {
                calls.insert(permit.action, Ok(call));
                good.push(Wanted {
                    action: permit.action,
                    permit: permit.permit,
                    lease: lease(tool).as_secs_f64(),
                    repeatable: tool.idempotent(),
                });
            }
            Err(error) => {
                tracing::error!(tool = tool.name(), %error, "the tool cannot be called; its actions wait");
                calls.insert(permit.action, Err(()));
            }
        }
    }
    let claims = claims::claim(&tx, active.generation, &good).await?;
    let mut evidence = Vec::with_capacity(permits.len());
    let (mut work, mut tampered) = (Vec::with_capacity(claims.len()), Vec::new());
    for claim in claims {
        let Some(permit) = permits.remove(&claim.action) else { continue };
        let noted = json!({"state": "executing", "permit": permit.permit, "fence": claim.fence,
                           "generation": active.generation});
        evidence.push(Evidence::of(claim.action, "action.claimed", noted));
        match (bound(&claim, &permit), calls.remove(&claim.action)) {
            (Some(content), Some(Ok(call))) => work.push(assemble(claim, call, content, claimed_at)),
            _ => tampered.push((claim.action, claim.fence)),
        }
    }
    let mut outgoing = explain(&tx, &permits, &active, &mut evidence).await?;
    // What cannot be called is not sent round in a circle: the router's sweep comes back to it.
    outgoing.retain(|(action, _)| !matches!(calls.get(action), Some(Err(()))));
    let outgoing = outgoing.into_iter().map(|(_, command)| command).collect();
    let mut writes = Pipeline::default();
    evidence::write(&tx, &mut writes, &evidence).await?;
    tx.commit_with(&writes).await?;
    Ok(Claimed { work, tampered, outgoing })
}

fn assemble(claim: Claim, tool: Arc<crate::call::ToolCall>, content: Vec<u8>, claimed: Instant) -> Work {
    Work {
        action: claim.action,
        fence: claim.fence,
        reference: (claim.source, claim.event_id),
        tool,
        content,
        traceparent: claim.traceparent,
        claimed,
    }
}

fn open(executor: &Executor, delivery: &Delivery) -> Result<Vec<Permit>, Complaint> {
    let event: CloudEvent<PermitPack> =
        serde_json::from_slice(&delivery.body).map_err(|error| (Code::PermitMalformed, error.to_string()))?;
    if event.kind != kind::PERMIT_PACK {
        return Err((Code::UnknownType, format!("the type is {:?}", event.kind)));
    }
    event.data.open(&executor.keys.permits).map_err(|error| (Code::PermitForged, error.to_string()))
}

/// Keeps a pack that authorises nothing, and the attempt as evidence.
async fn refuse_pack(tx: &Transaction, delivery: &Delivery, code: Code, why: &str) -> Result<(), StoreError> {
    tracing::error!(%code, why, "permits refused: nothing executed");
    let id = quarantine::insert(tx, &process::entry(delivery, code.as_str(), why)).await?;
    let body = json!({"code": code, "quarantine": id});
    evidence::insert(tx, &[Evidence::global("permit.refused", body)]).await
}

/// The tool, if the permit holds in itself: in time, under this generation, for the target as registered.
fn valid<'g>(permit: &Permit, governed: &'g Governed, active: &Active) -> Option<&'g Tool> {
    let tool = governed.configuration.tools.get(&permit.target.tool)?;
    let holds = permit.expires_at > active.now
        && permit.generation == active.generation
        && permit.target.version == tool.version()
        && permit.target.endpoint == tool.endpoint();
    holds.then_some(tool)
}

/// The stored content, if it is what the permit was signed for.
fn bound(claim: &Claim, permit: &Permit) -> Option<Vec<u8>> {
    let salt = claim.salt.as_slice().try_into().ok()?;
    let content = claim.content.as_ref()?;
    (tagged(&salted(salt, content)) == permit.digest).then(|| content.clone())
}

/// Why the remaining permits claimed nothing. An action that is still authorised goes back to the router.
async fn explain(
    tx: &Transaction,
    permits: &HashMap<ActionId, Permit>,
    active: &Active,
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
        let noted = |code: Code| json!({"code": code, "permit": permit.permit});
        let Some(stored) = stored.get(action) else {
            evidence.push(Evidence::global("permit.refused", noted(Code::ActionUnknown)));
            continue;
        };
        let code = match stored.state.as_str() {
            "authorised" if stored.permit == Some(permit.permit) => {
                outgoing.push((*action, messages::judge_again(*action, active.now)));
                stale(permit, active.now)
            }
            "authorised" | "held" | "pending_approval" => Code::Superseded,
            _ if stored.permit == Some(permit.permit) => Code::AlreadyUsed,
            _ => Code::NotAuthorised,
        };
        evidence.push(Evidence::of(*action, "permit.refused", noted(code)));
    }
    Ok(outgoing)
}

fn stale(permit: &Permit, now: DateTime<Utc>) -> Code {
    if permit.expires_at <= now { Code::PermitExpired } else { Code::GenerationChanged }
}
