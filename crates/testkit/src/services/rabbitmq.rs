//! A private RabbitMQ node, entirely on loopback.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use std::io::Write as _;

use super::{install, ports, server::Server};

const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// A node with the management plugin, and its port mapper.
pub struct RabbitMq {
    dir: PathBuf,
    amqp: u16,
    dist: u16,
    mapper: u16,
    management: u16,
    password: String,
    epmd: Option<Server>,
    node: Option<Server>,
}

impl RabbitMq {
    /// Starts a node in a folder of `scratch` and waits until it takes connections.
    pub async fn start(scratch: &Path) -> anyhow::Result<Self> {
        let dir = scratch.join("rabbitmq");
        fs::create_dir_all(dir.join("home"))?;
        let mut node = Self {
            dir,
            amqp: ports::free()?,
            dist: ports::free()?,
            mapper: ports::free()?,
            management: ports::free()?,
            password: format!("{:032x}", rand::random::<u128>()),
            epmd: None,
            node: None,
        };
        node.configure()?;
        node.boot().await?;
        Ok(node)
    }

    /// As administrator, virtual host `/`.
    pub fn amqp_url(&self) -> String {
        format!("amqp://admin:{}@127.0.0.1:{}/%2f", self.password, self.amqp)
    }

    /// The management API, as administrator.
    pub fn management_url(&self) -> String {
        format!("http://admin:{}@127.0.0.1:{}", self.password, self.management)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.amqp
    }

    /// Truncates the stream files of a stopped node to `share` of their bytes. A crash of the machine has the same effect,
    /// because streams don't flush each message. Returns how many bytes are lost.
    pub fn cut_streams(&self, share: f64) -> anyhow::Result<u64> {
        anyhow::ensure!(self.node.is_none(), "the node still runs");
        let (mut folders, mut lost) = (vec![self.dir.join("mnesia")], 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|is| is == "segment") {
                    let file = fs::OpenOptions::new().write(true).open(&path)?;
                    let size = file.metadata()?.len();
                    let kept = (size as f64 * share) as u64;
                    file.set_len(kept)?;
                    lost += size - kept;
                }
            }
        }
        Ok(lost)
    }

    fn configure(&self) -> anyhow::Result<()> {
        let conf = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             default_user = admin\ndefault_pass = {}\nloopback_users = none\nheartbeat = 10\n\
             disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.6\n\
             management_agent.disable_metrics_collector = true\nlog.file.level = warning\n",
            self.amqp, self.management, self.password
        );
        write_private(&self.dir.join("rabbitmq.conf"), &conf)?;
        write_private(&self.dir.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        let cookie = self.dir.join("home/.erlang.cookie");
        write_private(&cookie, &format!("{:032x}", rand::random::<u128>()))?;
        fs::set_permissions(cookie, fs::Permissions::from_mode(0o400))?;
        Ok(())
    }

    async fn boot(&mut self) -> anyhow::Result<()> {
        if self.epmd.is_none() {
            let mut epmd = Command::new(install::epmd());
            epmd.args(["-port", &self.mapper.to_string(), "-address", "127.0.0.1"]);
            self.epmd = Some(Server::spawn("epmd", epmd, &self.dir.join("epmd.log"))?);
            ports::wait(self.mapper, BOOT_LIMIT, || Ok(())).await?;
        }
        let log = self.dir.join("node.log");
        let pid_file = self.dir.join("pid");
        let _ = fs::remove_file(&pid_file);
        let mut node = Server::spawn("rabbitmq", self.command()?, &log)?;
        ports::wait(self.amqp, BOOT_LIMIT, || node.check(&log)).await?;
        ports::wait(self.management, BOOT_LIMIT, || node.check(&log)).await?;
        let pid = fs::read_to_string(&pid_file).context("reading the node's process id")?;
        node.is_really(pid.trim().parse().context("the node's process id")?)?;
        self.node = Some(node);
        Ok(())
    }

    fn command(&self) -> anyhow::Result<Command> {
        let script = install::rabbitmq_server().context("rabbitmq-server is not installed")?;
        let mut command = Command::new(script);
        let path = |name: &str| self.dir.join(name);
        command
            .env("HOME", path("home"))
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_NODE_PORT", self.amqp.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", self.dist.to_string())
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
            );
        Ok(command)
    }

    /// Runs `rabbitmqctl` on the node, in the virtual host `/`. The timeout allows for a pause of the node meanwhile.
    pub async fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let script = install::rabbitmq_server().context("rabbitmq-server is not installed")?;
        let mut command = tokio::process::Command::new(script.with_file_name("rabbitmqctl"));
        command
            .args(["--quiet", "--timeout", "90", "--node", &self.name()])
            .args(arguments)
            .env("HOME", self.dir.join("home"))
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(100), command.output()).await??;
        let output_text = [output.stdout, output.stderr].concat();
        anyhow::ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output_text));
        Ok(())
    }

    fn name(&self) -> String {
        format!("countersign-{}@localhost", self.amqp)
    }

    /// Kills the node as a crash would. Its data stays.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.node.take() {
            Some(node) => node.end(Signal::SIGKILL, Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }

    /// Starts it again on the same data and ports.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.boot().await
    }

    /// Suspends it.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.node.as_ref().map_or(Ok(()), |node| node.signal(Signal::SIGSTOP))
    }

    /// Resumes it.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.node.as_ref().map_or(Ok(()), |node| node.signal(Signal::SIGCONT))
    }

    /// Ends node and port mapper.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(node) = self.node.take() {
            node.end(Signal::SIGTERM, Duration::from_secs(20)).await?;
        }
        match self.epmd.take() {
            Some(epmd) => epmd.end(Signal::SIGTERM, Duration::from_secs(5)).await,
            None => Ok(()),
        }
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}
