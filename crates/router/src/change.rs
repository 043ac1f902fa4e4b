//! What a router transaction writes, gathered over a batch and written in a few statements.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    approval::RequestState,
    digest::tagged,
    ids::{ActionId, ActionRef, ApprovalId, PermitId},
    permit::Permit,
    transition::Effect,
};
use countersign_store::{
    Pipeline, StoreError, Transaction, actions,
    actions::Ruling,
    approvals::{self, ApprovalRow, DecisionRow},
    evidence::{self, Evidence},
    limits::{self, LimitUse},
    outcomes::{self, NewOutcome},
    payloads,
    permits::{self, IssuedPermit},
    switches::{self, Class},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::judge::{Content, Judged};

/// Rows to be written. Of what there is one of per action, the last counts.
#[derive(Default)]
pub(crate) struct Changes {
    rulings: BTreeMap<ActionId, (Ruling, bool)>,
    contents: BTreeMap<ActionId, (Content, Option<Vec<u8>>)>,
    requests: BTreeMap<ActionId, ApprovalRow>,
    pub(crate) decisions: Vec<DecisionRow>,
    permits: Vec<IssuedPermit>,
    uses: Vec<LimitUse>,
    /// Classes that may be new, and the generation under which they stand so.
    classes: BTreeSet<Class>,
    generation: i64,
    pub(crate) outcomes: Vec<NewOutcome>,
    pub(crate) evidence: Vec<Evidence>,
}

/// Whose change it is, and when.
pub(crate) struct Subject<'a> {
    pub(crate) action: ActionId,
    pub(crate) reference: &'a ActionRef,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) permit_lifetime: TimeDelta,
}

impl Changes {
    /// Carries out the effects of a judgement on its rows: opens the approval, issues the permit, records
    /// the outcome. Returns what evidence should say about it.
    pub(crate) fn judged(&mut self, subject: &Subject<'_>, judged: &mut Judged) -> Value {
        let mut noted = json!({
            "state": judged.ruling.state,
            "verdict": judged.ruling.verdict,
            "rule": judged.ruling.rule,
            "policy_version": judged.ruling.policy_version,
            "generation": judged.ruling.generation,
        });
        if let Some(stage) = judged.ruling.stage {
            noted["stage"] = json!(stage);
            self.generation = judged.ruling.generation;
            self.classes.insert(Class {
                stratum: judged.ruling.stratum.clone(),
                rule: judged.ruling.rule.clone(),
                stage,
            });
        }
        if let Some(content) = &judged.content {
            noted["digest"] = tagged(&content.digest).into();
            noted["target"] = json!(content.target);
        }
        if let Some(failure) = &judged.failure {
            noted["reason_code"] = failure.code.clone().into();
        }
        if let Some(errored) = &judged.errored {
            noted["rule_errored"] = errored.clone().into();
        }
        if let Some((rule, usage)) = judged.usage.take() {
            noted["limit"] = json!({"amount": usage.amount.to_string(), "max": usage.max.to_string()});
            let (key, amount) = (usage.key, usage.amount);
            self.uses.push(LimitUse { action: subject.action, rule, key, amount });
        }
        for effect in judged.effects.clone() {
            match effect {
                Effect::OpenApproval => noted["approval"] = self.open(subject, judged),
                Effect::IssuePermit => noted["permit"] = self.issue(subject, judged),
                Effect::Answer => self.outcomes.push(NewOutcome::new(
                    subject.action,
                    judged.ruling.state,
                    None,
                    judged.failure.clone(),
                )),
                // The request is ended by whoever knows how: expired, rejected or no longer needed.
                Effect::CloseApproval | Effect::CallTool | Effect::Sample => {}
            }
        }
        noted
    }

    fn open(&mut self, subject: &Subject<'_>, judged: &Judged) -> Value {
        let Some(spec) = &judged.approval else { return Value::Null };
        let row = ApprovalRow {
            id: ApprovalId(Uuid::now_v7()),
            action: subject.action,
            rule: judged.ruling.rule.clone(),
            rule_text: judged.rule_text.clone(),
            spec: spec.clone(),
            state: RequestState::Open,
            opened_at: subject.now,
            expires_at: spec.deadline(subject.now),
            escalated: vec![],
        };
        let noted = json!({"id": row.id, "require": spec.require, "expires_at": row.expires_at});
        self.request(row);
        noted
    }

