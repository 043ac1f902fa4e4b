//! The state of the database and the stream at the end of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use countersign_broker::{
    stream::{Offset, StreamReader},
    topology::COMMANDS,
};
use countersign_core::{action::State, keyed::commitment};
use countersign_ledger::{Hash, tree::leaf_hash};
use countersign_store::{Transaction, epochs, ledger::read, sampling};
use countersign_testkit::{system::System, wait::eventually};
use serde::Deserialize;
use tokio::time::timeout;

use super::hostile;

/// An action as it is stored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StoredAction {
    /// Its own id, which is the idempotency key.
    pub(crate) key: String,
    /// The id that its agent gave it.
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) fence: i32,
    /// The digest of the content last approved or evaluated, with its prefix.
    pub(crate) digest: String,
    /// The stored outcomes: the first, then the resolution of a doubt.
    pub(crate) outcomes: Vec<State>,
    /// Whether it was claimed.
    pub(crate) executed: bool,
    /// Draws for an executed action, as stored and as evidence.
    pub(crate) draws: usize,
    pub(crate) sampled: usize,
    pub(crate) selected: bool,
    /// The inclusion probability.
    pub(crate) pi: f64,
    pub(crate) audits: usize,
    /// The states in its evidence, in order.
    pub(crate) walk: Vec<State>,
    /// The events whose decisions have counted, in order.
    pub(crate) recorded: Vec<String>,
}

/// A quarantined message.
#[derive(Clone, Debug)]
pub(crate) struct Quarantined {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The gate's own queue that it was for, if any.
    pub(crate) queue: String,
}

/// Everything that is checked against the history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) actions: BTreeMap<String, StoredAction>,
    /// Events whose decisions or findings are kept.
    pub(crate) statements: BTreeSet<String>,
    pub(crate) quarantined: Vec<Quarantined>,
    /// The ids of quarantined messages of the hostile agent.
    pub(crate) isolated: BTreeSet<String>,
    /// Evidence that is not in the ledger.
    pub(crate) pending: i64,
    /// Entries of the ledger.
    pub(crate) size: u64,
    /// Why the ledger does not verify.
    pub(crate) ledger: Option<String>,
    /// Draws that cannot be reproduced.
    pub(crate) wrong_draws: Vec<String>,
    /// The indexes in the audit stream, in their order there.
    pub(crate) stream: Vec<u64>,
    /// Indexes of stream entries that differ from the ledger's.
    pub(crate) altered: BTreeSet<u64>,
}

/// The honest agents' actions.
const ACTIONS: &str = "SELECT json_build_object(
  'key', a.id, 'id', a.event_id, 'state', a.state, 'fence', a.fence,
  'digest', 'sha256:' || encode(p.digest, 'hex'), 'executed', a.started_at IS NOT NULL,
  'outcomes', coalesce((SELECT json_agg(o.outcome ORDER BY o.seq) FROM outcomes o WHERE o.action = a.id), '[]'),
  'draws', (SELECT count(*) FROM sampling s WHERE s.action = a.id AND s.executed),
  'selected', coalesce((SELECT s.selected FROM sampling s WHERE s.action = a.id), false),
  'pi', coalesce((SELECT s.pi FROM sampling s WHERE s.action = a.id), 0),
  'sampled', (SELECT count(*) FROM evidence e WHERE e.action = a.id AND e.kind = 'action.sampled'
              AND (e.body ->> 'executed')::boolean),
  'audits', (SELECT count(*) FROM audits u WHERE u.action = a.id),
  'walk', coalesce((SELECT json_agg(e.body ->> 'state' ORDER BY e.id) FROM evidence e
    WHERE e.action = a.id AND e.body ->> 'state' IS NOT NULL
      AND e.kind IN ('action.evaluated', 'action.claimed', 'action.completed', 'action.resolved',
                     'decision.recorded')), '[]'),
  'recorded', coalesce((SELECT json_agg(e.body ->> 'event' ORDER BY e.id) FROM evidence e
    WHERE e.action = a.id AND e.kind = 'decision.recorded'), '[]'))::text
  FROM actions a LEFT JOIN payloads p ON p.action = a.id WHERE a.agent <> 'eve'";

