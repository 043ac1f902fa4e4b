//! What people sign: decisions and findings as JWS (RFC 7515) with EdDSA over Ed25519 (RFC 8037).
//!
//! The signed payload names requests, digests, and the decisions or findings. Free text and changed arguments, which may have
//! to be erased, are not in it: it holds their salted digests, and the values travel beside it as
//! **disclosures**, as in SD-JWT (RFC 9901, section 4.2): a disclosure is base64url(JSON `[salt, value]`),
//! its digest base64url(SHA-256(the disclosure's ASCII)). When a disclosure has been erased, the signature still verifies.

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

/// An entry of a statement that people can sign.
pub trait Signable: Sized {
    /// The `typ` of the header (RFC 8725, section 3.11): what is signed as one kind of statement is not valid as another.
    const TYP: &'static str;
    /// Its signed form, with digests in place of what may have to be erased.
    type Signed;
    /// The signed payload.
    type Statement: Serialize + DeserializeOwned + From<Parts<Self::Signed>> + Into<Parts<Self::Signed>>;
    /// The signed form. `digest` discloses a value and returns its digest.
    fn close(&self, digest: &mut dyn FnMut(Option<Value>) -> Option<String>) -> Self::Signed;
    /// Restores an entry from its signed form. `value` returns the disclosed value of a digest.
    fn open(signed: Self::Signed, value: &mut dyn FnMut(Option<&String>) -> Option<Value>) -> Self;
    /// The reason for programs.
    fn reason_code(&self) -> Option<&str>;
    /// The digest of what the call should have been.
    fn correction_digest(signed: &Self::Signed) -> Option<&String>;
}

/// What all statements have in common.
pub struct Parts<S> {
    /// Who signs: an id of the directory.
    pub signer: String,
    /// Unique for the key: a statement counts once.
    pub jti: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// The decisions or findings; each is processed on its own.
    pub entries: Vec<S>,
}

/// The longest `jti` and `kid`, in bytes.
const JTI_MAX: usize = 128;

/// `countersign.approval.decided.v1` and `countersign.audit.finding.v1`: a signed statement.
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

/// Signs statements: a reviewer or auditor with their own key, or an app with its key on behalf of a reviewer.
#[derive(Clone)]
pub struct Signer {
    person: String,
    key: SigningKey,
}

/// The first second of the year 10000.
const LAST: i64 = 253_402_300_800;

/// A statement that could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the statement cannot be signed: {0}")]
pub struct SigningError(#[from] serde_json::Error);

impl Signer {
    /// Signs for `person` with `key`.
    pub fn new(person: &str, key: SigningKey) -> Self {
        Self { person: person.into(), key }
    }

    /// Signs `entries` at `now`. `jti` must be new; `salt` returns 128 new random bits for each disclosure.
    ///
    /// # Errors
    /// If a payload cannot be written as JSON.
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

/// Why a message is not a signed statement.
#[derive(Debug, thiserror::Error)]
#[error("`jws` is not a signed statement of this type: {0}")]
pub struct Unreadable(String);

/// A statement as received. Nothing in it may be trusted before [`Received::verify`].
#[derive(Clone, Debug)]
pub struct Received<T> {
    /// The compact serialization.
    pub jws: String,
    /// The id of the key.
    pub kid: String,
    /// The person named as signer.
    pub signer: String,
    /// Unique for the key.
    pub jti: String,
    /// The stated time of the signature.
    pub signed_at: DateTime<Utc>,
    /// The decisions or findings, with the disclosed values.
    pub entries: Vec<T>,
    /// For each entry, the digest of what the call should have been.
    pub corrections: Vec<Option<String>>,
    /// Whether the values of all digests in the payload were disclosed.
    pub disclosed: bool,
    /// The disclosures that belong to its digests; any others are dropped.
    pub disclosures: Vec<String>,
}

impl<T: Signable> Received<T> {
    /// Decodes a statement without verifying it.
    ///
    /// # Errors
    /// If it is not a compact JWS with EdDSA over such a statement.
    pub fn read(signed: &SignedStatement) -> Result<Self, Unreadable> {
        let (header, statement) =
            jws::decode::<T::Statement>(&signed.jws).map_err(|error| Unreadable(error.to_string()))?;
        if header.alg != jws::ALGORITHM || header.typ.as_deref() != Some(T::TYP) {
            return Err(Unreadable(format!("its header must have `alg` EdDSA and `typ` {:?}", T::TYP)));
        }
        // RFC 7515, section 4.1.11: a critical member must be understood, and none is supported.
        if header.crit.is_some() {
            return Err(Unreadable("its header marks unsupported members as critical".into()));
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
            return Err(Unreadable("`reason_code` must be one of the request's `reason_codes`".into()));
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

/// Disclosures and their values by digest. Malformed disclosures are left out.
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
