//! The sampler's keys, and what its lanes share.

use std::{path::Path, sync::Arc};

use countersign_core::keyed::{KeyedSampler, Pseudonyms};
use countersign_runtime::{
    keys::{self, KeyError, file},
    process::Process,
};

/// The sampler's secrets.
#[derive(Clone)]
pub struct Keys {
    /// Chooses what is audited.
    pub keyed_sampler: KeyedSampler,
    /// Names people in evidence.
    pub pseudonyms: Pseudonyms,
}

impl Keys {
    /// Reads `sampling.secret` and `pseudonym.secret` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            keyed_sampler: KeyedSampler::new(keys::secret(&dir.join(file::SAMPLING))?),
            pseudonyms: Pseudonyms::new(&keys::secret(&dir.join(file::PSEUDONYM))?),
        })
    }
}

/// What the sampler's lanes share.
#[derive(Clone)]
pub(crate) struct Sampler {
    pub(crate) process: Process,
    pub(crate) keys: Arc<Keys>,
}

impl Sampler {
    /// How long one sampling key is used, in seconds.
    pub(crate) fn epoch_seconds(&self) -> i64 {
        i64::try_from(self.process.settings.sampling.epoch.as_secs()).unwrap_or(i64::MAX).max(1)
    }
}
