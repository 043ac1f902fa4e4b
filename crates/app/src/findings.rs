//! Findings: an auditor judges an executed action. Signed.

use std::path::PathBuf;

use chrono::Utc;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::FINDINGS,
};
pub use countersign_core::message::{Finding, Resolution, Severity};
use countersign_core::{
    evidence::Kind,
    ids::AuditId,
    message::{CloudEvent, FindingData, kind},
    signed::Signer,
};
use countersign_runtime::keys;
use serde_json::Value;
use uuid::Uuid;

pub use crate::answers::Answer;
use crate::{
    AppError, Connections,
    answers::{wait, wait_for_gold},
    audits::{Named, named, show},
    configuration::active,
};

/// A finding on an audited action. The AMQP user determines the auditor.
#[derive(Clone, Debug)]
pub struct Judge {
    /// The audit.
    pub audit: AuditId,
    /// What was found; `unsure` asks another auditor.
    pub finding: Finding,
    /// How bad it is; mandatory for `wrong`, and only there.
    pub severity: Option<Severity>,
    /// Why, as one of the policy's codes; mandatory for `wrong` where there are any.
    pub reason_code: Option<String>,
    /// Why, for people; mandatory for `wrong` where there are no codes.
    pub reason: Option<String>,
    /// What the call should have been: `tool`, `arguments` or both; `tool` null for no call at all.
    pub correction: Option<Value>,
    /// What really happened; mandatory where the action is in doubt.
    pub resolution: Option<Resolution>,
    /// Whether the compensation is proposed, as an action of its own.
    pub compensate: bool,
    /// The file with the private key to sign with, as a JWK.
    pub key: PathBuf,
}

/// Signs a finding on the current content, sends it, and waits for its result. A refusal is a result, not an error.
///
/// # Errors
/// If there is no such audit, the AMQP user is no auditor, the key cannot be read, the finding is not applied within 10
/// seconds, or the broker or the database refuses.
pub async fn judge(connections: &Connections, request: Judge) -> Result<Answer, AppError> {
    let store = connections.store()?;
    let Judge { audit, finding, severity, reason_code, reason, correction, resolution, compensate, key } =
        request;
    let digest = show(&store, audit).await?.digest;
    let data = FindingData {
        severity,
        reason_code,
        reason,
        correction,
        resolution,
        compensate,
        ..FindingData::new(audit, &digest, finding)
    };
    let url = connections.amqp()?;
    let user = user_of(url).unwrap_or_default();
    let configuration = active(&store).await?;
    let auditor = configuration.directory.auditor_of_user(&user).ok_or_else(|| {
        AppError::Usage(format!("the AMQP user {user:?} is no auditor of the active directory"))
    })?;
    let signer = Signer::new(&auditor.id, keys::signing_key(&key)?);
    let signed = signer
        .sign(&[data], Uuid::now_v7(), Utc::now(), rand::random)
        .map_err(AppError::invalid("the statement cannot be signed"))?;
    let source = format!("/auditors/{}", auditor.id);
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::AUDIT_FINDING, Utc::now(), signed);
    let publisher = Publisher::connect(url, "countersign-app:judge").await?;
    publisher.publish(&[Outgoing::event(FINDINGS, "finding", &event)]).await?;
    let refused = Kind::FindingRefused.as_str();
    match named(&store, audit).await? {
        Named::Audit(action) => wait(&store, action, &event.id, refused).await,
        Named::Gold(item) => wait_for_gold(&store, &item, &event.id, refused).await,
    }
}
