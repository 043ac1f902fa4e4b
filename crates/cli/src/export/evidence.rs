//! `countersign export evidence`: a range of the ledger, in constant memory.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use countersign_core::digest::tagged;
use countersign_ledger::event::cloud_event;
use countersign_store::ledger::read::{self, Entry};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{Connections, output::show, report::moment};

/// Most entries that are read at once.
const PAGE: i64 = 1_000;

/// A range, a form and a file.
#[derive(Args)]
#[command(
    after_help = "Times are RFC 3339, or how long ago: 30m, 24h, 7days; what counts is when an entry was recorded, so a range\n\
    is one of indexes. Beside FILE comes FILE.manifest.json: range, count, checkpoint, and the SHA-256 of FILE. Its `to` is\n\
    where the range really ends, just after the newest entry at the latest: begin the next export there."
)]
pub(crate) struct EvidenceArgs {
    /// Entries recorded since then
    #[arg(long, default_value = "24h", value_parser = moment, value_name = "TIME")]
    from: DateTime<Utc>,
    /// Entries recorded before then
    #[arg(long, default_value = "0s", value_parser = moment, value_name = "TIME")]
    to: DateTime<Utc>,
    /// cloudevents: one event a line. csv: one row an entry
    #[arg(long, value_enum, default_value_t = Format::Cloudevents)]
    format: Format,
    /// The file; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Cloudevents,
    Csv,
}

/// What an export is of.
#[derive(Serialize)]
struct Manifest {
    format: Format,
    from: DateTime<Utc>,
    /// Where the next export may begin: no later than just after the newest entry.
    to: DateTime<Utc>,
    /// The first entry.
    first: Option<u64>,
    /// The last entry.
    last: Option<u64>,
    count: u64,
    /// The signed note of the ledger that the range is of.
    checkpoint: Option<String>,
    /// Of the file's bytes.
    digest: String,
}

pub(super) async fn run(to: &Connections, args: EvidenceArgs) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let tx = store.snapshot().await?;
    // Not further than is certain: what is appended later must not have been passed over.
    let until = read::complete_until(&tx).await?.unwrap_or(args.from).max(args.from).min(args.to);
    let (mut next, end) =
        (read::recorded_before(&tx, args.from).await?, read::recorded_before(&tx, until).await?);
    let (first, mut out) = (next, Hashed::create(&args.out)?);
    if args.format == Format::Csv {
        out.line(&COLUMNS.map(|(name, _)| name.to_owned()).join(","))?;
    }
    while next < end {
        let page = read::entries(&tx, next, PAGE.min(i64::try_from(end - next).unwrap_or(PAGE))).await?;
        anyhow::ensure!(!page.is_empty(), "the ledger has no entry {next}; run `countersign ledger verify`");
        for Entry { index, entry } in page {
            anyhow::ensure!(index == next, "the ledger has no entry {next}; run `countersign ledger verify`");
            match args.format {
                Format::Cloudevents => out.bytes(&cloud_event(index, &entry)?)?,
                Format::Csv => out.line(&row(index, &entry)?)?,
            }
            next += 1;
        }
    }
    let some = |index: u64| (end > first).then_some(index);
    let manifest = Manifest {
        format: args.format,
        from: args.from,
        to: until,
        first: some(first),
        last: some(end.saturating_sub(1)),
        count: end.saturating_sub(first),
        checkpoint: read::checkpoint(&tx, end).await?.map(|signed| signed.note),
        digest: out.finish()?,
    };
    let path = args.out.with_added_extension("manifest.json");
    create(&path)?.write_all(serde_json::to_string_pretty(&manifest)?.as_bytes())?;
    show(to, &manifest, || format!("{} entries are in {}", manifest.count, args.out.display()))
}

fn create(path: &Path) -> anyhow::Result<fs::File> {
    fs::File::create_new(path).with_context(|| format!("creating {}", path.display()))
}

/// A file, and the hash of what is in it.
struct Hashed {
    file: BufWriter<fs::File>,
    hash: Sha256,
}

impl Hashed {
    fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { file: BufWriter::new(create(path)?), hash: Sha256::new() })
    }

    fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for part in [bytes, b"\n"] {
            self.file.write_all(part)?;
            self.hash.update(part);
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        self.bytes(line.as_bytes())
    }

    fn finish(self) -> anyhow::Result<String> {
        self.file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        Ok(tagged(&self.hash.finalize()))
    }
}

/// The columns of a CSV row after the index, and where they stand in the entry.
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

/// RFC 4180.
fn row(index: u64, entry: &[u8]) -> anyhow::Result<String> {
    let value: Value = serde_json::from_slice(entry).with_context(|| format!("entry {index} is no JSON"))?;
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
    // What a spreadsheet would take for a formula is text.
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
