//! Findings on gold items: checked, counted and answered like those on audits. A request to compensate is noted and nothing else.

use countersign_core::{
    audit::{Opinion, settle},
    evidence::{Event, GoldSettled},
    person::Persons as _,
    refusal::Complaint,
};
use countersign_runtime::governed::Governed;
use countersign_store::{
    StoreError, Transaction,
    actions::{self, LoadDepth},
    gold::{self, GoldRecord},
};

use crate::finding::check::{
    Applied, SignedFinding, check, eligible, repeated, row, settled_already, unknown,
};

/// What a finding made of a gold item.
pub(crate) struct Judgement {
    pub(crate) applied: Applied,
    /// What the item's evidence ends with, if it is settled.
    pub(crate) settled: Option<Event>,
}

/// Applies one finding to a locked gold item, or returns why it does not count. Whoever has judged the action before is answered
/// like anybody else, and another auditor is asked.
pub(crate) async fn apply(
    tx: &Transaction,
    governed: &Governed,
    item: &GoldRecord,
    signed: &SignedFinding<'_>,
) -> Result<Result<Judgement, Complaint>, StoreError> {
    let directory = &governed.configuration.directory;
    let found = gold::findings(tx, item.id).await?;
    let earlier = found.iter().map(|before| (before.auditor.as_str(), before.opinion));
    if let Some(answer) = repeated(directory, earlier, signed) {
        return Ok(answer.map(|applied| Judgement { applied, settled: None }));
    }
    if !item.open {
        return Ok(Err(settled_already()));
    }
    let record = actions::load(tx, &[item.action], LoadDepth::Bodies).await?.pop();
    let Some(record) = record else { return Ok(Err(unknown(signed.data))) };
    let eligible = eligible(governed, &item.group, &record, signed.auditor);
    if let Err(complaint) = eligible.and_then(|()| check(&governed.configuration, &record, signed)) {
        return Ok(Err(complaint));
    }
    let judges = gold::judges(tx, &[item.audit]).await?;
    let blind = !judges.iter().any(|(_, judge)| directory.same(judge, &signed.auditor.id));
    let row = row(&record, signed);
    gold::insert_finding(tx, &row, blind).await?;
    let mut opinions: Vec<Opinion> =
        found.iter().filter(|found| found.blind).map(|found| found.opinion).collect();
    opinions.extend(blind.then_some(row.opinion));
    let Some(settled) = settle(&opinions, item.twice) else {
        gold::ask_another(tx, item.id).await?;
        return Ok(Ok(Judgement { applied: Applied::Now, settled: None }));
    };
    gold::settle(tx, item.id, &settled).await?;
    let noted = GoldSettled {
        audit: item.id,
        of: item.audit,
        known: item.known,
        finding: settled.finding,
        severity: settled.severity,
        findings: opinions.len(),
        epoch: item.epoch,
    };
    Ok(Ok(Judgement { applied: Applied::Now, settled: Some(Event::GoldSettled(noted)) }))
}

/// Keeps what is noted of a finding until the item is settled, and writes it as evidence then.
pub(crate) async fn note(
    tx: &Transaction,
    item: &GoldRecord,
    event: Event,
    settled: Option<Event>,
) -> Result<(), StoreError> {
    gold::note(tx, item.id, item.open, event).await?;
    match settled {
        Some(settled) => gold::record_notes(tx, item.id, settled).await,
        None => Ok(()),
    }
}
