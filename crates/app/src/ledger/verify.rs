//! Verifies the ledger: database against tiles against checkpoints, in constant memory.

use std::{collections::VecDeque, fs, path::PathBuf};

use countersign_ledger::{
    Hash,
    entry::body_digest,
    note::{Checkpoint, LogKey},
    tree::{Node, TreeFrontier, empty_root, leaf_hash},
};
pub use countersign_store::ledger::verify::Count;
use countersign_store::{
    Transaction,
    ledger::{
        Signed, read,
        verify::{self, Recorded},
    },
};
use serde::Serialize;
use serde_json::Value;

use super::{key, tiles::Folder};
use crate::{AppError, Connections};

/// Most rows that are read at once.
const PAGE: i64 = 2_000;

/// The inputs of a verification.
#[derive(Clone, Debug)]
pub struct VerifyLedger {
    /// File with the ledger's public key: a JWK, or in the form of signed notes.
    pub key: PathBuf,
    /// The folder with checkpoint and tiles; without one only the database is verified.
    pub ledger: Option<PathBuf>,
    /// Files with checkpoints that were kept elsewhere.
    pub known: Vec<PathBuf>,
}

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// How many entries are unchanged.
    pub entries: u64,
    /// How many checkpoints have a valid signature and the root of the entries.
    pub checkpoints: u64,
    /// Tiles that were compared; absent without a folder.
    pub tiles: Option<u64>,
    /// Actions, decisions and executions against entries.
    pub counts: Vec<Count>,
    /// The first thing that is wrong.
    pub wrong: Option<Mismatch>,
}

/// The first entry that is wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Mismatch {
    /// Its index; absent where it is the tables that differ.
    pub entry: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Mismatch {
    fn at(index: u64, what: impl Into<String>) -> Self {
        Self { entry: Some(index), what: what.into() }
    }
}

