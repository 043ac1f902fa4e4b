//! One queue of a lane: what has been delivered, what is being handled, and what the broker may forget.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use lapin::{
    Acker, Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::Instant;

use crate::{
    BrokerError,
    error::within,
    session::{Link, REQUEST_LIMIT},
};

/// What part of a batch a queue has at most after it was paused.
const SLOW: usize = 4;

/// A queue with a channel of its own: when its channel fails, no other does.
pub(super) struct Source {
    pub(super) queue: String,
    /// Delivered, in that order, and not handled yet.
    pub(super) waiting: VecDeque<Delivery>,
    /// Nothing is taken until then.
    pub(super) paused_until: Option<Instant>,
    /// Whether it has been paused since something was last taken: then little is taken at once, so that the others wait less.
    slow: bool,
    /// Being handled, or handled and not acked yet, by delivery tag. Everything before the first that waits is here.
    taken: BTreeMap<u64, Acker>,
    // lapin closes a channel when its last handle is dropped.
    _channel: Channel,
}

impl Source {
    /// Consumes a queue with at most `prefetch` messages delivered and not acked.
    pub(super) async fn open(
        link: &Link,
        queue: &str,
        prefetch: u16,
    ) -> Result<(Self, Consumer), BrokerError> {
        let channel = link.channel().await?;
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        within(REQUEST_LIMIT, || "setting the prefetch".into(), qos).await?;
        let consume = channel.basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(REQUEST_LIMIT, || format!("consuming {queue:?}"), consume).await?;
        let source = Self {
            queue: queue.into(),
            waiting: VecDeque::new(),
            paused_until: None,
            slow: false,
            taken: BTreeMap::new(),
            _channel: channel,
        };
        Ok((source, consumer))
    }

    /// How many messages can be taken now for a batch of at most `most`.
    pub(super) fn ready(&self, most: usize) -> usize {
        match (self.paused_until, self.slow) {
            (Some(_), _) => 0,
            (None, true) => self.waiting.len().min((most / SLOW).max(1)),
            (None, false) => self.waiting.len(),
        }
    }

    /// Takes nothing more for so long.
    pub(super) fn pause(&mut self, pause: Duration) {
        self.paused_until = Some(Instant::now() + pause);
        self.slow = true;
    }

    /// Takes so many messages.
    pub(super) fn take(&mut self, count: usize) -> Vec<Delivery> {
        self.slow &= count == 0;
        let batch = share(&mut self.waiting, count, |delivery| {
            delivery.properties.user_id().as_ref().map(|user| user.as_str().to_owned())
        });
        self.taken.extend(batch.iter().map(|delivery| (delivery.delivery_tag, delivery.acker.clone())));
        batch
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

    /// Acks what has been taken but for these messages, which the broker delivers again when the channel ends.
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
