//! The system under torture: services of its own, several processes of each role, and a proxy on every wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use anyhow::Context as _;
use countersign_app::{apply, folder::Folder};
use countersign_broker::{
    declare::declare,
    reader::Reader,
    session::{Session, Uri},
    topology::{Limits, Topology},
};
use countersign_testkit::{
    clock::Clock,
    proxy::Proxy,
    services::{Cluster, Postgres, RabbitMq, Services, SmallDisk},
    system::{Link, ROLES, System},
    wait::eventually,
};

use tokio::time::timeout;

use super::{fault::Server, hostile, schedule};
use countersign_testkit::build;

/// The system, its services and the means to inject faults.
pub(crate) struct World {
    pub(crate) services: Services,
    pub(crate) system: System,
    /// The folder with the stricter policy.
    tight: Folder,
    /// Whether the ordinary policy is certainly in force.
    loose: bool,
    /// Whether it should be.
    loosens: bool,
    links: BTreeMap<String, (Proxy, Proxy)>,
    /// Clocks by process; empty if libfaketime is missing and cannot be installed.
    clocks: BTreeMap<String, Clock>,
    /// Queues that were deleted and declared again.
    pub(crate) deleted: BTreeSet<&'static str>,
    /// Those of them that the broker lost in a crash, and that were deleted and declared once more.
    pub(crate) reopened: Vec<&'static str>,
}

/// The operator who applies policies.
const OPERATOR: &str = "olga";

/// How long a broker that has just started may take to open a queue.
const OPENS: Duration = Duration::from_secs(10);

/// Replacements in the suites' folder: more audits, more eligible reviewers, and leases and sampling epochs that end within
/// a short run.
const CHANGES: [(&str, &str); 7] = [
    ("audit: {rate: 0.1,", "audit: {rate: 0.3,"),
    (", owner: mara}", "}"),
    ("agents:\n", "agents:\n  - {id: eve, amqp_user: agent-eve}\n"),
    ("every = \"300ms\"", "every = \"1s\""),
    ("/tools/soon\"}}\n", "/tools/soon\"}}\n    retry: {attempts: 3, backoff: 100ms}\n"),
    (
        "[ledger]\n",
        "[sampling]\nepoch = \"20s\"\n\n[quotas]\nin_flight = 20\nopen_requests = 40\n\n[ledger]\n",
    ),
    ("timeout: 20s\n", "timeout: 2s\n    retry: {attempts: 3, backoff: 100ms}\n"),
];

/// The replacement that makes the policy stricter.
const TIGHT: (&str, &str) = (
    "rules:\n",
    "rules:
  - id: tight
    description: For now, records need an approver as well
    when: tool.name == \"write_record\"
    verdict: require_approval
    group: approvers
    decisions: [approve, reject]
    expires_after: 10m
    audit: {rate: 0.3, group: auditors}
",
);

/// Writes the suites' folder with `changes` to `to`.
fn configuration(to: &Path, changes: &[(&str, &str)]) -> anyhow::Result<()> {
    let from = build::workspace().join("tests/fixtures/gate");
    fs::create_dir_all(to)?;
    let mut texts = BTreeMap::new();
    for name in ["countersign.toml", "policy.yaml", "tools.yaml", "directory.yaml"] {
        texts.insert(name, fs::read_to_string(from.join(name))?);
    }
    for (before, after) in changes {
        anyhow::ensure!(texts.values().any(|text| text.contains(before)), "no file contains {before:?}");
        texts.values_mut().for_each(|text| *text = text.replace(before, after));
    }
    for (name, text) in texts {
        fs::write(to.join(name), text)?;
    }
    Ok(())
}

/// How long an operator waits for a policy to be applied, and how often they try.
const APPLIED: Duration = Duration::from_secs(3);
const TRIES: usize = 3;

impl World {
    /// Sets everything up and starts every process.
    pub(crate) async fn set_up(services: Services, binary: PathBuf, tools: &str) -> anyhow::Result<Self> {
        let place = build::place(&services, binary);
        let (config, tight) = (services.scratch().join("config"), services.scratch().join("tight"));
        configuration(&config, &CHANGES)?;
        configuration(&tight, &[CHANGES.as_slice(), &[TIGHT]].concat())?;
        let variables = |name: &str| (name == "TEST_TOOLS_URL").then(|| tools.to_owned());
        let tight = Folder::read_with(&tight, variables)?;
        let system = System::set_up(place, &config, OPERATOR, variables).await?;
        hostile::poison(&system.store()?).await?;
        let mut world = Self {
            services,
            system,
            tight,
            loose: true,
            loosens: true,
            links: BTreeMap::new(),
            clocks: BTreeMap::new(),
            deleted: BTreeSet::new(),
            reopened: vec![],
        };
        let broker = Uri::from_str(&world.services.amqp_url).map_err(anyhow::Error::msg)?.authority.port;
        for role in ROLES {
            for number in 1..=schedule::PER_ROLE {
                let name = schedule::process(role, number);
                let clock = Clock::new(world.services.scratch(), &name)?;
                if clock.variables().is_ok() {
                    world.clocks.insert(name.clone(), clock);
                }
                let amqp = Proxy::start(format!("127.0.0.1:{broker}")).await?;
                let database = Proxy::start(format!("127.0.0.1:{}", world.database()?.port())).await?;
                world.links.insert(name.clone(), (amqp, database));
                world.start(&name)?;
            }
        }
        Ok(world)
    }

