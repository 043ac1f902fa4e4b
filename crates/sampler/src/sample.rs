//! The settled lane: throws the coin.

use std::collections::{BTreeSet, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    digest::tagged,
    ids::{ActionId, AuditId},
    keyed::commitment,
    message::{CloudEvent, SettledPack},
};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord},
    audits::{self, NewAudit},
    epochs,
    evidence::{self, Evidence},
    quarantine,
    sampling::{self, NewThrow},
};
use countersign_worker::{failure, messages, process};
use serde::Deserialize;
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

/// The stratum of an action, what it is compared with: rule, tool, agent and its version. A name that others choose is
/// cut, so that a stratum has an end.
fn stratum(record: &ActionRecord) -> String {
    #[derive(Deserialize)]
    struct Content {
        agent: Agent,
    }
    #[derive(Deserialize)]
    struct Agent {
        version: Option<String>,
    }
    let content =
        record.content.as_deref().and_then(|content| serde_json::from_slice::<Content>(content).ok());
    let version: String =
        content.and_then(|content| content.agent.version).unwrap_or_default().chars().take(64).collect();
    format!("{}/{}/{}@{version}", record.ruling.rule, record.tool, record.agent)
}

/// One throw per executed action, ever. An action in doubt is always audited: somebody has to find out.
fn throw(sampler: &Sampler, record: &ActionRecord) -> NewThrow {
    let epoch = record.now.timestamp().div_euclid(epoch_seconds(sampler));
    let forced = (record.ruling.state == State::InDoubt).then_some("in_doubt");
    let pi = if forced.is_some() { 1.0 } else { record.ruling.audit_rate };
    let throw = sampler.keys.coin.throw(epoch, &record.reference.source, &record.reference.id, pi);
    NewThrow { action: record.id, epoch, stratum: stratum(record), throw, forced }
}

/// Commits to the keys of these throws' epochs, before any throw of theirs is stored.
async fn open_epochs(sampler: &Sampler, tx: &Transaction<'_>, throws: &[NewThrow]) -> Result<(), StoreError> {
    let numbers: BTreeSet<i64> = throws.iter().map(|throw| throw.epoch).collect();
    let commitment = |epoch: i64| commitment(&sampler.keys.coin.epoch_key(epoch));
    let ends_at = |epoch: i64| {
        let end = epoch.saturating_add(1).saturating_mul(epoch_seconds(sampler));
        DateTime::from_timestamp(end, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    };
    let epochs: Vec<_> =
        numbers.into_iter().map(|epoch| (epoch, commitment(epoch), ends_at(epoch))).collect();
    let describe = |epoch: i64| json!({"epoch": epoch, "commitment": tagged(&commitment(epoch)), "ends_at": ends_at(epoch)});
    epochs::open(tx, &epochs, describe).await
}

fn epoch_seconds(sampler: &Sampler) -> i64 {
    i64::try_from(sampler.process.settings.sampling.epoch.as_secs()).unwrap_or(i64::MAX).max(1)
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
    open_epochs(sampler, tx, &throws).await?;
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
