//! The sampler's commands: open audits whose requests may be lost.

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::message::{CloudEvent, Command};
use countersign_store::{StoreError, audits, quarantine};
use countersign_worker::{
    failure,
    process::{self, Process},
};

use crate::sample::requests;

/// Obeys commands.
pub(crate) struct Commands {
    pub(crate) process: Process,
}

#[async_trait]
impl Handler for Commands {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        let work = async {
            let mut client = self.process.store.client().await?;
            let tx = client.transaction().await?;
            let mut ids = Vec::new();
            for delivery in batch {
                match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data) {
                    Ok(Command::RequestAudit { audit }) => ids.push(audit),
                    other => {
                        let why = format!("{other:?} is not for the sampler");
                        quarantine::insert(&tx, &process::entry(delivery, "unknown_command", &why)).await?;
                    }
                }
            }
            audits::published(&tx, &ids).await?;
            let actions = audits::actions_of(&tx, &ids).await?;
            let outgoing = requests(&tx, &actions).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(outgoing)
        };
        work.await.map_err(failure)
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.process.quarantine(delivery, code, reason).await
    }
}
