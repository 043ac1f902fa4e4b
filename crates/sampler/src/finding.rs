//! The findings lane: applies what auditors have signed.

mod apply;
pub(crate) mod check;
mod outgoing_messages;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    evidence::{Event, FindingNoted, FindingRecorded, FindingRefused},
    ids::{ActionId, AuditId},
    message::FindingData,
    refusal::Complaint,
};
use countersign_runtime::{
    batch_handler::BatchHandler,
    governed::Governed,
    process,
    submission::{self, authenticate, deduplicate},
};
use countersign_store::{
    Pipeline, StoreError, Transaction, actions,
    audits::{self, AuditRecord, Request},
    evidence::{self, Evidence},
    generation::{self, Active},
    gold::{self as store_gold, GoldRecord},
    quarantine,
    statements::{self, Statement},
};

use self::{
    apply::apply,
    check::{Applied, SignedFinding},
};
use crate::{gold, shared::Sampler, switching};

/// A message with findings.
type Submission<'a> = submission::Submission<'a, FindingData>;

/// Applies findings.
pub(crate) struct Findings {
    pub(crate) sampler: Sampler,
}

#[async_trait]
impl BatchHandler for Findings {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let (tx, active) = generation::begin(&self.sampler.process.store).await?;
        let outgoing = find(&self.sampler, &tx, &active, batch).await?;
        tx.commit().await?;
        Ok(outgoing)
    }
}

/// Applies a batch of messages with findings. Returns what follows.
async fn find(
    sampler: &Sampler,
    tx: &Transaction,
    active: &Active,
    batch: &[Delivery],
) -> Result<Vec<Outgoing>, StoreError> {
    let governed = sampler.process.governed.under(tx, active).await?;
    let max_bytes = sampler.process.settings.limits.message_bytes;
    let mut submissions: Vec<Submission<'_>> = Vec::with_capacity(batch.len());
    for delivery in batch {
        match authenticate(delivery, &governed.configuration.directory, max_bytes) {
            Ok(submission) => submissions.push(submission),
            Err(unreadable) => {
                let (code, why) = &unreadable.complaint;
                tracing::warn!(%code, why, "finding quarantined");
                quarantine::insert(tx, &process::entry(delivery, *code, why)).await?;
            }
        }
    }
    let (submissions, repetitions) = deduplicate(tx, submissions).await?;
    // A repetition may mean that a message that follows was lost, so all are sent again.
    let shown: Vec<ActionId> = repetitions.iter().flat_map(|statement| &statement.shown).copied().collect();
    let repeated: BTreeSet<ActionId> =
        repetitions.into_iter().flat_map(|statement| statement.actions).collect();
    let named: Vec<_> =
        submissions.iter().flat_map(|submission| &submission.entries).map(|data| data.audit).collect();
    actions::lock(tx, &audits::actions_of(tx, &named).await?).await?;
    let items = store_gold::lock(tx, &named).await?;
    let mut findings = FindingsBatch {
        sampler,
        tx,
        governed: &governed,
        // The clock is read after the locks: waiting for them counts.
        now: generation::now(tx).await?,
        concerned: repeated.clone(),
        inputs: vec![],
        items: items.into_iter().map(|item| (item.id, item)).collect(),
        asked: BTreeSet::from_iter(store_gold::open_of(tx, &shown).await?),
    };
    let mut rows = Vec::with_capacity(submissions.len());
    for submission in submissions {
        rows.extend(findings.message(submission).await?);
    }
    let FindingsBatch { mut concerned, inputs, asked, .. } = findings;
    let mut writes = Pipeline::default();
    statements::insert(tx, &mut writes, &rows).await?;
    tx.run(&writes).await?;
    concerned.extend(switching::apply(tx, &governed.configuration.policy, &inputs).await?);
    let configuration = &governed.configuration;
    let mut outgoing = outgoing_messages::of_audits(tx, configuration, &concerned, &repeated).await?;
    outgoing.extend(gold::requests(tx, configuration, &Vec::from_iter(asked)).await?);
    Ok(outgoing)
}

/// A batch of findings while it is applied.
struct FindingsBatch<'a> {
    sampler: &'a Sampler,
    tx: &'a Transaction,
    governed: &'a Governed,
    now: DateTime<Utc>,
    /// The actions from which messages follow.
    concerned: BTreeSet<ActionId>,
    /// What the findings contribute to sampling plans.
    inputs: Vec<switching::SwitchingInput>,
    /// The gold items that are named, as they are.
    items: BTreeMap<AuditId, GoldRecord>,
    /// Gold items of which a request may follow.
    asked: BTreeSet<AuditId>,
}

