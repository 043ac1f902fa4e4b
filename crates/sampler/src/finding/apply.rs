//! Applying one finding to a locked action.

use countersign_core::{
    action::State,
    audit::{Opinion, settle},
    evidence::{self as events, ActionResolved, AuditSettled, CompensationRequested},
    keyed,
    message::{self, Finding, Resolution, Severity},
    refusal::{Code, Complaint},
    transition::{Event, Standing, transition},
    verdict::Verdict,
};
use countersign_policy::{Configuration, Policy};
use countersign_runtime::{governed::Governed, messages::offer, remediation};
use countersign_statistics::switching::{PlanState, SwitchingEvent};
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    audits::{self, AuditRecord},
    compensations,
    evidence::{self, Evidence},
    listing::{self, DrawSummary},
    outcomes::{self, NewOutcome},
};

use super::check::{Applied, SignedFinding, check, eligible, repeated, row, settled_already, unknown};
use crate::switching::SwitchingInput;

type Answer = Result<(Applied, Vec<SwitchingInput>), Complaint>;

/// Applies one finding to a locked audit, or returns why it does not count.
pub(super) async fn apply(
    tx: &Transaction,
    governed: &Governed,
    audit: &AuditRecord,
    signed: &SignedFinding<'_>,
) -> Result<Answer, StoreError> {
    let (data, configuration) = (signed.data, &governed.configuration);
    let mut found = audits::findings(tx, audit.id).await?;
    let earlier = found.iter().map(|before| (before.auditor.as_str(), before.opinion));
    if let Some(answer) = repeated(&configuration.directory, earlier, signed) {
        return Ok(answer.map(|applied| (applied, vec![])));
    }
    // Most findings that do not count are on audits that others have settled meanwhile: nothing more is read for them.
    if !audit.open {
        return Ok(Err(settled_already()));
    }
    let record = actions::load(tx, &[audit.action], LoadDepth::Bodies).await?.pop();
    let Some(record) = record else { return Ok(Err(unknown(data))) };
    let eligible = eligible(governed, &audit.group, &record, signed.auditor);
    if let Err(complaint) = eligible.and_then(|()| check(configuration, &record, signed)) {
        return Ok(Err(complaint));
    }
    let row = row(&record, signed);
    audits::insert_finding(tx, &row).await?;
    found.push(row);
    if let Some(resolution) = data.resolution {
        resolve(tx, &record, resolution).await?;
        if let (Some(undone), Resolution::Failed) = (record.compensates, resolution) {
            let why = "its compensation was in doubt and had no effect";
            remediation::open(tx, configuration, undone, &audit.group, why).await?;
        }
    }
    if data.compensate {
        undo(tx, configuration, audit, &record, &signed.auditor.id).await?;
    }
    let opinions: Vec<Opinion> = found.iter().map(|row| row.opinion).collect();
    let Some(settled) = settle(&opinions, audit.twice) else {
        audits::ask_another(tx, audit.id).await?;
        return Ok(Ok((Applied::Now, vec![])));
    };
    audits::settle(tx, audit.id, &settled).await?;
    let (finding, severity) = (settled.finding, settled.severity);
    let noted = AuditSettled { audit: audit.id, finding, severity, findings: found.len() };
    evidence::insert(tx, &[Evidence::of(record.id, events::Event::AuditSettled(noted))]).await?;
    let wrong = settled.finding == Finding::Wrong;
    if wrong && record.status.state == State::Succeeded && !found.iter().any(|row| row.compensate) {
        // If a tool can undo it, the auditor may request that; otherwise people remedy it.
        if let Err(why) = offer(&configuration.tools, &record) {
            remediation::open(tx, configuration, record.id, &audit.group, &why).await?;
        }
    }
    Ok(Ok((
        Applied::Now,
        switching_input(tx, &configuration.policy, &record, wrong, settled.severity).await?,
    )))
}

