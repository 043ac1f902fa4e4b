//! A cluster of RabbitMQ 4 nodes on this machine, each in its own network namespace so that they can be partitioned. They run
//! in a Debian 13 chroot, which is installed once and kept. This needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{sys::signal::Signal, unistd::geteuid};
use tokio::net::TcpStream;

use super::server::Server;
use crate::{proxy::Proxy, wait::eventually};

/// The smallest number of nodes that tolerates the loss of one.
pub const NODES: usize = 3;

const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Makes the network, or removes it: `up` or `down`.
const NETWORK: &str = include_str!("cluster/network.sh");
/// Installs Debian 13 with RabbitMQ 4 into a folder.
const INSTALL: &str = include_str!("cluster/install.sh");

fn script(text: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-euc", text, "cluster"]).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Removes the namespaces when it is dropped.
struct Network;

impl Network {
    fn up() -> anyhow::Result<Self> {
        script(NETWORK, &["up"]).context(
            "making the network of the cluster; if another cluster has left its own, `ip netns del cs1`, `cs2`, `cs3` and `ip link del csbr`",
        )?;
        Ok(Self)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = script(NETWORK, &["down"]) {
            eprintln!("the cluster's network is left: {error}");
        }
    }
}

/// The Debian chroot with `/proc` and `/dev` mounted. Dropping it unmounts them and removes the nodes' data.
struct Debian {
    /// Its folder.
    root: PathBuf,
    /// The nodes' data, within that folder.
    home: PathBuf,
}

impl Debian {
    fn mounted(root: PathBuf) -> anyhow::Result<Self> {
        let debian = Self { root, home: PathBuf::from(format!("/cluster-{}", std::process::id())) };
        debian.mounts("mountpoint -q \"$1\" || mount --bind \"$2\" \"$1\"")?;
        Ok(debian)
    }

    /// Runs a script for each of `/proc` and `/dev`.
    fn mounts(&self, script_of_one: &str) -> anyhow::Result<()> {
        for folder in ["proc", "dev"] {
            let at = self.root.join(folder).display().to_string();
            script(script_of_one, &[&at, &format!("/{folder}")])?;
        }
        Ok(())
    }

    /// The nodes' data, seen from outside.
    fn data(&self) -> PathBuf {
        self.root.join(self.home.strip_prefix("/").unwrap_or(&self.home))
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let remove = || if self.data().exists() { fs::remove_dir_all(self.data()) } else { Ok(()) };
        let unmounted = self.mounts("umount -l \"$1\"");
        if let Err(error) = unmounted.and_then(|()| Ok(remove()?)) {
            eprintln!("the cluster's data is left in {}: {error}", self.data().display());
        }
    }
}

/// A running cluster.
pub struct Cluster {
    /// RabbitMQ's programs, within that folder.
    programs: PathBuf,
    password: String,
    front: Proxy,
    nodes: Vec<Option<Server>>,
    mappers: Vec<Server>,
    // Dropped after the processes that run in them.
    debian: Debian,
    _network: Network,
}

/// The address of a node, counted from 0.
fn address(node: usize) -> String {
    format!("10.77.0.{}", 11 + node)
}

fn name(node: usize) -> String {
    format!("r{}@{}", node + 1, address(node))
}

fn namespace(node: usize) -> String {
    format!("cs{}", node + 1)
}

impl Cluster {
    /// Installs what is missing into `cache`, starts up to [`NODES`] nodes and joins them.
    pub async fn start(cache: &Path, nodes: usize) -> anyhow::Result<Self> {
        ensure!(geteuid().is_root(), "a cluster with partitions needs root: network namespaces and chroot");
        let root = cache.join("trixie");
        if programs(&root).is_none() {
            eprintln!("installing RabbitMQ 4 into {} (once, some minutes) ...", root.display());
            fs::create_dir_all(cache)?;
            script(INSTALL, &[&root.display().to_string()]).context("installing RabbitMQ 4")?;
        }
        let programs = programs(&root).context("there is no RabbitMQ 4 in the Debian that was installed")?;
        let front = Proxy::among((0..nodes).map(|node| format!("{}:5672", address(node))).collect()).await?;
        let mut cluster = Self {
            programs,
            password: format!("{:032x}", rand::random::<u128>()),
            front,
            nodes: (0..nodes).map(|_| None).collect(),
            mappers: vec![],
            debian: Debian::mounted(root)?,
            _network: Network::up()?,
        };
        let cookie = format!("{:032x}", rand::random::<u128>());
        for node in 0..nodes {
            cluster.configure(node, &cookie)?;
            let log = cluster.folder(node).join("epmd.log");
            let epmd = cluster.inside(node, "/usr/bin/epmd", &[]);
            cluster.mappers.push(Server::spawn("epmd", epmd, &log)?);
        }
        cluster.restart().await?;
        for node in 1..nodes {
            cluster.control(node, &["stop_app"]).await?;
            cluster.control(node, &["join_cluster", &name(0)]).await?;
            cluster.control(node, &["start_app"]).await?;
        }
        cluster.answers().await?;
        Ok(cluster)
    }

    /// The URL of whichever node answers, as administrator.
    pub fn amqp_url(&self) -> String {
        format!("amqp://admin:{}@127.0.0.1:{}/%2f", self.password, self.front.port())
    }

    /// The management API of the first node.
    pub fn management_url(&self) -> String {
        format!("http://admin:{}@{}:15672", self.password, address(0))
    }

    /// A node's folder, seen from outside.
    fn folder(&self, node: usize) -> PathBuf {
        self.debian.data().join(format!("r{}", node + 1))
    }

    fn configure(&self, node: usize, cookie: &str) -> anyhow::Result<()> {
        let folder = self.folder(node);
        fs::create_dir_all(&folder)?;
        let host = address(node);
        let conf = format!(
            "listeners.tcp.1 = {host}:5672\nmanagement.tcp.ip = {host}\nmanagement.tcp.port = 15672\n\
             default_user = admin\ndefault_pass = {}\nloopback_users = none\nheartbeat = 10\n\
             cluster_partition_handling = pause_minority\nnet_ticktime = 10\ndisk_free_limit.absolute = 50MB\n\
             log.file.level = warning\n",
            self.password
        );
        fs::write(folder.join("rabbitmq.conf"), conf)?;
        fs::write(folder.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        let file = folder.join(".erlang.cookie");
        fs::write(&file, cookie)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o400))?;
        Ok(())
    }

    /// A program in the Debian, in a node's namespace.
    fn inside(&self, node: usize, program: &str, arguments: &[&str]) -> Command {
        let home = self.debian.home.join(format!("r{}", node + 1)).display().to_string();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace(node), "chroot"]).arg(&self.debian.root);
        command.args(["/usr/bin/env", "-i", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        for (variable, value) in [
            ("HOME", home.clone()),
            ("RABBITMQ_USE_LONGNAME", "true".into()),
            ("RABBITMQ_NODENAME", name(node)),
            ("RABBITMQ_NODE_PORT", "5672".into()),
            ("RABBITMQ_DIST_PORT", "25672".into()),
            ("RABBITMQ_MNESIA_BASE", format!("{home}/data")),
            ("RABBITMQ_LOG_BASE", format!("{home}/log")),
            ("RABBITMQ_CONFIG_FILE", format!("{home}/rabbitmq.conf")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{home}/enabled_plugins")),
            ("RABBITMQ_PID_FILE", format!("{home}/pid")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none".into()),
        ] {
            command.arg(format!("{variable}={value}"));
        }
        command.arg(program).args(arguments);
        command
    }

    async fn control(&self, node: usize, arguments: &[&str]) -> anyhow::Result<String> {
        let program = self.programs.join("rabbitmqctl").display().to_string();
        let own = ["--quiet", "--longnames", "--timeout", "60", "--node", &name(node)];
        let command = self.inside(node, &program, &[&own, arguments].concat());
        let mut command = tokio::process::Command::from(command);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(Duration::from_secs(90), output).await??;
        let output_text = [output.stdout.clone(), output.stderr].concat();
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output_text));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Restarts every node that does not run, on its old data.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let dead: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_none()).collect();
        // Start all before waiting for any, as a node may wait for the others.
        for node in &dead {
            // A killed node leaves its pid file.
            let _ = fs::remove_file(self.folder(*node).join("pid"));
            let program = self.programs.join("rabbitmq-server").display().to_string();
            let command = self.inside(*node, &program, &[]);
            let server = Server::spawn("rabbitmq", command, &self.folder(*node).join("node.log"))?;
            self.nodes[*node] = Some(server);
        }
        for node in dead {
            self.listens(node).await?;
            let pid =
                fs::read_to_string(self.folder(node).join("pid")).context("reading a node's process id")?;
            let pid = pid.trim().parse().context("a node's process id")?;
            self.nodes[node].as_mut().map_or(Ok(()), |server| server.is_really(pid))?;
        }
        Ok(())
    }

    /// Waits until a node takes connections.
    async fn listens(&mut self, node: usize) -> anyhow::Result<()> {
        let at = format!("{}:5672", address(node));
        eventually(&format!("node {} listens", node + 1), BOOT_LIMIT, async || {
            TcpStream::connect(&at).await.ok().map(drop)
        })
        .await
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            self.listens(node).await?;
        }
        Ok(())
    }

    /// Kills a node as a crash would.
    pub async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        match self.nodes[node].take() {
            Some(server) => server.end(Signal::SIGKILL, Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }

    /// The node that leads a queue.
    pub async fn leader(&self, queue: &str) -> anyhow::Result<usize> {
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some()) {
            let Ok(listed) =
                self.control(node, &["list_queues", "--no-table-headers", "name", "leader"]).await
            else {
                continue;
            };
            let leader = listed.lines().find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'));
            if let Some(at) =
                leader.and_then(|leader| (0..self.nodes.len()).find(|node| name(*node) == leader.trim()))
            {
                return Ok(at);
            }
        }
        bail!("no node reports the leader of {queue}")
    }

    /// Partitions a node from the two others, or heals the partition.
    pub fn part(&self, node: usize, parted: bool) -> anyhow::Result<()> {
        let verb = if parted { "add" } else { "del" };
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let rule = r#"ip -n "$1" route "$2" blackhole "$3""#;
                script(rule, &[&namespace(from), verb, &address(to)])?;
            }
        }
        Ok(())
    }

    /// Ends all nodes.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for node in 0..self.nodes.len() {
            self.kill(node).await?;
        }
        for mapper in self.mappers.drain(..) {
            mapper.end(Signal::SIGTERM, Duration::from_secs(5)).await?;
        }
        Ok(())
    }
}

/// The folder of RabbitMQ 4's programs, within `root`.
fn programs(root: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(root.join("usr/lib/rabbitmq/lib")).ok()?.flatten();
    let folder = entries.map(|entry| entry.file_name()).find(|name| {
        name.to_str()
            .and_then(|name| name.strip_prefix("rabbitmq_server-"))
            .is_some_and(|version| version.starts_with('4'))
    })?;
    Some(Path::new("/usr/lib/rabbitmq/lib").join(folder).join("sbin"))
}
