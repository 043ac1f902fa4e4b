//! How faults are injected into the world, and healed.

use std::time::Duration;

use countersign_testkit::services::NODES;
use nix::sys::signal::Signal;

use crate::{
    fault::{Fault, Wire},
    world::World,
};

impl Fault {
    /// Fails if this machine cannot inject the fault. A seed plans the same faults everywhere; impossible ones are skipped.
    pub(crate) fn possible(&self, world: &World) -> anyhow::Result<()> {
        match self {
            Fault::FullDisk => world.disk().map(drop),
            Fault::Clock { process, .. } => world.clock(process).map(drop),
            _ => Ok(()),
        }
    }

    /// Injects the fault. Returns whether it is certainly in force, as an operator's command may fail.
    pub(crate) async fn inject(&self, world: &mut World) -> anyhow::Result<bool> {
        if *self == Fault::Tighten {
            return Ok(world.apply(true).await);
        }
        self.break_it(world).await.map(|()| true)
    }

    async fn break_it(&self, world: &mut World) -> anyhow::Result<()> {
        match self {
            Fault::Tighten => Ok(()),
            Fault::Kill(process) => world.system.kill(process),
            Fault::Pause(process) => world.system.process(process)?.signal(Signal::SIGSTOP),
            Fault::KillBroker => world.broker()?.kill().await,
            Fault::PauseBroker => world.broker()?.pause(),
            Fault::KillDatabase => world.database()?.kill().await,
            Fault::PauseDatabase => world.database()?.pause(),
            Fault::MemoryAlarm => {
                world.broker()?.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await
            }
            Fault::DiskAlarm => world.broker()?.control(&["set_disk_free_limit", "9000GB"]).await,
            Fault::FullQueue(queue) => {
                let pattern = format!("^{}$", queue.replace('.', "[.]"));
                let full = r#"{"max-length": 1}"#;
                let set = ["set_policy", "full", &pattern, full, "--apply-to", "queues"];
                world.broker()?.control(&set).await
            }
            Fault::NoQueue(queue) => {
                world.deleted.insert(queue);
                world.broker()?.control(&["delete_queue", queue]).await
            }
            Fault::KillLeader(queue) => {
                let cluster = world.cluster()?;
                let leader = cluster.leader(queue).await?;
                cluster.kill(leader).await
            }
            Fault::KillNodes => {
                for node in 0..NODES {
                    world.cluster()?.kill(node).await?;
                }
                Ok(())
            }
            Fault::Part(node) => world.cluster()?.part(*node, true),
            Fault::FullDisk => world.disk()?.fill(),
            Fault::Clock { process, seconds } => world.clock(process)?.set(*seconds),
            Fault::Link { process, server, wire } => {
                let proxy = world.proxy(process, *server)?;
                match wire {
                    Wire::Delay(milliseconds) => proxy.delay(Duration::from_millis(*milliseconds)),
                    Wire::Stall => proxy.stall(),
                    Wire::Cut => proxy.cut(),
                    Wire::Tear => proxy.tear(),
                }
                Ok(())
            }
        }
    }

    /// Heals the fault. A policy that cannot be applied right now stays until [`World::loosen`].
    pub(crate) async fn heal(&self, world: &mut World) -> anyhow::Result<()> {
        match self {
            Fault::Tighten => {
                world.apply(false).await;
                Ok(())
            }
            Fault::Kill(process) => world.start(process),
            Fault::Pause(process) => world.system.process(process)?.signal(Signal::SIGCONT),
            Fault::KillBroker => {
                world.broker()?.restart().await?;
                world.reopen().await
            }
            Fault::PauseBroker => world.broker()?.resume(),
            Fault::KillDatabase => world.database()?.restart().await,
            Fault::PauseDatabase => world.database()?.resume(),
            Fault::MemoryAlarm => world.broker()?.control(&["set_vm_memory_high_watermark", "0.6"]).await,
            Fault::DiskAlarm => world.broker()?.control(&["set_disk_free_limit", "50MB"]).await,
            Fault::FullQueue(_) => world.broker()?.control(&["clear_policy", "full"]).await,
            Fault::NoQueue(_) => world.declare().await,
            Fault::KillLeader(_) | Fault::KillNodes => world.cluster()?.restart().await,
            Fault::Part(node) => world.cluster()?.part(*node, false),
            Fault::FullDisk => {
                world.disk()?.free()?;
                // PostgreSQL ends itself if it cannot write its log.
                world.database()?.revive().await
            }
            Fault::Clock { process, .. } => world.clock(process)?.set(0),
            Fault::Link { process, server, .. } => {
                world.proxy(process, *server)?.pass();
                Ok(())
            }
        }
    }
}
