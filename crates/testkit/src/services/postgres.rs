//! A private PostgreSQL, entirely on loopback. It refuses to run as root; a root process starts it as another user.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};

use super::{install, ports, server::Server};

const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// A server with default durability.
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    password: String,
    server: Option<Server>,
}

/// The user to run PostgreSQL as if this process is root.
fn somebody_else() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    Ok(Some(user.context("PostgreSQL refuses to run as root, and there is no user postgres or nobody")?))
}

/// A command for one of PostgreSQL's programs, run as a user that it accepts.
fn program(name: &str, user: Option<&User>) -> anyhow::Result<Command> {
    let program = install::postgres_bin().context("postgresql is not installed")?.join(name);
    let Some(user) = user else { return Ok(Command::new(program)) };
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", user.uid))
        .arg(format!("--regid={}", user.gid))
        .args(["--clear-groups", "--"])
        .arg(program);
    Ok(command)
}

impl Postgres {
    /// The server's folder in `scratch`.
    pub(super) fn folder(scratch: &Path) -> PathBuf {
        scratch.join("postgres")
    }

    /// Initialises and starts a server in a folder of `scratch` and waits until it takes connections.
    pub async fn start(scratch: &Path) -> anyhow::Result<Self> {
        let dir = Self::folder(scratch);
        fs::create_dir_all(&dir)?;
        let user = somebody_else()?;
        let password = format!("{:032x}", rand::random::<u128>());
        let password_file = dir.join("password");
        fs::write(&password_file, &password)?;
        if let Some(user) = &user {
            chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            chown(&password_file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let output = program("initdb", user.as_ref())?
            .args(["--auth=scram-sha-256", "--username=countersign", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", password_file.display()))
            .arg("--pgdata")
            .arg(dir.join("data"))
            .current_dir("/")
            .output()
            .context("running initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        fs::remove_file(password_file)?;
        let mut postgres = Self { dir, port: ports::free()?, password, server: None };
        postgres.boot().await?;
        Ok(postgres)
    }

    /// The URL of one database, as owner.
    pub fn database_url(&self, database: &str) -> String {
        format!("postgres://countersign:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn boot(&mut self) -> anyhow::Result<()> {
        let user = somebody_else()?;
        let log = self.dir.join("server.log");
        // After a crash, backends of the old server may still hold its shared memory for a moment.
        for attempt in 1.. {
            let mut server = Server::spawn("postgres", self.command(user.as_ref())?, &log)?;
            let up = ports::wait(self.port, BOOT_LIMIT, || server.check(&log)).await;
            match up {
                Ok(()) => {
                    self.server = Some(server);
                    break;
                }
                Err(error) if attempt == 20 => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
        self.answers().await
    }

    /// A listening server may still be recovering.
    async fn answers(&self) -> anyhow::Result<()> {
        let url = self.database_url("postgres");
        crate::wait::eventually("PostgreSQL answers", BOOT_LIMIT, async || {
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.ok().map(drop)
        })
        .await
    }

    fn command(&self, user: Option<&User>) -> anyhow::Result<Command> {
        let mut command = program("postgres", user)?;
        command.arg("-D").arg(self.dir.join("data")).current_dir("/");
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "max_connections=400".into(),
            "shared_buffers=256MB".into(),
            "max_wal_size=2GB".into(),
        ] {
            command.arg("-c").arg(setting);
        }
        Ok(command)
    }

    /// Kills the server as a crash would. Its data stays.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => server.end(Signal::SIGKILL, Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }

    /// Starts it again on the same data and port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.boot().await
    }

    /// Starts it again if it has ended by itself.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        let log = self.dir.join("server.log");
        match self.server.as_mut().map(|server| server.check(&log)) {
            Some(Ok(())) => Ok(()),
            _ => self.restart().await,
        }
    }

    /// Suspends it with the processes that serve its clients; the kernel still accepts bytes.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.server.as_ref().map_or(Ok(()), |server| server.signal_family(Signal::SIGSTOP))
    }

    /// Resumes it.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.server.as_ref().map_or(Ok(()), |server| server.signal_family(Signal::SIGCONT))
    }

    /// Shuts it down without waiting for its clients.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(server) => server.end(Signal::SIGINT, Duration::from_secs(20)).await,
            None => Ok(()),
        }
    }
}
