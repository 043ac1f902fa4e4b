//! Creates bundles, which prove one action's entries, and proofs that one checkpoint continues another.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign_core::{
    digest::{salted, tagged},
    ids::ActionId,
    signed::statement_digest,
};
use countersign_ledger::{
    bundle::{Answer, Bundle, Content, FORMAT, Proven, SignedBy},
    continuity::Continuity,
    note::Checkpoint,
    tree,
};
use countersign_policy::Configuration;
use countersign_store::{
    Transaction, generation,
    ledger::{
        Signed, bundle as parts,
        read::{self, Entry},
    },
};
use serde_json::Value;

use crate::{AppError, Connections, actions::find};

/// How long the recorder may take to record what has just happened.
const RECORDING_LIMIT: Duration = Duration::from_secs(10);

/// The bundle of the action that `name` identifies: its agent's id for it, `source#id`, or Countersign's own id.
///
/// # Errors
/// If no or more than one action matches, its evidence is not recorded within ten seconds, or the database cannot be read.
pub async fn action(connections: &Connections, name: &str) -> Result<Bundle, AppError> {
    let store = connections.store()?;
    let started = Instant::now();
    loop {
        let tx = store.snapshot().await?;
        let action = find(&tx, name).await?.id;
        // A recent erasure or edit whose entry is not recorded yet would look like tampering.
        if parts::is_recorded(&tx, action).await? {
            return bundle(&tx, action).await;
        }
        if started.elapsed() >= RECORDING_LIMIT {
            return Err(AppError::State(format!(
                "not everything about it is in the ledger after {RECORDING_LIMIT:?}: is a recorder running?"
            )));
        }
        drop(tx);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The proof that the newest checkpoint continues the one in the file `old`.
///
/// # Errors
/// Where the file holds no checkpoint, the ledger is empty or shorter, or the database cannot be read.
pub async fn continuity(connections: &Connections, old: &Path) -> Result<Continuity, AppError> {
    let note = fs::read_to_string(old).map_err(AppError::file("reading", old))?;
    let before = Checkpoint::read(&note)?;
    let store = connections.store()?;
    let tx = store.snapshot().await?;
    let now = newest(&tx).await?;
    let path = tree::Path::consistency(before.size, now.size)?;
    let proof = path.hashes(&read::tiles(&tx, path.tiles()).await?)?;
    Ok(Continuity::new(note, now.note, &proof))
}

async fn newest(tx: &Transaction) -> Result<Signed, AppError> {
    let newest = read::checkpoint(tx, u64::MAX >> 1).await?;
    newest.ok_or_else(|| AppError::State("the ledger is empty: is a recorder running?".into()))
}

/// The bundle of an action, under the newest checkpoint.
async fn bundle(tx: &Transaction, action: ActionId) -> Result<Bundle, AppError> {
    let checkpoint = newest(tx).await?;
    let entries = read::of_action(tx, action, checkpoint.size).await?;
    let entries = proven(tx, checkpoint.size, &entries).await?;
    let epoch =
        entries.iter().find_map(|entry| entry.entry.pointer("/sampling/epoch").and_then(Value::as_i64));
    let epochs = match epoch {
        Some(epoch) => {
            proven(tx, checkpoint.size, &read::of_epoch(tx, epoch, checkpoint.size).await?).await?
        }
        None => vec![],
    };
    let mut policies = Vec::new();
    for digest in named(&entries, "/policy/digest") {
        let policy = parts::policy(tx, &digest).await?;
        policies.push(policy.ok_or_else(|| AppError::Corrupt(format!("the policy {digest} is gone")))?);
    }
    Ok(Bundle {
        format: FORMAT.into(),
        action,
        checkpoint: checkpoint.note,
        count: entries.len(),
        contents: content(parts::content(tx, action).await?, &named(&entries, "/action/digest"))?,
        results: answer(parts::result(tx, action).await?, &named(&entries, "/execution/effect_digest"))?,
        statements: statements(tx, action, &named(&entries, "/review/signed/digest")).await?,
        erased: Bundle::erasures(&entries),
        entries,
        epochs,
        policies,
    })
}

/// The entries' values at `pointer`.
fn named(entries: &[Proven], pointer: &str) -> BTreeSet<String> {
    let counts = |entry: &&Proven| {
        !matches!(entry.entry["type"].as_str(), Some("decision.refused" | "decision.repeated"))
    };
    let named = entries.iter().filter(counts).filter_map(|entry| entry.entry.pointer(pointer)?.as_str());
    named.map(str::to_owned).collect()
}

async fn proven(tx: &Transaction, size: u64, entries: &[Entry]) -> Result<Vec<Proven>, AppError> {
    let mut proven = Vec::with_capacity(entries.len());
    for Entry { index, entry } in entries {
        let path = tree::Path::inclusion(size, *index)?;
        let proof = path.hashes(&read::tiles(tx, path.tiles()).await?)?;
        proven.push(Proven::new(*index, entry, &proof)?);
    }
    Ok(proven)
}

/// Stored bytes and the salt of their digest.
type Salted = Option<(Vec<u8>, Vec<u8>)>;

/// Stored bytes and their salt, if an entry names their digest. Content without an entry yet is left to the next checkpoint.
fn known(stored: Salted, named: &BTreeSet<String>) -> Option<(Vec<u8>, String)> {
    let (bytes, salt) = stored?;
    let digest = tagged(&salted(&salt.as_slice().try_into().ok()?, &bytes));
    named.contains(&digest).then(|| (bytes, STANDARD.encode(salt)))
}

fn content(stored: Salted, named: &BTreeSet<String>) -> Result<Vec<Content>, AppError> {
    let content = |(bytes, salt): (Vec<u8>, String)| {
        Ok(Content {
            salt,
            content: serde_json::from_slice(&bytes)
                .map_err(AppError::invalid("the stored content is not JSON"))?,
        })
    };
    known(stored, named).into_iter().map(content).collect()
}

fn answer(stored: Salted, named: &BTreeSet<String>) -> Result<Vec<Answer>, AppError> {
    let answer = |(bytes, salt): (Vec<u8>, String)| {
        Ok(Answer {
            salt,
            text: String::from_utf8(bytes).map_err(AppError::invalid("the stored result is not text"))?,
        })
    };
    known(stored, named).into_iter().map(answer).collect()
}

async fn statements(
    tx: &Transaction,
    action: ActionId,
    named: &BTreeSet<String>,
) -> Result<Vec<SignedBy>, AppError> {
    let stated = parts::statements(tx, action).await?;
    let mut missing: BTreeSet<String> = stated.iter().map(|stated| stated.kid.clone()).collect();
    let mut keys = HashMap::new();
    for config in parts::configs(tx).await? {
        if missing.is_empty() {
            break;
        }
        let Ok(configuration) = Configuration::parse(&generation::sources(tx, config).await?) else {
            continue;
        };
        for key in configuration.directory.keys() {
            if missing.remove(&key.kid) {
                keys.insert(key.kid.clone(), URL_SAFE_NO_PAD.encode(key.key.as_bytes()));
            }
        }
    }
    let mut signed = Vec::new();
    for stated in stated.into_iter().filter(|stated| named.contains(&statement_digest(&stated.jws))) {
        let unknown = || AppError::Corrupt(format!("no directory has the key {}", stated.kid));
        let key = keys.get(&stated.kid).ok_or_else(unknown)?;
        signed.push(SignedBy { jws: stated.jws, disclosures: stated.disclosures, key: key.clone() });
    }
    Ok(signed)
}
