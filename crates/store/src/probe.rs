//! Whether the database is well.

use std::time::Duration;

use crate::{Store, StoreError, generation};

/// How long a probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// How much a probe writes.
const PROBE_BYTES: usize = 16 * 1024;

impl Store {
    /// Whether the database stores something, in the time that a transaction may wait for a lock: under the lock of the active
    /// generation, a row is written that takes a page of its own, and deleted again.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let probe = async {
            let (tx, _) = generation::begin(self).await?;
            let filler = vec![0_u8; PROBE_BYTES];
            let sql = "INSERT INTO probes (filler) VALUES ($1) RETURNING id";
            let id: i64 = tx.query_one(sql, &[&filler]).await?.get(0);
            tx.execute("DELETE FROM probes WHERE id = $1", &[&id]).await?;
            tx.commit().await
        };
        self.within(PROBE_LIMIT, probe).await
    }
}
