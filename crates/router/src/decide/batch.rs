//! A batch of decisions, applied message by message to the locked actions that they are about.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use countersign_core::{
    action::State,
    approval::ApprovalSpec,
    evidence::{DecisionNoted, DecisionRecorded, DecisionRefused, Event, ReviewSender},
    ids::{ActionId, ApprovalId},
    message::{ApprovalAnswer, Decision, DecisionData, DecisionResult},
    refusal::{Code, Complaint},
};
use countersign_policy::Sender;
use countersign_runtime::submission::{self, Authenticated};
use countersign_store::{
    StoreError, Transaction, actions::ActionRecord, evidence::Evidence, generation, statements::Statement,
};

use super::{
    apply::{Applied, apply},
    edit::Edit,
    state::{BatchState, SignedDecision},
};
use crate::{
    context::EvaluationContext, escalation, limit_usage::LimitUsage, outgoing_messages::PendingNotifications,
    reevaluate::StoredEvaluation, shared::Router, write_set::WriteSet,
};

/// A message with decisions.
pub(super) type Submission<'a> = submission::Submission<'a, DecisionData>;

/// A message's place in the batch, and a decision's place in the message.
type Position = (usize, usize);

/// A batch of decisions, and the locked actions that they are about.
pub(super) struct DecisionBatch<'a> {
    router: &'a Router,
    state: BatchState<'a>,
    actions: HashMap<ApprovalId, ActionId>,
    records: HashMap<ActionId, ActionRecord>,
    edits: HashMap<Position, Result<Edit<'a>, Complaint>>,
    /// The actions that have changed. A further vote leaves a request as it was, so nobody is notified of it.
    notified: BTreeSet<ActionId>,
}

impl<'a> DecisionBatch<'a> {
    pub(super) fn new(
        router: &'a Router,
        context: EvaluationContext<'a>,
        actions: HashMap<ApprovalId, ActionId>,
        records: HashMap<ActionId, ActionRecord>,
    ) -> Self {
        let state = BatchState {
            context,
            write_set: WriteSet::default(),
            limit_usage: LimitUsage::default(),
            evaluations: HashMap::new(),
        };
        Self { router, state, actions, records, edits: HashMap::new(), notified: BTreeSet::new() }
    }

    /// Evaluates what may count against a limit: actions as they would be edited, and those that an older generation
    /// has evaluated. The others are evaluated when a decision needs them.
    pub(super) fn evaluate(&mut self, submissions: &[Submission<'_>]) {
        let context = self.state.context;
        let signed = submissions.iter().enumerate().filter(|(_, one)| one.authenticated.is_ok());
        let entries = signed.flat_map(|(message, one)| {
            one.entries.iter().enumerate().map(move |(index, data)| ((message, index), data))
        });
        for (position, data) in entries.filter(|(_, data)| data.decision == Decision::Edit) {
            let record = self.actions.get(&data.approval).and_then(|action| self.records.get(action));
            let is_open = |record: &&ActionRecord| {
                let approval = record.approval.as_ref();
                record.status.state == State::PendingApproval
                    && approval.is_some_and(|it| it.id == data.approval)
            };
            if let Some(record) = record.filter(is_open) {
                self.edits.insert(position, Edit::new(&context, record, data));
            }
        }
        if context.configuration().policy.has_limits() {
            let older = self.records.values().filter(|record| {
                record.status.state == State::PendingApproval
                    && record.status.generation != context.governed.generation
            });
            let evaluated = older.map(|record| (record.id, StoredEvaluation::new(&context, record)));
            self.state.evaluations.extend(evaluated);
        }
    }

    /// Locks the sums of the limits that the evaluations count against.
    pub(super) async fn lock_limits(&mut self, tx: &Transaction, ids: &[ActionId]) -> Result<(), StoreError> {
        if self.state.context.configuration().policy.has_limits() {
            let edits = self.edits.values().filter_map(|edit| edit.as_ref().ok()?.limit());
            let limits = self.state.evaluations.values().filter_map(StoredEvaluation::limit).chain(edits);
            self.state.limit_usage = LimitUsage::lock(tx, limits, ids).await?;
            // The clock is read after the locks: waiting for them counts against the deadlines.
            self.state.context.now = generation::now(tx).await?;
        }
        Ok(())
    }

    /// The clock by which decisions are in time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.state.context.now
    }

    /// Returns what to write, and the actions to send messages about, `others` included.
    pub(super) fn finish(self, mut others: Vec<ActionId>) -> (WriteSet, PendingNotifications) {
        let Self { state: BatchState { context, write_set, .. }, records, mut notified, .. } = self;
        let mut permits = write_set.issued();
        permits.retain(|permit| {
            let status = records.get(&permit.action).map(|record| &record.status);
            let current =
                status.is_some_and(|now| now.state == State::Authorised && now.permit == Some(permit.id));
            current && notified.remove(&permit.action)
        });
        others.extend(notified);
        (write_set, PendingNotifications { now: context.now, permits, others })
    }

