//! Gold items: audits of which the right finding is known, mixed into the auditors' requests.
//!
//! **Nothing follows from a finding on one.** This module and [`finding`] write to the tables of gold items and to evidence
//! that names no action; they have no part in what becomes of actions, sampling plans and feedback.

pub(crate) mod finding;

use std::collections::HashSet;

use countersign_broker::publisher::Outgoing;
use countersign_core::{
    ids::{ActionId, AuditId},
    keyed,
    message::Finding,
    person::Persons as _,
};
use countersign_policy::Configuration;
use countersign_runtime::{governed::Governed, messages};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    gold::{self, Candidate, DueDraw, NewGold, NewGoldDraw},
    sampling::NewDraw,
};
use uuid::Uuid;

use crate::{finding::check::eligible, shared::Sampler};

/// The longest time between an action's audit and the gold item that it draws, in seconds.
const SPREAD: i64 = 900;

/// Draws whether gold items follow these selected actions.
pub(crate) async fn draw<'r>(
    sampler: &Sampler,
    tx: &Transaction,
    share: f64,
    selected: impl Iterator<Item = (&'r &'r ActionRecord, &'r NewDraw)>,
) -> Result<(), StoreError> {
    let asks = |record: &ActionRecord, draw: &NewDraw| {
        let key = sampler.keys.keyed_sampler.epoch_key(draw.epoch);
        keyed::gold::draw(&key, &record.reference.source, &record.reference.id).selects(share)
    };
    let rows: Vec<NewGoldDraw> = selected
        .filter(|(record, draw)| asks(record, draw))
        .map(|(record, draw)| {
            let group = record.status.audit_group.clone();
            NewGoldDraw { action: record.id, epoch: draw.epoch, group }
        })
        .collect();
    gold::insert_draws(tx, &rows, sampler.epoch_seconds().min(SPREAD) as f64).await
}

/// Opens the gold items that are due. Returns those for which an earlier audit was found that somebody in the group may judge
/// and has not judged.
pub(crate) async fn open(
    sampler: &Sampler,
    tx: &Transaction,
    governed: &Governed,
    due: &[ActionId],
) -> Result<Vec<AuditId>, StoreError> {
    if due.is_empty() {
        return Ok(vec![]);
    }
    gold::exclude_erasure(tx).await?;
    let mut opened = Vec::new();
    for draw in gold::take(tx, due).await? {
        opened.extend(open_one(sampler, tx, governed, &draw).await?);
    }
    Ok(opened)
}

async fn open_one(
    sampler: &Sampler,
    tx: &Transaction,
    governed: &Governed,
    draw: &DueDraw,
) -> Result<Option<AuditId>, StoreError> {
    let key = sampler.keys.keyed_sampler.epoch_key(draw.epoch);
    let (source, id) = (&draw.reference.source, &draw.reference.id);
    let drawn = keyed::gold::draw(&key, source, id);
    let [first, other] = match drawn.wrong {
        true => [Finding::Wrong, Finding::Correct],
        false => [Finding::Correct, Finding::Wrong],
    };
    for known in [first, other] {
        let found = gold::candidates(tx, &draw.group, known, draw.action).await?;
        let candidates = unjudged(tx, governed, &draw.group, &found).await?;
        let Some(audit) = keyed::gold::choose(&key, source, id, &candidates) else { continue };
        let new = NewGold {
            id: AuditId(Uuid::now_v7()),
            draw: draw.action,
            audit,
            known,
            candidates: &candidates,
            group: &draw.group,
            twice: drawn.twice(governed.configuration.policy.audits().twice),
        };
        gold::open(tx, &new).await?;
        return Ok(Some(new.id));
    }
    Ok(None)
}

/// Those of these audits that some auditor of the group may judge and has not judged.
async fn unjudged(
    tx: &Transaction,
    governed: &Governed,
    group: &str,
    candidates: &[Candidate],
) -> Result<Vec<AuditId>, StoreError> {
    let audits: Vec<AuditId> = candidates.iter().map(|candidate| candidate.audit).collect();
    let actions: Vec<ActionId> = candidates.iter().map(|candidate| candidate.action).collect();
    let judges = gold::judges(tx, &audits).await?;
    let records = actions::load(tx, &actions, LoadDepth::Bodies).await?;
    let directory = &governed.configuration.directory;
    let somebody = |candidate: &&Candidate| {
        let Some(record) = records.iter().find(|record| record.id == candidate.action) else { return false };
        directory.auditors().iter().any(|auditor| {
            let judged = |(audit, judge): &(AuditId, String)| {
                *audit == candidate.audit && directory.same(judge, &auditor.id)
            };
            !judges.iter().any(judged) && eligible(governed, group, record, auditor).is_ok()
        })
    };
    Ok(candidates.iter().filter(somebody).map(|candidate| candidate.audit).collect())
}

/// The requests for those of these gold items that are open: the same that an audit opened at that time would have.
pub(crate) async fn requests(
    tx: &Transaction,
    configuration: &Configuration,
    ids: &[AuditId],
) -> Result<Vec<Outgoing>, StoreError> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let items = gold::of(tx, ids).await?;
    let actions: HashSet<ActionId> = items.iter().map(|item| item.action).collect();
    let records = actions::load(tx, &Vec::from_iter(actions), LoadDepth::Bodies).await?;
    let request = |item: &gold::GoldRecord| {
        let record = records.iter().find(|record| record.id == item.action)?;
        let record = messages::shown_again(item, record.clone());
        messages::audit_request(configuration, &item.request(), &record)
    };
    Ok(items.iter().filter(|item| item.open).filter_map(request).collect())
}
