//! The decisions lane: applies what reviewers have signed.

mod answer;
mod apply;
mod edit;

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    action::State,
    approval::ApprovalSpec,
    ids::{ActionId, ApprovalId},
    message::{ApprovalAnswer, DecisionData, DecisionResult},
    refusal::{Code, Complaint},
};
use countersign_policy::Sender;
use countersign_runtime::{
    failure,
    hear::{self, Vouched, hear, sift},
    process,
};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, Parts},
    approvals,
    evidence::Evidence,
    generation::{self, Active},
    quarantine,
    statements::{self, Statement},
};
use serde_json::{Value, json};

use self::apply::{Applied, Said, apply};
use crate::{
    Router,
    change::Changes,
    escalation,
    follow::{self, Owed},
    judge::Court,
    tally::Tally,
};

/// A message with decisions.
type Heard<'a> = hear::Heard<'a, DecisionData>;

/// Applies decisions.
pub(crate) struct Decisions {
    pub(crate) router: Router,
}

#[async_trait]
impl Handler for Decisions {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.router.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let router = &self.router;
        let work = async {
            let (tx, active) = generation::begin(&router.process.store).await?;
            let mut decided = decide(router, &tx, &active, batch).await?;
            let mut outgoing = std::mem::take(&mut decided.answers);
            let Owed { now, permits, others } = &decided.owed;
            let writes = decided.writes(&tx).await?;
            outgoing.extend(follow::commit_decided(tx, writes, others, &router.keys.permit).await?);
            outgoing.extend(follow::issued(permits, &router.keys.permit, *now));
            Ok(outgoing)
        };
        work.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.router.process.quarantine(delivery, code, reason).await
    }
}

/// What follows from a batch of decisions.
#[derive(Default)]
pub(crate) struct Decided {
    /// The actions of which there is something to tell.
    pub(crate) owed: Owed,
    /// What the senders are told.
    pub(crate) answers: Vec<Outgoing>,
    changes: Changes,
    statements: Vec<Statement>,
}

impl Decided {
    /// What is to be written.
    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let mut writes = self.changes.writes(tx).await?;
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
    let mut heard: Vec<Heard<'_>> = Vec::with_capacity(batch.len());
    for delivery in batch {
        match hear(delivery, directory, limits.message_bytes) {
            Ok(one) => heard.push(one),
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
    let named: Vec<_> = heard.iter().flat_map(|one| &one.said).map(|data| data.approval).collect();
    let ((heard, again), about) = tokio::try_join!(sift(tx, heard), approvals::actions_of(tx, &named))?;
    for statement in again {
        decided.answers.extend(answer::messages(&statement.sender, &statement.answers, active.now));
        decided.owed.others.extend(statement.actions);
    }
    let about: HashMap<_, _> = about.into_iter().collect();
    let said: Vec<&DecisionData> = heard.iter().flat_map(|one| &one.said).collect();
    let ids: BTreeSet<ActionId> = said.iter().filter_map(|data| about.get(&data.approval).copied()).collect();
    let ids: Vec<ActionId> = ids.into_iter().collect();
    let records = actions::lock_and_load(tx, &ids, Parts::Bodies).await?;
    let records: HashMap<ActionId, ActionRecord> =
        records.into_iter().map(|record| (record.id, record)).collect();
    let court = Court { governed: &governed, limits, now: active.now, tally: None };
    // The clock is read after the locks: waiting for them counts against the deadline.
    let (tally, now) = match governed.configuration.policy.has_limits() {
        true => {
            let proposals = edit::proposals(&court, &said, &about, &records);
            (Tally::of(tx, &court, proposals.iter(), &ids).await?, generation::now(tx).await?)
        }
        false => {
            let read = records.values().map(|record| record.now).max();
            (Tally::default(), read.unwrap_or(active.now))
        }
    };
    let court = Court { now, ..court };
    let mut hearing = Hearing {
        router,
        court: &court,
        tally: &tally,
        about,
        records,
        changes: Changes::default(),
        told: BTreeSet::new(),
    };
    let mut rows = Vec::with_capacity(heard.len());
    for one in heard {
        let (sender, answers, row) = hearing.message(one);
        decided.answers.extend(answer::messages(sender.id(), &answers, court.now));
        rows.extend(row.map(|row| Statement { answers, ..row }));
    }
    let Hearing { records, changes, mut told, .. } = hearing;
    let mut permits = changes.issued();
    permits.retain(|permit| {
        let ruling = records.get(&permit.action).map(|record| &record.ruling);
        let out = ruling.is_some_and(|now| now.state == State::Authorised && now.permit == Some(permit.id));
        out && told.remove(&permit.action)
    });
    decided.owed.others.extend(told);
    decided.owed = Owed { now: court.now, permits, ..decided.owed };
    (decided.changes, decided.statements) = (changes, rows);
    Ok(decided)
}

/// A batch of decisions before the actions that they are about, which are locked.
struct Hearing<'a> {
    router: &'a Router,
    court: &'a Court<'a>,
    tally: &'a Tally,
    about: HashMap<ApprovalId, ActionId>,
    records: HashMap<ActionId, ActionRecord>,
    changes: Changes,
    /// What nobody needs to hear again is not told: a vote more leaves the request as it was.
    told: BTreeSet<ActionId>,
}

impl<'a> Hearing<'a> {
    /// Applies one message: what its sender is told, and what is to be recorded of a statement that was signed.
    fn message(&mut self, heard: Heard<'a>) -> (Sender<'a>, Vec<ApprovalAnswer>, Option<Statement>) {
        let oldest = self.court.limits.decision_age;
        let in_time = match &heard.vouched {
            Ok(vouched) => vouched.in_time(self.court.now, oldest).map(|()| vouched),
            Err(complaint) => Err(complaint.clone()),
        };
        let said = heard.said.iter().enumerate();
        let answers = said.map(|(index, data)| self.decision(&heard, &in_time, index, data)).collect();
        let actions = heard.said.iter().filter_map(|data| self.about.get(&data.approval).copied());
        let actions = actions.collect();
        let row = heard.vouched.ok().map(|vouched| Statement { actions, ..vouched.statement });
        (heard.sender, answers, row)
    }