impl FindingsBatch<'_> {
    /// Applies one message. Returns the statement to be recorded, if its signature is valid.
    async fn message(&mut self, submission: Submission<'_>) -> Result<Option<Statement>, StoreError> {
        let oldest = self.sampler.process.settings.limits.decision_age;
        let authenticated = match &submission.authenticated {
            Ok(authenticated) => authenticated.in_time(self.now, oldest).map(|()| authenticated),
            Err(complaint) => Err(complaint.clone()),
        };
        let (mut actions, mut shown) = (Vec::with_capacity(submission.entries.len()), Vec::new());
        for (index, data) in submission.entries.iter().enumerate() {
            let signed = authenticated.as_ref().map_err(Clone::clone).map(|authenticated| SignedFinding {
                data,
                auditor: authenticated.signer,
                kid: &authenticated.statement.kid,
            });
            let pseudonyms = &self.sampler.keys.pseudonyms;
            let signature =
                authenticated.as_ref().ok().map(|authenticated| authenticated.signature(index, pseudonyms));
            let item = self.items.get(&data.audit).cloned();
            if item.is_some() {
                let noted = FindingNoted {
                    signature,
                    ..self.noted(&submission, data, item.as_ref().map(GoldRecord::request))
                };
                shown.extend(self.gold(noted, data, signed).await?);
                continue;
            }
            let audit = audits::lock(self.tx, data.audit).await?;
            let request = audit.as_ref().map(AuditRecord::request);
            let noted = FindingNoted { signature, ..self.noted(&submission, data, request) };
            let applied = match (signed, &audit) {
                (Err(complaint), _) => Err(complaint),
                (Ok(signed), Some(audit)) => self.apply(audit, &signed).await?,
                (Ok(_), None) => Err(check::unknown(data)),
            };
            let action = audit.map(|audit| audit.action);
            evidence::insert(self.tx, &[Evidence::about(action, event(noted, data, applied))]).await?;
            actions.extend(action);
        }
        Ok(submission.authenticated.ok().map(|authenticated| Statement {
            actions,
            shown,
            ..authenticated.statement
        }))
    }

    async fn apply(
        &mut self,
        audit: &AuditRecord,
        signed: &SignedFinding<'_>,
    ) -> Result<Result<Applied, Complaint>, StoreError> {
        let applied = apply(self.tx, self.governed, audit, signed).await?;
        Ok(applied.map(|(applied, inputs)| {
            // A repetition changes nothing. Publishing again at once would loop with an app that answers every request while
            // another auditor is being asked; the sweep repeats the request.
            if applied == Applied::Now {
                self.concerned.insert(audit.action);
            }
            self.inputs.extend(inputs);
            applied
        }))
    }

    /// What is known of a finding before it is applied.
    fn noted(
        &self,
        submission: &Submission<'_>,
        data: &FindingData,
        audit: Option<Request<'_>>,
    ) -> FindingNoted {
        FindingNoted {
            event: submission.event.clone(),
            audit: data.audit,
            finding: data.finding,
            severity: data.severity,
            digest_shown: data.digest.clone(),
            sender: self.sampler.keys.pseudonyms.of(submission.sender.id()),
            signature: None,
            groups: audit.map(|audit| vec![audit.group.to_owned()]),
            opened_at: audit.map(|audit| audit.opened_at),
        }
    }

    /// Applies a finding on a gold item. Returns the action that it shows.
    async fn gold(
        &mut self,
        noted: FindingNoted,
        data: &FindingData,
        signed: Result<SignedFinding<'_>, Complaint>,
    ) -> Result<Option<ActionId>, StoreError> {
        let Some(item) = self.items.get_mut(&data.audit) else { return Ok(None) };
        let judged = match signed {
            Err(complaint) => Err(complaint),
            Ok(signed) => gold::finding::apply(self.tx, self.governed, item, &signed).await?,
        };
        let (applied, settled) = match judged {
            Ok(judgement) => (Ok(judgement.applied), judgement.settled),
            Err(complaint) => (Err(complaint), None),
        };
        if let Ok(Applied::Now) = applied {
            self.asked.insert(item.id);
        }
        let closes = settled.is_some();
        gold::finding::note(self.tx, item, event(noted, data, applied), settled).await?;
        item.open &= !closes;
        Ok(Some(item.action))
    }
}

/// A finding as evidence.
fn event(noted: FindingNoted, data: &FindingData, applied: Result<Applied, Complaint>) -> Event {
    let recorded = |noted| FindingRecorded {
        noted,
        reason_code: data.reason_code.clone(),
        resolution: data.resolution,
        compensate: data.compensate,
    };
    match applied {
        Ok(Applied::Now) => Event::FindingRecorded(recorded(noted)),
        Ok(Applied::Before) => Event::FindingRepeated(recorded(noted)),
        Err((code, message)) => {
            tracing::info!(audit = %data.audit, %code, why = message, "finding refused");
            Event::FindingRefused(FindingRefused { noted, code, message })
        }
    }
}