/// How long the last statements may take to be recorded.
const QUIET: Duration = Duration::from_secs(20);

/// How far everything has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Ended actions by their agent's id, with their state. An action in doubt ends when it is resolved.
    pub(crate) ended: BTreeMap<String, State>,
    /// Events whose decisions or findings are kept.
    pub(crate) recorded: BTreeSet<String>,
    /// How many actions have not ended, including those that no agent knows of.
    pub(crate) open: i64,
    /// Executed actions without a draw, and evidence that is not recorded yet.
    pub(crate) pending: i64,
}

/// Reads how far everything has come.
pub(crate) async fn progress(system: &System) -> anyhow::Result<Progress> {
    let tx = system.store()?.transaction().await?;
    let sql = "SELECT event_id, to_json(state)::text FROM actions WHERE ended_at IS NOT NULL AND state <> 'in_doubt'";
    let rows = tx.query(sql, &[]).await?;
    let ended = rows.iter().map(|row| Ok((row.get(0), serde_json::from_str(row.get(1))?)));
    let ended = ended.collect::<anyhow::Result<_>>()?;
    let sql = "SELECT (SELECT count(*) FROM evidence_pending) + (SELECT count(*) FROM actions a
               WHERE a.started_at IS NOT NULL
                 AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id AND s.executed))";
    let pending = tx.query_one(sql, &[]).await?.get(0);
    let sql = "SELECT count(*) FROM actions WHERE (ended_at IS NULL OR state = 'in_doubt') AND agent <> $1";
    let open = tx.query_one(sql, &[&hostile::AGENT]).await?.get(0);
    let rows = tx.query("SELECT event FROM statements", &[]).await?;
    let recorded = rows.iter().map(|row| row.get(0)).collect();
    Ok(Progress { ended, recorded, open, pending })
}

impl Stored {
    /// Reads all of it.
    pub(crate) async fn read(system: &System) -> anyhow::Result<Self> {
        let mut stored = Self::default();
        // The workers still run: epochs end, and their evidence takes a moment to be recorded.
        let quiet = eventually("everything is recorded", QUIET, async || {
            let tx = system.store().ok()?.snapshot().await.ok()?;
            let sql = "SELECT NOT EXISTS (SELECT FROM evidence_pending)";
            tx.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(tx)
        });
        let tx = match quiet.await {
            Ok(tx) => tx,
            // The checker reports it.
            Err(_) => system.store()?.snapshot().await?,
        };
        for row in tx.query(ACTIONS, &[]).await? {
            let action: StoredAction = serde_json::from_str(row.get(0))?;
            stored.actions.insert(action.id.clone(), action);
        }
        let rows = tx.query("SELECT event FROM statements", &[]).await?;
        stored.statements = rows.iter().map(|row| row.get(0)).collect();
        // A hostile client may leave out who it is.
        let sql = "SELECT code, message, exchange, routing_key FROM quarantine
                   WHERE author <> ALL ($1) OR author IS NULL AND code <> 'author_missing'";
        let rows = tx.query(sql, &[&hostile::USERS.as_slice()]).await?;
        let quarantined = rows.iter().map(|row| {
            let (exchange, key): (String, String) = (row.get(2), row.get(3));
            let queue = if exchange == COMMANDS { format!("{exchange}.{key}") } else { exchange };
            Quarantined { code: row.get(0), message: row.get(1), queue }
        });
        stored.quarantined = quarantined.collect();
        let rows = tx.query("SELECT body FROM quarantine WHERE author = $1", &[&hostile::USERS[0]]).await?;
        stored.isolated = rows.iter().filter_map(|row| hostile::id(row.get(0))).collect();
        stored.pending = tx.query_one("SELECT count(*) FROM evidence_pending", &[]).await?.get(0);
        let size: i64 = tx.query_one("SELECT size FROM recorder", &[]).await?.get(0);
        stored.size = u64::try_from(size)?;
        stored.wrong_draws = irreproducible(system, &tx).await?;
        let entries = leaves(&tx, stored.size).await?;
        tx.commit().await?;
        let key = system.ledger_key().display().to_string();
        stored.ledger = objection(system, &["ledger", "verify", "--key", &key]).await?;
        stored.wrong_draws.extend(objection(system, &["audits", "prove"]).await?);
        match streamed(system, &entries).await {
            Ok((indexes, altered)) => (stored.stream, stored.altered) = (indexes, altered),
            // The stream counts as empty; the checker reports it.
            Err(error) => eprintln!("the stream cannot be read: {error:#}"),
        }
        Ok(stored)
    }
}

