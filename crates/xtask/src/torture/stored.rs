//! What the database and the stream say at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use countersign_broker::stream::{Offset, StreamReader};
use countersign_core::action::State;
use countersign_testkit::system::System;
use serde::Deserialize;
use tokio::time::timeout;

/// An action as it is stored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StoredAction {
    /// Its own id, which is the idempotency key.
    pub(crate) key: String,
    /// The id that its agent gave it.
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) fence: i32,
    /// Of what was last approved or judged, with its prefix.
    pub(crate) digest: String,
    /// The outcomes told, the first and after it the resolution of a doubt.
    pub(crate) outcomes: Vec<State>,
    /// Whether it was claimed.
    pub(crate) executed: bool,
    /// Throws of the coin for an executed action, as stored and as evidence.
    pub(crate) throws: usize,
    pub(crate) sampled: usize,
    pub(crate) selected: bool,
    pub(crate) audits: usize,
    /// The states that evidence tells of, in order.
    pub(crate) walk: Vec<State>,
}

/// All that is checked beside the history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) actions: BTreeMap<String, StoredAction>,
    /// Events whose decisions or findings are kept.
    pub(crate) statements: BTreeSet<String>,
    /// Codes in the quarantine.
    pub(crate) quarantined: Vec<String>,
    /// Evidence that is not in the ledger.
    pub(crate) pending: i64,
    /// Entries of the ledger.
    pub(crate) size: u64,
    /// Why the ledger does not verify.
    pub(crate) ledger: Option<String>,
    /// The indexes in the audit stream, in their order there.
    pub(crate) stream: Vec<u64>,
}

const ACTIONS: &str = "SELECT json_build_object(
  'key', a.id, 'id', a.event_id, 'state', a.state, 'fence', a.fence,
  'digest', 'sha256:' || encode(p.digest, 'hex'), 'executed', a.started_at IS NOT NULL,
  'outcomes', coalesce((SELECT json_agg(o.outcome ORDER BY o.seq) FROM outcomes o WHERE o.action = a.id), '[]'),
  'throws', (SELECT count(*) FROM sampling s WHERE s.action = a.id AND s.executed),
  'selected', coalesce((SELECT s.selected FROM sampling s WHERE s.action = a.id), false),
  'sampled', (SELECT count(*) FROM evidence e WHERE e.action = a.id AND e.kind = 'action.sampled'
              AND (e.body ->> 'executed')::boolean),
  'audits', (SELECT count(*) FROM audits u WHERE u.action = a.id),
  'walk', coalesce((SELECT json_agg(e.body ->> 'state' ORDER BY e.id) FROM evidence e
    WHERE e.action = a.id AND e.body ->> 'state' IS NOT NULL
      AND e.kind IN ('action.judged', 'action.claimed', 'action.completed', 'action.resolved',
                     'decision.recorded')), '[]'))::text
  FROM actions a LEFT JOIN payloads p ON p.action = a.id";

/// How far everything has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Actions by their agent's id that have ended.
    pub(crate) ended: BTreeSet<String>,
    /// Events whose decisions or findings are kept.
    pub(crate) heard: BTreeSet<String>,
    /// Executed actions without a throw, and evidence that is not recorded yet.
    pub(crate) owed: i64,
}

/// Reads how far everything has come.
pub(crate) async fn progress(system: &System) -> anyhow::Result<Progress> {
    let tx = system.store()?.transaction().await?;
    let sql = "SELECT event_id FROM actions WHERE ended_at IS NOT NULL";
    let ended = tx.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT (SELECT count(*) FROM evidence_pending) + (SELECT count(*) FROM actions a
               WHERE a.started_at IS NOT NULL
                 AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id AND s.executed))";
    let owed = tx.query_one(sql, &[]).await?.get(0);
    let rows = tx.query("SELECT event FROM statements", &[]).await?;
    let heard = rows.iter().map(|row| row.get(0)).collect();
    Ok(Progress { ended, heard, owed })
}

impl Stored {
    /// Reads all of it.
    pub(crate) async fn read(system: &System) -> anyhow::Result<Self> {
        let mut stored = Self::default();
        let tx = system.store()?.transaction().await?;
        for row in tx.query(ACTIONS, &[]).await? {
            let action: StoredAction = serde_json::from_str(row.get(0))?;
            stored.actions.insert(action.id.clone(), action);
        }
        let rows = tx.query("SELECT event FROM statements", &[]).await?;
        stored.statements = rows.iter().map(|row| row.get(0)).collect();
        let rows = tx.query("SELECT code || ': ' || message FROM quarantine", &[]).await?;
        stored.quarantined = rows.iter().map(|row| row.get(0)).collect();
        stored.pending = tx.query_one("SELECT count(*) FROM evidence_pending", &[]).await?.get(0);
        let size: i64 = tx.query_one("SELECT size FROM recorder", &[]).await?.get(0);
        stored.size = u64::try_from(size)?;
        tx.commit().await?;
        stored.ledger = verify(system).await?;
        stored.stream = match streamed(system, stored.size).await {
            Ok(indexes) => indexes,
            // As good as empty: the checker says so.
            Err(error) => {
                eprintln!("the stream cannot be read: {error:#}");
                vec![]
            }
        };
        Ok(stored)
    }
}

/// `countersign ledger verify`: what it says, if something does not hold.
async fn verify(system: &System) -> anyhow::Result<Option<String>> {
    let mut command = tokio::process::Command::from(system.command());
    command.args(["ledger", "verify", "--key"]).arg(system.ledger_key()).kill_on_drop(true);
    let output = timeout(Duration::from_secs(120), command.output()).await??;
    let said = [output.stdout, output.stderr].concat();
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&said).into_owned()))
}

/// Reads the stream up to the ledger's last entry, or until nothing more comes.
async fn streamed(system: &System, size: u64) -> anyhow::Result<Vec<u64>> {
    let url = system.url("compliance-cora")?;
    let mut reader = StreamReader::open(url, "torture", Offset::First).await?;
    let (mut indexes, mut next) = (Vec::new(), 0);
    while next < size {
        let Some(batch) = reader.next(Duration::from_secs(15)).await? else { break };
        for event in batch.events()? {
            let index = event.index()?;
            next = next.max(index + 1);
            indexes.push(index);
        }
    }
    Ok(indexes)
}