    fn issue(&mut self, subject: &Subject<'_>, judged: &mut Judged) -> Value {
        let Some(content) = &judged.content else { return Value::Null };
        let lapses = subject.now + subject.permit_lifetime;
        let permit = Permit {
            permit: PermitId(Uuid::now_v7()),
            action: subject.action,
            reference: subject.reference.clone(),
            digest: tagged(&content.digest),
            target: content.target.clone(),
            generation: judged.ruling.generation,
            issued_at: subject.now,
            expires_at: subject.expires_at.map_or(lapses, |expires| expires.min(lapses)),
        };
        judged.ruling.permit = Some(permit.permit);
        let noted = json!({"id": permit.permit, "expires_at": permit.expires_at});
        self.permits.push(IssuedPermit {
            id: permit.permit,
            action: subject.action,
            generation: permit.generation,
            // Strings, numbers and times always serialise.
            bytes: serde_json::to_vec(&permit).unwrap_or_default(),
        });
        noted
    }

    /// Moves a stored action; `decided` if a human did.
    pub(crate) fn rule(&mut self, action: ActionId, ruling: Ruling, decided: bool) {
        let decided = decided || self.rulings.get(&action).is_some_and(|before| before.1);
        self.rulings.insert(action, (ruling, decided));
    }

    /// Binds a stored action to changed content.
    pub(crate) fn rebind(&mut self, action: ActionId, content: &Content, edited: Option<Vec<u8>>) {
        self.contents.insert(action, (content.clone(), edited));
    }

    /// What an action's request is to be from now on.
    pub(crate) fn request(&mut self, row: ApprovalRow) {
        self.requests.insert(row.action, row);
    }

    /// What an action's request is to be, where it changes.
    pub(crate) fn request_of(&self, action: ActionId) -> Option<&ApprovalRow> {
        self.requests.get(&action)
    }

    /// Adds what another action's change writes.
    pub(crate) fn merge(&mut self, other: Changes) {
        self.rulings.extend(other.rulings);
        self.contents.extend(other.contents);
        self.requests.extend(other.requests);
        self.decisions.extend(other.decisions);
        self.permits.extend(other.permits);
        self.uses.extend(other.uses);
        self.generation = self.generation.max(other.generation);
        self.classes.extend(other.classes);
        self.outcomes.extend(other.outcomes);
        self.evidence.extend(other.evidence);
    }

    /// The permits that it issues.
    pub(crate) fn issued(&self) -> Vec<IssuedPermit> {
        self.permits.clone()
    }

    /// Writes everything.
    pub(crate) async fn write(&self, tx: &Transaction) -> Result<(), StoreError> {
        let writes = self.writes(tx).await?;
        tx.run(&writes).await.map(drop)
    }

    /// What writes everything, in one trip.
    pub(crate) async fn writes(&self, tx: &Transaction) -> Result<Pipeline<'_>, StoreError> {
        let classes: Vec<_> = self.classes.iter().cloned().collect();
        switches::open(tx, self.generation, &classes).await?;
        let mut writes = Pipeline::default();
        for (action, (content, edited)) in &self.contents {
            let Content { bytes, salt, digest, .. } = content;
            let edited = edited.as_deref();
            payloads::replace_content(tx, &mut writes, *action, bytes, salt, digest, edited).await?;
        }
        let rulings: Vec<_> =
            self.rulings.iter().map(|(id, (ruling, decided))| (*id, ruling, *decided)).collect();
        let requests: Vec<_> = self.requests.values().collect();
        actions::rule(tx, &mut writes, &rulings).await?;
        approvals::save(tx, &mut writes, &requests).await?;
        approvals::decided(tx, &mut writes, &self.decisions).await?;
        permits::insert(tx, &mut writes, &self.permits).await?;
        outcomes::insert(tx, &mut writes, 1, &self.outcomes).await?;
        evidence::write(tx, &mut writes, &self.evidence).await?;
        limits::add(tx, &mut writes, &self.uses).await?;
        Ok(writes)
    }
}
