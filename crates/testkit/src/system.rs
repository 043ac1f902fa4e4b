//! A complete system on given services: database, keys, broker users, configuration, and processes.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use countersign_app::{
    apply,
    folder::{Folder, Keys},
    users,
};
use countersign_broker::management::Management;
use countersign_core::{keyed::KeyedSampler, signed::Signer};
use countersign_runtime::keys;
use countersign_store::Store;
use url::Url;

use crate::{process::Process, wait::eventually};

/// The roles, in the order of an action's life.
pub const ROLES: [&str; 4] = ["router", "executor", "sampler", "recorder"];

/// Where a system runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The broker, as administrator, with the virtual host.
    pub amqp_url: String,
    /// Its management API.
    pub management_url: String,
    /// The database, as owner.
    pub database_url: String,
    /// Folder for keys and logs.
    pub scratch: PathBuf,
    /// The built binary.
    pub binary: PathBuf,
}

/// How a process reaches its servers.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// The loopback port of a proxy to the broker, if any.
    pub amqp: Option<u16>,
    /// The loopback port of a proxy to the database, if any.
    pub database: Option<u16>,
    /// Further environment variables.
    pub variables: Vec<(String, String)>,
}

fn behind(url: &str, port: Option<u16>) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    if let Some(port) = port {
        anyhow::ensure!(url.set_port(Some(port)).is_ok(), "the URL cannot have a port");
    }
    Ok(url.into())
}

/// A system that has been set up.
pub struct System {
    /// Where it runs.
    pub place: Place,
    /// Its configuration folder.
    pub config: PathBuf,
    /// What was applied.
    pub folder: Folder,
    users: BTreeMap<String, String>,
    processes: BTreeMap<String, Process>,
}

/// The binary that `cargo xtask` built.
pub fn binary() -> anyhow::Result<PathBuf> {
    let path =
        env::var_os("COUNTERSIGN_BIN").context("COUNTERSIGN_BIN is not set: run `cargo xtask test`")?;
    Ok(path.into())
}

/// A password derived from broker and user, so that systems on the same broker can share users.
fn password(amqp_url: &str, user: &str) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let secret = Url::parse(amqp_url).ok().and_then(|url| url.password().map(str::to_owned));
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &secret, user).hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// The folder, in the scratch folder, with the private keys of everybody who signs.
const SIGNERS: &str = "signers";

/// Generates a key for everybody who signs, and registers it if the directory has none for them.
fn enrol(dir: &Path, folder: Folder) -> anyhow::Result<Folder> {
    std::fs::create_dir_all(dir)?;
    let mut registered = Keys::new();
    for id in folder.configuration.directory.signers() {
        let public = keys::generate_signer(&dir.join(format!("{id}.jwk")))?;
        registered.insert(id.to_owned(), vec![public.into()]);
    }
    Ok(folder.enrolled(&registered)?.0)
}

/// Makes a database login for each operator, with the owner's password. Systems on the same server share them.
async fn logins(store: &Store, database_url: &str, folder: &Folder) -> anyhow::Result<()> {
    let password = Url::parse(database_url)?.password().unwrap_or_default().replace('\'', "''");
    for login in folder.configuration.directory.operators().iter().filter_map(|op| op.db_user.as_deref()) {
        let login = format!("\"{}\"", login.replace('"', "\"\""));
        // Another system may be making it at the same moment, with the same password.
        let sql = format!(
            "DO $do$ BEGIN
               CREATE ROLE {login} LOGIN PASSWORD '{password}' IN ROLE countersign_operator, countersign_eraser;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN
               BEGIN
                 ALTER ROLE {login} PASSWORD '{password}';
               EXCEPTION WHEN internal_error THEN NULL;
               END;
             END $do$"
        );
        let tx = store.transaction().await?;
        tx.batch_execute(&sql).await.with_context(|| format!("making the login {login}"))?;
        tx.commit().await?;
    }
    Ok(())
}

impl System {
    /// Migrates the database, makes keys and users, and applies `config`. Starts nothing.
    pub async fn set_up(
        place: Place,
        config: &Path,
        operator: &str,
        variables: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let folder = Folder::read_with(config, variables)?;
        let store = Store::new(&place.database_url, "countersign-setup", 2)?;
        store.migrate().await?;
        store.grant().await?;
        keys::generate(&place.scratch.join("keys"))?;
        let folder = enrol(&place.scratch.join(SIGNERS), folder)?;
        let management = Management::new(&place.management_url, &users::vhost(&place.amqp_url)?)?;
        let users = users::create(&management, &place.amqp_url, &folder.configuration, |user| {
            password(&place.amqp_url, user)
        })
        .await?;
        logins(&store, &place.database_url, &folder).await?;
        apply::apply(&store, &place.amqp_url, &folder, operator).await?;
        Ok(Self { place, config: config.into(), folder, users, processes: BTreeMap::new() })
    }

