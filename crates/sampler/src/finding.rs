//! The findings lane: applies what auditors found.

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    config::{Directory, Member},
    ids::ActionId,
    json::{canonical, parse_strict},
    message::{self, CloudEvent, Finding, FindingData, Lesson, Resolution, kind},
    refusal::{Code, Complaint},
    transition::{Event, Standing, transition},
};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord},
    audits::{self, AuditRecord},
    evidence::{self, Evidence},
    generation, listing,
    outcomes::{self, NewOutcome},
    quarantine,
};
use countersign_worker::{
    failure,
    messages::{self, Thought},
    process,
};
use serde_json::json;

use crate::Sampler;

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// Applies findings.
pub(crate) struct Findings {
    pub(crate) sampler: Sampler,
}

#[async_trait]
impl Handler for Findings {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.sampler.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let work = async {
            let mut client = self.sampler.process.store.client().await?;
            let tx = client.transaction().await?;
            let (mut ids, mut lessons) = (Vec::new(), Vec::new());
            for delivery in batch {
                ids.extend(apply(&self.sampler, &tx, delivery, &mut lessons).await?);
            }
            let mut outgoing: Vec<Outgoing> =
                actions::load(&tx, &ids, false).await?.iter().filter_map(messages::outcome).collect();
            outgoing.extend(lessons);
            tx.commit().await?;
            Ok(outgoing)
        };
        work.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.sampler.process.quarantine(delivery, code, reason).await
    }
}

/// Applies one finding. Returns the action if its outcome has changed and is to be told again. `lessons` takes what the
/// agent is to learn.
async fn apply(
    sampler: &Sampler,
    tx: &Transaction<'_>,
    delivery: &Delivery,
    lessons: &mut Vec<Outgoing>,
) -> Result<Option<ActionId>, StoreError> {
    let active = generation::lock_shared(tx).await?;
    let governed = sampler.process.governed.under(tx, &active).await?;
    let max_bytes = sampler.process.settings.limits.message_bytes;
    let (event, auditor) = match decode(delivery, &governed.configuration.directory, max_bytes) {
        Ok(read) => read,
        Err((code, why)) => return keep(tx, delivery, code, &why).await,
    };
    let data = event.data;
    let Some(audit) = audits::lock(tx, data.audit).await? else {
        let why = format!("there is no audit {}", data.audit);
        return keep(tx, delivery, Code::AuditUnknown, &why).await;
    };
    actions::lock(tx, &[audit.action]).await?;
    let Some(record) = actions::load(tx, &[audit.action], false).await?.pop() else { return Ok(None) };
    let by = sampler.keys.pseudonyms.of(&auditor.id);
    if audit.judged.as_ref() == Some(&(auditor.id.clone(), data.finding.as_str().to_owned())) {
        // A redelivery, or an app that was not sure: what follows is published again.
        lessons.extend(lesson(tx, &record, &data).await?);
        let noted = json!({"event": event.id, "audit": audit.id, "by": by});
        evidence::insert(tx, &[Evidence::of(record.id, "finding.repeated", noted)]).await?;
        return Ok(Some(record.id));
    }
    if let Err((code, why)) = check(&audit, &record, &data, auditor) {
        let noted = json!({"event": event.id, "code": code, "message": why, "by": by, "audit": audit.id});
        evidence::insert(tx, &[Evidence::of(record.id, "finding.refused", noted)]).await?;
        return Ok(None);
    }
    lessons.extend(lesson(tx, &record, &data).await?);
    let correction = data.correction.as_ref().and_then(|correction| canonical(correction).ok());
    audits::judge(tx, audit.id, data.finding, data.reason.as_deref(), correction.as_deref(), &auditor.id)
        .await?;
    let noted = json!({
        "event": event.id, "audit": audit.id, "finding": data.finding, "by": by, "resolution": data.resolution,
        "corrected": data.correction.is_some(),
    });
    evidence::insert(tx, &[Evidence::of(record.id, "audit.judged", noted)]).await?;
    match data.resolution {
        Some(resolution) => resolve(tx, &record, resolution).await.map(Some),
        None => Ok(None),
    }
}

