//! The compact serialization of JWS (RFC 7515, section 3.1) with the only accepted algorithm: EdDSA over Ed25519
//! (RFC 8037, section 3.1), verified strictly.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The value of `alg`.
pub(super) const ALGORITHM: &str = "EdDSA";

/// The header members that are used. All others are ignored (RFC 7515, section 4), so a key in the header is never
/// used.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) typ: Option<String>,
    pub(super) alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crit: Option<Value>,
}

/// Why a text is not a compact JWS.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it must have three parts, separated by dots")]
    Parts,
    #[error("its {part} is not base64url without padding: {source}")]
    Base64 { part: &'static str, source: base64::DecodeError },
    #[error("its {part} is malformed: {source}")]
    Json { part: &'static str, source: serde_json::Error },
}

/// Signs `payload` under a header with this `typ` and `kid`.
///
/// # Errors
/// If the payload cannot be written as JSON.
pub(super) fn encode<T: Serialize>(
    typ: &str,
    kid: String,
    payload: &T,
    key: &SigningKey,
) -> Result<String, serde_json::Error> {
    let header = Header { typ: Some(typ.into()), alg: ALGORITHM.into(), kid: Some(kid), crit: None };
    let part = |json: Vec<u8>| BASE64.encode(json);
    let header = part(serde_json::to_vec(&header)?);
    Ok(sign(&format!("{header}.{}", part(serde_json::to_vec(payload)?)), key))
}

/// Appends the signature to a signing input.
pub(super) fn sign(signing_input: &str, key: &SigningKey) -> String {
    let signature = key.sign(signing_input.as_bytes());
    format!("{signing_input}.{}", BASE64.encode(signature.to_bytes()))
}

/// Header and payload, neither of them verified.
pub(super) fn decode<T: DeserializeOwned>(jws: &str) -> Result<(Header, T), Malformed> {
    let mut parts = jws.split('.');
    let (Some(header), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed::Parts);
    };
    Ok((json("header", header)?, json("payload", payload)?))
}

fn json<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, Malformed> {
    let bytes = BASE64.decode(text).map_err(|source| Malformed::Base64 { part, source })?;
    serde_json::from_slice(&bytes).map_err(|source| Malformed::Json { part, source })
}

/// Whether the last part is `key`'s signature over everything before it.
pub(super) fn verify(jws: &str, key: &VerifyingKey) -> bool {
    let Some((signing_input, signature)) = jws.rsplit_once('.') else { return false };
    let signature = BASE64.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    // Strict: rejects keys of small order and malleable signatures.
    signature.is_some_and(|signature| key.verify_strict(signing_input.as_bytes(), &signature).is_ok())
}