/// Verifies the ledger up to its newest entry. `progress` learns how many entries have been verified so far.
///
/// # Errors
/// If something cannot be read. A mismatch in the ledger is a result, not an error.
pub async fn verify(
    connections: &Connections,
    request: &VerifyLedger,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Verification, AppError> {
    let store = connections.store()?;
    // Read the folder first: the ledger, read afterwards, must contain everything in it.
    let folder = match &request.ledger {
        Some(path) => {
            let folder = Folder::open(path)?;
            let missing = || AppError::NotFound(format!("{} has no checkpoint", path.display()));
            Some(folder.ok_or_else(missing)?)
        }
        None => None,
    };
    let tx = store.snapshot().await?;
    let newest = read::checkpoint(&tx, u64::MAX >> 1).await?;
    let note = folder.as_ref().map(|folder| &folder.note).or(newest.as_ref().map(|newest| &newest.note));
    let empty = || AppError::Usage("the ledger is empty: there is nothing to verify yet".into());
    let mut walk = Walk {
        key: key::read(&request.key, note.ok_or_else(empty)?)?,
        frontier: TreeFrontier::default(),
        folder,
        anchors: VecDeque::new(),
        found: Verification { entries: 0, checkpoints: 0, tiles: None, counts: vec![], wrong: None },
        last_signed: 0,
    };
    walk.found.wrong = match walk.anchors(&request.known)? {
        Ok(()) => walk.verify(&tx, progress).await?.err(),
        Err(wrong) => Some(wrong),
    };
    Ok(walk.found)
}

/// A root that the tree must have had at some size.
struct Anchor {
    size: u64,
    root: Hash,
    name: String,
}

struct Walk {
    key: LogKey,
    frontier: TreeFrontier,
    folder: Option<Folder>,
    /// From the folder and from elsewhere, in order of size.
    anchors: VecDeque<Anchor>,
    found: Verification,
    /// The size of the last valid checkpoint; everything before it is verified.
    last_signed: u64,
}

type Verdict = Result<(), Mismatch>;

impl Walk {
    /// Opens the checkpoints from the folder and from elsewhere.
    fn anchors(&mut self, known: &[PathBuf]) -> Result<Verdict, AppError> {
        let mut notes = Vec::new();
        if let Some(folder) = &self.folder {
            notes.push(("the folder's checkpoint".to_owned(), folder.note.clone()));
        }
        for path in known {
            let note = fs::read_to_string(path).map_err(AppError::file("reading", path))?;
            notes.push((format!("the checkpoint {}", path.display()), note));
        }
        let mut anchors = Vec::new();
        for (name, note) in notes {
            match Checkpoint::open(&note, &self.key) {
                Ok(Checkpoint { size, root, .. }) => anchors.push(Anchor { size, root, name }),
                Err(error) => return Ok(Err(Mismatch { entry: None, what: format!("{name}: {error}") })),
            }
        }
        if let (Some(folder), Some(anchor)) = (&mut self.folder, anchors.first()) {
            folder.size = anchor.size;
        }
        let older = anchors.first().filter(|_| self.folder.is_some()).map_or(u64::MAX, |anchor| anchor.size);
        if let Some(newer) = anchors.iter().find(|anchor| anchor.size > older) {
            let what = format!(
                "{} is of {} entries and the folder's of {older}: an old checkpoint was put back",
                newer.name, newer.size
            );
            return Ok(Err(Mismatch::at(older, what)));
        }
        anchors.sort_by_key(|anchor| anchor.size);
        self.anchors = anchors.into();
        Ok(Ok(()))
    }

    async fn verify(
        &mut self,
        tx: &Transaction,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Verdict, AppError> {
        let size = read::size(tx).await?;
        let mut signed: VecDeque<Signed> = read::checkpoints(tx, 0, PAGE).await?.into();
        if let Err(wrong) = self.anchored() {
            return Ok(Err(wrong));
        }
        loop {
            let page = verify::recorded(tx, self.frontier.size(), PAGE).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                if let Err(wrong) = self.row(tx, row).await? {
                    return Ok(Err(wrong));
                }
                if signed.front().is_some_and(|signed| signed.size == self.frontier.size()) {
                    if let Some(Err(wrong)) = signed.pop_front().map(|signed| self.signed(&signed)) {
                        return Ok(Err(wrong));
                    }
                    if signed.is_empty() {
                        signed = read::checkpoints(tx, self.frontier.size(), PAGE).await?.into();
                    }
                }
                if let Err(wrong) = self.anchored() {
                    return Ok(Err(wrong));
                }
            }
            progress(self.frontier.size());
        }
        if let Err(wrong) = self.ended(size, signed.front()) {
            return Ok(Err(wrong));
        }
        self.found.tiles = self.folder.as_ref().map(|folder| folder.compared);
        self.found.counts = verify::counts(tx).await?;
        let differs = self.found.counts.iter().find(|count| count.first.is_some());
        Ok(differs.map_or(Ok(()), |count| {
            let action = count.first.map(|first| first.to_string()).unwrap_or_default();
            let what = format!("the tables and the entries differ in the {} of action {action}", count.what);
            Err(Mismatch { entry: None, what })
        }))
    }

    /// Verifies one row: its index, its bytes, its evidence, and its tile.
    async fn row(&mut self, tx: &Transaction, row: &Recorded) -> Result<Verdict, AppError> {
        let index = self.frontier.size();
        if row.index != index {
            return Ok(Err(Mismatch::at(index, "it is missing from the database")));
        }
        let leaf = leaf_hash(&row.entry);
        if row.leaf != leaf {
            return Ok(Err(Mismatch::at(
                index,
                "its bytes are not those whose hash was recorded: it was changed",
            )));
        }
        if let Err(what) = unchanged(row) {
            return Ok(Err(Mismatch::at(index, what)));
        }
        if let Some(folder) = &mut self.folder {
            let same = folder.hash(0, index, &leaf).and_then(|()| folder.entry(index, &row.entry));
            if let Err(what) = same {
                return Ok(Err(Mismatch::at(index, what)));
            }
        }
        for node in self.frontier.push(leaf) {
            if let Err(what) = self.node(tx, &node).await? {
                let first = self.frontier.size() - (1 << (8 * u32::from(node.level)));
                // Entries under the last valid checkpoint are unchanged; the mismatch is not there.
                return Ok(Err(Mismatch::at(first.max(self.last_signed), what)));
            }
        }
        self.found.entries = self.frontier.size();
        Ok(Ok(()))
    }

    async fn node(&mut self, tx: &Transaction, node: &Node) -> Result<Result<(), String>, AppError> {
        let stored = verify::nodes(tx, node.level, node.index, 1).await?;
        if stored != [(node.index, Some(node.hash))] {
            return Ok(Err(format!(
                "the stored node {} of level {} is not that of its entries",
                node.index, node.level
            )));
        }
        Ok(match &mut self.folder {
            Some(folder) => folder.hash(node.level, node.index, &node.hash),
            None => Ok(()),
        })
    }

    /// Verifies a checkpoint of the database whose size the tree has just reached.
    fn signed(&mut self, signed: &Signed) -> Verdict {
        let (from, size) = (self.last_signed, signed.size);
        let opened = Checkpoint::open(&signed.note, &self.key)
            .map_err(|error| Mismatch::at(from, format!("the checkpoint of {size} entries: {error}")))?;
        let root = self.frontier.root();
        if (opened.size, opened.root) != (size, root) || signed.root != root {
            let what = format!(
                "the entries up to {size} are not those that were signed: one from here on was changed"
            );
            return Err(Mismatch::at(from, what));
        }
        self.last_signed = size;
        self.found.checkpoints += 1;
        Ok(())
    }

    /// Verifies the checkpoints from folder and elsewhere whose size the tree has reached.
    fn anchored(&mut self) -> Verdict {
        while let Some(anchor) = self.anchors.front().filter(|anchor| anchor.size <= self.frontier.size()) {
            let root = if anchor.size == 0 { empty_root() } else { self.frontier.root() };
            if anchor.root != root {
                let what = format!("{} of {} entries is of another history", anchor.name, anchor.size);
                return Err(Mismatch::at(self.last_signed, what));
            }
            self.anchors.pop_front();
        }
        Ok(())
    }

    /// Verifies that nothing is missing at the end.
    fn ended(&self, size: u64, unreached: Option<&Signed>) -> Verdict {
        let have = self.frontier.size();
        if let Some(anchor) = self.anchors.front() {
            let what = format!("it is missing: {} is of {} entries", anchor.name, anchor.size);
            return Err(Mismatch::at(have, what));
        }
        if let Some(signed) = unreached {
            return Err(Mismatch::at(
                have,
                format!("it is missing: a checkpoint of {} entries was signed", signed.size),
            ));
        }
        if size != have {
            return Err(Mismatch::at(
                have.min(size),
                format!("the recorder left the ledger with {size} entries, not {have}"),
            ));
        }
        if self.last_signed != have {
            return Err(Mismatch::at(self.last_signed, "no checkpoint covers it"));
        }
        Ok(())
    }
}

/// Verifies that the row's other columns and its evidence match the entry.
fn unchanged(row: &Recorded) -> Result<(), String> {
    let entry: Value =
        serde_json::from_slice(&row.entry).map_err(|error| format!("it is not JSON: {error}"))?;
    let text = |member: &str| entry.pointer(member).and_then(Value::as_str).unwrap_or_default();
    let action = row.action.map(|action| action.to_string()).unwrap_or_default();
    if text("/id") != row.event.to_string() || text("/type") != row.kind || text("/action/id") != action {
        return Err("its row differs from the entry".into());
    }
    let Some((event, about, kind, body)) = &row.evidence else { return Err("its evidence is gone".into()) };
    if *event != row.event
        || *about != row.action
        || *kind != row.kind
        || body_digest(body) != text("/evidence")
    {
        return Err("its evidence was changed after it was recorded".into());
    }
    Ok(())
}
