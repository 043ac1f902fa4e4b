//! Connections and channels, opened under a timeout and dropped on any error.

use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties, options::ConfirmSelectOptions};

use crate::{BrokerError, error::within};

/// A parsed AMQP URL.
pub use lapin::uri::AMQPUri as Uri;

/// How long opening and every single request to the broker may take.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Seconds between heartbeats: the default takes two minutes to notice a dead peer.
const HEARTBEAT: u16 = 10;

/// The largest frame, in bytes: the server's default. lapin keeps 64 frame buffers. Where the client asks for this size they
/// take memory only when used; where the server chooses, all 8 MiB at once. A received header is one frame, and lapin closes
/// a connection on a frame larger than agreed: where the server is configured for more, the URL must say so, too.
const FRAME_MAX: u32 = 128 * 1024;

/// The same for a connection that only publishes: its buffers are all used sooner or later, and long bodies take several
/// frames.
const PUBLISHING_FRAME_MAX: u32 = 16 * 1024;

/// A connection, on which channels are opened. Dropping it closes them.
pub(crate) struct Link(Connection);

impl Link {
    /// Opens a connection called `name`.
    pub(crate) async fn open(url: &str, name: &str) -> Result<Self, BrokerError> {
        Self::connect(url, name, FRAME_MAX).await
    }

    async fn connect(url: &str, name: &str, frame_max: u32) -> Result<Self, BrokerError> {
        let mut uri: lapin::uri::AMQPUri =
            url.parse().map_err(|reason: String| BrokerError::Url { url: without_password(url), reason })?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        uri.query.frame_max.get_or_insert(frame_max);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let doing = || format!("connecting to {} as {name:?}", without_password(url));
        Ok(Self(within(REQUEST_LIMIT, doing, Connection::connect_uri(uri, properties)).await?))
    }

    /// Opens one more channel.
    pub(crate) async fn channel(&self) -> Result<Channel, BrokerError> {
        within(REQUEST_LIMIT, || "opening a channel".into(), self.0.create_channel()).await
    }

    /// Whether the connection is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.0.status().connected()
    }
}

/// A connection with one channel. Dropping it closes both.
pub struct Session {
    /// Owned by one task alone.
    pub channel: Channel,
    // lapin closes a connection when its last handle is dropped.
    _link: Link,
}

impl Session {
    /// Opens a connection called `name` and a channel on it.
    pub async fn open(url: &str, name: &str) -> Result<Self, BrokerError> {
        Self::over(Link::open(url, name).await?).await
    }

    async fn over(link: Link) -> Result<Self, BrokerError> {
        Ok(Self { channel: link.channel().await?, _link: link })
    }

    /// The same, with publisher confirms switched on.
    pub async fn open_confirming(url: &str, name: &str) -> Result<Self, BrokerError> {
        Self::open(url, name).await?.confirming().await
    }

    /// The same, for publishing alone.
    pub async fn open_publishing(url: &str, name: &str) -> Result<Self, BrokerError> {
        Self::over(Link::connect(url, name, PUBLISHING_FRAME_MAX).await?).await?.confirming().await
    }

    async fn confirming(self) -> Result<Self, BrokerError> {
        let select = self.channel.confirm_select(ConfirmSelectOptions::default());
        within(REQUEST_LIMIT, || "asking for publisher confirms".into(), select).await?;
        Ok(self)
    }
}

/// The URL with its password masked, for logs.
pub fn without_password(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            if parsed.password().is_some() {
                // Only fails for URLs that cannot have a password; then there is none to hide.
                let _ = parsed.set_password(Some("***"));
            }
            parsed.to_string()
        }
        Err(_) => "(not a URL)".into(),
    }
}

/// The user name in an AMQP URL, percent-decoded where lapin can read it.
pub fn user_of(url: &str) -> Option<String> {
    let uri: lapin::uri::AMQPUri = url.parse().ok()?;
    Some(uri.authority.userinfo.username)
}
