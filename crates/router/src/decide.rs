//! The decisions lane: applies what reviewers have signed.

mod answer;
mod apply;
mod edit;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    action::State,
    approval::ApprovalSpec,
    evidence::{DecisionNoted, DecisionRecorded, DecisionRefused, Event, ReviewSender},
    ids::{ActionId, ApprovalId},
    message::{ApprovalAnswer, DecisionData, DecisionResult},
    refusal::{Code, Complaint},
};
use countersign_policy::Sender;
use countersign_runtime::{
    batch_handler::BatchHandler,
    process,
    submission::{self, Authenticated, authenticate, deduplicate},
};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    approvals,
    evidence::Evidence,
    generation::{self, Active},
    quarantine,
    statements::{self, Statement},
};

use self::apply::{Applied, Said, apply};
use crate::{
    Router, escalation,
    evaluation::EvaluationContext,
    limit_usage::LimitUsage,
    outgoing_messages::{self, PendingNotifications},
    write_set::WriteSet,
};

/// A message with decisions.
type Submission<'a> = submission::Submission<'a, DecisionData>;

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
    /// The actions of which there is something to tell.
    pub(crate) pending: PendingNotifications,
    /// What the senders are notified.
    pub(crate) answers: Vec<Outgoing>,
    write_set: WriteSet,
    statements: Vec<Statement>,
}

impl Decided {
    /// What is to be written.
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
    let mut submission: Vec<Submission<'_>> = Vec::with_capacity(batch.len());
    for delivery in batch {
        match authenticate(delivery, directory, limits.message_bytes) {
            Ok(one) => submission.push(one),
            Err(unreadable) => {
                let (code, why) = &unreadable.complaint;
                tracing::warn!(%code, why, "decision quarantined");
                quarantine::insert(tx, &process::entry(delivery, code.as_str(), why)).await?;
                if let Some(sender) = unreadable.sender {
                    let answer = answer::unreadable(unreadable.event, unreadable.complaint);
                    decided.answers.extend(answer::messages(sender.id(), &[answer], active.now));
                }
            }
        }
    }
    let named: Vec<_> = submission.iter().flat_map(|one| &one.entries).map(|data| data.approval).collect();
    let ((submission, again), about) =
        tokio::try_join!(deduplicate(tx, submission), approvals::actions_of(tx, &named))?;
    for statement in again {
        decided.answers.extend(answer::messages(&statement.sender, &statement.answers, active.now));
        decided.pending.others.extend(statement.actions);
    }
    let about: HashMap<_, _> = about.into_iter().collect();
    let said: Vec<&DecisionData> = submission.iter().flat_map(|one| &one.entries).collect();
    let ids: BTreeSet<ActionId> = said.iter().filter_map(|data| about.get(&data.approval).copied()).collect();
    let ids: Vec<ActionId> = ids.into_iter().collect();
    let records = actions::lock_and_load(tx, &ids, LoadDepth::Bodies).await?;
    let records: HashMap<ActionId, ActionRecord> =
        records.into_iter().map(|record| (record.id, record)).collect();
    let context = EvaluationContext { governed: &governed, limits, now: active.now, limit_usage: None };
    // The clock is read after the locks: waiting for them counts against the deadline.
    let (limit_usage, now) = match governed.configuration.policy.has_limits() {
        true => {
            let proposals = edit::proposals(&context, &said, &about, &records);
            (LimitUsage::of(tx, &context, proposals.iter(), &ids).await?, generation::now(tx).await?)
        }
        false => {
            let read = records.values().map(|record| record.now).max();
            (LimitUsage::default(), read.unwrap_or(active.now))
        }
    };
    let context = EvaluationContext { now, ..context };
    let mut hearing = Hearing {
        router,
        context: &context,
        limit_usage: &limit_usage,
        about,
        records,
        write_set: WriteSet::default(),
        notified: BTreeSet::new(),
    };
    let mut rows = Vec::with_capacity(submission.len());
    for one in submission {
        let (sender, answers, row) = hearing.message(one);
        decided.answers.extend(answer::messages(sender.id(), &answers, context.now));
        rows.extend(row.map(|row| Statement { answers, ..row }));
    }
    let Hearing { records, write_set, mut notified, .. } = hearing;
    let mut permits = write_set.issued();
    permits.retain(|permit| {
        let status = records.get(&permit.action).map(|record| &record.status);
        let out = status.is_some_and(|now| now.state == State::Authorised && now.permit == Some(permit.id));
        out && notified.remove(&permit.action)
    });
    decided.pending.others.extend(notified);
    decided.pending = PendingNotifications { now: context.now, permits, ..decided.pending };
    (decided.write_set, decided.statements) = (write_set, rows);
    Ok(decided)
}

/// A batch of decisions before the actions that they are about, which are locked.
struct Hearing<'a> {
    router: &'a Router,
    context: &'a EvaluationContext<'a>,
    limit_usage: &'a LimitUsage,
    about: HashMap<ApprovalId, ActionId>,
    records: HashMap<ActionId, ActionRecord>,
    write_set: WriteSet,
    /// What nobody needs to authenticate again is not notified: a vote more leaves the request as it was.
    notified: BTreeSet<ActionId>,
}

