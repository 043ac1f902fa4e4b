//! What the router's lanes share: the process and its keys.

use std::{path::Path, sync::Arc};

use countersign_core::keyed::Pseudonyms;
use countersign_runtime::{
    keys::{self, KeyError, file},
    process::Process,
};
use ed25519_dalek::SigningKey;

/// The router's secrets.
#[derive(Clone)]
pub struct Keys {
    /// Signs permits.
    pub permit: SigningKey,
    /// Names people in evidence.
    pub pseudonyms: Pseudonyms,
}

impl Keys {
    /// Reads `permit.jwk` and `pseudonym.secret` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            permit: keys::signing_key(&dir.join(file::PERMIT_KEY))?,
            pseudonyms: Pseudonyms::new(&keys::secret(&dir.join(file::PSEUDONYM))?),
        })
    }
}

/// What the router's lanes share.
#[derive(Clone)]
pub(crate) struct Router {
    pub(crate) process: Process,
    pub(crate) keys: Arc<Keys>,
}
