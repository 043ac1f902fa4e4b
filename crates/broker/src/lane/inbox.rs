//! What has been delivered to a lane, from all its queues: which messages are handled next.
//!
//! Batches are shared fairly. Where more waits than fits, each queue has as many places as any other, and within a queue each
//! sender, in the order of its own messages. A queue can be paused, which delays nobody else.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use lapin::{Consumer, message::Delivery};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    settings::{LaneSettings, Queues},
    source::Source,
};
use crate::{BrokerError, session::Link};

/// How many batches of a queue are delivered ahead: what several senders have in it beyond them cannot be shared fairly.
const AHEAD: u16 = 2;

/// How many messages are delivered ahead in all, where there are many queues.
const AHEAD_IN_ALL: usize = 4_096;

/// How many messages of each queue are delivered ahead, however many queues there are.
const AHEAD_MIN: u16 = 32;

/// The most queues that are consumed over one connection. RabbitMQ allows 2,047 channels by default.
const QUEUES_PER_LINK: usize = 1_000;

/// How long a queue that could not be consumed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The least linger of a lane that finds deliveries waiting: it is behind, and larger batches let it catch up.
const BEHIND: Duration = Duration::from_millis(1);

/// Names a delivery within a lane: its source, and the tag on that source's channel.
pub(super) type Tag = (usize, u64);

/// What a source's consumer yields. `None` is the last: the consumer has ended.
type Next = (usize, Option<lapin::Result<Delivery>>);

/// A lane's deliveries.
pub(super) struct Inbox<'a> {
    name: &'a str,
    settings: &'a LaneSettings,
    queues: Queues,
    links: Vec<Link>,
    sources: BTreeMap<usize, Source>,
    consumers: SelectAll<BoxStream<'static, Next>>,
    /// The number of the next source: numbers are not used again.
    next: usize,
    /// Queues that could not be consumed, until they are tried again.
    left_alone: BTreeMap<String, Instant>,
    /// Where the next batch begins.
    turn: usize,
}

impl<'a> Inbox<'a> {
    pub(super) async fn open(name: &'a str, settings: &'a LaneSettings) -> Result<Self, BrokerError> {
        let mut inbox = Self {
            name,
            settings,
            queues: settings.queues.clone(),
            links: vec![],
            sources: BTreeMap::new(),
            consumers: SelectAll::new(),
            next: 0,
            left_alone: BTreeMap::new(),
            turn: 0,
        };
        inbox.consume().await?;
        Ok(inbox)
    }

    /// Consumes those of the lane's queues that it does not consume yet.
    ///
    /// # Errors
    /// If there is no connection, or none of the queues can be consumed.
    async fn consume(&mut self) -> Result<(), BrokerError> {
        let queues = self.queues.borrow_and_update().clone();
        let now = Instant::now();
        self.left_alone.retain(|_, until| now < *until);
        let mut failed = Vec::new();
        for queue in queues.iter() {
            let known = self.sources.values().any(|source| source.queue == *queue);
            if known || self.left_alone.contains_key(queue) {
                continue;
            }
            if self.sources.len() >= self.links.len() * QUEUES_PER_LINK {
                self.links.push(Link::open(&self.settings.url, self.name).await?);
            }
            let Some(link) = self.links.last() else { continue };
            match Source::open(link, queue, ahead(self.settings.batch_max, queues.len())).await {
                Ok((source, consumer)) => self.add(source, consumer),
                Err(error) => failed.push((queue, error)),
            }
        }
        failed.into_iter().try_for_each(|(queue, error)| self.leave_alone(queue, error))
    }

    fn add(&mut self, source: Source, consumer: Consumer) {
        let number = self.next;
        self.next += 1;
        let ended = stream::once(async { None });
        let deliveries = consumer.map(Some).chain(ended).map(move |next| (number, next));
        self.consumers.push(deliveries.boxed());
        self.sources.insert(number, source);
    }

    /// Goes on without a queue for a while. A lane without any, or that has lost a connection, cannot.
    fn leave_alone(&mut self, queue: &str, error: BrokerError) -> Result<(), BrokerError> {
        if self.sources.is_empty() || self.links.iter().any(|link| !link.is_open()) {
            return Err(error);
        }
        tracing::warn!(lane = self.name, queue, %error, "a queue cannot be consumed; the others go on");
        self.left_alone.insert(queue.to_owned(), Instant::now() + RETRY_AFTER);
        Ok(())
    }

    /// Waits for a delivery, then takes what comes within the linger, up to the most for a batch.
    pub(super) async fn batch(&mut self) -> Result<Vec<(Tag, Delivery)>, BrokerError> {
        let mut linger = self.settings.linger;
        if self.keep_what_came()? {
            linger = linger.max(BEHIND);
        }
        while self.ready() == 0 {
            self.wait().await?;
        }
        let deadline = Instant::now() + linger;
        loop {
            // Also what is ready beyond a batch: it may be of other senders.
            self.keep_what_came()?;
            // A timer would wait for its next tick.
            if linger.is_zero() || self.ready() >= usize::from(self.settings.batch_max) {
                break;
            }
            match timeout_at(deadline, self.consumers.next()).await {
                Ok(next) => self.keep(next)?,
                Err(_) => break,
            }
        }
        Ok(self.take())
    }

