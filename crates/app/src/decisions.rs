//! Decisions: a reviewer approves, rejects or edits what waits for approval, or responds to its agent. Signed.

use std::path::PathBuf;

use chrono::Utc;
use countersign_broker::{
    publisher::{Outgoing, Publisher},
    session::user_of,
    topology::DECISIONS,
};
pub use countersign_core::message::Decision;
use countersign_core::{
    evidence::Kind,
    ids::ApprovalId,
    message::{CloudEvent, DecisionData, kind},
    refusal::Code,
    signed::{Signer, thumbprint},
};
use countersign_policy::Sender;
use countersign_runtime::keys;
use countersign_store::{Store, statements};
use serde_json::Value;
use uuid::Uuid;

pub use crate::answers::Answer;
use crate::{
    AppError, Connections,
    answers::wait,
    approvals::{action_of, show},
    configuration::active,
};

/// A decision and its reviewer.
#[derive(Clone, Debug)]
pub struct Decide {
    /// The approval request.
    pub approval: ApprovalId,
    /// What is decided.
    pub decision: Decision,
    /// Why, as one of the rule's codes; for `reject`.
    pub reason_code: Option<String>,
    /// Why, for people; for `respond` the message to the agent.
    pub reason: Option<String>,
    /// The arguments that replace the agent's; for `edit`.
    pub arguments: Option<Value>,
    /// The reviewer; by default the one with this AMQP user. An app must name the reviewer for whom it speaks.
    pub reviewer: Option<String>,
    /// The file with the private key to sign with, as a JWK.
    pub key: PathBuf,
}

/// Signs a decision on the current content, sends it, and waits for its result. A refusal is a result, not an error.
///
/// # Errors
/// If there is no such request, the key cannot be read, the reviewer is unknown, the decision is not applied within 10
/// seconds, or the broker or the database refuses.
pub async fn decide(connections: &Connections, request: Decide) -> Result<Answer, AppError> {
    let store = connections.store()?;
    let Decide { approval, decision, reason_code, reason, arguments, reviewer, key } = request;
    let digest = show(&store, approval).await?.digest;
    let url = connections.amqp()?;
    let key = keys::signing_key(&key)?;
    let reviewer = match reviewer {
        Some(reviewer) => reviewer,
        None => reviewer_of(&store, url).await?,
    };
    let data = DecisionData { approval, digest, decision, reason_code, reason, arguments };
    let (kid, jti) = (thumbprint(&key.verifying_key()), Uuid::now_v7());
    let signed = Signer::new(&reviewer, key)
        .sign(&[data], jti, Utc::now(), rand::random)
        .map_err(AppError::invalid("the statement cannot be signed"))?;
    let source = format!("/reviewers/{reviewer}");
    let event = CloudEvent::new(Outgoing::fresh_id(), &source, kind::APPROVAL_DECIDED, Utc::now(), signed);
    let publisher = Publisher::connect(url, "countersign-app:decide").await?;
    publisher.publish(&[Outgoing::event(DECISIONS, "decision", &event)]).await?;
    let action = action_of(&store, approval).await?;
    let mut answer = wait(&store, action, &event.id, Kind::DecisionRefused.as_str()).await?;
    if !answer.applied {
        let message = why(&store, &kid, &jti.to_string(), answer.text("code")).await?;
        answer.evidence["message"] = message.into();
    }
    Ok(answer)
}

/// Why a decision was refused: the message of the answer, or the meaning of its code. Evidence has no free text.
async fn why(store: &Store, kid: &str, jti: &str, code: Option<&str>) -> Result<String, AppError> {
    let tx = store.transaction().await?;
    let answers = statements::known(&tx, &[(kid, jti)]).await?.pop().map(|known| known.answers);
    let answered = answers.and_then(|mut answers| answers.pop()?.message);
    let meaning = || Code::ALL.iter().find(|known| Some(known.as_str()) == code).map(|known| known.meaning());
    Ok(answered.or_else(|| meaning().map(str::to_owned)).unwrap_or_default())
}

/// The reviewer with this AMQP user.
async fn reviewer_of(store: &Store, amqp_url: &str) -> Result<String, AppError> {
    let user = user_of(amqp_url).unwrap_or_default();
    match active(store).await?.directory.sender_of_user(&user) {
        Some(Sender::Reviewer(reviewer)) => Ok(reviewer.id.clone()),
        Some(Sender::App(app)) => {
            let speaks_for: Vec<&str> = app.reviewers.iter().map(String::as_str).collect();
            Err(AppError::Usage(format!(
                "the app {:?} speaks for {}; give --reviewer",
                app.id,
                speaks_for.join(", ")
            )))
        }
        Some(Sender::Auditor(_)) | None => {
            Err(AppError::Usage(format!("the AMQP user {user:?} is no reviewer of the active directory")))
        }
    }
}
