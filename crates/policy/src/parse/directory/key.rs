//! A public key of `directory.yaml`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_core::signed::thumbprint;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::{problems::Problems, yaml::line};
use crate::directory::PublicKey;

/// The `x` of a JWK, alone or with its period of validity.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum KeyEntry {
    Plain(String),
    Dated(DatedKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatedKey {
    x: String,
    from: Option<String>,
    until: Option<String>,
    revoked_at: Option<String>,
}

fn public_key(entry: &Spanned<KeyEntry>, problems: &mut Problems) -> Option<PublicKey> {
    let at = line(entry);
    let (x, dated) = match &entry.value {
        KeyEntry::Plain(x) => (x, None),
        KeyEntry::Dated(dated) => (&dated.x, Some(dated)),
    };
    let bytes = URL_SAFE_NO_PAD.decode(x).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let Some(key) = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()) else {
        problems.add(
            at,
            format!("{x:?} is not an Ed25519 public key"),
            "write its 32 bytes as base64url without padding, as in the x of a JWK",
        );
        return None;
    };
    let mut time = |field, pick: fn(&DatedKey) -> Option<&String>| {
        dated.and_then(pick).and_then(|text| problems.time(field, at, text))
    };
    Some(PublicKey {
        kid: thumbprint(&key),
        key,
        from: time("from", |dated| dated.from.as_ref()),
        until: time("until", |dated| dated.until.as_ref()),
        revoked_at: time("revoked_at", |dated| dated.revoked_at.as_ref()),
    })
}

pub(super) fn public_keys(entries: &[Spanned<KeyEntry>], problems: &mut Problems) -> Vec<PublicKey> {
    entries.iter().filter_map(|key| public_key(key, problems)).collect()
}
