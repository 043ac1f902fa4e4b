//! Permits: the router's signed, single-use authorisations, and the packs in which they travel.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::{
    digest::{Target, hex},
    ids::{ActionId, ActionRef, PermitId},
};

/// The most permits that one signature covers.
pub const PACK_MAX: usize = 64;

/// Precedes the root in the signed bytes, so that the signature is valid nowhere else.
const CONTEXT: &[u8] = b"countersign/permit-pack/v1\0";

/// The authorisation to execute one action once. Its bytes are fixed when it is issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Permit {
    /// Its id. The claim names it; another evaluation replaces it.
    pub permit: PermitId,
    /// The action in Countersign's tables.
    pub action: ActionId,
    /// The name that the agent gave the action.
    #[serde(rename = "ref")]
    pub reference: ActionRef,
    /// `sha256:…` of the salted content that the policy evaluated and a reviewer saw.
    pub digest: String,
    /// Where the call goes.
    pub target: Target,
    /// The generation under which the action was evaluated.
    pub generation: i64,
    /// When it was issued.
    pub issued_at: DateTime<Utc>,
    /// When it stops being valid.
    pub expires_at: DateTime<Utc>,
}

/// Up to [`PACK_MAX`] permits under one Ed25519 signature over their RFC 6962 Merkle root.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PermitPack {
    /// Which key signed: the first 16 hex digits of the public key.
    pub key: String,
    /// The signature in base64.
    pub signature: String,
    /// The permits, byte for byte as issued.
    #[schemars(with = "Vec<Permit>")]
    pub permits: Vec<Box<RawValue>>,
}

/// Why a pack authorises nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermitRefusal {
    /// Empty, or more than [`PACK_MAX`].
    #[error("a pack has 1 to {PACK_MAX} permits, this one has {0}")]
    Size(usize),
    /// Not one of the router's keys.
    #[error("the pack is signed with the unknown key {0:?}")]
    UnknownKey(String),
    /// The signature does not fit the bytes.
    #[error("the signature does not verify")]
    BadSignature,
    /// The signature verifies, but an entry is not a permit of this version.
    #[error("a permit is malformed: {0}")]
    Malformed(String),
}

/// The name of a public key: the first 16 hex digits.
pub fn key_id(key: &VerifyingKey) -> String {
    hex(&key.as_bytes()[..8])
}

fn signed_bytes<'a>(permits: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut tree = MemoryBackedTree::<Sha256, &str>::new();
    permits.for_each(|permit| tree.push(permit));
    [CONTEXT, tree.root().as_bytes()].concat()
}

impl PermitPack {
    /// Packs and signs permits. `permits` are the stored bytes, 1 to [`PACK_MAX`] of them.
    pub fn sign(permits: Vec<Box<RawValue>>, key: &SigningKey) -> Self {
        let signature = key.sign(&signed_bytes(permits.iter().map(|permit| permit.get())));
        Self { key: key_id(&key.verifying_key()), signature: BASE64.encode(signature.to_bytes()), permits }
    }

    /// The permits, if one of `keys` signed exactly these bytes. Whether each is still valid (expiry, target, generation,
    /// single use) is checked by the claim.
    ///
    /// # Errors
    /// If the pack has the wrong size, an unknown key, a signature that does not verify or a malformed permit.
    pub fn open(&self, keys: &[VerifyingKey]) -> Result<Vec<Permit>, PermitRefusal> {
        if self.permits.is_empty() || self.permits.len() > PACK_MAX {
            return Err(PermitRefusal::Size(self.permits.len()));
        }
        let key = keys
            .iter()
            .find(|key| key_id(key) == self.key)
            .ok_or_else(|| PermitRefusal::UnknownKey(self.key.clone()))?;
        let signature = BASE64
            .decode(&self.signature)
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .ok_or(PermitRefusal::BadSignature)?;
        let signed = signed_bytes(self.permits.iter().map(|permit| permit.get()));
        key.verify_strict(&signed, &signature).map_err(|_| PermitRefusal::BadSignature)?;
        self.permits
            .iter()
            .map(|raw| {
                serde_json::from_str(raw.get()).map_err(|error| PermitRefusal::Malformed(error.to_string()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
