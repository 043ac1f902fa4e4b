//! What a router transaction writes, gathered over a batch and written in a few statements.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    approval::RequestState,
    digest::tagged,
    evidence::{ActionEvaluated, Event, LimitNoted, OpenedApproval, PermitIssued},
    ids::{ActionId, ActionRef, ApprovalId, PermitId},
    permit::Permit,
    transition::Effect,
};
use countersign_policy::LimitUse;
use countersign_store::{
    Pipeline, StoreError, Transaction, actions,
    actions::ActionStatus,
    approvals::{self, ApprovalRow, DecisionRow},
    evidence::{self, Evidence},
    limits::{self, LimitRow},
    outcomes::{self, NewOutcome},
    payloads,
    permits::{self, IssuedPermit},
    sampling_plans::{self, SamplingPlan},
    waiting,
};
use uuid::Uuid;

use crate::{evaluated::Evaluated, evaluation::Content};

/// Rows to be written. Where an action can have one row only, the last one counts.
#[derive(Default)]
pub(crate) struct WriteSet {
    statuses: BTreeMap<ActionId, (ActionStatus, bool)>,
    contents: BTreeMap<ActionId, (Content, Option<Vec<u8>>)>,
    requests: BTreeMap<ActionId, ApprovalRow>,
    pub(crate) decisions: Vec<DecisionRow>,
    permits: Vec<IssuedPermit>,
    uses: Vec<LimitRow>,
    /// Sampling plans that may be new, and the generation under which they have this state.
    plans: BTreeSet<SamplingPlan>,
    generation: i64,
    /// How much agents use up of their rates, in seconds.
    pub(crate) rates: BTreeMap<String, f64>,
    pub(crate) outcomes: Vec<NewOutcome>,
    pub(crate) evidence: Vec<Evidence>,
}

/// The action whose rows are written, and the time.
pub(crate) struct Subject<'a> {
    pub(crate) action: ActionId,
    pub(crate) reference: &'a ActionRef,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) permit_lifetime: TimeDelta,
}

impl WriteSet {
    /// Carries out the effects of an evaluation: opens the approval, issues the permit, records the outcome. Returns
    /// the evidence about it.
    pub(crate) fn evaluated(&mut self, subject: &Subject<'_>, evaluated: &mut Evaluated) -> ActionEvaluated {
        let mut noted = ActionEvaluated {
            state: evaluated.status.state,
            verdict: evaluated.status.verdict,
            rule: evaluated.status.rule.clone(),
            policy_version: evaluated.status.policy_version.clone(),
            generation: evaluated.status.generation,
            stratum: Some(evaluated.status.stratum.clone()).filter(|stratum| !stratum.is_empty()),
            reevaluation: false,
            plan_state: evaluated.status.plan_state.map(|state| state.as_str().into()),
            digest: evaluated.content.as_ref().map(|content| tagged(&content.digest)),
            target: evaluated.content.as_ref().map(|content| content.target.clone()),
            reason_code: evaluated.failure.as_ref().map(|failure| failure.code.clone()),
            rule_errored: evaluated.errored.clone(),
            score_errored: evaluated.score_errored.clone(),
            limit: None,
            approval: None,
            permit: None,
            agent: None,
            tool: None,
            context: None,
        };
        if let Some(plan) = evaluated.plan.take() {
            self.generation = evaluated.status.generation;
            self.plans.insert(plan);
        }
        if let Some(usage) = evaluated.usage.take() {
            noted.limit = Some(LimitNoted { amount: usage.amount.to_string(), max: usage.max.to_string() });
            let LimitUse { limit, key, amount, .. } = usage;
            self.uses.push(LimitRow { action: subject.action, limit, key, amount });
        }
        for effect in evaluated.effects.clone() {
            match effect {
                Effect::OpenApproval => noted.approval = Some(self.open(subject, evaluated)),
                Effect::IssuePermit => noted.permit = Some(self.issue(subject, evaluated)),
                Effect::Answer => self.outcomes.push(NewOutcome::new(
                    subject.action,
                    evaluated.status.state,
                    None,
                    evaluated.failure.clone(),
                )),
                // The caller closes the request: it knows whether it expired, was rejected or is no longer needed.
                Effect::CloseApproval | Effect::CallTool | Effect::Sample => {}
            }
        }
        noted
    }

    /// Adds evidence of an evaluation.
    pub(crate) fn note(&mut self, action: ActionId, evaluated: ActionEvaluated) {
        self.evidence.push(Evidence::of(action, Event::ActionEvaluated(Box::new(evaluated))));
    }

