use std::collections::HashSet;

use async_trait::async_trait;
use proptest::{prelude::*, test_runner::TestCaseError};

use super::*;

/// The limit of an attempt; a message that hangs takes longer.
const LIMIT: Duration = Duration::from_millis(10);

/// A handler whose messages say what happens to them.
#[derive(Default)]
struct Bodies {
    handled: Vec<String>,
    quarantined: Vec<(String, Code)>,
    attempts: usize,
    database_is_full: bool,
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.body).into_owned()
}

#[async_trait]
impl Handler for Bodies {
    async fn ready(&mut self) -> Result<(), Failure> {
        match self.database_is_full {
            true => Err(Failure::Unavailable("no space left on device".into())),
            false => Ok(()),
        }
    }

    async fn handle(&mut self, batch: &[Delivery]) -> Result<Vec<Outgoing>, Failure> {
        self.attempts += 1;
        for delivery in batch {
            match body(delivery).split(' ').next() {
                Some("refused") => return Err(Failure::Refused("54000".into())),
                Some("deadlock") => return Err(Failure::Retry("40P01".into())),
                Some("lost") => return Err(Failure::Unanswered("connection closed".into())),
                Some("full") => return Err(Failure::Unavailable("53100".into())),
                Some("panic") => panic!("index out of bounds"),
                Some("hang") => std::future::pending().await,
                _ => {}
            }
        }
        self.handled.extend(batch.iter().map(body));
        Ok(vec![])
    }

    async fn quarantine(&mut self, delivery: &Delivery, code: Code, _: &str) -> Result<(), Failure> {
        self.quarantined.push((body(delivery), code));
        Ok(())
    }
}

fn delivery(body: &str) -> Delivery {
    Delivery {
        body: body.into(),
        author: Some("agent-one".into()),
        exchange: "countersign.actions".into(),
        routing_key: "tool".into(),
        copied: false,
        unreadable: body.starts_with("unreadable").then(|| "the message_id is not UTF-8".into()),
    }
}

fn batch(bodies: &[&str]) -> Vec<Delivery> {
    bodies.iter().map(|body| delivery(body)).collect()
}

#[tokio::test]
async fn a_message_that_is_refused_alone_is_quarantined_and_the_others_are_handled() {
    let (mut handler, mut suspects) = (Bodies::default(), Suspects::default());
    let batch = batch(&["a", "refused", "b", "panic", "unreadable", "c"]);
    let applied = apply(&mut handler, &batch, LIMIT, &mut suspects).await.unwrap_or_default();
    assert!(applied.unhandled.is_empty());
    assert_eq!(handler.handled, ["a", "b", "c"]);
    let mut quarantined = handler.quarantined;
    quarantined.sort_by(|a, b| a.0.cmp(&b.0));
    let expected =
        [("panic", Code::Poison), ("refused", Code::Poison), ("unreadable", Code::UnreadableProperties)];
    assert_eq!(quarantined, expected.map(|(body, code)| (body.to_owned(), code)));
}

#[tokio::test]
async fn a_full_disk_is_no_messages_fault() {
    let mut handler = Bodies { database_is_full: true, ..Bodies::default() };
    for bodies in [["refused", "a"], ["lost", "a"], ["a", "hang"]] {
        let applied = apply(&mut handler, &batch(&bodies), LIMIT, &mut Suspects::default()).await;
        assert!(matches!(applied, Err(Failure::Unavailable(_))));
    }
    let mut handler = Bodies::default();
    for _ in 0..20 {
        let applied = apply(&mut handler, &batch(&["full"]), LIMIT, &mut Suspects::default()).await;
        assert!(matches!(applied, Err(Failure::Unavailable(_))));
    }
    assert!(handler.quarantined.is_empty());
}

#[tokio::test]
async fn a_message_without_an_answer_is_delivered_again_before_it_is_quarantined() {
    for bad in ["lost", "hang", "deadlock"] {
        let (mut handler, mut suspects) = (Bodies::default(), Suspects::default());
        let batch = batch(&["a", "b", bad, "c"]);
        for strike in 1..=STRIKES {
            let applied = apply(&mut handler, &batch, LIMIT, &mut suspects).await.unwrap_or_default();
            let last = strike == STRIKES;
            assert_eq!(applied.unhandled, if last { vec![] } else { vec![2] }, "{bad} {strike}");
            assert_eq!(handler.quarantined.len(), usize::from(last));
        }
        let handled: HashSet<String> = handler.handled.into_iter().collect();
        assert_eq!(handled, ["a", "b", "c"].map(str::to_owned).into());
    }
}

#[tokio::test]
async fn a_message_that_succeeds_again_is_no_suspect() {
    let (mut handler, mut suspects) = (Bodies::default(), Suspects::default());
    for _ in 0..10 * STRIKES {
        // The same message: the connection is lost while it is handled, and not the next time.
        suspects.strike(&delivery("a"));
        let applied = apply(&mut handler, &batch(&["a"]), LIMIT, &mut suspects).await.unwrap_or_default();
        assert!(applied.unhandled.is_empty());
    }
    assert!(handler.quarantined.is_empty());
}

#[tokio::test]
async fn one_bad_message_among_many_is_found_in_few_attempts() {
    let (mut handler, mut suspects) = (Bodies::default(), Suspects::default());
    let names: Vec<String> = (0..512).map(|n| format!("{n}")).collect();
    let mut batch: Vec<Delivery> = names.iter().map(|name| delivery(name)).collect();
    batch[300] = delivery("refused");
    let applied = apply(&mut handler, &batch, LIMIT, &mut suspects).await.unwrap_or_default();
    assert!(applied.unhandled.is_empty());
    assert_eq!(handler.handled.len(), 511);
    assert!(handler.attempts <= 2 * 9 + 3, "{} attempts", handler.attempts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is in a batch, each message is handled once, quarantined or left to be delivered again.
    #[test]
    fn every_message_ends_somewhere(kinds in prop::collection::vec(
        prop::sample::select(vec!["ok", "ok", "ok", "refused", "panic", "lost", "unreadable"]), 1..40,
    )) {
        let names: Vec<String> = kinds.iter().enumerate().map(|(n, kind)| format!("{kind} {n}")).collect();
        let batch: Vec<Delivery> = names.iter().map(|name| delivery(name)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let mut handler = Bodies::default();
        let applied = runtime.block_on(apply(&mut handler, &batch, LIMIT, &mut Suspects::default()));
        let applied = applied.map_err(|failure| TestCaseError::fail(format!("{failure:?}")))?;
        let mut ended: Vec<String> = handler.handled;
        ended.extend(handler.quarantined.into_iter().map(|(body, _)| body));
        ended.extend(applied.unhandled.iter().map(|index| names[*index].clone()));
        ended.sort();
        let mut all = names.clone();
        all.sort();
        prop_assert_eq!(ended, all);
        for index in applied.unhandled {
            prop_assert!(names[index].starts_with("lost"));
        }
    }
}
