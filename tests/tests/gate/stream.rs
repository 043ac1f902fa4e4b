//! The audit stream: complete and in order.

use anyhow::{Context as _, ensure};
use countersign_broker::{
    reader::Reader,
    stream::{Feed, Offset, StreamReader},
};
use countersign_ledger::event::cloud_event;
use countersign_tests::{
    Gate, answer,
    evidence::{recorded, streamed},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_lost_stream_is_refilled_from_the_ledger() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let mut act = async |id: &str| {
        agent.propose(id, "write_record", json!({"n": 1})).await?;
        answer(&mut agent).await
    };
    act("a-1").await?;
    recorded(&gate).await?;
    let session = countersign_broker::session::Session::open(&gate.system.place.amqp_url, "delete").await?;
    let queue = "countersign.audit-stream";
    session.channel.queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default()).await?;
    act("a-2").await?;
    let config = gate.system.config.display().to_string();
    let (output, ok) = gate.cli(&["apply", &config, "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    gate.system.kill("recorder")?;
    gate.system.start("recorder", "recorder")?;
    act("a-3").await?;
    recorded(&gate).await?;
    let size = gate.count("SELECT size FROM recorder").await?;
    let indexes = streamed(&gate, size as usize).await?;
    ensure!(indexes == (0..size as u64).collect::<Vec<_>>(), "{indexes:?}");
    gate.close().await
}

#[tokio::test]
async fn a_tail_starts_near_its_entry_and_misses_none_that_a_late_recorder_repeats() -> anyhow::Result<()> {
    let mut gate = Gate::start().await?;
    recorded(&gate).await?;
    let size = streamed(&gate, gate.count("SELECT size FROM recorder").await? as usize).await?.len() as u64;
    gate.system.kill("recorder")?;
    let (cora, recorder) = (gate.system.url("compliance-cora")?, gate.system.url("countersign-recorder")?);
    let feed = Feed::connect(recorder, "test").await?;
    let send =
        async |index: u64| -> anyhow::Result<()> { Ok(feed.publish(&[cloud_event(index, b"{}")?]).await?) };
    for index in size..size + 400 {
        send(index).await?;
    }
    let tail = async |from: u64| -> anyhow::Result<()> {
        let (from, sequence) = (from.to_string(), |line: &str| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            event["sequence"].as_str().and_then(|text| text.parse::<u64>().ok())
        });
        let (output, ok) = gate.cli_as(cora, &["stream", "tail", "--from", &from, "--count", "3"]).await?;
        let from: u64 = from.parse()?;
        let indexes: Vec<_> = output.lines().map(sequence).collect();
        ensure!(ok && indexes == [Some(from), Some(from + 1), Some(from + 2)], "{output}");
        Ok(())
    };
    let seek = async |index: u64| StreamReader::seek(cora, "test", index).await;
    // With one message per entry, the offset is near the entry's index; prefetched messages and markers shift it.
    let Offset::At(place) = seek(size + 300).await? else { anyhow::bail!("it starts at the first message") };
    let skipped = i64::try_from(place)? - i64::try_from(size)?;
    ensure!((200..=310).contains(&skipped), "{place} of about {}", size + 300);
    for from in [0, size, size + 1, size + 200, size + 397] {
        tail(from).await?;
    }
    // A late recorder repeats old entries, which mislead the bisection from the middle on.
    for index in size..size + 300 {
        send(index).await?;
    }
    send(size + 400).await?;
    for from in [size + 200, size + 350, size + 398] {
        tail(from).await?;
    }
    gate.close().await
}

#[tokio::test]
async fn a_compliance_reader_reads_the_stream_and_nothing_else() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    answer(&mut agent).await?;
    gate.reaches("SELECT count(*) FROM sampling", 1).await?;
    recorded(&gate).await?;
    let size = gate.count("SELECT size FROM recorder").await?;
    let cora = gate.system.url("compliance-cora")?.to_owned();
    let tail = ["stream", "tail", "--from", "2", "--count", &(size - 2).to_string()];
    let (output, ok) = gate.cli_as(&cora, &tail).await?;
    let events: Vec<Value> =
        output.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| output.clone())?;
    ensure!(ok && events.len() as i64 == size - 2, "{output}");
    ensure!(
        events[0]["sequence"] == "0000000000000002" && events[0]["type"] == "countersign.evidence.v1",
        "{output}"
    );
    for queue in ["countersign.outcomes.one", "countersign.actions.one", "countersign.approvals.approvers"] {
        ensure!(Reader::open(&cora, "nosy", queue).await.is_err(), "{queue}");
    }
    let sent =
        countersign_broker::stream::Feed::connect(&cora, "forger").await?.publish(&[b"{}".to_vec()]).await;
    ensure!(sent.is_err(), "compliance may write to the stream");
    let read = StreamReader::open(gate.system.url("agent-one")?, "nosy", Offset::First).await;
    ensure!(read.is_err(), "an agent may read the stream");

    let dir = tempfile::tempdir()?;
    for (format, lines) in [("cloudevents", size), ("csv", size + 1)] {
        let file = dir.path().join(format).display().to_string();
        let export = ["export", "evidence", "--from", "1h", "--format", format, "--out", &file];
        let (output, ok) = gate.cli(&export).await?;
        ensure!(ok, "{output}");
        ensure!(std::fs::read_to_string(&file)?.lines().count() as i64 == lines, "{format}");
        let manifest: Value = serde_json::from_str(&std::fs::read_to_string(file + ".manifest.json")?)?;
        ensure!(
            manifest["count"] == size && manifest["first"] == 0 && manifest["last"] == size - 1,
            "{manifest}"
        );
        ensure!(manifest["checkpoint"].is_string() && manifest["digest"].is_string(), "{manifest}");
    }
    gate.close().await
}
