//! The recorder's keys, and what its parts share.

use std::{path::Path, sync::Arc, time::Duration};

use countersign_ledger::note::LogKey;
use countersign_runtime::{
    keys::{self, KeyError, file},
    process::Process,
};
use countersign_store::ledger::read;
use ed25519_dalek::SigningKey;

use crate::{entry_cache::Entry, error::RecorderError};

/// The recorder's secrets.
#[derive(Clone)]
pub struct Keys {
    /// Signs checkpoints.
    pub ledger: SigningKey,
}

impl Keys {
    /// Reads `ledger.jwk` in `dir`.
    pub fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self { ledger: keys::signing_key(&dir.join(file::LEDGER_KEY))? })
    }
}

/// What the parts of a recorder share.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) process: Process,
    pub(crate) keys: Arc<Keys>,
    /// Identifies this process as the holder of the lease.
    pub(crate) holder: Arc<str>,
}

impl Recorder {
    /// Sleeps for half a second to two seconds, or until the process stops.
    pub(crate) async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(rand::random_range(500..2_000))) => {}
            () = self.process.stop.cancelled() => {}
        }
    }

    /// The log's public key under its name.
    pub(crate) fn log_key(&self) -> Result<LogKey, RecorderError> {
        let origin = &self.process.settings.ledger.origin;
        Ok(LogKey::new(origin, self.keys.ledger.verifying_key())?)
    }

    /// Up to `most` entries from index `from` on, out of the database.
    ///
    /// # Errors
    /// [`RecorderError::Forked`] where one of them is missing, and there are later ones.
    pub(crate) async fn entries(&self, from: u64, most: usize) -> Result<Vec<Entry>, RecorderError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let stored = self.reading(async |tx| read::entries(tx, from, limit).await).await?;
        let in_place = |(index, stored): (u64, read::Entry)| match stored.index == index {
            true => Ok(Entry::from(stored.entry)),
            false => Err(RecorderError::Forked(format!("the ledger has no entry {index}"))),
        };
        (from..).zip(stored).map(in_place).collect()
    }

    /// Reads from the database under a limit.
    pub(crate) async fn reading<T>(
        &self,
        query: impl AsyncFnOnce(&countersign_store::Transaction) -> Result<T, countersign_store::StoreError>,
    ) -> Result<T, RecorderError> {
        let read = async {
            let tx = self.process.store.snapshot().await?;
            let value = query(&tx).await?;
            tx.commit().await?;
            Ok(value)
        };
        Ok(self.process.store.within(self.process.settings.limits.transaction, read).await?)
    }
}
