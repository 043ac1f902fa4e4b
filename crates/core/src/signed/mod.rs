//! What people sign: decisions as JWS (RFC 7515) with EdDSA over Ed25519 (RFC 8037).
//!
//! The signed payload names requests, digests and decisions. Free text and changed arguments, which may have to be
//! erased, are not in it: it holds their salted digests, and what they are digests of travels beside it as
//! **disclosures**, in the manner of SD-JWT (RFC 9901, section 4.2): a disclosure is base64url(JSON `[salt, value]`),
//! its digest base64url(SHA-256(the disclosure's ASCII)). Erased, the signature still verifies.

mod eddsa;

use std::collections::{BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{Algorithm, Header, Validation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    digest::{Salt, tagged},
    ids::ApprovalId,
    json::parse_strict,
    message::{Decision, DecisionData},
};

/// The `typ` of a signed decision's header (RFC 8725, section 3.11): what is signed as one thing is not another.
pub const TYP: &str = "countersign-decision+jwt";

/// The most decisions that one signature covers.
pub const DECISIONS_MAX: usize = 100;

/// The longest `jti` and `kid`, in bytes.
const JTI_MAX: usize = 128;

/// `countersign.approval.decided.v1`: what a reviewer has signed, and what it is about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedDecisions {
    /// The compact serialization: header with `alg` EdDSA, `kid` and `typ`; payload a [`Statement`].
    pub jws: String,
    /// The reasons and arguments of which the payload holds digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disclosures: Vec<String>,
}

/// The signed payload.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Statement {
    /// Who decides: an id of the directory.
    pub reviewer: String,
    /// Unique for the key: what was signed once counts once.
    pub jti: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// What was decided; each is judged on its own.
    pub decisions: Vec<SignedDecision>,
}

/// One decision as it is signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedDecision {
    /// The request.
    pub approval: ApprovalId,
    /// The digest that the reviewer saw.
    pub digest: String,
    /// What was decided.
    pub decision: Decision,
    /// Why, for programs: one of the request's `reason_codes`; mandatory for `reject` where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Digest of the disclosed reason: mandatory for `reject` where there are no codes. For `respond` the message to
    /// the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_digest: Option<String>,
    /// For `edit`: digest of the disclosed arguments to be used in place of the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_digest: Option<String>,
}

/// The JWK thumbprint of a public key (RFC 7638): its `kid`.
pub fn thumbprint(key: &VerifyingKey) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, BASE64.encode(key.as_bytes()));
    BASE64.encode(Sha256::digest(jwk))
}

/// The digest by which a payload refers to a disclosure.
pub fn disclosure_digest(disclosure: &str) -> String {
    BASE64.encode(Sha256::digest(disclosure))
}

/// The digest by which evidence refers to a statement.
pub fn statement_digest(jws: &str) -> String {
    tagged(&Sha256::digest(jws))
}

fn disclose(salt: &Salt, value: &Value) -> String {
    BASE64.encode(json!([BASE64.encode(salt), value]).to_string())
}

/// Somebody who signs: a reviewer with a key of their own, or an app with its key for a reviewer.
#[derive(Clone)]
pub struct Signer {
    reviewer: String,
    key: SigningKey,
}

/// The first second of the year 10000.
const LAST: i64 = 253_402_300_800;

