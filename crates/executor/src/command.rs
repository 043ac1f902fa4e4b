//! The executor's commands: interrupted claims and unanswered outcomes.

use async_trait::async_trait;
use countersign_broker::{
    lane::{Delivery, Failure, Handler},
    publisher::Outgoing,
};
use countersign_core::{
    config::Tool,
    digest::Target,
    ids::ActionId,
    message::{self, CloudEvent, Command},
    transition::Completion,
};
use countersign_store::{
    StoreError, Transaction,
    claims::{self, Claim},
    evidence::{self, Evidence},
    generation, quarantine,
};
use countersign_worker::{failure, governed::Governed, process};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Executor,
    call::{Done, Settled, Work, lease},
    record,
};

/// An idempotent call that was interrupted this often takes its executor down with it, or never ends: a
/// human has to look.
const RECOVERIES: i32 = 10;

/// Obeys commands.
pub(crate) struct Commands {
    pub(crate) executor: Executor,
}

#[async_trait]
impl Handler for Commands {
    async fn ready(&mut self) -> Result<(), Failure> {
        self.executor.process.ready().await
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        for delivery in batch {
            self.obey(delivery).await.map_err(failure)?;
        }
        Ok(vec![])
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: &str, reason: &str) -> Result<(), Failure> {
        self.executor.process.quarantine(delivery, code, reason).await
    }
}

impl Commands {
    async fn obey(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let why = match serde_json::from_slice::<CloudEvent<Command>>(&delivery.body).map(|event| event.data)
        {
            Ok(Command::Recover { action }) => return self.recover(action).await,
            Ok(Command::Answer { action }) => {
                self.executor.calls.settle(Settled::Answer(action));
                return Ok(());
            }
            Ok(other) => format!("{other:?} is not for the executor"),
            Err(error) => error.to_string(),
        };
        let mut client = self.executor.process.store.client().await?;
        let tx = client.transaction().await?;
        quarantine::insert(&tx, &process::entry(delivery, "unknown_command", &why)).await?;
        Ok(tx.commit().await?)
    }

    /// An interrupted attempt of an idempotent tool is repeated with the same key; any other is in doubt.
    async fn recover(&self, action: ActionId) -> Result<(), StoreError> {
        // The place comes first: nothing may wait while a new lease runs.
        let place = self.executor.calls.reserve(1).await;
        let mut client = self.executor.process.store.client().await?;
        let tx = client.transaction().await?;
        let active = generation::lock_shared(&tx).await?;
        let governed = self.executor.process.governed.under(&tx, &active).await?;
        let Some(claim) = claims::interrupted(&tx, action).await? else { return Ok(()) };
        match repeatable(&claim, &governed) {
            Repeat::Held => Ok(()),
            Repeat::Never => {
                in_doubt(&tx, &claim).await?;
                tx.commit().await?;
                self.executor.calls.settle(Settled::Answer(action));
                Ok(())
            }
            Repeat::With(tool, content) => {
                let call = self
                    .executor
                    .calls
                    .tools
                    .call(tool, governed.configuration.tools.egress())
                    .map_err(|error| StoreError::Refused(format!("tool {:?}: {error}", tool.name())))?;
                let claimed = Instant::now();
                let fence = claims::take_over(&tx, action, lease(tool).as_secs_f64()).await?;
                let noted = json!({"state": "executing", "fence": fence, "interrupted_fence": claim.fence});
                evidence::insert(&tx, &[Evidence::of(action, "action.recovered", noted)]).await?;
                tx.commit().await?;
                let reference = (claim.source, claim.event_id);
                let traceparent = claim.traceparent;
                let work = Work { action, fence, reference, tool: call, content, traceparent, claimed };
                self.executor.calls.start(work, place);
                Ok(())
            }
        }
    }
}

enum Repeat<'a> {
    With(&'a Tool, Vec<u8>),
    /// An operator's hold covers it: the next sweep asks again.
    Held,
    Never,
}

/// Whether the call may be repeated: only of an idempotent tool, only if its target is still the one that was
/// judged, and only before the action's own deadline.
fn repeatable<'g>(claim: &Claim, governed: &'g Governed) -> Repeat<'g> {
    #[derive(Deserialize)]
    struct Content {
        target: Target,
    }
    let agent = claim.source.rsplit('/').next().unwrap_or_default();
    if governed.holds(agent, &claim.tool, &claim.rule) {
        return Repeat::Held;
    }
    let (Some(tool), Some(content)) = (governed.configuration.tools.get(&claim.tool), &claim.content) else {
        return Repeat::Never;
    };
    let target = serde_json::from_slice::<Content>(content).map(|content| content.target);
    let same =
        target.is_ok_and(|target| target.version == tool.version() && target.endpoint == tool.endpoint());
    if tool.idempotent() && same && !claim.late && claim.fence < RECOVERIES {
        return Repeat::With(tool, content.clone());
    }
    Repeat::Never
}

async fn in_doubt(tx: &Transaction<'_>, claim: &Claim) -> Result<(), StoreError> {
    let message = "the attempt was interrupted and may have had its effect; a human will find out".into();
    let done = Done {
        action: claim.action,
        fence: claim.fence,
        completion: Completion::Unknown,
        result: None,
        error: Some(message::Failure { code: "interrupted".into(), message }),
        attempts: 1,
        place: None,
    };
    record::write(tx, &[done]).await
}