impl<'a> Hearing<'a> {
    /// Applies one message: what its sender is notified, and what is to be recorded of a statement that was signed.
    fn message(
        &mut self,
        submission: Submission<'a>,
    ) -> (Sender<'a>, Vec<ApprovalAnswer>, Option<Statement>) {
        let oldest = self.context.limits.decision_age;
        let in_time = match &submission.authenticated {
            Ok(authenticated) => authenticated.in_time(self.context.now, oldest).map(|()| authenticated),
            Err(complaint) => Err(complaint.clone()),
        };
        let entries = submission.entries.iter().enumerate();
        let answers =
            entries.map(|(index, data)| self.decision(&submission, &in_time, index, data)).collect();
        let actions = submission.entries.iter().filter_map(|data| self.about.get(&data.approval).copied());
        let actions = actions.collect();
        let row = submission
            .authenticated
            .ok()
            .map(|authenticated| Statement { actions, ..authenticated.statement });
        (submission.sender, answers, row)
    }

    fn decision(
        &mut self,
        submission: &Submission<'_>,
        in_time: &Result<&Authenticated<'_>, Complaint>,
        index: usize,
        data: &DecisionData,
    ) -> ApprovalAnswer {
        let action = self.about.get(&data.approval).copied();
        let authenticated = in_time.as_ref().ok().copied();
        let mut noted = self.noted(submission, data);
        let pseudonyms = &self.router.keys.pseudonyms;
        noted.signature = authenticated.map(|authenticated| authenticated.signature(index, pseudonyms));
        // Before it is applied: an edit closes the request.
        if let Some(asked) = action.and_then(|action| self.records.get(&action)?.approval.as_ref())
            && asked.id == data.approval
        {
            let opened_at = asked.request.opened_at;
            noted.opened_at = Some(opened_at);
            let may = asked.request.spec.groups(opened_at, self.context.now);
            let is = authenticated.map(|authenticated| &authenticated.signer.groups);
            let role = is.into_iter().flatten().filter(|group| may.contains(group.as_str()));
            noted.groups = Some(role.cloned().collect());
        }
        let applied = match (in_time, action.and_then(|action| self.records.get_mut(&action))) {
            (Err(complaint), _) => Err(complaint.clone()),
            (_, None) => Err((Code::ApprovalUnknown, "there never was such a request".into())),
            (Ok(authenticated), Some(record)) => {
                let (reviewer, event) = (authenticated.signer, submission.event.as_str());
                let before = standing(record);
                let kid = authenticated.statement.kid.as_str();
                let said = Said { decision: data, reviewer, event, kid, limit_usage: self.limit_usage };
                // Asked or not, the groups that may decide by now are notified so.
                if escalation::note(&mut self.write_set, record, self.context.now) {
                    self.notified.insert(record.id);
                }
                let applied = apply(self.context, &mut self.write_set, record, &said);
                if before != standing(record) || matches!(applied, Ok(Applied::Before)) {
                    self.notified.insert(record.id);
                }
                applied
            }
        };
        let state = action.and_then(|action| self.records.get(&action)).map(|record| record.status.state);
        noted.state = state;
        self.note(noted, data, &applied);
        let answer = match applied {
            Ok(Applied::Now) => ApprovalAnswer::counted(DecisionResult::Recorded),
            Ok(Applied::Before) => ApprovalAnswer::counted(DecisionResult::Repeated),
            Err((code, why)) => ApprovalAnswer::refused(code, why),
        };
        ApprovalAnswer {
            event: Some(submission.event.clone()),
            approval: Some(data.approval),
            decision: Some(data.decision),
            state,
            ..answer
        }
    }

    /// What is known of a decision before it is applied.
    fn noted(&self, submission: &Submission<'_>, data: &DecisionData) -> DecisionNoted {
        DecisionNoted {
            event: submission.event.clone(),
            approval: data.approval,
            decision: data.decision,
            digest_shown: data.digest.clone(),
            sender: self.sender(submission.sender),
            signature: None,
            opened_at: None,
            groups: None,
            state: None,
        }
    }

    /// Evidence of a decision, on its action's timeline where there is such an action.
    fn note(&mut self, noted: DecisionNoted, data: &DecisionData, applied: &Result<Applied, Complaint>) {
        let reason_code = data.reason_code.clone();
        let event = match applied {
            Ok(Applied::Now) => Event::DecisionRecorded(DecisionRecorded { noted, reason_code }),
            Ok(Applied::Before) => Event::DecisionRepeated(DecisionRecorded { noted, reason_code }),
            Err((code, why)) => {
                tracing::info!(approval = %data.approval, %code, why, "decision refused");
                Event::DecisionRefused(DecisionRefused { noted, code: *code })
            }
        };
        let action = self.about.get(&data.approval).copied();
        self.write_set.evidence.push(Evidence::about(action, event));
    }

    /// A reviewer by pseudonym; an app is nobody.
    fn sender(&self, sender: Sender<'_>) -> ReviewSender {
        match sender {
            Sender::Reviewer(person) | Sender::Auditor(person) => {
                ReviewSender::Reviewer(self.router.keys.pseudonyms.of(&person.id))
            }
            Sender::App(app) => ReviewSender::App(app.id.clone()),
        }
    }
}

/// What others are notified of an action: where it stands, and what is asked.
fn standing(record: &ActionRecord) -> (State, Option<(ApprovalId, ApprovalSpec)>) {
    let asked = record.approval.as_ref().map(|approval| (approval.id, approval.request.spec.clone()));
    (record.status.state, asked)
}
