//! What makes a finding count, whatever follows from it.

use countersign_core::{
    action::State,
    audit::Opinion,
    digest::untagged,
    json::canonical,
    message::{Call, Finding, FindingData},
    person::Persons as _,
    refusal::{Code, Complaint},
};
use countersign_policy::{Configuration, Directory, Member};
use countersign_runtime::{governed::Governed, independence};
use countersign_store::{actions::ActionRecord, audits::FindingRow};
use serde_json::{Value, json};

/// The longest reason, in bytes.
const REASON_MAX: usize = 4_000;

/// A finding with its signer and key.
pub(crate) struct SignedFinding<'a> {
    pub(crate) data: &'a FindingData,
    pub(crate) auditor: &'a Member,
    pub(crate) kid: &'a str,
}

/// When a finding that counts was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Now,
    Before,
}

pub(crate) fn unknown(data: &FindingData) -> Complaint {
    (Code::AuditUnknown, format!("there is no audit {}", data.audit))
}

/// The complaint about a finding on an audit that needs none any more.
pub(crate) fn settled_already() -> Complaint {
    (Code::NotOpen, "the audit is already settled".into())
}

/// The answer to a person who has judged the audit before: a person judges once, under whichever id. `found` has the auditors
/// and what they have found.
pub(crate) fn repeated<'f>(
    directory: &Directory,
    mut found: impl Iterator<Item = (&'f str, Opinion)>,
    signed: &SignedFinding<'_>,
) -> Option<Result<Applied, Complaint>> {
    let (data, auditor) = (signed.data, &signed.auditor.id);
    let (before, opinion) = found.find(|(before, _)| directory.same(before, auditor))?;
    let same = opinion == Opinion { finding: data.finding, severity: data.severity };
    Some(match before == auditor && same {
        true => Ok(Applied::Before),
        false => Err((Code::AlreadyJudged, "you have already submitted another finding".into())),
    })
}

/// A finding as a row, with the correction as the full call and as a JSON Patch.
pub(crate) fn row(record: &ActionRecord, signed: &SignedFinding<'_>) -> FindingRow {
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
pub(crate) fn eligible(
    governed: &Governed,
    group: &str,
    record: &ActionRecord,
    auditor: &Member,
) -> Result<(), Complaint> {
    if !auditor.groups.contains(group) {
        return Err((Code::NotInGroup, format!("only members of {group:?} may audit this action")));
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
pub(crate) fn check(
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
