//! Keys and secrets, read from files that only their process can read.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use countersign_core::keyed::Secret;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// File names in a keys folder.
pub mod file {
    /// The router's signing key.
    pub const PERMIT_KEY: &str = "permit.jwk";
    /// Its public half, for executors.
    pub const PERMIT_PUBLIC: &str = "permit.pub.jwk";
    /// The sampler's master secret.
    pub const SAMPLING: &str = "sampling.secret";
    /// The recorder's signing key, of the ledger's checkpoints.
    pub const LEDGER_KEY: &str = "ledger.jwk";
    /// Its public half, for whoever checks the ledger.
    pub const LEDGER_PUBLIC: &str = "ledger.pub.jwk";
    /// The secret behind pseudonyms in evidence.
    pub const PSEUDONYM: &str = "pseudonym.secret";
}

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}; `countersign keys generate DIR` makes a set of keys")]
pub struct KeyError {
    path: String,
    reason: String,
}

fn error(path: &Path, reason: impl ToString) -> KeyError {
    KeyError { path: path.display().to_string(), reason: reason.to_string() }
}

/// An Ed25519 key as JWK (RFC 8037).
#[derive(Clone, Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<String>,
}

impl Jwk {
    fn read(path: &Path) -> Result<Self, KeyError> {
        let text = fs::read_to_string(path).map_err(|e| error(path, e))?;
        let jwk: Self = serde_json::from_str(&text).map_err(|e| error(path, e))?;
        if jwk.kty != "OKP" || jwk.crv != "Ed25519" {
            return Err(error(path, "not an Ed25519 key (kty OKP, crv Ed25519)"));
        }
        Ok(jwk)
    }
}

fn bytes(path: &Path, text: &str) -> Result<[u8; 32], KeyError> {
    let decoded = BASE64.decode(text.trim()).map_err(|e| error(path, e))?;
    decoded.try_into().map_err(|_| error(path, "the key must have 32 bytes"))
}

/// A signing key.
pub fn signing_key(path: &Path) -> Result<SigningKey, KeyError> {
    let jwk = Jwk::read(path)?;
    let private = jwk.d.ok_or_else(|| error(path, "this is a public key; signing needs the private key"))?;
    Ok(SigningKey::from_bytes(&bytes(path, &private)?))
}

/// A public key.
pub fn verifying_key(path: &Path) -> Result<VerifyingKey, KeyError> {
    let jwk = Jwk::read(path)?;
    VerifyingKey::from_bytes(&bytes(path, &jwk.x)?).map_err(|e| error(path, e))
}

/// A secret: base64url in a file.
pub fn secret(path: &Path) -> Result<Secret, KeyError> {
    let text = fs::read_to_string(path).map_err(|e| error(path, e))?;
    let decoded = BASE64.decode(text.trim()).map_err(|e| error(path, e))?;
    Secret::new(decoded).map_err(|e| error(path, e))
}

/// Makes a set of keys in `dir`, readable by their owner alone. Never overwrites one.
pub fn generate(dir: &Path) -> Result<(), KeyError> {
    fs::create_dir_all(dir).map_err(|e| error(dir, e))?;
    let public = pair(&dir.join(file::PERMIT_KEY))?;
    write(&dir.join(file::PERMIT_PUBLIC), &json(&public))?;
    for name in [file::SAMPLING, file::PSEUDONYM] {
        write(&dir.join(name), &BASE64.encode(rand::random::<[u8; 32]>()))?;
    }
    generate_ledger(dir)
}

/// Makes the ledger's key in `dir`, where a set of keys may already be. Never overwrites one.
pub fn generate_ledger(dir: &Path) -> Result<(), KeyError> {
    let public = pair(&dir.join(file::LEDGER_KEY))?;
    write(&dir.join(file::LEDGER_PUBLIC), &json(&public))
}

/// Makes a key with which a person or an app signs, readable by its owner alone. Never overwrites one. Returns the
/// public half: the `x` of its JWK, as a directory's `public_keys` has it.
pub fn generate_signer(path: &Path) -> Result<String, KeyError> {
    pair(path).map(|public| public.x)
}

/// Writes a private key. Returns the public half.
fn pair(path: &Path) -> Result<Jwk, KeyError> {
    let key = SigningKey::from_bytes(&rand::random());
    let x = BASE64.encode(key.verifying_key().as_bytes());
    let public = Jwk { kty: "OKP".into(), crv: "Ed25519".into(), x, d: None };
    write(path, &json(&Jwk { d: Some(BASE64.encode(key.to_bytes())), ..public.clone() }))?;
    Ok(public)
}

fn json(jwk: &Jwk) -> String {
    // Four strings always serialise.
    serde_json::to_string(jwk).unwrap_or_default()
}

fn write(path: &Path, text: &str) -> Result<(), KeyError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| error(path, e))?;
    writeln!(file, "{text}").map_err(|e| error(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_can_be_read_and_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        generate(dir.path()).unwrap();
        let key = signing_key(&dir.path().join(file::PERMIT_KEY)).unwrap();
        let public = verifying_key(&dir.path().join(file::PERMIT_PUBLIC)).unwrap();
        assert_eq!(key.verifying_key(), public);
        assert!(secret(&dir.path().join(file::SAMPLING)).is_ok());
        assert!(signing_key(&dir.path().join(file::PERMIT_PUBLIC)).is_err());
        assert!(generate(dir.path()).is_err());
    }
}
