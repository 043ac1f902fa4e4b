//! `countersign ledger prove`: puts a bundle together.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
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
    listing,
};
use serde::Serialize;
use serde_json::Value;

use crate::{Connections, output::show};

fn print<T: Serialize>(to: &Connections, value: &T) -> anyhow::Result<ExitCode> {
    show(to, value, || serde_json::to_string_pretty(value).unwrap_or_default())
}

async fn newest(tx: &Transaction) -> anyhow::Result<Signed> {
    read::checkpoint(tx, u64::MAX >> 1).await?.context("the ledger is empty: is a recorder running?")
}

/// How long what has just happened may take to be recorded.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn action(to: &Connections, name: &str) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let started = Instant::now();
    loop {
        let tx = store.snapshot().await?;
        let found = listing::find(&tx, name).await?;
        let action = match found.as_slice() {
            [one] => one.id,
            [] => anyhow::bail!("there is no action {name:?}"),
            _ => anyhow::bail!("{name:?} is ambiguous; write source#id or Countersign's own id"),
        };
        // What was erased or edited a moment ago lacks the entry that says so, and would be taken for tampered with.
        if parts::is_recorded(&tx, action).await? {
            return print(to, &bundle(&tx, action).await?);
        }
        anyhow::ensure!(
            started.elapsed() < PATIENCE,
            "not everything about it is in the ledger after {PATIENCE:?}: is a recorder running?"
        );
        drop(tx);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The bundle of an action, under the newest checkpoint.
async fn bundle(tx: &Transaction, action: ActionId) -> anyhow::Result<Bundle> {
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
        policies
            .push(parts::policy(tx, &digest).await?.with_context(|| format!("the policy {digest} is gone"))?);
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

/// What the entries name at `pointer`.
fn named(entries: &[Proven], pointer: &str) -> BTreeSet<String> {
    let counts = |entry: &&Proven| {
        !matches!(entry.entry["type"].as_str(), Some("decision.refused" | "decision.repeated"))
    };
    let named = entries.iter().filter(counts).filter_map(|entry| entry.entry.pointer(pointer)?.as_str());
    named.map(str::to_owned).collect()
}

async fn proven(tx: &Transaction, size: u64, entries: &[Entry]) -> anyhow::Result<Vec<Proven>> {
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

/// What is stored behind a salt, and the salt, if an entry names its digest. What none is about yet is left for the next
/// checkpoint.
fn known(stored: Salted, named: &BTreeSet<String>) -> Option<(Vec<u8>, String)> {
    let (bytes, salt) = stored?;
    let digest = tagged(&salted(&salt.as_slice().try_into().ok()?, &bytes));
    named.contains(&digest).then(|| (bytes, STANDARD.encode(salt)))
}

fn content(stored: Salted, named: &BTreeSet<String>) -> anyhow::Result<Vec<Content>> {
    let content = |(bytes, salt): (Vec<u8>, String)| {
        Ok(Content {
            salt,
            content: serde_json::from_slice(&bytes).context("the stored content is no JSON")?,
        })
    };
    known(stored, named).into_iter().map(content).collect()
}

fn answer(stored: Salted, named: &BTreeSet<String>) -> anyhow::Result<Vec<Answer>> {
    let answer = |(bytes, salt): (Vec<u8>, String)| {
        Ok(Answer { salt, text: String::from_utf8(bytes).context("the stored result is no text")? })
    };
    known(stored, named).into_iter().map(answer).collect()
}

async fn statements(
    tx: &Transaction,
    action: ActionId,
    named: &BTreeSet<String>,
) -> anyhow::Result<Vec<SignedBy>> {
    let stated = parts::statements(tx, action).await?;
    let mut missing: BTreeSet<String> = stated.iter().map(|stated| stated.kid.clone()).collect();
    let mut keys = std::collections::HashMap::new();
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
        let key =
            keys.get(&stated.kid).with_context(|| format!("no directory has the key {}", stated.kid))?;
        signed.push(SignedBy { jws: stated.jws, disclosures: stated.disclosures, key: key.clone() });
    }
    Ok(signed)
}

pub(super) async fn continuity(to: &Connections, old: &Path) -> anyhow::Result<ExitCode> {
    let note = fs::read_to_string(old).with_context(|| format!("reading {}", old.display()))?;
    let before = Checkpoint::read(&note)?;
    let store = to.store()?;
    let tx = store.snapshot().await?;
    let now = newest(&tx).await?;
    let path = tree::Path::consistency(before.size, now.size)?;
    let proof = path.hashes(&read::tiles(&tx, path.tiles()).await?)?;
    print(to, &Continuity::new(note, now.note, &proof))
}
