//! Free loopback ports, and waiting for one to be served.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

/// A port that is free now. If somebody else takes it before the server does, the server fails with an error.
pub(super) fn free() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until something listens on a loopback port. Fails as soon as `alive` does.
pub(super) async fn wait(
    port: u16,
    limit: Duration,
    mut alive: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let started = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        alive()?;
        anyhow::ensure!(started.elapsed() < limit, "nothing listens on port {port} after {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
