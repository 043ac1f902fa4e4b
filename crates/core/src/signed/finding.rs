//! The signed form of findings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Parts, Signable};
use crate::{
    ids::AuditId,
    message::{Finding, FindingData, Resolution, Severity},
};

/// The signed payload of findings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FindingStatement {
    /// Who made the findings: an id of the directory.
    pub auditor: String,
    /// Unique for the key: a statement counts once.
    pub jti: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// The findings; each is processed on its own.
    pub findings: Vec<SignedFinding>,
}

/// The signed form of one finding.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedFinding {
    /// The audit.
    pub audit: AuditId,
    /// The digest that the auditor saw.
    pub digest: String,
    /// The finding.
    pub finding: Finding,
    /// How bad it is; required for `wrong`, not allowed otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Why, for programs: one of the request's `reason_codes`; required for `wrong` if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Digest of the disclosed reason: required for `wrong` if there are no codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_digest: Option<String>,
    /// Digest of the disclosed correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction_digest: Option<String>,
    /// What really happened; required if the action is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Whether the offered compensation is requested.
    #[serde(default)]
    pub compensate: bool,
}

impl From<Parts<SignedFinding>> for FindingStatement {
    fn from(parts: Parts<SignedFinding>) -> Self {
        Self { auditor: parts.signer, jti: parts.jti, iat: parts.iat, findings: parts.entries }
    }
}

impl From<FindingStatement> for Parts<SignedFinding> {
    fn from(statement: FindingStatement) -> Self {
        let FindingStatement { auditor: signer, jti, iat, findings: entries } = statement;
        Self { signer, jti, iat, entries }
    }
}

impl Signable for FindingData {
    const TYP: &'static str = "countersign-finding+jwt";
    type Signed = SignedFinding;
    type Statement = FindingStatement;

    fn close(&self, digest: &mut dyn FnMut(Option<Value>) -> Option<String>) -> SignedFinding {
        SignedFinding {
            audit: self.audit,
            digest: self.digest.clone(),
            finding: self.finding,
            severity: self.severity,
            reason_code: self.reason_code.clone(),
            reason_digest: digest(self.reason.clone().map(Value::from)),
            correction_digest: digest(self.correction.clone()),
            resolution: self.resolution,
            compensate: self.compensate,
        }
    }

    fn open(signed: SignedFinding, value: &mut dyn FnMut(Option<&String>) -> Option<Value>) -> Self {
        let reason = value(signed.reason_digest.as_ref());
        Self {
            audit: signed.audit,
            digest: signed.digest,
            finding: signed.finding,
            severity: signed.severity,
            reason_code: signed.reason_code,
            reason: reason.and_then(|reason| reason.as_str().map(str::to_owned)),
            correction: value(signed.correction_digest.as_ref()),
            resolution: signed.resolution,
            compensate: signed.compensate,
        }
    }

    fn reason_code(&self) -> Option<&str> {
        self.reason_code.as_deref()
    }

    fn correction_digest(signed: &SignedFinding) -> Option<&String> {
        signed.correction_digest.as_ref()
    }
}
