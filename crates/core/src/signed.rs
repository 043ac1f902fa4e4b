//! What people sign: decisions and findings as JWS (RFC 7515) with EdDSA over Ed25519 (RFC 8037).
//!
//! The signed payload names requests, digests and what was decided or found. Free text and changed arguments, which may have to be
//! erased, are not in it: it holds their salted digests, and what they are digests of travels beside it as
//! **disclosures**, in the manner of SD-JWT (RFC 9901, section 4.2): a disclosure is base64url(JSON `[salt, value]`),
//! its digest base64url(SHA-256(the disclosure's ASCII)). Erased, the signature still verifies.

mod decision;
mod finding;
mod jws;

use std::collections::{BTreeSet, HashMap};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use chrono::{DateTime, Utc};
use ed25519_dalek::{SigningKey, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use decision::{SignedDecision, Statement};
pub use finding::{FindingStatement, SignedFinding};

use crate::{
    digest::{Salt, tagged},
    json::parse_strict,
};

/// The most decisions or findings that one signature covers.
pub const DECISIONS_MAX: usize = 100;

/// What people can sign.
pub trait Signable: Sized {
    /// The `typ` of the header (RFC 8725, section 3.11): what is signed as one thing is not another.
    const TYP: &'static str;
    /// It as it is signed, with digests in place of what may have to be erased.
    type Signed;
    /// The signed payload.
    type Statement: Serialize + DeserializeOwned + From<Parts<Self::Signed>> + Into<Parts<Self::Signed>>;
    /// What is signed of it. `digest` discloses a value and gives its digest.
    fn close(&self, digest: &mut dyn FnMut(Option<Value>) -> Option<String>) -> Self::Signed;
    /// What was signed, with what was disclosed. `value` gives the value of a digest.
    fn open(signed: Self::Signed, value: &mut dyn FnMut(Option<&String>) -> Option<Value>) -> Self;
    /// Why, for programs.
    fn reason_code(&self) -> Option<&str>;
    /// The digest of what the call should have been.
    fn correction_digest(signed: &Self::Signed) -> Option<&String>;
}

/// What every statement has.
pub struct Parts<S> {
    /// Who says so: an id of the directory.
    pub signer: String,
    /// Unique for the key: what was signed once counts once.
    pub jti: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// What is entries; each is judged on its own.
    pub entries: Vec<S>,
}

/// The longest `jti` and `kid`, in bytes.
const JTI_MAX: usize = 128;

/// `countersign.approval.decided.v1` and `countersign.audit.finding.v1`: what somebody has signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignedStatement {
    /// The compact serialization: header with `alg` EdDSA, `kid` and `typ`; payload a [`Statement`] or a
    /// [`FindingStatement`].
    pub jws: String,
    /// The reasons, arguments and corrections of which the payload holds digests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disclosures: Vec<String>,
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

/// Somebody who signs: a reviewer or auditor with a key of their own, or an app with its key for a reviewer.
#[derive(Clone)]
pub struct Signer {
    person: String,
    key: SigningKey,
}

/// The first second of the year 10000.
const LAST: i64 = 253_402_300_800;

/// A statement could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be signed: {0}")]
pub struct SigningError(#[from] serde_json::Error);

impl Signer {
    /// Signs for `person` with `key`.
    pub fn new(person: &str, key: SigningKey) -> Self {
        Self { person: person.into(), key }
    }

    /// Signs what is entries at `now`. `jti` must be new; `salt` gives 128 new random bits for each disclosure.
    ///
    /// # Errors
    /// Where a payload cannot be written as JSON.
    pub fn sign<T: Signable>(
        &self,
        entries: &[T],
        jti: Uuid,
        now: DateTime<Utc>,
        mut salt: impl FnMut() -> Salt,
    ) -> Result<SignedStatement, SigningError> {
        let mut disclosures = Vec::new();
        let mut digest = |value: Option<Value>| {
            let disclosure = disclose(&salt(), &value?);
            let digest = disclosure_digest(&disclosure);
            disclosures.push(disclosure);
            Some(digest)
        };
        let entries = entries.iter().map(|one| one.close(&mut digest)).collect();
        let parts =
            Parts { signer: self.person.clone(), jti: jti.to_string(), iat: now.timestamp(), entries };
        let kid = thumbprint(&self.key.verifying_key());
        let jws = jws::encode(T::TYP, kid, &T::Statement::from(parts), &self.key)?;
        Ok(SignedStatement { jws, disclosures })
    }
}

/// Why a text is no signed statement at all.
#[derive(Debug, thiserror::Error)]
#[error("`jws` is no such signed statement: {0}")]
pub struct Unreadable(String);

/// A statement as it was received. Nothing in it is to be believed before [`Received::verify`].
#[derive(Clone, Debug)]
pub struct Received<T> {
    /// The compact serialization.
    pub jws: String,
    /// Names the key.
    pub kid: String,
    /// Who is entries to say so.
    pub signer: String,
    /// Unique for the key.
    pub jti: String,
    /// When it is entries to have been signed.
    pub signed_at: DateTime<Utc>,
    /// What is entries, with what was disclosed.
    pub entries: Vec<T>,
    /// Of each of these, the digest of what the call should have been.
    pub corrections: Vec<Option<String>>,
    /// Whether everything that the payload holds digests of was disclosed.
    pub disclosed: bool,
    /// The disclosures that its digests stand for; any others are left out.
    pub disclosures: Vec<String>,
}

impl<T: Signable> Received<T> {
    /// Reads a statement without believing it.
    ///
    /// # Errors
    /// Where it is no compact JWS with EdDSA over such a statement.
    pub fn read(signed: &SignedStatement) -> Result<Self, Unreadable> {
        let (header, statement) =
            jws::decode::<T::Statement>(&signed.jws).map_err(|error| Unreadable(error.to_string()))?;
        if header.alg != jws::ALGORITHM || header.typ.as_deref() != Some(T::TYP) {
            return Err(Unreadable(format!("its header must have `alg` EdDSA and `typ` {:?}", T::TYP)));
        }
        // RFC 7515, section 4.1.11: what is marked critical must be understood, and nothing is.
        if header.crit.is_some() {
            return Err(Unreadable("its header marks members as critical that are not understood".into()));
        }
        let kid = header.kid.ok_or_else(|| Unreadable("its header has no `kid`".into()))?;
        let Parts { signer, jti, iat, entries } = statement.into();
        let plain = |text: &str| (1..=JTI_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if !plain(&jti) || !plain(&kid) {
            return Err(Unreadable(format!(
                "`jti` and `kid` must have 1 to {JTI_MAX} bytes and no control characters"
            )));
        }
        let signed_at = DateTime::from_timestamp(iat, 0)
            .filter(|at| (0..LAST).contains(&at.timestamp()))
            .ok_or_else(|| Unreadable("`iat` must be seconds since 1970, before the year 10000".into()))?;
        let disclosures = Disclosures::of(&signed.disclosures);
        let (mut disclosed, mut used) = (true, BTreeSet::new());
        let mut value = |digest: Option<&String>| {
            let found = disclosures.0.get(digest?);
            disclosed &= found.is_some();
            let (text, value) = found?;
            used.insert(text.clone());
            Some(value.clone())
        };
        let corrections = entries.iter().map(|one| T::correction_digest(one).cloned()).collect();
        let entries: Vec<T> = entries.into_iter().map(|one| T::open(one, &mut value)).collect();
        if entries.iter().filter_map(T::reason_code).any(|code| !plain(code)) {
            return Err(Unreadable("`reason_code` must be one of the request's".into()));
        }
        let disclosures = used.into_iter().collect();
        let jws = signed.jws.clone();
        Ok(Self { jws, kid, signer, jti, signed_at, entries, corrections, disclosed, disclosures })
    }

    /// Whether `key` has signed exactly this.
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        jws::verify(&self.jws, key)
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
mod tests;