/// Repeats every stored draw, including those of open epochs. Returns what differs.
async fn irreproducible(system: &System, tx: &Transaction) -> anyhow::Result<Vec<String>> {
    let (keyed_sampler, mut wrong) = (system.keyed_sampler()?, Vec::new());
    for epoch in epochs::list(tx, None).await? {
        let (number, key) = (epoch.epoch, keyed_sampler.epoch_key(epoch.epoch));
        if commitment(&key).as_slice() != epoch.commitment {
            wrong.push(format!("epoch {number} is committed to another key"));
        }
        if epoch.key.is_some_and(|revealed| revealed != key) {
            wrong.push(format!("the revealed key of epoch {number} is another"));
        }
        for stored in sampling::of_epoch(tx, number, None, i64::MAX).await? {
            let (action, draw) = (&stored.reference, stored.draw);
            if keyed_sampler.draw(number, &action.source, &action.id, draw.pi) != draw {
                wrong.push(format!("the draw for {} has another result", action.id));
            }
        }
    }
    Ok(wrong)
}

/// Most entries that are read at once.
const PAGE: i64 = 5_000;

/// The hash of every entry of the ledger.
async fn leaves(tx: &Transaction, size: u64) -> anyhow::Result<Vec<Hash>> {
    let mut leaves: Vec<Hash> = Vec::new();
    while (leaves.len() as u64) < size {
        let page = read::entries(tx, leaves.len() as u64, PAGE).await?;
        anyhow::ensure!(!page.is_empty(), "the ledger has {} of {size} entries", leaves.len());
        leaves.extend(page.iter().map(|entry| leaf_hash(&entry.entry)));
    }
    Ok(leaves)
}

/// Runs a checking command of `countersign`. Returns its output if the check fails.
async fn objection(system: &System, arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let mut command = tokio::process::Command::from(system.command());
    command.args(arguments).kill_on_drop(true);
    let output = timeout(Duration::from_secs(120), command.output()).await??;
    let printed = [output.stdout, output.stderr].concat();
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&printed).into_owned()))
}

/// Reads the stream up to the ledger's last entry, or until nothing more comes. Returns its indexes, and those whose entry
/// differs from the ledger's.
async fn streamed(system: &System, entries: &[Hash]) -> anyhow::Result<(Vec<u64>, BTreeSet<u64>)> {
    let url = system.url("compliance-cora")?;
    let mut reader = StreamReader::open(url, "torture", Offset::First).await?;
    let (mut indexes, mut altered, mut next) = (Vec::new(), BTreeSet::new(), 0);
    while next < entries.len() as u64 {
        let Some(batch) = reader.next(Duration::from_secs(15)).await? else { break };
        for event in batch.events()? {
            let index = event.index()?;
            // It was recorded after the ledger was read.
            if index >= entries.len() as u64 {
                continue;
            }
            if entries.get(index as usize) != Some(&leaf_hash(event.data.get().as_bytes())) {
                altered.insert(index);
            }
            next = next.max(index + 1);
            indexes.push(index);
        }
    }
    Ok((indexes, altered))
}
