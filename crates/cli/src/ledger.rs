//! `countersign ledger`: verify it, prove an action, check what was proved.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use countersign_app::ledger::{
    check::{self, Checked, CheckedBundle},
    key, prove,
    verify::{self, Count, Mismatch, Verification, VerifyLedger},
};
use serde::Serialize;

use crate::{
    Connections,
    output::{show, spinner},
};

/// The ledger.
#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// Verify the ledger: database against tiles against checkpoints, and tables against entries
    #[command(
        after_help = "Names the first entry that is wrong, and exits with 1. Take the ledger's public key from your own records,\n\
        not from where the ledger is kept. Whoever owns the database and the folder can rewrite both: with --known\n\
        and a checkpoint that was kept elsewhere, no change to what is older goes unnoticed."
    )]
    Verify(VerifyArgs),
    /// Print everything that the ledger proves of one action, as JSON for others to check
    Prove {
        /// The action: its agent's id for it, `source#id`, or Countersign's own id
        action: String,
    },
    /// Print the proof that the newest checkpoint continues an older one, as JSON
    Continuity {
        /// The older checkpoint
        #[arg(value_name = "FILE")]
        old: PathBuf,
    },
    /// Check a bundle or a proof of continuity, offline
    #[command(after_help = "Example:\n  countersign ledger check bundle.json --key ledger.pub.jwk")]
    Check {
        /// The output of `prove` or `continuity`
        file: PathBuf,
        /// The ledger's public key: ledger.pub.jwk, or a file with what `ledger key` prints
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Print the ledger's public key in the form that other tools for transparency logs read
    Key {
        /// ledger.pub.jwk
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The log's name: ledger.origin of countersign.toml
        #[arg(long)]
        origin: String,
    },
}

/// The inputs of a verification.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The ledger's public key: ledger.pub.jwk, or a file with what `ledger key` prints
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_LEDGER_KEY")]
    key: PathBuf,
    /// The folder with checkpoint and tiles; without one only the database is verified
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_LEDGER")]
    ledger: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere; repeat it for more
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
}

pub(crate) async fn run(to: &Connections, command: LedgerCommand) -> anyhow::Result<ExitCode> {
    match command {
        LedgerCommand::Verify(args) => verify(to, args).await,
        LedgerCommand::Prove { action } => print(to, &prove::action(&to.app(), &action).await?),
        LedgerCommand::Continuity { old } => print(to, &prove::continuity(&to.app(), &old).await?),
        LedgerCommand::Check { file, key } => {
            let checked = check::check(&file, &key)?;
            show(to, &checked, || holds(&checked))
        }
        LedgerCommand::Key { key, origin } => {
            let key = key::public(&key, &origin)?;
            show(to, &key, || key.key.clone())
        }
    }
}

/// Prints a proof, always as JSON.
fn print<T: Serialize>(to: &Connections, value: &T) -> anyhow::Result<ExitCode> {
    show(to, value, || serde_json::to_string_pretty(value).unwrap_or_default())
}

async fn verify(to: &Connections, args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let VerifyArgs { key, ledger, known } = args;
    let spinner = spinner();
    let mut progress = |entries| spinner.set_message(format!("{entries} entries verified"));
    let found = verify::verify(&to.app(), &VerifyLedger { key, ledger, known }, &mut progress).await;
    spinner.finish_and_clear();
    let found = found?;
    show(to, &found, || text(&found))?;
    Ok(if found.wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(found: &Verification) -> String {
    let mut lines = vec![format!("{} entries and {} checkpoints hold", found.entries, found.checkpoints)];
    lines.push(match found.tiles {
        Some(tiles) => format!("{tiles} tiles are the same"),
        None => "no folder was given: tiles were not compared".into(),
    });
    let count =
        |count: &Count| format!("{}: {} in the tables, {} in entries", count.what, count.rows, count.entries);
    lines.extend(found.counts.iter().map(count));
    lines.push(match &found.wrong {
        None => "the ledger is as it was recorded".into(),
        Some(Mismatch { entry: Some(entry), what }) => format!("WRONG at entry {entry}: {what}"),
        Some(Mismatch { entry: None, what }) => format!("WRONG: {what}"),
    });
    lines.join("\n")
}

fn holds(checked: &Checked) -> String {
    match checked {
        Checked::Continuity(found) => format!(
            "holds: the {} entries of {} continue the {} of before",
            found.new, found.origin, found.old
        ),
        Checked::Bundle(found) => bundle(found),
    }
}

fn bundle(checked: &CheckedBundle) -> String {
    let mut lines = vec![format!(
        "holds: action {} is {} in the {} entries of {}",
        checked.action, checked.state, checked.size, checked.origin
    )];
    lines.extend(checked.entries.iter().map(|(index, kind)| format!("  entry {index}: {kind}")));
    lines.push(format!("  decisions whose signature holds: {}", checked.signatures));
    lines.push(match checked.sampling.as_str() {
        "proved" => "  sampling: the draw is the one that the epoch's key gives".into(),
        "committed" => "  sampling: the epoch's key is committed to, but not published yet".into(),
        _ => "  sampling: not drawn".into(),
    });
    lines.push("  a bundle cannot show that it is complete: later entries may have been left out".into());
    lines.extend(checked.erased.iter().map(|erased| format!("  erased: {erased}")));
    lines.join("\n")
}
