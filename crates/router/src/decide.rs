//! The decisions lane: applies what reviewers have signed.

mod answer;
mod apply;
mod batch;
mod edit;
mod state;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::ids::ActionId;
use countersign_runtime::{
    batch_handler::BatchHandler,
    process,
    submission::{authenticate, deduplicate},
};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    approvals,
    generation::{self, Active},
    quarantine,
    statements::{self, Statement},
};

use self::batch::{DecisionBatch, Submission};
use crate::{
    context::EvaluationContext,
    outgoing_messages::{self, PendingNotifications},
    shared::Router,
    write_set::WriteSet,
};

/// Applies decisions.
pub(crate) struct Decisions {
    pub(crate) router: Router,
}

#[async_trait]
impl BatchHandler for Decisions {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let router = &self.router;
        let (tx, active) = generation::begin(&router.process.store).await?;
        let mut decided = decide(router, &tx, &active, batch).await?;
        let mut outgoing = std::mem::take(&mut decided.answers);
        let PendingNotifications { now, permits, others } = &decided.pending;
        let writes = decided.writes(&tx).await?;
        outgoing.extend(outgoing_messages::commit_decided(tx, writes, others, &router.keys.permit).await?);
        outgoing.extend(outgoing_messages::issued(permits, &router.keys.permit, *now));
        Ok(outgoing)
    }
}

/// What follows from a batch of decisions.
#[derive(Default)]
pub(crate) struct Decided {
    /// The actions about which messages are sent.
    pub(crate) pending: PendingNotifications,
    /// The answers to the senders.
    pub(crate) answers: Vec<Outgoing>,
    write_set: WriteSet,
    statements: Vec<Statement>,
}

impl Decided {
    /// The statements that write everything.
    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let mut writes = self.write_set.writes(tx).await?;
        statements::insert(tx, &mut writes, &self.statements).await?;
        Ok(writes)
    }
}

/// Applies a batch of messages with decisions.
pub(crate) async fn decide(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    batch: &[Delivery],
) -> Result<Decided, StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let directory = &governed.configuration.directory;
    let limits = &router.process.settings.limits;
    let mut decided = Decided::default();
    let mut submissions: Vec<Submission<'_>> = Vec::with_capacity(batch.len());
    for delivery in batch {
        match authenticate(delivery, directory, limits.message_bytes) {
            Ok(submission) => submissions.push(submission),
            Err(unreadable) => {
                let (code, why) = &unreadable.complaint;
                tracing::warn!(%code, why, "decision quarantined");
                quarantine::insert(tx, &process::entry(delivery, *code, why)).await?;
                if let Some(sender) = unreadable.sender {
                    let answer = answer::unreadable(unreadable.event, unreadable.complaint);
                    decided.answers.extend(answer::messages(sender.id(), &[answer], active.now));
                }
            }
        }
    }
    let named: Vec<_> =
        submissions.iter().flat_map(|submission| &submission.entries).map(|data| data.approval).collect();
    let ((submissions, repeated), actions) =
        tokio::try_join!(deduplicate(tx, submissions), approvals::actions_of(tx, &named))?;
    for statement in repeated {
        decided.answers.extend(answer::messages(&statement.sender, &statement.answers, active.now));
        decided.pending.others.extend(statement.actions);
    }
    let actions: HashMap<_, _> = actions.into_iter().collect();
    let named = submissions.iter().flat_map(|submission| &submission.entries);
    let ids: BTreeSet<ActionId> = named.filter_map(|data| actions.get(&data.approval).copied()).collect();
    let ids: Vec<ActionId> = ids.into_iter().collect();
    let records = actions::lock_and_load(tx, &ids, LoadDepth::Bodies).await?;
    let records: HashMap<ActionId, ActionRecord> =
        records.into_iter().map(|record| (record.id, record)).collect();
    let read_at = records.values().map(|record| record.now).max();
    let context = EvaluationContext { governed: &governed, limits, now: read_at.unwrap_or(active.now) };
    let mut batch = DecisionBatch::new(router, context, actions, records);
    batch.evaluate(&submissions);
    batch.lock_limits(tx, &ids).await?;
    let mut rows = Vec::with_capacity(submissions.len());
    for (index, submission) in submissions.into_iter().enumerate() {
        let (sender, answers, row) = batch.message(index, submission);
        decided.answers.extend(answer::messages(sender.id(), &answers, batch.now()));
        rows.extend(row.map(|row| Statement { answers, ..row }));
    }
    let others = std::mem::take(&mut decided.pending.others);
    (decided.write_set, decided.pending) = batch.finish(others);
    decided.statements = rows;
    Ok(decided)
}
