//! AMQP 0-9-1 byte by byte: a client that sends what no library would send.

use std::{cmp::Reverse, collections::BTreeMap, str::FromStr as _, time::Duration};

use anyhow::{bail, ensure};
use countersign_broker::session::Uri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long an answer of the broker may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The largest frame that brokers accept by default.
const FRAME_MAX: usize = 128 * 1024;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// The properties of a message, in the order of the specification whatever the order in which they are added.
#[derive(Clone, Debug, Default)]
pub struct RawProperties(BTreeMap<Reverse<u16>, Vec<u8>>);

/// A property that is a short string, by its flag.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of the specification")]
pub enum Name {
    ContentType = 1 << 15,
    ContentEncoding = 1 << 14,
    CorrelationId = 1 << 10,
    ReplyTo = 1 << 9,
    Expiration = 1 << 8,
    MessageId = 1 << 7,
    Type = 1 << 5,
    UserId = 1 << 4,
    AppId = 1 << 3,
    ClusterId = 1 << 2,
}

/// The flag of the headers.
const HEADERS: u16 = 1 << 13;

impl RawProperties {
    /// Adds a short string of at most 255 bytes.
    #[must_use]
    pub fn with(mut self, name: Name, value: &[u8]) -> Self {
        self.0.insert(Reverse(name as u16), short(value));
        self
    }

    /// Adds the headers: a field table without its length.
    #[must_use]
    pub fn with_headers(mut self, entries: &[u8]) -> Self {
        self.0.insert(Reverse(HEADERS), long(entries));
        self
    }

    /// The flags and what they stand for.
    fn encoded(&self) -> Vec<u8> {
        let flags = self.0.keys().fold(0, |flags, Reverse(flag)| flags | flag);
        self.0.values().fold(u16::to_be_bytes(flags).to_vec(), |mut encoded, value| {
            encoded.extend(value);
            encoded
        })
    }
}

/// A header of arrays in arrays: five bytes for each level.
pub fn nested_arrays(levels: usize) -> Vec<u8> {
    let innermost = long(&[]);
    let arrays = (1..levels).fold(innermost, |inner, _| long(&[b"A".as_slice(), &inner].concat()));
    [short(b"x-deep"), b"A".to_vec(), arrays].concat()
}

/// A string of at most 255 bytes, with its length; a longer one is cut.
pub fn short(text: &[u8]) -> Vec<u8> {
    let text = &text[..text.len().min(255)];
    [&[text.len() as u8], text].concat()
}

/// Bytes with their length in four bytes.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// A connection with one confirming channel.
pub struct RawPublisher {
    stream: TcpStream,
}

impl RawPublisher {
    /// Connects with a URL without TLS.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let Uri { authority, vhost, .. } = Uri::from_str(url).map_err(anyhow::Error::msg)?;
        let stream = TcpStream::connect((authority.host.as_str(), authority.port)).await?;
        let mut raw = Self { stream };
        raw.stream.write_all(b"AMQP\0\0\x09\x01").await?;
        raw.expect(10, 10).await?;
        let login = format!("\0{}\0{}", authority.userinfo.username, authority.userinfo.password);
        let start_ok = [long(&[]), short(b"PLAIN"), long(login.as_bytes()), short(b"en_US")].concat();
        raw.method(0, (10, 11), &start_ok).await?;
        raw.expect(10, 30).await?;
        let tune_ok = [&[0, 1], &(FRAME_MAX as u32).to_be_bytes()[..], &[0, 0]].concat();
        raw.method(0, (10, 31), &tune_ok).await?;
        raw.method(0, (10, 40), &[short(vhost.as_bytes()), vec![0, 0]].concat()).await?;
        raw.expect(10, 41).await?;
        raw.method(1, (20, 10), &[0]).await?;
        raw.expect(20, 11).await?;
        raw.method(1, (85, 10), &[0]).await?;
        raw.expect(85, 11).await?;
        Ok(raw)
    }

    /// Publishes a message and waits for the broker's answer. `false` means that the broker refused it; then the connection is
    /// of no more use.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        properties: &RawProperties,
        body: &[u8],
    ) -> anyhow::Result<bool> {
        let publish = [vec![0, 0], short(exchange.as_bytes()), short(routing_key), vec![0]].concat();
        self.method(1, (60, 40), &publish).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(properties.encoded());
        ensure!(header.len() + 8 <= FRAME_MAX, "the properties need more than a frame");
        self.frame(HEADER, 1, &header).await?;
        for part in body.chunks(FRAME_MAX - 8) {
            self.frame(BODY, 1, part).await?;
        }
        match self.next().await {
            Ok((60, 80)) => Ok(true),
            Ok((60, 120) | (20, 40) | (10, 50)) | Err(_) => Ok(false),
            Ok(other) => bail!("an unexpected answer: {other:?}"),
        }
    }

    async fn method(&mut self, channel: u16, (class, method): (u16, u16), rest: &[u8]) -> anyhow::Result<()> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), rest].concat();
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> anyhow::Result<()> {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[END]].concat();
        Ok(timeout(LIMIT, self.stream.write_all(&frame)).await??)
    }

    async fn expect(&mut self, class: u16, method: u16) -> anyhow::Result<()> {
        let answer = self.next().await?;
        ensure!(answer == (class, method), "expected {class}.{method}, the broker sent {answer:?}");
        Ok(())
    }

    /// The class and method of the broker's next frame.
    async fn next(&mut self) -> anyhow::Result<(u16, u16)> {
        loop {
            let mut head = [0; 7];
            timeout(LIMIT, self.stream.read_exact(&mut head)).await??;
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut payload = vec![0; size + 1];
            timeout(LIMIT, self.stream.read_exact(&mut payload)).await??;
            if head[0] == METHOD
                && let [a, b, c, d, ..] = payload[..]
            {
                return Ok((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
            }
        }
    }
}
