//! What a router transaction writes, gathered over a batch and written in a few statements.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_core::{
    digest::tagged,
    ids::{ActionId, ActionRef, ApprovalId, PermitId},
    permit::Permit,
    transition::Effect,
};
use countersign_store::{
    StoreError, Transaction, actions,
    actions::Ruling,
    approvals::{self, Closed, NewApproval},
    evidence::{self, Evidence},
    outcomes::{self, NewOutcome},
    payloads,
    permits::{self, IssuedPermit},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::judge::Judged;

/// Rows to be written.
#[derive(Default)]
pub(crate) struct Changes {
    rulings: Vec<(ActionId, Ruling, bool)>,
    contents: Vec<(ActionId, Vec<u8>, [u8; 32])>,
    opened: Vec<NewApproval>,
    pub(crate) closed: Vec<Closed>,
    permits: Vec<IssuedPermit>,
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
        for effect in judged.effects.clone() {
            match effect {
                Effect::OpenApproval => noted["approval"] = self.open(subject, judged),
                Effect::IssuePermit => noted["permit"] = self.issue(subject, judged),
                Effect::Answer => self.outcomes.push(NewOutcome {
                    action: subject.action,
                    state: judged.ruling.state,
                    result: None,
                    error: judged.failure.clone(),
                }),
                // The request is ended by whoever knows how: expired, rejected or no longer needed.
                Effect::CloseApproval | Effect::CallTool | Effect::Sample => {}
            }
        }
        noted
    }

    fn open(&mut self, subject: &Subject<'_>, judged: &Judged) -> Value {
        let Some(spec) = &judged.approval else { return Value::Null };
        let lifetime = TimeDelta::from_std(spec.expires_after).unwrap_or(TimeDelta::MAX);
        let expires_at = subject.now.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let id = ApprovalId(Uuid::now_v7());
        self.opened.push(NewApproval {
            id,
            action: subject.action,
            group: spec.group.clone(),
            rule: judged.ruling.rule.clone(),
            rule_text: judged.rule_text.clone(),
            expires_at,
        });
        json!({"id": id, "group": spec.group, "expires_at": expires_at})
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

    /// Moves a stored action.
    pub(crate) fn rule(&mut self, action: ActionId, ruling: Ruling, decided: bool) {
        self.rulings.push((action, ruling, decided));
    }

    /// Binds a stored action to changed content.
    pub(crate) fn rebind(&mut self, action: ActionId, bytes: Vec<u8>, digest: [u8; 32]) {
        self.contents.push((action, bytes, digest));
    }

    /// Adds what another action's change writes.
    pub(crate) fn merge(&mut self, other: Changes) {
        self.rulings.extend(other.rulings);
        self.contents.extend(other.contents);
        self.opened.extend(other.opened);
        self.closed.extend(other.closed);
        self.permits.extend(other.permits);
        self.outcomes.extend(other.outcomes);
        self.evidence.extend(other.evidence);
    }

    /// Writes everything, pipelined where the order does not matter.
    pub(crate) async fn write(&self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        // A request is ended before another may take its place.
        approvals::close(tx, &self.closed).await?;
        for (action, bytes, digest) in &self.contents {
            payloads::replace_content(tx, *action, bytes, digest).await?;
        }
        let rulings: Vec<_> =
            self.rulings.iter().map(|(id, ruling, decided)| (*id, ruling, *decided)).collect();
        tokio::try_join!(
            actions::rule(tx, &rulings),
            approvals::open(tx, &self.opened),
            permits::insert(tx, &self.permits),
            outcomes::insert(tx, 1, &self.outcomes),
            evidence::insert(tx, &self.evidence),
        )?;
        Ok(())
    }
}