/// A statement could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the decision cannot be signed: {0}")]
pub struct SigningError(#[from] jsonwebtoken::errors::Error);

impl Signer {
    /// Signs for `reviewer` with `key`.
    pub fn new(reviewer: &str, key: SigningKey) -> Self {
        Self { reviewer: reviewer.into(), key }
    }

    /// Signs decisions at `now`. `jti` must be new; `salt` gives 128 new random bits for each reason and argument.
    ///
    /// # Errors
    /// Where a payload cannot be written as JSON.
    pub fn sign(
        &self,
        decisions: &[DecisionData],
        jti: Uuid,
        now: DateTime<Utc>,
        mut salt: impl FnMut() -> Salt,
    ) -> Result<SignedDecisions, SigningError> {
        eddsa::install();
        let mut disclosures = Vec::new();
        let mut digest = |value: Option<Value>| {
            let disclosure = disclose(&salt(), &value?);
            let digest = disclosure_digest(&disclosure);
            disclosures.push(disclosure);
            Some(digest)
        };
        let decisions = decisions.iter().map(|data| SignedDecision {
            approval: data.approval,
            digest: data.digest.clone(),
            decision: data.decision,
            reason_code: data.reason_code.clone(),
            reason_digest: digest(data.reason.clone().map(Value::from)),
            arguments_digest: digest(data.arguments.clone()),
        });
        let statement = Statement {
            reviewer: self.reviewer.clone(),
            jti: jti.to_string(),
            iat: now.timestamp(),
            decisions: decisions.collect(),
        };
        let header = Header {
            typ: Some(TYP.into()),
            kid: Some(thumbprint(&self.key.verifying_key())),
            ..Header::new(Algorithm::EdDSA)
        };
        let jws = jsonwebtoken::encode(&header, &statement, &eddsa::encoding_key(&self.key))?;
        Ok(SignedDecisions { jws, disclosures })
    }
}

/// Why a text is no signed statement at all.
#[derive(Debug, thiserror::Error)]
#[error("`jws` is no signed decision: {0}")]
pub struct Unreadable(String);

/// A statement as it was received. Nothing in it is to be believed before [`Received::verify`].
#[derive(Clone, Debug)]
pub struct Received {
    /// The compact serialization.
    pub jws: String,
    /// Names the key.
    pub kid: String,
    /// Who is said to decide.
    pub reviewer: String,
    /// Unique for the key.
    pub jti: String,
    /// When it is said to have been signed.
    pub signed_at: DateTime<Utc>,
    /// What is said to be decided, with what was disclosed.
    pub decisions: Vec<DecisionData>,
    /// Whether everything that the payload holds digests of was disclosed.
    pub disclosed: bool,
    /// The disclosures that its digests stand for; any others are left out.
    pub disclosures: Vec<String>,
}

impl Received {
    /// Reads a statement without believing it.
    ///
    /// # Errors
    /// Where it is no compact JWS with EdDSA over a [`Statement`].
    pub fn read(signed: &SignedDecisions) -> Result<Self, Unreadable> {
        let unreadable = |error: jsonwebtoken::errors::Error| Unreadable(error.to_string());
        let header = jsonwebtoken::decode_header(&signed.jws).map_err(unreadable)?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(TYP) {
            return Err(Unreadable(format!("its header must have `alg` EdDSA and `typ` {TYP:?}")));
        }
        // RFC 7515, section 4.1.11: what is marked critical must be understood, and nothing is.
        if header.crit.is_some() {
            return Err(Unreadable("its header marks members as critical that are not understood".into()));
        }
        let kid = header.kid.ok_or_else(|| Unreadable("its header has no `kid`".into()))?;
        let statement: Statement =
            jsonwebtoken::dangerous::insecure_decode_claims(&signed.jws).map_err(unreadable)?;
        let plain = |text: &str| (1..=JTI_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if !plain(&statement.jti) || !plain(&kid) {
            return Err(Unreadable(format!(
                "`jti` and `kid` must have 1 to {JTI_MAX} bytes and no control characters"
            )));
        }
        let signed_at = DateTime::from_timestamp(statement.iat, 0)
            .filter(|at| (0..LAST).contains(&at.timestamp()))
            .ok_or_else(|| Unreadable("`iat` must be seconds since 1970, before the year 10000".into()))?;
        let coded = statement.decisions.iter().filter_map(|decision| decision.reason_code.as_ref());
        if coded.into_iter().any(|code| !plain(code)) {
            return Err(Unreadable("`reason_code` must be one of the request's".into()));
        }
        let disclosures = Disclosures::of(&signed.disclosures);
        let (mut disclosed, mut used) = (true, BTreeSet::new());
        let mut value = |digest: Option<&String>| {
            let found = disclosures.0.get(digest?);
            disclosed &= found.is_some();
            let (text, value) = found?;
            used.insert(text.clone());
            Some(value.clone())
        };
        let decisions = statement.decisions.into_iter().map(|decision| {
            let reason = value(decision.reason_digest.as_ref());
            DecisionData {
                approval: decision.approval,
                digest: decision.digest,
                decision: decision.decision,
                reason_code: decision.reason_code,
                reason: reason.and_then(|reason| reason.as_str().map(str::to_owned)),
                arguments: value(decision.arguments_digest.as_ref()),
            }
        });
        let decisions: Vec<_> = decisions.collect();
        Ok(Self {
            jws: signed.jws.clone(),
            kid,
            reviewer: statement.reviewer,
            jti: statement.jti,
            signed_at,
            decisions,
            disclosed,
            disclosures: used.into_iter().collect(),
        })
    }

    /// Whether `key` has signed exactly this.
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        eddsa::install();
        let mut validation = Validation::new(Algorithm::EdDSA);
        // No claim of RFC 7519 is required: how old a statement may be is the caller's to judge, by its own clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode::<Statement>(&self.jws, &eddsa::decoding_key(key), &validation).is_ok()
    }
}

/// Disclosures and their values by digest. What is no disclosure is not among them.
struct Disclosures(HashMap<String, (String, Value)>);

impl Disclosures {
    fn of(disclosures: &[String]) -> Self {
        let read = |disclosure: &String| {
            let value = parse_strict(&BASE64.decode(disclosure).ok()?).ok()?;
            match value {
                Value::Array(mut pair) if pair.len() == 2 && pair[0].is_string() => {
                    Some((disclosure_digest(disclosure), (disclosure.clone(), pair.pop()?)))
                }
                _ => None,
            }
        };
        Self(disclosures.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
