//! A fault is data: what goes wrong, and what it hits.

use std::fmt;

/// What a process is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Broker,
    Database,
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
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
    /// Closes every connection in the middle of the next message.
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
            // One after the other: a node that is down or stopped takes no command.
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

    /// How a violation names the deletion of a queue.
    pub(crate) fn deletion(queue: &str) -> String {
        format!("deleted queue ({queue})")
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
