//! Applying one finding to a locked action.

use countersign_core::{
    action::State,
    audit::{Opinion, settle},
    digest::untagged,
    evidence::{self as events, ActionResolved, AuditSettled, CompensationRequested},
    json::canonical,
    message::{self, Call, Finding, FindingData, Resolution, Severity},
    person::Persons as _,
    refusal::{Code, Complaint},
    transition::{Event, Standing, transition},
    verdict::Verdict,
};
use countersign_policy::{Configuration, Member};
use countersign_runtime::{governed::Governed, independence, messages::offer, remediation};
use countersign_statistics::switching::SwitchingEvent;
use countersign_store::{
    Pipeline, StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    audits::{self, AuditRecord, FindingRow},
    compensations,
    evidence::{self, Evidence},
    listing,
    outcomes::{self, NewOutcome},
};
use serde_json::{Value, json};

use crate::switching::SwitchingInput;

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// A finding with its signer and key.
pub(super) struct SignedFinding<'a> {
    pub(super) data: &'a FindingData,
    pub(super) auditor: &'a Member,
    pub(super) kid: &'a str,
}

/// When a finding that counts was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Now,
    Before,
}

pub(super) fn unknown(data: &FindingData) -> Complaint {
    (Code::AuditUnknown, format!("there is no audit {}", data.audit))
}

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
    let directory = &configuration.directory;
    // A person judges once, under whichever id.
    if let Some(before) = found.iter().find(|before| directory.same(&before.auditor, &signed.auditor.id)) {
        let opinion = Opinion { finding: data.finding, severity: data.severity };
        if before.auditor == signed.auditor.id && before.opinion == opinion {
            return Ok(Ok((Applied::Before, vec![])));
        }
        return Ok(Err((Code::AlreadyJudged, "you have already submitted another finding".into())));
    }
    // Most findings that do not count are on audits that others have settled meanwhile: nothing more is read for them.
    if !audit.open {
        return Ok(Err((Code::NotOpen, "the audit is already settled".into())));
    }
    let record = actions::load(tx, &[audit.action], LoadDepth::Bodies).await?.pop();
    let Some(record) = record else { return Ok(Err(unknown(data))) };
    let eligible = eligible(governed, audit, &record, signed.auditor);
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
    Ok(Ok((Applied::Now, switching_input(tx, &record, wrong, settled.severity).await?)))
}

/// What a settled audit contributes to the stratum's sampling plan: of what was executed without approval, only audits that the
/// draw selected count. Where a reviewer has waved an error through, whatever audit found it, and critical errors always.
async fn switching_input(
    tx: &Transaction,
    record: &ActionRecord,
    wrong: bool,
    severity: Option<Severity>,
) -> Result<Vec<SwitchingInput>, StoreError> {
    let critical = severity == Some(Severity::Critical);
    let at_once = record.status.verdict == Verdict::Allow;
    let drawn = listing::draw(tx, record.id).await?.is_some_and(|draw| draw.selected);
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

/// A finding as a row, with the correction as the full call and as a JSON Patch.
fn row(record: &ActionRecord, signed: &SignedFinding<'_>) -> FindingRow {
    let data = signed.data;
    let content: Option<Value> =
        record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok());
    let arguments = content.and_then(|mut content| content.get_mut("arguments").map(Value::take));
    let call = Call { tool: record.tool.clone(), arguments: arguments.unwrap_or_default() };
    let corrected = data.correction.as_ref().map(|correction| match call.corrected(correction) {
        Some(corrected) => json!(corrected),
        None => correction.clone(),
    });
    let patch = data.correction.as_ref().and_then(|correction| call.correcting(correction));
    FindingRow {
        audit: data.audit,
        auditor: signed.auditor.id.clone(),
        opinion: Opinion { finding: data.finding, severity: data.severity },
        reason_code: data.reason_code.clone(),
        reason: data.reason.clone(),
        correction: corrected.and_then(|corrected| canonical(&corrected).ok()),
        patch: patch.and_then(|patch| canonical(&patch).ok()),
        compensate: data.compensate,
        kid: signed.kid.to_owned(),
    }
}

