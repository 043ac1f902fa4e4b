//! What has been delivered to a lane: which messages are handled next, and which of the handled ones the broker may forget.
//!
//! Batches are shared fairly: where more waits than fits, each sender has as many places as any other, in the order of its own
//! messages. Among what has been delivered ahead, one sender's flood delays another's message by a batch.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Acker, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout_at};

use super::settings::LaneSettings;
use crate::{
    BrokerError,
    error::within,
    session::{REQUEST_LIMIT, Session},
};

/// How many batches are delivered ahead: what lies in the queue beyond them cannot be shared fairly.
const AHEAD: u16 = 2;

/// The least linger of a lane that finds deliveries waiting: it is behind, and larger batches let it catch up.
const BEHIND: Duration = Duration::from_millis(1);

/// A lane's deliveries.
pub(super) struct Inbox<'a> {
    settings: &'a LaneSettings,
    consumer: Consumer,
    /// Delivered, in that order, and not handled yet.
    waiting: VecDeque<Delivery>,
    /// Being handled, or handled and not acked yet, by delivery tag. Everything before the first that waits is here.
    taken: BTreeMap<u64, Acker>,
}

impl<'a> Inbox<'a> {
    pub(super) async fn open(session: &Session, settings: &'a LaneSettings) -> Result<Self, BrokerError> {
        let prefetch = settings.batch_max.saturating_mul(AHEAD);
        let qos = session.channel.basic_qos(prefetch, BasicQosOptions::default());
        within(REQUEST_LIMIT, || "setting the prefetch".into(), qos).await?;
        let consume = session.channel.basic_consume(
            settings.queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(REQUEST_LIMIT, || format!("consuming {:?}", settings.queue), consume).await?;
        Ok(Self { settings, consumer, waiting: VecDeque::new(), taken: BTreeMap::new() })
    }

    /// Waits for a delivery, then takes what comes within the linger, up to the most for a batch.
    pub(super) async fn batch(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        let mut linger = self.settings.linger;
        match self.consumer.next().now_or_never() {
            Some(next) => {
                self.keep(next)?;
                linger = linger.max(BEHIND);
            }
            None if self.waiting.is_empty() => {
                let next = self.consumer.next().await;
                self.keep(next)?;
            }
            None => {}
        }
        let deadline = Instant::now() + linger;
        loop {
            // Also what is ready beyond a batch: it may be of other senders.
            while let Some(next) = self.consumer.next().now_or_never() {
                self.keep(next)?;
            }
            // A timer would wait for its next tick.
            if linger.is_zero() || self.waiting.len() >= usize::from(self.settings.batch_max) {
                break;
            }
            match timeout_at(deadline, self.consumer.next()).await {
                Ok(next) => self.keep(next)?,
                Err(_) => break,
            }
        }
        let batch = share(&mut self.waiting, self.settings.batch_max.into(), |delivery| {
            delivery.properties.user_id().as_ref().map(|user| user.as_str().to_owned())
        });
        self.taken.extend(batch.iter().map(|delivery| (delivery.delivery_tag, delivery.acker.clone())));
        Ok(batch)
    }

    fn keep(&mut self, next: Option<lapin::Result<Delivery>>) -> Result<(), BrokerError> {
        let queue = &self.settings.queue;
        let delivery = next.ok_or_else(|| BrokerError::ConsumerEnded(queue.clone()))?;
        let doing = || format!("consuming {queue:?}");
        self.waiting.push_back(delivery.map_err(|source| BrokerError::Amqp { doing: doing(), source })?);
        Ok(())
    }

    /// Acks what has been taken: the broker forgets it, so it must be stored and what follows confirmed. What came after a
    /// message that still waits is acked with that one.
    pub(super) async fn ack(&mut self) -> Result<(), BrokerError> {
        let rest = match self.waiting.front() {
            Some(first) => self.taken.split_off(&first.delivery_tag),
            None => BTreeMap::new(),
        };
        let handled = std::mem::replace(&mut self.taken, rest);
        let Some(last) = handled.into_values().next_back() else { return Ok(()) };
        ack(&last, BasicAckOptions { multiple: true }).await
    }

    /// Acks what has been taken but for these messages, which the broker delivers again when the connection ends.
    pub(super) async fn ack_except(&mut self, unhandled: &[u64]) -> Result<(), BrokerError> {
        for (tag, acker) in std::mem::take(&mut self.taken) {
            if !unhandled.contains(&tag) {
                ack(&acker, BasicAckOptions::default()).await?;
            }
        }
        Ok(())
    }
}

async fn ack(acker: &Acker, options: BasicAckOptions) -> Result<(), BrokerError> {
    match within(REQUEST_LIMIT, || "acking a batch".into(), acker.ack(options)).await? {
        true => Ok(()),
        false => Err(BrokerError::AckLost),
    }
}

/// Takes up to `most` of what waits. Where there is more, the first of each sender come first, then the second of each, and so
/// on; in the order in which they came.
fn share<T>(waiting: &mut VecDeque<T>, most: usize, sender: impl Fn(&T) -> Option<String>) -> Vec<T> {
    if waiting.len() <= most {
        return waiting.drain(..).collect();
    }
    let mut counts: HashMap<Option<String>, usize> = HashMap::new();
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(waiting.len());
    for (index, message) in waiting.iter().enumerate() {
        let count = counts.entry(sender(message)).or_default();
        places.push((*count, index));
        *count += 1;
    }
    places.sort_unstable();
    let mut taken = vec![false; waiting.len()];
    for (_, index) in places.into_iter().take(most) {
        if let Some(taken) = taken.get_mut(index) {
            *taken = true;
        }
    }
    let (mut batch, mut rest) = (Vec::with_capacity(most), VecDeque::with_capacity(waiting.len()));
    for (message, taken) in waiting.drain(..).zip(taken) {
        if taken { batch.push(message) } else { rest.push_back(message) }
    }
    *waiting = rest;
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(waiting: &str, most: usize) -> (String, String) {
        let mut waiting: VecDeque<char> = waiting.chars().collect();
        let sender = |message: &char| Some(message.to_ascii_lowercase().to_string());
        let batch = share(&mut waiting, most, sender).into_iter().collect();
        (batch, waiting.into_iter().collect())
    }

    #[test]
    fn where_all_fits_nothing_is_left() {
        assert_eq!(shared("aaab", 4), ("aaab".into(), String::new()));
        assert_eq!(shared("", 4), (String::new(), String::new()));
    }

    #[test]
    fn each_sender_has_as_many_places_as_any_other() {
        assert_eq!(shared("aaaaaaaab", 4), ("aaab".into(), "aaaaa".into()));
        assert_eq!(shared("aaaabbbbcc", 6), ("aabbcc".into(), "aabb".into()));
        // What one does not need, others have.
        assert_eq!(shared("aaaaaabc", 6), ("aaaabc".into(), "aa".into()));
    }

    #[test]
    fn the_first_that_waits_is_always_taken_and_the_order_is_kept() {
        assert_eq!(shared("abcdefg", 3), ("abc".into(), "defg".into()));
        assert_eq!(shared("AaBbA", 3), ("AaB".into(), "bA".into()));
    }
}