/// What a finding of wrong teaches.
async fn lesson(
    tx: &Transaction<'_>,
    record: &ActionRecord,
    data: &FindingData,
) -> Result<Option<Outgoing>, StoreError> {
    if data.finding != Finding::Wrong {
        return Ok(None);
    }
    let pi = listing::throw(tx, record.id).await?.map(|throw| throw.pi);
    let (rationale, correction) = (data.reason.as_deref(), data.correction.as_ref());
    let thought = Thought { rationale, correction, pi, ..Thought::default() };
    Ok(messages::feedback(record, Lesson::Correction, &thought))
}

async fn keep(
    tx: &Transaction<'_>,
    delivery: &Delivery,
    code: Code,
    why: &str,
) -> Result<Option<ActionId>, StoreError> {
    tracing::warn!(%code, why, "finding quarantined");
    quarantine::insert(tx, &process::entry(delivery, code.as_str(), why)).await?;
    Ok(None)
}

fn decode<'d>(
    delivery: &Delivery,
    directory: &'d Directory,
    max_bytes: usize,
) -> Result<(CloudEvent<FindingData>, &'d Member), Complaint> {
    if delivery.copied {
        return Err((Code::Copied, "CC and BCC headers are refused".into()));
    }
    let user = delivery
        .author
        .as_deref()
        .ok_or_else(|| (Code::AuthorMissing, "set the AMQP property user_id to your own user".to_owned()))?;
    let auditor = directory.auditor_of_user(user).ok_or_else(|| {
        (Code::AuthorUnknown, format!("the AMQP user {user:?} is no auditor of the directory"))
    })?;
    if delivery.body.len() > max_bytes {
        return Err((Code::MessageTooLarge, format!("the limit is {max_bytes} bytes")));
    }
    let value = parse_strict(&delivery.body).map_err(|error| (error.code(), error.to_string()))?;
    let event: CloudEvent<FindingData> =
        serde_json::from_value(value).map_err(|error| (Code::InvalidFinding, error.to_string()))?;
    if event.kind != kind::AUDIT_FINDING {
        let why = format!("the type is {:?}; send {:?}", event.kind, kind::AUDIT_FINDING);
        return Err((Code::UnknownType, why));
    }
    Ok((event, auditor))
}

/// Everything that must hold of the finding and of who made it.
fn check(
    audit: &AuditRecord,
    record: &ActionRecord,
    data: &FindingData,
    auditor: &Member,
) -> Result<(), Complaint> {
    if !audit.open {
        return Err((Code::NotOpen, "the audit has been judged already".into()));
    }
    if !auditor.groups.contains(&audit.group) {
        return Err((Code::NotInGroup, format!("only {:?} may judge this", audit.group)));
    }
    let reason = data.reason.as_deref().unwrap_or_default().trim();
    if data.finding == Finding::Wrong && reason.is_empty() {
        return Err((Code::ReasonMissing, "a finding of wrong needs a reason".into()));
    }
    if reason.len() > REASON_MAX {
        return Err((Code::ReasonTooLong, format!("a reason has at most {REASON_MAX} bytes")));
    }
    match (record.ruling.state, data.resolution) {
        (State::InDoubt, None) => Err((
            Code::ResolutionMissing,
            "the action is in doubt: say whether it succeeded or failed in `resolution`".into(),
        )),
        (State::InDoubt, Some(_)) | (_, None) => Ok(()),
        (state, Some(_)) => {
            Err((Code::NotInDoubt, format!("the action is {state}: there is nothing to resolve")))
        }
    }
}

/// A human found out what an action in doubt did: its agent is told with a second outcome.
async fn resolve(
    tx: &Transaction<'_>,
    record: &ActionRecord,
    resolution: Resolution,
) -> Result<ActionId, StoreError> {
    let standing = Standing {
        state: record.ruling.state,
        approved: record.ruling.approved,
        expires_at: None,
        approval_expires_at: None,
    };
    let event = Event::Resolved { succeeded: resolution == Resolution::Succeeded };
    let (state, _) = transition(&standing, event, record.now)
        .map_err(|illegal| StoreError::Refused(format!("{}: {illegal}", record.reference)))?;
    outcomes::resolve(tx, record.id, state).await?;
    let error = (state == State::Failed).then(|| message::Failure {
        code: "resolved".into(),
        message: "a human found that the interrupted attempt had no effect".into(),
    });
    let outcome = NewOutcome { action: record.id, state, result: None, error };
    outcomes::insert(tx, 2, &[outcome]).await?;
    let noted = json!({"state": state});
    evidence::insert(tx, &[Evidence::of(record.id, "action.resolved", noted)]).await?;
    Ok(record.id)
}
