//! The quarantine lane: moves what was dead-lettered or unroutable into the table.

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::refusal::Code;
use countersign_runtime::{
    failure,
    process::{self, Process},
};
use countersign_store::{StoreError, quarantine};

/// Feeds the table.
pub(crate) struct DeadLetters {
    pub(crate) process: Process,
}

#[async_trait]
impl Handler for DeadLetters {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let keep = async {
            let tx = self.process.store.transaction().await?;
            for delivery in batch {
                let why = "no queue took it, or a queue gave it up";
                quarantine::insert(&tx, &process::entry(delivery, Code::Undeliverable.as_str(), why)).await?;
            }
            tx.commit().await?;
            Ok::<_, StoreError>(vec![])
        };
        keep.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.process.quarantine(delivery, code, reason).await
    }
}
