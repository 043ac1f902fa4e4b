//! The executor's keys, and what its lanes share.

use std::{path::Path, sync::Arc};

use countersign_runtime::{
    keys::{self, KeyError, file},
    process::Process,
};
use ed25519_dalek::VerifyingKey;

use crate::call;

/// What the executor checks permits with.
#[derive(Clone)]
pub struct Keys {
    /// The routers' public keys.
    pub permits: Vec<VerifyingKey>,
}

impl Keys {
    /// Reads `permit.pub.jwk` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self { permits: vec![keys::verifying_key(&dir.join(file::PERMIT_PUBLIC))?] })
    }
}

/// What the executor's lanes share.
#[derive(Clone)]
pub(crate) struct Executor {
    pub(crate) process: Process,
    pub(crate) keys: Arc<Keys>,
    pub(crate) calls: call::Calls,
}