    fn open(&mut self, subject: &Subject<'_>, evaluated: &Evaluated) -> Option<OpenedApproval> {
        let spec = evaluated.approval.as_ref()?;
        let row = ApprovalRow {
            id: ApprovalId(Uuid::now_v7()),
            action: subject.action,
            rule: evaluated.status.rule.clone(),
            rule_text: evaluated.rule_text.clone(),
            spec: spec.clone(),
            state: RequestState::Open,
            opened_at: subject.now,
            expires_at: spec.deadline(subject.now),
            escalated: vec![],
        };
        let noted = OpenedApproval { id: row.id, require: spec.require.clone(), expires_at: row.expires_at };
        self.request(row);
        Some(noted)
    }

    fn issue(&mut self, subject: &Subject<'_>, evaluated: &mut Evaluated) -> Option<PermitIssued> {
        let content = evaluated.content.as_ref()?;
        let latest = subject.now + subject.permit_lifetime;
        let permit = Permit {
            permit: PermitId(Uuid::now_v7()),
            action: subject.action,
            reference: subject.reference.clone(),
            digest: tagged(&content.digest),
            target: content.target.clone(),
            generation: evaluated.status.generation,
            issued_at: subject.now,
            expires_at: subject.expires_at.map_or(latest, |expires| expires.min(latest)),
        };
        evaluated.status.permit = Some(permit.permit);
        let noted = PermitIssued { id: permit.permit, expires_at: permit.expires_at };
        self.permits.push(IssuedPermit {
            id: permit.permit,
            action: subject.action,
            generation: permit.generation,
            // Strings, numbers and times always serialise.
            bytes: serde_json::to_vec(&permit).unwrap_or_default(),
        });
        Some(noted)
    }

    /// Sets a stored action's status; `decided` if a human decided it.
    pub(crate) fn set_status(&mut self, action: ActionId, status: ActionStatus, decided: bool) {
        let decided = decided || self.statuses.get(&action).is_some_and(|before| before.1);
        self.statuses.insert(action, (status, decided));
    }

    /// Binds a stored action to changed content.
    pub(crate) fn rebind(&mut self, action: ActionId, content: &Content, edited: Option<Vec<u8>>) {
        self.contents.insert(action, (content.clone(), edited));
    }

    /// Stores an action's request.
    pub(crate) fn request(&mut self, row: ApprovalRow) {
        self.requests.insert(row.action, row);
    }

    /// The request of an action that is to be stored, if any.
    pub(crate) fn request_of(&self, action: ActionId) -> Option<&ApprovalRow> {
        self.requests.get(&action)
    }

    /// Adds another action's rows.
    pub(crate) fn merge(&mut self, other: WriteSet) {
        self.statuses.extend(other.statuses);
        self.contents.extend(other.contents);
        self.requests.extend(other.requests);
        self.decisions.extend(other.decisions);
        self.permits.extend(other.permits);
        self.uses.extend(other.uses);
        self.generation = self.generation.max(other.generation);
        self.plans.extend(other.plans);
        self.rates.extend(other.rates);
        self.outcomes.extend(other.outcomes);
        self.evidence.extend(other.evidence);
    }

    /// Whether it adds to a cumulative limit.
    pub(crate) fn counts(&self) -> bool {
        !self.uses.is_empty()
    }

    /// The permits issued in this transaction.
    pub(crate) fn issued(&self) -> Vec<IssuedPermit> {
        self.permits.clone()
    }

    /// Executes the statements of [`WriteSet::writes`].
    pub(crate) async fn write(&self, tx: &Transaction) -> Result<(), StoreError> {
        let writes = self.writes(tx).await?;
        tx.run(&writes).await.map(drop)
    }

    /// The statements that write everything, in one round trip.
    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let plans: Vec<_> = self.plans.iter().cloned().collect();
        sampling_plans::open(tx, self.generation, &plans).await?;
        let mut writes = Pipeline::default();
        for (action, (content, edited)) in &self.contents {
            let Content { bytes, salt, digest, .. } = content;
            let edited = edited.as_deref();
            payloads::replace_content(tx, &mut writes, *action, bytes, salt, digest, edited).await?;
        }
        let statuses: Vec<_> =
            self.statuses.iter().map(|(id, (status, decided))| (*id, status, *decided)).collect();
        let requests: Vec<_> = self.requests.values().collect();
        actions::set_status(tx, &mut writes, &statuses).await?;
        approvals::save(tx, &mut writes, &requests).await?;
        approvals::insert_decisions(tx, &mut writes, &self.decisions).await?;
        permits::insert(tx, &mut writes, &self.permits).await?;
        outcomes::insert(tx, &mut writes, 1, &self.outcomes).await?;
        evidence::write(tx, &mut writes, &self.evidence).await?;
        limits::add(tx, &mut writes, &self.uses).await?;
        waiting::use_rates(tx, &mut writes, &self.rates).await?;
        Ok(writes)
    }
}
