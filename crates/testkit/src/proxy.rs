//! A TCP proxy between a worker and a server that delays, stalls, cuts and tears. Bytes that it passes on stay in order and
//! without a gap, as in TCP.

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
    /// Passes bytes on after a delay.
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
        Self::among(vec![target]).await
    }

    /// The same in front of several servers: connections go round robin to servers that accept them.
    pub async fn among(targets: Vec<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mode = Arc::new(watch::channel(Mode::Pass).0);
        let task = tokio::spawn(accept(listener, targets.into(), mode.clone()));
        Ok(Self { port, mode, task })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Passes bytes again, starting with those that were stalled.
    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    /// Passes each read on after `delay`.
    pub fn delay(&self, delay: Duration) {
        self.mode.send_replace(Mode::Delay(delay));
    }

    /// Passes nothing on and closes nothing, so connections look alive.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Passes half of each connection's next read and closes it, in the middle of a frame.
    pub fn tear(&self) {
        self.mode.send_replace(Mode::Tear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long a server may take to accept a connection before the next one is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Connects to the first of `targets` that accepts, starting at index `first`.
async fn connect(targets: &[String], first: usize) -> Option<TcpStream> {
    for index in 0..targets.len() {
        let target = &targets[(first + index) % targets.len()];
        if let Ok(Ok(server)) = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(target)).await {
            return Some(server);
        }
    }
    None
}

async fn accept(listener: TcpListener, targets: Arc<[String]>, mode: Arc<watch::Sender<Mode>>) {
    let mut turn = 0;
    while let Ok((client, _)) = listener.accept().await {
        if *mode.borrow() == Mode::Cut {
            continue;
        }
        let (targets, mode) = (targets.clone(), mode.clone());
        turn += 1;
        tokio::spawn(async move {
            let Some(server) = connect(&targets, turn).await else { return };
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
