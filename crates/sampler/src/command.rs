//! The sampler's commands: open audits whose requests may be lost, gold items that are due, epochs that have
//! closed, sampling plans whose audits are overdue.

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::{
    digest::hex,
    evidence::{EpochClosed, Event},
    message::{CloudEvent, Command},
    refusal::Code,
};
use countersign_runtime::{batch_handler::BatchHandler, process};
use countersign_store::{
    StoreError, Transaction, audits, epochs,
    evidence::{self, Evidence},
    generation, gold as store_gold, quarantine,
};

use crate::{gold, sample::requests, shared::Sampler, sweep::closed_after, switching};

/// The handler of the commands lane.
pub(crate) struct Commands {
    pub(crate) sampler: Sampler,
}

#[async_trait]
impl BatchHandler for Commands {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let tx = self.sampler.process.store.transaction().await?;
        let (mut ids, mut due, mut families) = (Vec::new(), Vec::new(), Vec::new());
        for delivery in batch {
            match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data) {
                Ok(Command::RequestAudit { audit }) => ids.push(audit),
                Ok(Command::OpenGold { action }) => due.push(action),
                Ok(Command::CheckCaps { family }) => families.push(family),
                Ok(Command::RevealEpoch { epoch }) => reveal(&self.sampler, &tx, epoch).await?,
                other => {
                    let why = format!("{other:?} is not for the sampler");
                    quarantine::insert(&tx, &process::entry(delivery, Code::UnknownCommand, &why)).await?;
                }
            }
        }
        // Checked again, because a repeated command must not repeat the request. Where a request is committed but not
        // published, the next sweep finds its audit again.
        let republish = self.sampler.process.settings.sweep.republish_after.as_secs_f64();
        let actions = audits::published(&tx, &ids, republish).await?;
        let active = generation::read(&tx).await?;
        let governed = self.sampler.process.governed.under(&tx, &active).await?;
        let looked_back = switching::check(&tx, &governed.configuration.policy, &families).await?;
        let mut outgoing = requests(&tx, &governed.configuration, &actions).await?;
        outgoing.extend(requests(&tx, &governed.configuration, &looked_back).await?);
        let mut items = store_gold::published(&tx, &ids, republish).await?;
        items.extend(gold::open(&self.sampler, &tx, &governed, &due).await?);
        outgoing.extend(gold::requests(&tx, &governed.configuration, &items).await?);
        tx.commit().await?;
        Ok(outgoing)
    }
}

/// Reveals the key of an epoch that has closed: from now on anybody can repeat its draws.
async fn reveal(sampler: &Sampler, tx: &Transaction, epoch: i64) -> Result<(), StoreError> {
    let key = sampler.keys.keyed_sampler.epoch_key(epoch);
    if epochs::reveal(tx, epoch, &key, closed_after(&sampler.process)).await? {
        let noted = EpochClosed { epoch, key: hex(&key) };
        evidence::insert(tx, &[Evidence::global(Event::EpochClosed(noted))]).await?;
    }
    Ok(())
}