    /// Waits until something has changed.
    async fn wait(&mut self) -> Result<(), BrokerError> {
        let until = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let resumes = self.sources.values().filter_map(|source| source.paused_until).min();
        let retried = self.left_alone.values().min().copied();
        let Self { consumers, queues, .. } = self;
        let changed = async {
            // Whoever would add queues is gone, or never was.
            if queues.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let next = async {
            match consumers.next().await {
                Some(next) => next,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = next => self.keep(Some(next)),
            () = until(resumes) => {
                self.resume();
                Ok(())
            }
            () = changed => self.consume().await,
            () = until(retried) => self.consume().await,
        }
    }

    /// Keeps what has been delivered already. Says whether anything has.
    fn keep_what_came(&mut self) -> Result<bool, BrokerError> {
        self.resume();
        let mut any = false;
        while let Some(Some(next)) = self.consumers.next().now_or_never() {
            self.keep(Some(next))?;
            any = true;
        }
        Ok(any)
    }

    fn keep(&mut self, next: Option<Next>) -> Result<(), BrokerError> {
        let Some((number, next)) = next else { return Ok(()) };
        let Some(source) = self.sources.get_mut(&number) else { return Ok(()) };
        let doing = || format!("consuming {:?}", source.queue);
        let error = match next {
            Some(Ok(delivery)) => {
                source.waiting.push_back(delivery);
                return Ok(());
            }
            Some(Err(error)) => BrokerError::Amqp { doing: doing(), source: error },
            None => BrokerError::ConsumerEnded(source.queue.clone()),
        };
        let queue = source.queue.clone();
        self.sources.remove(&number);
        self.leave_alone(&queue, error)
    }

    /// Takes nothing more from a queue for so long.
    pub(super) fn pause(&mut self, queue: &str, pause: Duration) {
        for source in self.sources.values_mut().filter(|source| source.queue == queue) {
            source.pause(pause);
        }
    }

    fn resume(&mut self) {
        let now = Instant::now();
        for source in self.sources.values_mut() {
            source.paused_until = source.paused_until.filter(|until| now < *until);
        }
    }

    fn ready(&self) -> usize {
        self.sources.values().map(|source| source.ready(self.settings.batch_max.into())).sum()
    }

    /// Takes a batch of what is ready.
    fn take(&mut self) -> Vec<(Tag, Delivery)> {
        let most = usize::from(self.settings.batch_max);
        let ready: Vec<usize> = self.sources.values().map(|source| source.ready(most)).collect();
        let places = places(&ready, most, self.turn);
        self.turn = self.turn.wrapping_add(most);
        let mut batch = Vec::with_capacity(places.iter().sum());
        for ((number, source), places) in self.sources.iter_mut().zip(places) {
            let taken = source.take(places).into_iter();
            batch.extend(taken.map(|delivery| ((*number, delivery.delivery_tag), delivery)));
        }
        batch
    }

    /// Acks what has been taken: see [`Source::ack`].
    pub(super) async fn ack(&mut self) -> Result<(), BrokerError> {
        for source in self.sources.values_mut() {
            source.ack().await?;
        }
        Ok(())
    }

    /// Acks what has been taken but for these messages.
    pub(super) async fn ack_except(&mut self, unhandled: &[Tag]) -> Result<(), BrokerError> {
        for (number, source) in &mut self.sources {
            let of = unhandled.iter().filter(|(of, _)| of == number).map(|(_, tag)| *tag);
            source.ack_except(&of.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

/// How many messages of each of so many queues are delivered ahead.
fn ahead(batch_max: u16, queues: usize) -> u16 {
    let share = u16::try_from(AHEAD_IN_ALL / queues.max(1)).unwrap_or(u16::MAX);
    share.max(AHEAD_MIN).min(batch_max.saturating_mul(AHEAD))
}

/// Shares the places of a batch among queues with so many messages: in rounds, one place each, beginning with the queue `first`.
fn places(ready: &[usize], most: usize, first: usize) -> Vec<usize> {
    let mut left = most.min(ready.iter().sum());
    let mut places = vec![0; ready.len()];
    let (before, after) = ready.split_at(first % ready.len().max(1));
    let numbered = after.iter().enumerate().map(|(at, ready)| (before.len() + at, *ready));
    let mut order: Vec<(usize, usize)> = numbered.chain(before.iter().copied().enumerate()).collect();
    while left > 0 {
        order.retain(|(at, ready)| places.get(*at).is_some_and(|places| places < ready));
        for (at, _) in order.iter().take(left) {
            if let Some(places) = places.get_mut(*at) {
                *places += 1;
            }
        }
        left -= left.min(order.len());
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_as_many_places_as_any_other() {
        assert_eq!(places(&[9, 1, 0], 4, 0), [3, 1, 0]);
        assert_eq!(places(&[9, 9, 2], 6, 1), [2, 2, 2]);
        assert_eq!(places(&[1, 1, 1], 6, 2), [1, 1, 1]);
        assert_eq!(places(&[], 3, 4), [0; 0]);
    }

    #[test]
    fn where_there_are_more_queues_than_places_they_take_turns() {
        assert_eq!(places(&[5, 7], 3, 0), [2, 1]);
        assert_eq!(places(&[5, 7], 3, 1), [1, 2]);
        assert_eq!(places(&[2, 1, 1, 1], 2, 3), [1, 0, 0, 1]);
    }

    #[test]
    fn many_queues_are_delivered_less_each() {
        assert_eq!(ahead(256, 1), 512);
        assert_eq!(ahead(256, 16), 256);
        assert_eq!(ahead(256, 5_000), 32);
        assert_eq!(ahead(1, 1), 2);
    }
}