/// Checks that an auditor may judge an action: a member of the group, and independent of whoever wanted, ruled or
/// approved it.
fn eligible(
    governed: &Governed,
    audit: &AuditRecord,
    record: &ActionRecord,
    auditor: &Member,
) -> Result<(), Complaint> {
    if !auditor.groups.contains(&audit.group) {
        return Err((Code::NotInGroup, format!("only members of {:?} may audit this action", audit.group)));
    }
    let content: Option<Value> =
        record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok());
    let stated =
        content.and_then(|mut content| content.get_mut("agent").map(Value::take)).unwrap_or_default();
    independence::check(governed, &record.agent, &stated, &auditor.id)?;
    let directory = &governed.configuration.directory;
    if record.status.approvers.iter().any(|approver| directory.same(approver, &auditor.id)) {
        return Err((Code::Approver, "whoever approved an action may not judge it".into()));
    }
    Ok(())
}

/// Checks the finding.
fn check(
    configuration: &Configuration,
    record: &ActionRecord,
    signed: &SignedFinding<'_>,
) -> Result<(), Complaint> {
    let (data, wrong) = (signed.data, signed.data.finding == Finding::Wrong);
    if untagged(&data.digest).is_none_or(|digest| digest.as_slice() != record.digest) {
        return Err((Code::DigestMismatch, "the digest does not match what was executed".into()));
    }
    if wrong != data.severity.is_some() {
        return Err((
            Code::SeverityMissing,
            "a finding of `wrong` must have a severity, and no other finding may".into(),
        ));
    }
    reasons(&configuration.policy.audits().reason_codes, data)?;
    let correction = data.correction.as_ref();
    let member = |name: &str| correction.and_then(|correction| correction.get(name));
    let tool = member("tool").is_none_or(|tool| tool.is_string() || tool.is_null());
    let arguments = member("arguments").is_none_or(Value::is_object);
    let something = member("tool").or(member("arguments")).is_some();
    if correction.is_some() && !(wrong && tool && arguments && something) {
        let why = "only a finding of `wrong` may have a `correction`, with `tool`, `arguments` or both";
        return Err((Code::InvalidCorrection, why.into()));
    }
    if data.compensate && !wrong {
        return Err((Code::NotReversible, "only a finding of `wrong` may ask for compensation".into()));
    }
    match (record.status.state, data.resolution) {
        (State::InDoubt, None) if data.finding != Finding::Unsure => Err((
            Code::ResolutionMissing,
            "the action is in doubt: `resolution` must say whether it succeeded or failed".into(),
        )),
        (State::InDoubt, _) | (_, None) => Ok(()),
        (state, Some(_)) => {
            Err((Code::NotInDoubt, format!("the action is {state}, so there is nothing to resolve")))
        }
    }
}

fn reasons(codes: &[String], data: &FindingData) -> Result<(), Complaint> {
    let reason = data.reason.as_deref().unwrap_or_default().trim();
    if reason.len() > REASON_MAX {
        return Err((Code::ReasonTooLong, format!("the reason exceeds {REASON_MAX} bytes")));
    }
    match &data.reason_code {
        Some(code) if !codes.is_empty() && !codes.contains(code) => {
            Err((Code::ReasonUnknown, format!("`reason_code` must be one of {}", codes.join(", "))))
        }
        None if data.finding == Finding::Wrong && !codes.is_empty() => Err((
            Code::ReasonMissing,
            format!("a finding of `wrong` needs a `reason_code`: {}", codes.join(", ")),
        )),
        None if data.finding == Finding::Wrong && reason.is_empty() => {
            Err((Code::ReasonMissing, "a finding of `wrong` needs a reason".into()))
        }
        _ => Ok(()),
    }
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
