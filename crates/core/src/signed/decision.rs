//! The signed form of decisions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Parts, Signable};
use crate::{
    ids::ApprovalId,
    message::{Decision, DecisionData},
};

/// The signed payload of decisions.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// Who decides: an id of the directory.
    pub reviewer: String,
    /// Unique for the key: a statement counts once.
    pub jti: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// The decisions; each is processed on its own.
    pub decisions: Vec<SignedDecision>,
}

/// The signed form of one decision.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedDecision {
    /// The approval request.
    pub approval: ApprovalId,
    /// The digest that the reviewer saw.
    pub digest: String,
    /// The decision.
    pub decision: Decision,
    /// Why, for programs: one of the request's `reason_codes`; required for `reject` if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Digest of the disclosed reason: required for `reject` if there are no codes. For `respond`, of the message to
    /// the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_digest: Option<String>,
    /// For `edit`: digest of the disclosed arguments that replace the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
}

impl From<Parts<SignedDecision>> for Statement {
    fn from(parts: Parts<SignedDecision>) -> Self {
        Self { reviewer: parts.signer, jti: parts.jti, iat: parts.iat, decisions: parts.entries }
    }
}

impl From<Statement> for Parts<SignedDecision> {
    fn from(statement: Statement) -> Self {
        let Statement { reviewer: signer, jti, iat, decisions: entries } = statement;
        Self { signer, jti, iat, entries }
    }
}

impl Signable for DecisionData {
    const TYP: &'static str = "countersign-decision+jwt";
    type Signed = SignedDecision;
    type Statement = Statement;

    fn close(&self, digest: &mut dyn FnMut(Option<Value>) -> Option<String>) -> SignedDecision {
        SignedDecision {
            approval: self.approval,
            digest: self.digest.clone(),
            decision: self.decision,
            reason_code: self.reason_code.clone(),
            reason_digest: digest(self.reason.clone().map(Value::from)),
            arguments_digest: digest(self.arguments.clone()),
        }
    }

    fn open(signed: SignedDecision, value: &mut dyn FnMut(Option<&String>) -> Option<Value>) -> Self {
        let reason = value(signed.reason_digest.as_ref());
        Self {
            approval: signed.approval,
            digest: signed.digest,
            decision: signed.decision,
            reason_code: signed.reason_code,
            reason: reason.and_then(|reason| reason.as_str().map(str::to_owned)),
            arguments: value(signed.arguments_digest.as_ref()),
        }
    }

    fn reason_code(&self) -> Option<&str> {
        self.reason_code.as_deref()
    }

    fn correction_digest(signed: &SignedDecision) -> Option<&String> {
        signed.arguments_digest.as_ref()
    }
}
