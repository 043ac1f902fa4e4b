//! Helpers of the suites that read the ledger and its stream.

use anyhow::{Context as _, ensure};
use countersign_broker::stream::{Offset, StreamReader};
use countersign_testkit::wait::eventually;

use crate::{Gate, LIMIT};

/// Waits until all evidence is recorded and the folder has the newest checkpoint.
pub async fn recorded(gate: &Gate) -> anyhow::Result<()> {
    eventually("all evidence is recorded", LIMIT, async || {
        let waiting = gate.count("SELECT count(*) FROM evidence_pending").await.ok()?;
        let size = gate.count("SELECT size FROM recorder").await.ok()?;
        let note = std::fs::read_to_string(gate.system.ledger().join("checkpoint")).ok()?;
        (waiting == 0 && note.lines().nth(1)?.parse() == Ok(size)).then_some(())
    })
    .await
}

/// The indexes of the stream's events, in stream order.
pub async fn streamed(gate: &Gate, size: usize) -> anyhow::Result<Vec<u64>> {
    let url = gate.system.url("compliance-cora")?;
    let mut reader = StreamReader::open(url, "test", Offset::First).await?;
    let mut indexes = Vec::new();
    while indexes.iter().max().is_none_or(|last| *last as usize + 1 < size) {
        let batch = reader
            .next(LIMIT)
            .await?
            .with_context(|| format!("only {} of {size} events came", indexes.len()))?;
        for event in batch.events()? {
            indexes.push(event.index()?);
        }
    }
    Ok(indexes)
}

/// Fails unless all entries are in the stream, first occurrences in order and without a gap. Returns how many were repeated.
pub async fn without_a_gap(gate: &Gate) -> anyhow::Result<u64> {
    let size = gate.count("SELECT size FROM recorder").await? as u64;
    let (mut next, mut again) = (0, 0);
    for index in streamed(gate, size as usize).await? {
        ensure!(index <= next, "the stream has {index} where {next} should be");
        again += u64::from(index < next);
        next = next.max(index + 1);
    }
    ensure!(next == size, "{next} of {size}");
    Ok(again)
}

/// Runs `countersign ledger verify`. Returns its output and whether it succeeded.
pub async fn verify(gate: &Gate, more: &[&str]) -> anyhow::Result<(String, bool)> {
    let key = gate.system.ledger_key().display().to_string();
    gate.cli(&[&["ledger", "verify", "--key", &key], more].concat()).await
}
