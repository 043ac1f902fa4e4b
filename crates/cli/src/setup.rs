//! Setting up: database, keys, broker users.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use countersign_app::{database, users};
use countersign_runtime::keys;
use serde_json::json;

use crate::{Connections, output::show};

/// The database.
#[derive(Subcommand)]
pub(crate) enum DbCommand {
    /// Run the migrations that have not been run yet, as the database's owner
    Migrate,
    /// Give each process's role exactly the rights that it needs, as the database's owner
    #[command(after_help = "The roles countersign_router, countersign_executor, countersign_sampler,\n\
        countersign_recorder, countersign_operator and countersign_eraser must exist: deploy/postgres/roles.sql makes them.")]
    Grant,
}

pub(crate) async fn db(to: &Connections, command: DbCommand) -> anyhow::Result<ExitCode> {
    match command {
        DbCommand::Migrate => {
            let applied = database::migrate(&to.app()).await?;
            show(to, &applied, || match applied.is_empty() {
                true => "the database is up to date".into(),
                false => format!("applied {}", applied.join(", ")),
            })
        }
        DbCommand::Grant => {
            database::grant(&to.app()).await?;
            show(to, &"granted", || "each role has the rights that it needs".into())
        }
    }
}

/// Keys.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Make permit.jwk, permit.pub.jwk, ledger.jwk, ledger.pub.jwk, sampling.secret and pseudonym.secret in a folder.
    /// Overwrites nothing
    #[command(
        after_help = "Give each role only what it needs: the router permit.jwk and pseudonym.secret, the\n\
        executor permit.pub.jwk, the sampler sampling.secret and pseudonym.secret, the recorder ledger.jwk. Whoever\n\
        checks the ledger needs ledger.pub.jwk, from you and not from the ledger's folder."
    )]
    Generate {
        /// The folder; it is made if it is not there
        dir: PathBuf,
    },
    /// Make the ledger's keys in a folder that has others already. Overwrites nothing
    Ledger {
        /// The folder
        dir: PathBuf,
    },
    /// Make a key with which a reviewer, app or auditor signs, as a JWK in a file. Overwrites nothing
    #[command(
        after_help = "The file stays with its owner. Put the printed line into directory.yaml, under the\n\
        person's or app's public_keys; `countersign apply` then registers it."
    )]
    Signer {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn keys(to: &Connections, command: KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Generate { dir } => {
            keys::generate(&dir)?;
            show(to, &json!({"keys": dir}), || format!("keys are in {}", dir.display()))
        }
        KeysCommand::Ledger { dir } => {
            keys::generate_ledger(&dir)?;
            show(to, &json!({"keys": dir}), || format!("the ledger's keys are in {}", dir.display()))
        }
        KeysCommand::Signer { file } => {
            let public = keys::generate_signer(&file)?;
            show(to, &json!({"file": file, "public_key": public}), || format!("public_keys: [{public}]"))
        }
    }
}

/// Broker users.
#[derive(Subcommand)]
pub(crate) enum UsersCommand {
    /// Create everyone in a folder's directory, and our own processes, with new random passwords
    Create {
        /// The configuration folder
        #[arg(long, value_name = "DIR")]
        config: PathBuf,
        /// Where to write one AMQP URL per user, readable by you alone
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(crate) async fn users(to: &Connections, command: UsersCommand) -> anyhow::Result<ExitCode> {
    let UsersCommand::Create { config, out } = command;
    let created = users::create_into(&to.app(), &config, &out).await?;
    let value = json!({"users": created, "file": out});
    show(to, &value, || format!("{} users; their URLs are in {}", created.len(), out.display()))
}