    fn decision(
        &mut self,
        heard: &Heard<'_>,
        in_time: &Result<&Vouched<'_>, Complaint>,
        index: usize,
        data: &DecisionData,
    ) -> ApprovalAnswer {
        let action = self.about.get(&data.approval).copied();
        let vouched = in_time.as_ref().ok().copied();
        let mut noted = self.noted(heard, data);
        if let Some(vouched) = vouched {
            vouched.note(&mut noted, index, &self.router.keys.pseudonyms);
        }
        // Before it is applied: an edit closes the request.
        if let Some(asked) = action.and_then(|action| self.records.get(&action)?.approval.as_ref())
            && asked.id == data.approval
        {
            let opened_at = asked.request.opened_at;
            noted["opened_at"] = json!(opened_at);
            let may = asked.request.spec.groups(opened_at, self.court.now);
            let is = vouched.map(|vouched| &vouched.signer.groups);
            let role: Vec<_> =
                is.into_iter().flatten().filter(|group| may.contains(group.as_str())).collect();
            noted["groups"] = json!(role);
        }
        let applied = match (in_time, action.and_then(|action| self.records.get_mut(&action))) {
            (Err(complaint), _) => Err(complaint.clone()),
            (_, None) => Err((Code::ApprovalUnknown, "there never was such a request".into())),
            (Ok(vouched), Some(record)) => {
                let (reviewer, event) = (vouched.signer, heard.event.as_str());
                let before = standing(record);
                let kid = vouched.statement.kid.as_str();
                let said = Said { decision: data, reviewer, event, kid, tally: self.tally };
                // Asked or not, the groups that may decide by now are told so.
                if escalation::note(&mut self.changes, record, self.court.now) {
                    self.told.insert(record.id);
                }
                let applied = apply(self.court, &mut self.changes, record, &said);
                if before != standing(record) || matches!(applied, Ok(Applied::Before)) {
                    self.told.insert(record.id);
                }
                applied
            }
        };
        let state = action.and_then(|action| self.records.get(&action)).map(|record| record.ruling.state);
        self.note(noted, data, &applied, state);
        let answer = match applied {
            Ok(Applied::Now) => ApprovalAnswer::counted(DecisionResult::Recorded),
            Ok(Applied::Before) => ApprovalAnswer::counted(DecisionResult::Repeated),
            Err((code, why)) => ApprovalAnswer::refused(code, why),
        };
        ApprovalAnswer {
            event: Some(heard.event.clone()),
            approval: Some(data.approval),
            decision: Some(data.decision),
            state,
            ..answer
        }
    }

    /// What is known of a decision before it is applied.
    fn noted(&self, heard: &Heard<'_>, data: &DecisionData) -> Value {
        json!({
            "event": heard.event, "approval": data.approval, "decision": data.decision,
            "digest_shown": data.digest, "sender": self.sender(heard.sender),
        })
    }

    /// Evidence of a decision, on its action's timeline where there is such an action.
    fn note(
        &mut self,
        mut noted: Value,
        data: &DecisionData,
        applied: &Result<Applied, Complaint>,
        state: Option<State>,
    ) {
        noted["state"] = json!(state);
        let kind = match applied {
            Ok(Applied::Now) => "decision.recorded",
            Ok(Applied::Before) => "decision.repeated",
            Err((code, why)) => {
                tracing::info!(approval = %data.approval, %code, why, "decision refused");
                noted["code"] = json!(code);
                "decision.refused"
            }
        };
        if applied.is_ok() {
            noted["reason_code"] = json!(data.reason_code);
        }
        self.changes.evidence.push(match self.about.get(&data.approval) {
            Some(action) => Evidence::of(*action, kind, noted),
            None => Evidence::global(kind, noted),
        });
    }

    /// A reviewer by pseudonym; an app is nobody.
    fn sender(&self, sender: Sender<'_>) -> Value {
        match sender {
            Sender::Reviewer(person) | Sender::Auditor(person) => {
                json!({"reviewer": self.router.keys.pseudonyms.of(&person.id)})
            }
            Sender::App(app) => json!({"app": app.id}),
        }
    }
}

/// What others are told of an action: where it stands, and what is asked.
fn standing(record: &ActionRecord) -> (State, Option<(ApprovalId, ApprovalSpec)>) {
    let asked = record.approval.as_ref().map(|approval| (approval.id, approval.request.spec.clone()));
    (record.ruling.state, asked)
}
