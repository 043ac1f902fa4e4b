//! Exports a range of the ledger, in constant memory.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use countersign_core::digest::tagged;
use countersign_ledger::event::cloud_event;
use countersign_store::ledger::read::{self, Entry};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{AppError, Connections};

/// Most entries that are read at once.
const PAGE: i64 = 1_000;

/// The range, format and file of an export.
#[derive(Clone, Debug)]
pub struct ExportEvidence {
    /// Entries recorded since then ...
    pub from: DateTime<Utc>,
    /// ... and before then.
    pub to: DateTime<Utc>,
    /// The form of the file.
    pub format: EvidenceFormat,
    /// The file. It must not exist yet.
    pub out: PathBuf,
}

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EvidenceFormat {
    /// One CloudEvent a line.
    CloudEvents,
    /// One row an entry, after a row with the columns' names (RFC 4180).
    Csv,
}

/// The description of an export.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// The form of the file.
    pub format: EvidenceFormat,
    /// Where the range begins.
    pub from: DateTime<Utc>,
    /// Where the next export may begin: no later than just after the newest entry.
    pub to: DateTime<Utc>,
    /// The first entry.
    pub first: Option<u64>,
    /// The last entry.
    pub last: Option<u64>,
    /// How many entries.
    pub count: u64,
    /// The signed note of the ledger that covers the range.
    pub checkpoint: Option<String>,
    /// The SHA-256 of the file's bytes.
    pub digest: String,
}

/// Exports the entries that were recorded in a time range, with a manifest in `<out>.manifest.json`.
///
/// # Errors
/// If a file already exists or cannot be written, an entry is missing, or the database cannot be read.
pub async fn export(connections: &Connections, request: &ExportEvidence) -> Result<Manifest, AppError> {
    let store = connections.store()?;
    let tx = store.snapshot().await?;
    // End where the ledger is complete: an entry appended later must not fall into a range already exported.
    let until = read::complete_until(&tx).await?.unwrap_or(request.from).max(request.from).min(request.to);
    let (mut next, end) =
        (read::recorded_before(&tx, request.from).await?, read::recorded_before(&tx, until).await?);
    let (first, mut out) = (next, Hashed::create(&request.out)?);
    if request.format == EvidenceFormat::Csv {
        out.line(&COLUMNS.map(|(name, _)| name.to_owned()).join(","))?;
    }
    while next < end {
        let page = read::entries(&tx, next, PAGE.min(i64::try_from(end - next).unwrap_or(PAGE))).await?;
        if page.is_empty() {
            return Err(missing(next));
        }
        for Entry { index, entry } in page {
            if index != next {
                return Err(missing(next));
            }
            match request.format {
                EvidenceFormat::CloudEvents => out.bytes(&cloud_event(index, &entry)?)?,
                EvidenceFormat::Csv => out.line(&row(index, &entry)?)?,
            }
            next += 1;
        }
    }
    let some = |index: u64| (end > first).then_some(index);
    let manifest = Manifest {
        format: request.format,
        from: request.from,
        to: until,
        first: some(first),
        last: some(end.saturating_sub(1)),
        count: end.saturating_sub(first),
        checkpoint: read::checkpoint(&tx, end).await?.map(|signed| signed.note),
        digest: out.finish()?,
    };
    let path = request.out.with_added_extension("manifest.json");
    let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from)?;
    create(&path)?.write_all(text.as_bytes()).map_err(AppError::file("writing", path))?;
    Ok(manifest)
}

fn missing(index: u64) -> AppError {
    AppError::Corrupt(format!("the ledger has no entry {index}; run `countersign ledger verify`"))
}

fn create(path: &Path) -> Result<fs::File, AppError> {
    fs::File::create_new(path).map_err(AppError::file("creating", path))
}

/// A file, and the hash of what is in it.
struct Hashed {
    file: BufWriter<fs::File>,
    hash: Sha256,
}

impl Hashed {
    fn create(path: &Path) -> Result<Self, AppError> {
        Ok(Self { file: BufWriter::new(create(path)?), hash: Sha256::new() })
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in [bytes, b"\n"] {
            self.file.write_all(part)?;
            self.hash.update(part);
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.bytes(line.as_bytes())
    }

    fn finish(self) -> io::Result<String> {
        self.file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        Ok(tagged(&self.hash.finalize()))
    }
}

/// The columns of a CSV row after the index, with their JSON pointers into the entry.
const COLUMNS: [(&str, &str); 20] = [
    ("index", ""),
    ("id", "/id"),
    ("type", "/type"),
    ("occurred_at", "/occurred_at"),
    ("recorded_at", "/recorded_at"),
    ("action", "/action/id"),
    ("source", "/action/source"),
    ("event", "/action/event"),
    ("tool", "/action/tool"),
    ("action_digest", "/action/digest"),
    ("agent", "/agent/id"),
    ("state", "/state"),
    ("rule", "/policy/rule"),
    ("policy_version", "/policy/version"),
    ("verdict", "/policy/verdict"),
    ("reviewer", "/review/reviewer"),
    ("decision", "/review/decision"),
    ("finding", "/review/finding"),
    ("status", "/execution/status"),
    ("entry", "-"),
];

/// An entry as a CSV row (RFC 4180).
fn row(index: u64, entry: &[u8]) -> Result<String, AppError> {
    let value: Value =
        serde_json::from_slice(entry).map_err(AppError::invalid(format!("entry {index} is not JSON")))?;
    let cell = |(name, at): (&str, &str)| match name {
        "index" => index.to_string(),
        "entry" => quoted(&String::from_utf8_lossy(entry)),
        _ => match value.pointer(at) {
            Some(Value::String(text)) => quoted(text),
            Some(Value::Null) | None => String::new(),
            Some(other) => quoted(&other.to_string()),
        },
    };
    Ok(COLUMNS.map(cell).join(","))
}

fn quoted(text: &str) -> String {
    // Keep spreadsheets from reading text as a formula.
    let text =
        if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_quotes_what_others_wrote() {
        let entry = br#"{"id":"1","type":"x","action":{"tool":"a,b \"c\"","event":"=1+1"}}"#;
        let row = row(7, entry).unwrap();
        assert!(row.starts_with("7,1,x,,,,,'=1+1,\"a,b \"\"c\"\"\","), "{row}");
    }
}
