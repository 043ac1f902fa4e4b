//! Making a checked folder the active generation.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use countersign_broker::{
    declare::declare,
    management::Management,
    session::Session,
    topology::{Limits, Topology},
};
use countersign_core::stratum::has_version;
use countersign_policy::{Agent, Configuration, Directory, Policy, registered_keys};
use countersign_statistics::switching::PlanState;
use countersign_store::{
    Store, StoreError, Transaction,
    generation::{self, PolicyIdentity},
    inbound_queues, revocations,
    sampling_plans::{self, FamilyRecord, PlanMove, PlanRecord},
};
use serde::Serialize;

use crate::{
    AppError, Connections,
    configuration::active,
    folder::{Folder, problems},
    operators::of_login,
    users,
};

/// A folder to be made active.
#[derive(Clone, Debug)]
pub struct Apply {
    /// The folder with policy.yaml, tools.yaml and directory.yaml.
    pub dir: PathBuf,
    /// Who does it, if it is to be checked: otherwise whoever has logged in to the database.
    pub operator: Option<String>,
}

/// The result of activating a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// The generation.
    pub generation: i64,
    /// The policy's version.
    pub policy_version: String,
    /// Members of the directory who have no broker user yet.
    pub users_missing: Vec<String>,
    /// Those whose registered keys stay, because the folder names none for them.
    pub keys_kept: Vec<String>,
    /// Limits whose sums begin at nothing: no limit before was the same.
    pub limits_new: Vec<String>,
    /// Limits that no longer are: what was counted for them counts for none.
    pub limits_gone: Vec<String>,
    /// What is valid in the folder and still hardly meant.
    pub warnings: Vec<String>,
}

/// Checks a folder and makes it active. With a management URL the permissions of broker users follow the directory.
///
/// # Errors
/// If the folder has problems, or the operator is not authorised. Then nothing has changed.
pub async fn run(to: &Connections, request: &Apply) -> Result<Activation, AppError> {
    let folder = Folder::read(&request.dir)?;
    let store = to.store()?;
    let amqp_url = to.amqp()?;
    let (operator, before) = authorised(&store, &folder.configuration, request.operator.as_deref()).await?;
    let management = match &to.management_url {
        Some(url) => Some(Management::new(url, &users::vhost(amqp_url)?)?),
        None => None,
    };
    let users_missing = match &management {
        Some(management) => users::permit(management, &folder.configuration).await?,
        None => vec![],
    };
    let Applied { generation, kept } = apply(&store, amqp_url, &folder, &operator).await?;
    if let (Some(management), Some(before)) = (&management, &before) {
        users::revoke(management, before, &folder.configuration).await?;
    }
    let after = &folder.configuration;
    let before = before.as_ref();
    Ok(Activation {
        generation,
        policy_version: after.policy.version().into(),
        users_missing,
        keys_kept: kept,
        limits_new: before.map_or_else(Vec::new, |before| limits_without(&after.policy, &before.policy)),
        limits_gone: before.map_or_else(Vec::new, |before| limits_without(&before.policy, &after.policy)),
        warnings: after.warnings.iter().map(ToString::to_string).collect(),
    })
}

/// The limits of a policy that another one does not have.
fn limits_without(policy: &Policy, other: &Policy) -> Vec<String> {
    let known: BTreeSet<&str> = other.limits().map(|limit| limit.limit).collect();
    let only = policy.limits().filter(|limit| !known.contains(limit.limit));
    only.map(|limit| format!("{}: {}", limit.rule, limit.text)).collect()
}

/// The result of [`apply`].
pub struct Applied {
    /// The generation.
    pub generation: i64,
    /// Those whose registered keys stay, because the folder names none for them.
    pub kept: Vec<String>,
}

