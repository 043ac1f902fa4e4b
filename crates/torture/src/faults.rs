//! A fault is data; the world knows how to inject and heal it.

use std::{fmt, time::Duration};

use countersign_testkit::services::NODES;
use nix::sys::signal::Signal;

use super::world::World;

/// What a process is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Broker,
    Database,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Server::Broker => "broker",
            Server::Database => "database",
        }
    }
}

/// What the proxy between a process and a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Passes each piece on after so many milliseconds.
    Delay(u64),
    /// Passes nothing on, and closes nothing.
    Stall,
    /// Closes every connection and refuses new ones.
    Cut,
    /// Closes every connection in the middle of what is said next.
    Tear,
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of a worker; healed by a new process.
    Kill(String),
    /// SIGSTOP of a worker.
    Pause(String),
    /// kill -9 of RabbitMQ.
    KillBroker,
    /// SIGSTOP of RabbitMQ.
    PauseBroker,
    /// kill -9 of PostgreSQL.
    KillDatabase,
    /// SIGSTOP of PostgreSQL and the processes that serve its clients.
    PauseDatabase,
    /// RabbitMQ believes that it has no memory left: it reads from no publisher.
    MemoryAlarm,
    /// RabbitMQ believes that its disk is full.
    DiskAlarm,
    /// One of our own queues refuses its publishers: one message fits.
    FullQueue(&'static str),
    /// One of our own queues is deleted under its consumers, and declared again when the fault is healed. What is in it,
    /// or is sent meanwhile, is gone: the state in the database is what counts.
    NoQueue(&'static str),
    /// kill -9 of the node of the cluster that leads a queue.
    KillLeader(&'static str),
    /// kill -9 of all nodes of the cluster at once.
    KillNodes,
    /// Nothing passes between a node of the cluster, counted from 0, and the others.
    Part(usize),
    /// The disk that only PostgreSQL is on is full.
    FullDisk,
    /// A worker's wall clock is so many seconds ahead, or behind.
    Clock { process: String, seconds: i64 },
    /// An operator applies a stricter policy, and later the ordinary one again.
    Tighten,
    /// The wire between one worker and one server.
    Link { process: String, server: Server, wire: Wire },
}

impl Fault {
    /// What must not have two faults at once.
    pub(crate) fn target(&self) -> String {
        match self {
            Fault::Kill(process) | Fault::Pause(process) => process.clone(),
            // One after the other: a node that is down or stopped cannot be told anything.
            Fault::KillBroker
            | Fault::PauseBroker
            | Fault::MemoryAlarm
            | Fault::DiskAlarm
            | Fault::FullQueue(_)
            | Fault::NoQueue(_)
            | Fault::KillLeader(_)
            | Fault::KillNodes
            | Fault::Part(_) => "broker".into(),
            Fault::KillDatabase | Fault::PauseDatabase | Fault::FullDisk => "database".into(),
            Fault::Tighten => "policy".into(),
            // Of its own: a worker whose clock is wrong may be killed as well.
            Fault::Clock { process, .. } => format!("{process}'s clock"),
            Fault::Link { process, server, .. } => format!("{process} to {}", server.name()),
        }
    }

    /// What is counted together in the report.
    pub(crate) fn kind(&self) -> String {
        let role = |process: &str| process.split('-').next().unwrap_or_default().to_owned();
        match self {
            Fault::Kill(process) => format!("kill {}", role(process)),
            Fault::Pause(process) => format!("pause {}", role(process)),
            Fault::KillBroker => "kill broker".into(),
            Fault::PauseBroker => "pause broker".into(),
            Fault::KillDatabase => "kill database".into(),
            Fault::PauseDatabase => "pause database".into(),
            Fault::MemoryAlarm => "memory alarm".into(),
            Fault::DiskAlarm => "disk alarm".into(),
            Fault::FullQueue(_) => "full queue".into(),
            Fault::NoQueue(_) => "deleted queue".into(),
            Fault::KillLeader(_) => "kill a leader".into(),
            Fault::KillNodes => "kill all nodes".into(),
            Fault::Part(_) => "partition".into(),
            Fault::FullDisk => "full disk".into(),
            Fault::Clock { .. } => "clock jumps".into(),
            Fault::Tighten => "stricter policy".into(),
            Fault::Link { server, wire, .. } => {
                let how = match wire {
                    Wire::Delay(_) => "delay",
                    Wire::Stall => "stall",
                    Wire::Cut => "cut",
                    Wire::Tear => "tear",
                };
                format!("{how} wire to {}", server.name())
            }
        }
    }

    /// How the deletion of a queue is told.
    pub(crate) fn deletion(queue: &str) -> String {
        format!("deleted queue ({queue})")
    }

    /// Whether this machine lets us: a seed has the same faults everywhere, without those that cannot be.
    pub(crate) fn possible(&self, world: &World) -> anyhow::Result<()> {
        match self {
            Fault::FullDisk => world.disk().map(drop),
            Fault::Clock { process, .. } => world.clock(process).map(drop),
            _ => Ok(()),
        }
    }

    /// Makes it so. Returns whether it certainly is: an operator can fail.
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

    /// Ends it; a policy that cannot be applied just now stays until [`World::loosen`].
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
                // Where it could not write its log, it has ended itself.
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Link { wire: Wire::Delay(milliseconds), .. } => {
                write!(f, "{} by {milliseconds} ms ({})", self.kind(), self.target())
            }
            Fault::Clock { process, seconds } => write!(f, "{} by {seconds:+} s ({process})", self.kind()),
            Fault::Part(node) => write!(f, "{} (node {})", self.kind(), node + 1),
            Fault::NoQueue(queue) => f.write_str(&Self::deletion(queue)),
            Fault::KillLeader(queue) | Fault::FullQueue(queue) => write!(f, "{} ({queue})", self.kind()),
            _ => write!(f, "{} ({})", self.kind(), self.target()),
        }
    }
}