    /// Applies the message at `index` of the batch. Returns the answers to its sender, and the signed statement to record.
    pub(super) fn message(
        &mut self,
        index: usize,
        submission: Submission<'a>,
    ) -> (Sender<'a>, Vec<ApprovalAnswer>, Option<Statement>) {
        let oldest = self.state.context.limits.decision_age;
        let in_time = match &submission.authenticated {
            Ok(authenticated) => {
                authenticated.in_time(self.state.context.now, oldest).map(|()| authenticated)
            }
            Err(complaint) => Err(complaint.clone()),
        };
        let entries = submission.entries.iter().enumerate();
        let answers =
            entries.map(|(entry, data)| self.decision(&submission, &in_time, (index, entry), data)).collect();
        let actions = submission.entries.iter().filter_map(|data| self.actions.get(&data.approval).copied());
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
        (message, index): Position,
        data: &DecisionData,
    ) -> ApprovalAnswer {
        let action = self.actions.get(&data.approval).copied();
        let authenticated = in_time.as_ref().ok().copied();
        let mut noted = self.noted(submission, data);
        let pseudonyms = &self.router.keys.pseudonyms;
        noted.signature = authenticated.map(|authenticated| authenticated.signature(index, pseudonyms));
        // Read before it is applied: an edit replaces the request.
        if let Some(approval) = action.and_then(|action| self.records.get(&action)?.approval.as_ref())
            && approval.id == data.approval
        {
            let opened_at = approval.request.opened_at;
            noted.opened_at = Some(opened_at);
            let eligible = approval.request.spec.groups(opened_at, self.state.context.now);
            let own = authenticated.map(|authenticated| &authenticated.signer.groups);
            let groups = own.into_iter().flatten().filter(|group| eligible.contains(group.as_str()));
            noted.groups = Some(groups.cloned().collect());
        }
        let applied = match (in_time, action.and_then(|action| self.records.get_mut(&action))) {
            (Err(complaint), _) => Err(complaint.clone()),
            (_, None) => Err((Code::ApprovalUnknown, "there is no such request".into())),
            (Ok(authenticated), Some(record)) => {
                let (reviewer, event) = (authenticated.signer, submission.event.as_str());
                let before = standing(record);
                let (kid, signed_at) =
                    (authenticated.statement.kid.as_str(), authenticated.statement.signed_at);
                let decision = SignedDecision { data, reviewer, event, kid, signed_at };
                // The groups that may decide by now are notified, whether or not the decision counts.
                if escalation::note(&mut self.state.write_set, record, self.state.context.now) {
                    self.notified.insert(record.id);
                }
                let edit = self.edits.remove(&(message, index));
                let applied = apply(&mut self.state, record, &decision, edit);
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
            Ok(Applied::Now { .. }) => ApprovalAnswer::counted(DecisionResult::Recorded),
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

    /// Adds the evidence of a decision, to the timeline of its action where there is one.
    fn note(&mut self, noted: DecisionNoted, data: &DecisionData, applied: &Result<Applied, Complaint>) {
        let reason_code = data.reason_code.clone();
        let event = match applied {
            Ok(Applied::Now { approves }) => {
                let approves = approves.clone();
                Event::DecisionRecorded(DecisionRecorded { noted, reason_code, approves })
            }
            Ok(Applied::Before) => {
                Event::DecisionRepeated(DecisionRecorded { noted, reason_code, approves: None })
            }
            Err((code, why)) => {
                tracing::info!(approval = %data.approval, %code, why, "decision refused");
                Event::DecisionRefused(DecisionRefused { noted, code: *code })
            }
        };
        let action = self.actions.get(&data.approval).copied();
        self.state.write_set.evidence.push(Evidence::about(action, event));
    }

    /// A reviewer by pseudonym; an app is not a person.
    fn sender(&self, sender: Sender<'_>) -> ReviewSender {
        match sender {
            Sender::Reviewer(person) | Sender::Auditor(person) => {
                ReviewSender::Reviewer(self.router.keys.pseudonyms.of(&person.id))
            }
            Sender::App(app) => ReviewSender::App(app.id.clone()),
        }
    }
}

/// What others are notified about: the action's state, and its request.
fn standing(record: &ActionRecord) -> (State, Option<(ApprovalId, ApprovalSpec)>) {
    let request = record.approval.as_ref().map(|approval| (approval.id, approval.request.spec.clone()));
    (record.status.state, request)
}