    /// The AMQP URL of a user.
    pub fn url(&self, user: &str) -> anyhow::Result<&str> {
        self.users.get(user).map(String::as_str).with_context(|| format!("there is no AMQP user {user:?}"))
    }

    /// Signs for a reviewer with the key that was made for `owner`: the reviewer, or an app.
    pub fn signer(&self, reviewer: &str, owner: &str) -> anyhow::Result<Signer> {
        Ok(Signer::new(reviewer, keys::signing_key(&self.key_file(owner))?))
    }

    /// The private key that was made for a person or an app.
    pub fn key_file(&self, owner: &str) -> PathBuf {
        self.signers().join(format!("{owner}.jwk"))
    }

    /// The folder with the private keys that were made.
    pub fn signers(&self) -> PathBuf {
        self.place.scratch.join(SIGNERS)
    }

    /// The folder with the ledger's checkpoint and tiles.
    pub fn ledger(&self) -> PathBuf {
        self.place.scratch.join("ledger")
    }

    /// The keyed sampler that its samplers use.
    pub fn keyed_sampler(&self) -> anyhow::Result<KeyedSampler> {
        Ok(KeyedSampler::new(keys::secret(&self.place.scratch.join("keys").join(keys::file::SAMPLING))?))
    }

    /// The public key of the ledger.
    pub fn ledger_key(&self) -> PathBuf {
        self.place.scratch.join("keys").join(keys::file::LEDGER_PUBLIC)
    }

    /// The database as a role's own user, who has the owner's password.
    pub fn database_url(&self, role: &str) -> anyhow::Result<String> {
        let mut url = Url::parse(&self.place.database_url)?;
        let user = format!("countersign_{role}");
        anyhow::ensure!(url.set_username(&user).is_ok(), "the database URL cannot carry a user");
        Ok(url.into())
    }

    /// The database as an operator who has a login, with the owner's password.
    pub fn operator_url(&self, operator: &str) -> anyhow::Result<String> {
        let operator = self.folder.configuration.directory.operator(operator);
        let login = operator.and_then(|operator| operator.db_user.as_deref());
        let mut url = Url::parse(&self.place.database_url)?;
        let fits = url.set_username(login.context("the operator has no login")?);
        anyhow::ensure!(fits.is_ok(), "the database URL cannot carry a user");
        Ok(url.into())
    }

    /// A pool as the database's owner.
    pub fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::new(&self.place.database_url, "countersign-test", 4)?)
    }

    /// Starts a process of a role. `name` tells several of one role apart.
    pub fn start(&mut self, role: &str, name: &str) -> anyhow::Result<()> {
        self.start_behind(role, name, &Link::default())
    }

    /// The same through `link`.
    pub fn start_behind(&mut self, role: &str, name: &str, link: &Link) -> anyhow::Result<()> {
        let amqp_url = behind(self.url(&format!("countersign-{role}"))?, link.amqp)?;
        let database_url = behind(&self.database_url(role)?, link.database)?;
        let mut command = Command::new(&self.place.binary);
        command
            .arg(role)
            .arg("--config")
            .arg(&self.config)
            .arg("--keys")
            .arg(self.place.scratch.join("keys"))
            .env("COUNTERSIGN_AMQP_URL", amqp_url)
            .env("COUNTERSIGN_DATABASE_URL", database_url)
            .env("COUNTERSIGN_LEDGER", self.ledger())
            .env_remove("COUNTERSIGN_MANAGEMENT_URL")
            .envs(link.variables.iter().map(|(name, value)| (name, value)));
        let log = self.place.scratch.join(format!("{name}.log"));
        self.processes.insert(name.into(), Process::spawn(command, &log)?);
        Ok(())
    }

    /// Starts one process of each role.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        ROLES.iter().try_for_each(|role| self.start(role, role))
    }

    /// A running process.
    pub fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(name).with_context(|| format!("no process {name:?} runs"))
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut process = self.processes.remove(name).with_context(|| format!("no process {name:?} runs"))?;
        process.kill().map(drop)
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.place.scratch.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// The command line with this system's services, as administrator and owner.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.place.binary);
        command
            .env("COUNTERSIGN_AMQP_URL", &self.place.amqp_url)
            .env("COUNTERSIGN_MANAGEMENT_URL", &self.place.management_url)
            .env("COUNTERSIGN_DATABASE_URL", &self.place.database_url)
            .env("COUNTERSIGN_LEDGER", self.ledger());
        command
    }

    /// Lets every process drain and end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        for process in self.processes.values() {
            // One that has ended already needs no signal.
            let _ = process.signal(nix::sys::signal::Signal::SIGTERM);
        }
        while let Some((name, mut process)) = self.processes.pop_first() {
            eventually(&format!("{name} drains and ends"), Duration::from_secs(60), async || process.ended())
                .await?;
        }
        Ok(())
    }

    /// Names of processes that have ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        self.processes
            .iter_mut()
            .filter_map(|(name, process)| process.ended().map(|_| name.clone()))
            .collect()
    }
}
