//! The queues of agents' proposals, one for each: lanes follow the list in the database.

use std::{sync::Arc, time::Duration};

use countersign_broker::lane::Queues;
use countersign_runtime::process::Process;
use countersign_store::inbound_queues;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// How soon a new agent's queue is consumed.
const EVERY: Duration = Duration::from_secs(1);

/// Starts to follow the list, which is empty at first.
pub(crate) fn follow(process: &Process, tasks: &mut JoinSet<()>) -> Queues {
    let (sender, queues) = watch::channel(Arc::from([]));
    let process = process.clone();
    tasks.spawn(async move {
        let stop = process.stop.clone();
        tokio::select! {
            () = keep_up(&process, &sender) => {}
            () = stop.cancelled() => {}
        }
    });
    queues
}

async fn keep_up(process: &Process, sender: &watch::Sender<Arc<[String]>>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let all =
            process.store.within(process.settings.limits.transaction, inbound_queues::all(&process.store));
        match all.await {
            Ok(all) => {
                sender.send_if_modified(|queues| {
                    let changed = queues[..] != all[..];
                    if changed {
                        *queues = all.into();
                    }
                    changed
                });
            }
            // The lanes go on with those that they know.
            Err(error) => tracing::warn!(%error, "the agents' queues are not known"),
        }
    }
}