/// Declares what the folder needs on the broker, then makes it active in one transaction. Queues come first, as messages must
/// not be sent before their queues exist.
pub async fn apply(
    store: &Store,
    amqp_url: &str,
    folder: &Folder,
    operator: &str,
) -> Result<Applied, AppError> {
    let session = Session::open(amqp_url, "countersign-app:apply").await?;
    let topology = Topology::of(&folder.configuration.directory, &Limits::default());
    declare(&session.channel, &topology).await?;
    let tx = store.transaction().await?;
    // Before the generation: that is the order in which samplers lock them.
    let listing = folder.configuration.directory.agents().iter().filter(|agent| agent.versions.is_some());
    let listing: HashMap<&str, &Agent> = listing.map(|agent| (agent.id.as_str(), agent)).collect();
    let agents: Vec<&str> = listing.keys().copied().collect();
    let families = sampling_plans::families_of(&tx, &agents).await?;
    let before = match generation::lock_exclusive(&tx).await {
        Ok(active) => generation::sources(&tx, active.config).await?.directory,
        Err(StoreError::NoGeneration) => String::new(),
        Err(error) => return Err(error.into()),
    };
    let registered = registered_keys(&before).map_err(problems)?;
    let (enrolled, kept) = folder.enrolled(&registered)?;
    inbound_queues::add(&tx, &topology.inbound()).await?;
    revoke(&tx, &enrolled.configuration.directory, operator).await?;
    let policy = &enrolled.configuration.policy;
    let policy = PolicyIdentity { version: policy.version(), digest: policy.digest() };
    let mut generation = generation::activate(&tx, &enrolled.sources, policy, operator).await?;
    for family in &families {
        let Some(agent) = listing.get(family.agent.as_str()) else { continue };
        generation = withdraw_unlisted(&tx, family, agent, operator).await?.unwrap_or(generation);
    }
    tx.commit().await?;
    Ok(Applied { generation, kept })
}

/// Moves versions back to pre-approval that the directory does not list and that execute at once only because they began
/// beside others: a list holds for them as for those that come after it. What its own record cleared stays as it is.
/// Returns the new generation if one moved.
async fn withdraw_unlisted(
    tx: &Transaction,
    family: &FamilyRecord,
    agent: &Agent,
    operator: &str,
) -> Result<Option<i64>, AppError> {
    let versions = agent.versions.iter().flatten();
    let listed = |stratum: &str| versions.clone().any(|version| has_version(stratum, version));
    let uncleared = sampling_plans::uncleared(tx, &family.family).await?;
    let moved = |record: &PlanRecord| {
        let back = uncleared.contains(&record.stratum) && !listed(&record.stratum);
        let reason = "the directory does not list its version".to_owned();
        back.then(|| PlanMove { to: record.switching.demoted(PlanState::PreApproval), reason })
    };
    Ok(sampling_plans::change(tx, &family.family, Some(operator), moved).await?)
}

/// Stores revocations, and refuses to reinstate keys that were revoked before.
async fn revoke(tx: &Transaction, directory: &Directory, operator: &str) -> Result<(), AppError> {
    let now = generation::now(tx).await?;
    let kids = |revoked: bool| {
        let keys = directory.keys().filter(move |key| key.is_revoked(now) == revoked);
        keys.map(|key| key.kid.as_str()).collect::<Vec<_>>()
    };
    let back = revocations::of(tx, &kids(false)).await?;
    if let Some(kid) = back.first() {
        return Err(AppError::Usage(format!(
            "the public key with kid {kid} was revoked before, and the folder says nothing of that; write its \
             revoked_at, or make another key with `countersign keys signer`"
        )));
    }
    Ok(revocations::insert(tx, &kids(true), operator).await?)
}

/// The operator who applies a folder: whoever has logged in to the database, by the active directory, which is returned.
/// The first folder is applied by the database's owner, who says which of its operators they are. The folder must let the
/// operator go on: without a login in it, nobody might be able to apply the next one.
async fn authorised(
    store: &Store,
    folder: &Configuration,
    named: Option<&str>,
) -> Result<(String, Option<Configuration>), AppError> {
    let before = match active(store).await {
        Ok(active) => Some(active),
        Err(AppError::Store(StoreError::NoGeneration)) => None,
        Err(error) => return Err(error),
    };
    let login = store.login().await?;
    let operator = match (&before, named) {
        (Some(active), named) => of_login(&active.directory, named, &login.user)?,
        (None, Some(named)) if login.owns => named.to_owned(),
        (None, None) if login.owns => {
            return Err(AppError::Usage("nothing is active yet: say who you are with --operator".into()));
        }
        (None, _) => {
            let why = "the first folder is applied by the database's owner, and this login is";
            return Err(AppError::State(format!("{why} {:?}", login.user)));
        }
    };
    match folder.directory.operator(&operator).map(|operator| &operator.db_user) {
        Some(Some(_)) => Ok((operator, before)),
        Some(None) => Err(AppError::Usage(format!(
            "{operator:?} has no db_user in the folder's directory.yaml, so they could not apply the next one"
        ))),
        None => {
            Err(AppError::Usage(format!("{operator:?} is not an operator in the folder's directory.yaml")))
        }
    }
}
