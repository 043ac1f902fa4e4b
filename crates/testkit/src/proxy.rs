//! A TCP proxy that delays, stalls, cuts and tears, to stand between a worker and its servers. What it passes on, it
//! passes on in order and without a gap, as TCP does.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Passes on what it has read only after a while.
    Delay(Duration),
    /// Passes nothing on; the bytes wait.
    Stall,
    /// Closes every connection and refuses new ones.
    Cut,
    /// Passes half of what comes next and closes that connection.
    Tear,
}

/// A proxy in front of one server.
pub struct Proxy {
    port: u16,
    mode: Arc<watch::Sender<Mode>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free loopback port and passes to `target` (`host:port`).
    pub async fn start(target: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mode = Arc::new(watch::channel(Mode::Pass).0);
        let task = tokio::spawn(accept(listener, target, mode.clone()));
        Ok(Self { port, mode, task })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes bytes again, those first that were stalled.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    /// Passes bytes on after `delay`, each time some have come.
    pub fn delay(&self, delay: Duration) {
        self.mode.send_replace(Mode::Delay(delay));
    }

    /// Passes nothing on, and closes nothing: connections look alive.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Passes half of the next bytes of each connection and closes it: cut off in mid-frame.
    pub fn tear(&self) {
        self.mode.send_replace(Mode::Tear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: String, mode: Arc<watch::Sender<Mode>>) {
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() == Mode::Cut {
            continue;
        }
        let (target, mode) = (target.clone(), mode.clone());
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(&target).await else { return };
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::select! {
                () = pump(client_read, server_write, mode.subscribe()) => {}
                () = pump(server_read, client_write, mode.subscribe()) => {}
            }
        });
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        let read = tokio::select! {
            changed = mode.changed() => match changed {
                Ok(()) if *mode.borrow() != Mode::Cut => continue,
                _ => return,
            },
            read = from.read(&mut buffer), if now != Mode::Stall => read,
        };
        let count = match read {
            Ok(count) if count > 0 => count,
            _ => return,
        };
        if let Mode::Delay(delay) = now {
            tokio::time::sleep(delay).await;
        }
        let passed = if now == Mode::Tear { count / 2 } else { count };
        if to.write_all(&buffer[..passed]).await.is_err() || now == Mode::Tear {
            return;
        }
    }
}
