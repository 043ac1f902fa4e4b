//! The settled lane: throws the coin.

use std::collections::HashSet;

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    ids::{ActionId, AuditId},
    message::{CloudEvent, SettledPack},
};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord},
    audits::{self, NewAudit},
    evidence::{self, Evidence},
    quarantine,
    sampling::{self, NewThrow},
};
use countersign_worker::{failure, messages, process};
use serde_json::json;
use uuid::Uuid;

use crate::Sampler;

/// Throws the coin.
pub(crate) struct Samples {
    pub(crate) sampler: Sampler,
}

#[async_trait]
impl Handler for Samples {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.sampler.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let sampler = &self.sampler;
        let work = async {
            let mut client = sampler.process.store.client().await?;
            let tx = client.transaction().await?;
            let mut ids = Vec::new();
            for delivery in batch {
                match serde_json::from_slice::<CloudEvent<SettledPack>>(&delivery.body) {
                    Ok(event) => ids.extend(event.data.actions),
                    Err(error) => {
                        let why = error.to_string();
                        quarantine::insert(&tx, &process::entry(delivery, "pack_malformed", &why)).await?;
                    }
                }
            }
            let selected = sample(sampler, &tx, &ids).await?;
            let outgoing = requests(&tx, &selected).await?;
            tx.commit().await?;
            Ok(outgoing)
        };
        work.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.sampler.process.quarantine(delivery, code, reason).await
    }
}

/// The stratum of an action: what it is compared with.
fn stratum(record: &ActionRecord) -> String {
    format!("{}/{}", record.ruling.rule, record.tool)
}

/// One throw per executed action, ever. An action in doubt is always audited: somebody has to find out.
fn throw(sampler: &Sampler, record: &ActionRecord) -> NewThrow {
    let seconds = i64::try_from(sampler.process.settings.sampling.epoch.as_secs()).unwrap_or(i64::MAX).max(1);
    let epoch = record.now.timestamp().div_euclid(seconds);
    let forced = (record.ruling.state == State::InDoubt).then_some("in_doubt");
    let pi = if forced.is_some() { 1.0 } else { record.ruling.audit_rate };
    let throw = sampler.keys.coin.throw(epoch, &record.reference.source, &record.reference.id, pi);
    NewThrow { action: record.id, epoch, stratum: stratum(record), throw, forced }
}

/// Throws the coin for actions that have none and opens the audits it asks for. Returns the actions of the
/// batch that may have an open audit.
async fn sample(
    sampler: &Sampler,
    tx: &Transaction<'_>,
    ids: &[ActionId],
) -> Result<Vec<ActionId>, StoreError> {
    let records = actions::load(tx, ids, false).await?;
    let executed: Vec<_> = records.iter().filter(|record| record.ruling.state.executed()).collect();
    let throws: Vec<NewThrow> = executed.iter().map(|record| throw(sampler, record)).collect();
    let new: HashSet<ActionId> = sampling::insert(tx, &throws).await?.into_iter().collect();
    let (mut opened, mut evidence) = (Vec::new(), Vec::with_capacity(new.len()));
    for (record, thrown) in executed.iter().zip(&throws).filter(|(record, _)| new.contains(&record.id)) {
        let mut noted = json!({
            "epoch": thrown.epoch, "stratum": thrown.stratum, "pi": thrown.throw.pi,
            // 56 bits are beyond what JSON numbers carry exactly everywhere.
            "r": thrown.throw.r.to_string(), "selected": thrown.throw.selected, "forced": thrown.forced,
        });
        if thrown.throw.selected {
            let id = AuditId(Uuid::now_v7());
            noted["audit"] = json!({"id": id, "group": record.ruling.audit_group});
            let reason = if thrown.forced.is_some() { "in_doubt" } else { "sampled" };
            opened.push(NewAudit { id, action: record.id, group: record.ruling.audit_group.clone(), reason });
        }
        evidence.push(Evidence::of(record.id, "action.sampled", noted));
    }
    audits::open(tx, &opened).await?;
    evidence::insert(tx, &evidence).await?;
    // The coin falls the same way again, so these are also the ones that a repeated pack is about.
    Ok(throws.iter().filter(|thrown| thrown.throw.selected).map(|thrown| thrown.action).collect())
}

/// The requests for the open audits of these actions.
pub(crate) async fn requests(tx: &Transaction<'_>, ids: &[ActionId]) -> Result<Vec<Outgoing>, StoreError> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let open = audits::open_of(tx, ids).await?;
    let ids: Vec<ActionId> = open.iter().map(|audit| audit.action).collect();
    let records = actions::load(tx, &ids, true).await?;
    Ok(open
        .iter()
        .filter_map(|audit| {
            let record = records.iter().find(|record| record.id == audit.action)?;
            messages::audit_request(audit, record)
        })
        .collect())
}