    /// Declares every queue that is missing.
    pub(crate) async fn declare(&self) -> anyhow::Result<()> {
        let session = Session::open(&self.system.place.amqp_url, "torture").await?;
        let directory = &self.system.folder.configuration.directory;
        Ok(declare(&session.channel, &Topology::of(directory, &Limits::default())).await?)
    }

    /// Applies the stricter or the ordinary policy as an operator, with a few attempts, as a server may be down. Returns
    /// whether it is certainly in force.
    pub(crate) async fn apply(&mut self, tight: bool) -> bool {
        self.loosens = !tight;
        for _ in 0..TRIES {
            if self.apply_once(tight).await {
                return true;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        false
    }

    async fn apply_once(&mut self, tight: bool) -> bool {
        let folder = if tight { &self.tight } else { &self.system.folder };
        let done = async {
            let store = self.system.store()?;
            anyhow::Ok(apply::apply(&store, &self.system.place.amqp_url, folder, OPERATOR).await?)
        };
        let applied = timeout(APPLIED, done).await.map_err(anyhow::Error::from).flatten();
        self.loose = !tight && applied.is_ok();
        if let Err(error) = &applied {
            eprintln!("applying a policy: {error:#}");
        }
        applied.is_ok()
    }

    /// Tries again to restore the ordinary policy if that failed before.
    pub(crate) async fn catch_up(&mut self) {
        if self.loosens && !self.loose {
            self.apply_once(false).await;
        }
    }

    /// Restores the ordinary policy if that failed before; called after all faults are healed.
    pub(crate) async fn loosen(&mut self) -> anyhow::Result<()> {
        let loose = self.loose || self.apply(false).await;
        anyhow::ensure!(loose, "no policy can be applied, though everything is healed");
        Ok(())
    }

    /// Repairs queues after a crash of RabbitMQ 3.10, as an operator would. For a queue that was deleted and declared again, it
    /// may look for the old folder, which is gone. Such a queue is listed but cannot be opened ("could not be restarted
    /// {error,enoent}") until it is deleted and declared again.
    pub(crate) async fn reopen(&mut self) -> anyhow::Result<()> {
        let url = self.system.place.amqp_url.clone();
        for queue in self.deleted.clone() {
            let opened =
                eventually("it opens", OPENS, async || Reader::open(&url, "torture", queue).await.ok());
            if opened.await.is_err() {
                eprintln!("the broker has lost {queue}: it is deleted and declared once more");
                self.broker()?.control(&["delete_queue", queue]).await?;
                self.declare().await?;
                self.reopened.push(queue);
            }
        }
        Ok(())
    }

    /// Starts a process, behind its proxies.
    pub(crate) fn start(&mut self, name: &str) -> anyhow::Result<()> {
        self.start_with(name, vec![])
    }

    /// The same with further environment variables.
    pub(crate) fn start_with(
        &mut self,
        name: &str,
        mut variables: Vec<(String, String)>,
    ) -> anyhow::Result<()> {
        if let Some(clock) = self.clocks.get(name) {
            variables.extend(clock.variables()?);
        }
        let (amqp, database) = self.links.get(name).with_context(|| format!("no process {name:?}"))?;
        let (amqp, database) = (Some(amqp.port()), Some(database.port()));
        let role = name.split('-').next().unwrap_or_default();
        self.system.start_behind(role, name, &Link { amqp, database, variables })
    }

    /// Restarts processes that have ended by themselves, as a supervisor would. Returns their names.
    pub(crate) fn supervise(&mut self) -> anyhow::Result<Vec<String>> {
        let ended = self.system.ended();
        for name in &ended {
            self.start(name)?;
        }
        Ok(ended)
    }

    pub(crate) fn broker(&mut self) -> anyhow::Result<&mut RabbitMq> {
        self.services.rabbitmq.as_mut().context("a private broker")
    }

    pub(crate) fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        self.services.cluster.as_mut().context("a private cluster")
    }

    pub(crate) fn database(&mut self) -> anyhow::Result<&mut Postgres> {
        self.services.postgres.as_mut().context("a private database")
    }

    pub(crate) fn disk(&self) -> anyhow::Result<&SmallDisk> {
        self.services.disk.as_ref().context("the database has no disk of its own: that needs root")
    }

    pub(crate) fn clock(&self, process: &str) -> anyhow::Result<&Clock> {
        self.clocks.get(process).context("libfaketime is missing")
    }

    pub(crate) fn proxy(&self, process: &str, server: Server) -> anyhow::Result<&Proxy> {
        let (amqp, database) = self.links.get(process).with_context(|| format!("no process {process:?}"))?;
        Ok(if server == Server::Broker { amqp } else { database })
    }

    /// Ends everything.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        for role in ROLES {
            for number in 1..=schedule::PER_ROLE {
                // One that is gone already is what we want.
                let _ = self.system.kill(&schedule::process(role, number));
            }
        }
        self.services.stop().await
    }
}
