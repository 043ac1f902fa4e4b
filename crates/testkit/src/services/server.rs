//! A server process: ended by its process id, never by name, and never outliving this process.

use std::{
    fs::File,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// A child process with its watchdog.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    /// The process that signals go to; for a wrapper script the one inside.
    pid: Pid,
    watchdog: Option<Child>,
}

impl Server {
    /// Starts `command` in a process group of its own, so that Ctrl-C reaches only us.
    pub(super) fn spawn(name: &'static str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let log = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut server = Self { name, child, pid, watchdog: None };
        server.watch()?;
        Ok(server)
    }

    /// Signals go to `pid` from now on.
    pub(super) fn is_really(&mut self, pid: i32) -> anyhow::Result<()> {
        self.pid = Pid::from_raw(pid);
        self.dismiss();
        self.watch()
    }

    /// Starts a shell that kills the server when this end of its pipe closes, however this process ends.
    fn watch(&mut self) -> anyhow::Result<()> {
        // The whole group: a wrapper script may have started the server proper behind itself.
        let script = r#"read -r word; [ "$word" = dismissed ] || kill -9 -"$1" "$2" 2>/dev/null"#;
        let watchdog = Command::new("sh")
            .args(["-c", script, "watchdog", &self.child.id().to_string(), &self.pid.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting a watchdog")?;
        self.watchdog = Some(watchdog);
        Ok(())
    }

    fn dismiss(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            if let Some(mut stdin) = watchdog.stdin.take() {
                // If the watchdog is gone, there is nobody to dismiss.
                let _ = stdin.write_all(b"dismissed\n");
            }
            let _ = watchdog.wait();
        }
    }

    /// Fails once the process has ended.
    pub(super) fn check(&mut self, log: &Path) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            anyhow::bail!("{} ended with {status}; its log ends with:\n{}", self.name, tail.join("\n"));
        }
        Ok(())
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match kill(self.pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("sending {signal} to {}", self.name)),
        }
    }

    /// Sends a signal to the process, and then to its children.
    pub(super) fn signal_family(&self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        for child in children(self.pid) {
            // One that has ended meanwhile needs no signal.
            let _ = kill(child, signal);
        }
        Ok(())
    }

    /// Sends a signal and waits until the process is gone; after `limit` it is killed.
    pub(super) async fn end(mut self, signal: Signal, limit: Duration) -> anyhow::Result<()> {
        self.signal(signal)?;
        let started = Instant::now();
        while self.child.try_wait()?.is_none() || kill(self.pid, None).is_ok() {
            if started.elapsed() > limit {
                self.signal(Signal::SIGKILL)?;
                let _ = self.child.kill();
            }
            anyhow::ensure!(started.elapsed() < limit * 2, "{} does not end", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// The processes that `parent` has started and that still run.
fn children(parent: Pid) -> Vec<Pid> {
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything; behind it come the state and the parent.
        let behind = stat.rsplit_once(')').map(|(_, behind)| behind).unwrap_or_default();
        behind.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()) == Some(parent.as_raw())
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).map(Pid::from_raw).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.child.wait();
        }
        self.dismiss();
    }
}
