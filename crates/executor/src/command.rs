//! The executor's commands: interrupted claims and unanswered outcomes.

use async_trait::async_trait;
use countersign_broker::{lane::Delivery, publisher::Outgoing};
use countersign_core::refusal::Code;
use countersign_core::{
    ids::ActionId,
    message::{self, CloudEvent, Command},
    transition::Completion,
};
use countersign_policy::Tool;
use countersign_runtime::{batch_handler::BatchHandler, messages, process};
use countersign_store::{
    StoreError, Transaction,
    claims::{self, Claim},
    generation, quarantine,
};

use crate::{
    call::{CallCompletion, Settled},
    record,
    shared::Executor,
};

/// An idempotent call that was interrupted this often probably crashes its executor or never ends: a human must
/// investigate.
const RECOVERIES: i32 = 10;

/// The handler of the commands lane.
pub(crate) struct Commands {
    pub(crate) executor: Executor,
}

#[async_trait]
impl BatchHandler for Commands {
    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, StoreError> {
        let mut outgoing = Vec::new();
        for delivery in batch {
            outgoing.extend(self.carry_out(delivery).await?);
        }
        Ok(outgoing)
    }
}

impl Commands {
    async fn carry_out(&self, delivery: &Delivery) -> Result<Option<Outgoing>, StoreError> {
        let why = match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data)
        {
            Ok(Command::Recover { action }) => return self.recover(action, true).await,
            Ok(Command::Abandon { action }) => return self.recover(action, false).await,
            Ok(Command::Notify { action }) => {
                self.executor.calls.settle(Settled::Notify(action));
                return Ok(None);
            }
            Ok(other) => format!("{other:?} is not for the executor"),
            Err(error) => error.to_string(),
        };
        let tx = self.executor.process.store.transaction().await?;
        quarantine::insert(&tx, &process::entry(delivery, Code::UnknownCommand, &why)).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// An interrupted attempt that may be repeated goes back to the router: the repetition needs a permit of its
    /// own. Any other is in doubt.
    async fn recover(&self, action: ActionId, repeat: bool) -> Result<Option<Outgoing>, StoreError> {
        let (tx, active) = generation::begin(&self.executor.process.store).await?;
        let governed = self.executor.process.governed.under(&tx, &active).await?;
        let Some(claim) = claims::interrupted(&tx, action).await? else { return Ok(None) };
        let tool = governed.configuration.tools.get(&claim.tool);
        if repeat && !claim.late && claim.fence < RECOVERIES && tool.is_some_and(Tool::idempotent) {
            return Ok(Some(messages::reevaluate(action, active.now)));
        }
        in_doubt(&tx, &claim).await?;
        tx.commit().await?;
        self.executor.calls.settle(Settled::Notify(action));
        Ok(None)
    }
}

async fn in_doubt(tx: &Transaction, claim: &Claim) -> Result<(), StoreError> {
    let message = "the attempt was interrupted and may have taken effect; an auditor will find out";
    let error = Some(message::Failure::new(Code::Interrupted, message));
    let completion = CallCompletion {
        error,
        attempts: 1,
        ..CallCompletion::of(claim.action, claim.fence, Completion::Unknown)
    };
    record::write(tx, &[completion]).await
}
