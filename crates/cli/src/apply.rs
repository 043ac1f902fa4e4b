//! `countersign apply`: a checked folder becomes the active generation.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use countersign_broker::{
    declare::declare,
    management::Management,
    session::Session,
    topology::{Limits, Topology},
};
use countersign_policy::{Configuration, Directory, keys_of};
use countersign_store::{
    Store, StoreError, Transaction,
    generation::{self, PolicyIdentity},
    revocations,
};
use serde_json::json;

use crate::{
    Connections,
    args::usage,
    folder::{Folder, problems},
    output::show,
    users,
};

/// Check a folder and make it active.
#[derive(Args)]
#[command(
    after_help = "Needs the database as countersign_operator and the broker as an administrator. With\n\
    --management-url the permissions of broker users follow the directory; who is no longer in it loses them.\n\
    A folder that does not check changes nothing. Who has no `public_keys` in it keeps those registered before:\n\
    a key is taken away by writing it with `revoked_at`."
)]
pub struct ApplyArgs {
    /// The folder with policy.yaml, tools.yaml and directory.yaml
    dir: PathBuf,
    /// Who does this: an operator of the directory
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: String,
}

pub(crate) async fn run(to: &Connections, args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let folder = Folder::read(&args.dir)?;
    let store = to.store()?;
    let amqp_url = to.amqp()?;
    let before = authorised(&store, &folder.configuration, &args.operator).await?;
    let mut missing = Vec::new();
    if let Some(url) = &to.management_url {
        let management = Management::new(url, &users::vhost(amqp_url)?)?;
        missing = users::permit(&management, &folder.configuration).await?;
    }
    let Applied { generation, kept } = apply(&store, amqp_url, &folder, &args.operator).await?;
    if let (Some(url), Some(before)) = (&to.management_url, &before) {
        let management = Management::new(url, &users::vhost(amqp_url)?)?;
        users::revoke(&management, before, &folder.configuration).await?;
    }
    let value = json!({"generation": generation, "policy_version": folder.configuration.policy.version(),
                       "users_missing": missing, "keys_kept": kept});
    show(to, &value, || {
        let mut text =
            format!("generation {generation} is active: policy {:?}", folder.configuration.policy.version());
        if !kept.is_empty() {
            text += &format!(
                "\nthe folder names no public_keys for {}: those registered before stay",
                kept.join(", ")
            );
        }
        if !missing.is_empty() {
            text +=
                &format!("\nno broker user yet for {}; see `countersign users create`", missing.join(", "));
        }
        text
    })
}

/// What has become active.
pub struct Applied {
    /// The generation.
    pub generation: i64,
    /// Those whose registered keys stay, because the folder names none for them.
    pub kept: Vec<String>,
}

/// Declares what the folder needs on the broker, then makes it active in one transaction. Queues come first:
/// nobody may be sent anything before there is a place for it.
pub async fn apply(
    store: &Store,
    amqp_url: &str,
    folder: &Folder,
    operator: &str,
) -> anyhow::Result<Applied> {
    let session = Session::open(amqp_url, "countersign-cli:apply").await?;
    let topology = Topology::of(&folder.configuration.directory, &Limits::default());
    declare(&session.channel, &topology).await?;
    let tx = store.transaction().await?;
    let before = match generation::lock_exclusive(&tx).await {
        Ok(active) => generation::sources(&tx, active.config).await?.directory,
        Err(StoreError::NoGeneration) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let registered = keys_of(&before).map_err(problems)?;
    let (enrolled, kept) = folder.enrolled(&registered)?;
    revoke(&tx, &enrolled.configuration.directory, operator).await?;
    let policy = &enrolled.configuration.policy;
    let policy = PolicyIdentity { version: policy.version(), digest: policy.digest() };
    let generation = generation::activate(&tx, &enrolled.sources, policy, operator).await?;
    tx.commit().await?;
    Ok(Applied { generation, kept })
}

/// Remembers what is revoked, and refuses to bring back what ever was.
async fn revoke(tx: &Transaction, directory: &Directory, operator: &str) -> anyhow::Result<()> {
    let now = generation::now(tx).await?;
    let kids = |revoked: bool| {
        let keys = directory.keys().filter(move |key| key.is_revoked(now) == revoked);
        keys.map(|key| key.kid.as_str()).collect::<Vec<_>>()
    };
    let back = revocations::of(tx, &kids(false)).await?;
    if let Some(kid) = back.first() {
        return Err(usage(format!(
            "the public key with kid {kid} was revoked before, and the folder says nothing of that; write its \
             revoked_at, or make another key with `countersign keys signer`"
        )));
    }
    Ok(revocations::insert(tx, &kids(true), operator).await?)
}

/// The operator must be one in the folder and, unless it is the first, in what is active now: which is returned.
async fn authorised(
    store: &Store,
    folder: &Configuration,
    operator: &str,
) -> anyhow::Result<Option<Configuration>> {
    if folder.directory.operator(operator).is_none() {
        return Err(usage(format!("{operator:?} is no operator in the folder's directory.yaml")));
    }
    match active(store).await {
        Ok(active) if active.directory.operator(operator).is_none() => {
            anyhow::bail!("{operator:?} is no operator of the active directory")
        }
        Ok(active) => Ok(Some(active)),
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::NoGeneration)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The active configuration.
pub(crate) async fn active(store: &Store) -> anyhow::Result<Configuration> {
    let (tx, active) = generation::begin(store).await?;
    let sources = generation::sources(&tx, active.config).await?;
    Configuration::parse(&sources)
        .map_err(problems)
        .context("the active configuration was written by another version")
}