/// What a settled audit contributes to the stratum's sampling plan: of what was executed without approval, only audits that the
/// draw selected count. Where a reviewer has waved an error through, whatever audit found it, and critical errors always.
async fn switching_input(
    tx: &Transaction,
    policy: &Policy,
    record: &ActionRecord,
    wrong: bool,
    severity: Option<Severity>,
) -> Result<Vec<SwitchingInput>, StoreError> {
    let critical = severity == Some(Severity::Critical);
    let at_once = record.status.verdict == Verdict::Allow;
    let status = &record.status;
    let rate = policy.audit_spec(&status.rule).map_or(0.0, |spec| spec.rate)
        * status.plan_state.map_or(1.0, PlanState::tighter);
    let draw = listing::draw(tx, record.id).await?;
    let drawn = draw.is_some_and(|draw| counts(&draw, status.audit_score.map(|_| rate), wrong));
    let audited = (at_once && drawn).then_some(SwitchingEvent::Audited { wrong });
    let executed = record.status.state.executed();
    // An edit has been counted as an error already.
    let waved_through = wrong && executed && record.status.approved && record.edited.is_none();
    let overturned = (!at_once && waved_through).then_some(SwitchingEvent::Overturned);
    let critical = (critical && executed).then_some(SwitchingEvent::Critical);
    Ok(audited
        .into_iter()
        .chain(overturned)
        .chain(critical)
        .filter_map(|event| SwitchingInput::of(record, event))
        .collect())
}

/// Whether a drawn audit counts for the stratum's sampling plan. `unscored` is the rate without the score, where there is one. An audit that
/// only the score asked for counts if it is wrong: an agent that makes harmless actions look suspect would otherwise have them outweigh
/// the others.
fn counts(draw: &DrawSummary, unscored: Option<f64>, wrong: bool) -> bool {
    let asked_anyway = unscored.is_none_or(|rate| keyed::selected(draw.r, rate));
    draw.selected && (wrong || draw.forced.is_some() || asked_anyway)
}

/// Requests that an action be undone: by its compensation if that is still possible, otherwise by people.
async fn undo(
    tx: &Transaction,
    configuration: &Configuration,
    audit: &AuditRecord,
    record: &ActionRecord,
    auditor: &str,
) -> Result<(), StoreError> {
    match offer(&configuration.tools, record) {
        Ok(offer) => {
            if compensations::request(tx, record.id, audit.id, auditor).await? {
                let (tool, until) = (offer.tool, offer.reversible_until);
                let event = events::Event::CompensationRequested(CompensationRequested {
                    audit: audit.id,
                    tool,
                    until,
                });
                evidence::insert(tx, &[Evidence::of(record.id, event)]).await?;
            }
            Ok(())
        }
        Err(why) => remediation::open(tx, configuration, record.id, &audit.group, &why).await,
    }
}

/// Resolves an action in doubt as an auditor found: its agent gets a second outcome.
async fn resolve(tx: &Transaction, record: &ActionRecord, resolution: Resolution) -> Result<(), StoreError> {
    let standing = Standing {
        state: record.status.state,
        approved: record.status.approved,
        expires_at: None,
        approval_expires_at: None,
    };
    let event = Event::Resolved { succeeded: resolution == Resolution::Succeeded };
    let (state, _) = transition(&standing, event, record.now)
        .map_err(|illegal| StoreError::Refused(format!("{}: {illegal}", record.reference)))?;
    outcomes::resolve(tx, record.id, state).await?;
    let had_no_effect =
        || message::Failure::new(Code::Resolved, "a human found that the interrupted attempt had no effect");
    let error = (state == State::Failed).then(had_no_effect);
    let outcome = NewOutcome::new(record.id, state, None, error);
    let noted = events::Event::ActionResolved(ActionResolved { state });
    let mut writes = Pipeline::default();
    outcomes::insert(tx, &mut writes, 2, [&outcome]).await?;
    evidence::write(tx, &mut writes, &[Evidence::of(record.id, noted)]).await?;
    tx.run(&writes).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_score_asked_to_audit_counts_for_a_plan_if_it_is_wrong() {
        // Selected at every π from 0.25 on.
        let draw = |forced: Option<&str>| DrawSummary {
            epoch: 1,
            stratum: "a/b/c".into(),
            pi: 0.5,
            selected: true,
            forced: forced.map(str::to_owned),
            r: 3 << 54,
        };
        let drawn = draw(None);
        assert!(counts(&drawn, None, false) && counts(&drawn, Some(0.3), false));
        assert!(!counts(&drawn, Some(0.1), false) && counts(&drawn, Some(0.1), true));
        assert!(counts(&draw(Some("failed")), Some(0.1), false));
        let passed_over = DrawSummary { selected: false, ..drawn };
        assert!(!counts(&passed_over, None, true));
    }
}
