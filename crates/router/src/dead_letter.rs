//! The quarantine lane: moves what was dead-lettered or unroutable into the table.

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::refusal::Code;
use countersign_runtime::{
    batch_handler::BatchHandler,
    process::{self, Process},
};
use countersign_store::{StoreError, quarantine};

/// Inserts dead letters into the quarantine.
pub(crate) struct DeadLetters {
    pub(crate) process: Process,
}

#[async_trait]
impl BatchHandler for DeadLetters {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let tx = self.process.store.transaction().await?;
        for delivery in batch {
            let why = "no queue accepted it, or it was dead-lettered";
            quarantine::insert(&tx, &process::entry(delivery, Code::Undeliverable, why)).await?;
        }
        tx.commit().await?;
        Ok(vec![])
    }
}
