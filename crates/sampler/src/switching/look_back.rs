//! Look-backs: audits of what was executed at once just before approval was back.

use chrono::{DateTime, Utc};
use countersign_core::{
    evidence::{Event, LookbackOpened, OpenedAudit},
    ids::{ActionId, AuditId},
    message::AuditReason,
};
use countersign_policy::Switching;
use countersign_statistics::switching::Plan;
use countersign_store::{
    StoreError, Transaction,
    audits::{self, LookBack, NewAudit},
    evidence::{self, Evidence},
    sampling_plans::PlanRecord,
};
use uuid::Uuid;

/// Most findings among which the last zero of a CUSUM is looked for.
const FINDINGS: i64 = 10_000;

/// Opens audits of the last actions of some strata that have none: a census of its own, which enters no estimate.
pub(super) async fn open(
    tx: &Transaction,
    rule: &Switching,
    look_back: &LookBack<'_>,
) -> Result<Vec<ActionId>, StoreError> {
    if rule.look_back == 0 {
        return Ok(vec![]);
    }
    let found = audits::to_look_back(tx, look_back, rule.look_back).await?;
    let mut opened = Vec::with_capacity(found.len());
    let mut noted = Vec::with_capacity(found.len());
    for audits::Unaudited { action, group, stratum } in found {
        let id = AuditId(Uuid::now_v7());
        let audit = OpenedAudit { id, group: group.clone() };
        noted.push(Evidence::of(action, Event::AuditLookbackOpened(LookbackOpened { audit, stratum })));
        opened.push(NewAudit { id, action, group, reason: AuditReason::LookBack, twice: false });
    }
    audits::open(tx, &opened).await?;
    evidence::insert(tx, &noted).await?;
    Ok(opened.iter().map(|audit| audit.action).collect())
}

/// When the last action ended that left the CUSUM of a stratum at zero, or an earlier one that was judged later: what went
/// wrong began after that. `None` if it never was there since its first finding: then all may have been wrong.
pub(super) async fn began(
    tx: &Transaction,
    plan: &Plan,
    record: &PlanRecord,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let findings = audits::settled_of(tx, &record.stratum, record.since, FINDINGS).await?;
    let zero = plan.lattice.last_zero(findings.iter().map(|(_, wrong)| *wrong));
    let Some(last) = zero.checked_sub(1) else { return Ok(None) };
    Ok(findings.iter().skip(last).map(|(ended_at, _)| *ended_at).min())
}
