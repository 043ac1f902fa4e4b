//! RabbitMQ and PostgreSQL: those that the environment names, otherwise private instances on free loopback ports in a
//! scratch folder, stopped at the end.

mod cluster;
mod disk;
mod install;
mod ports;
mod postgres;
mod rabbitmq;
mod server;

use std::{env, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use tempfile::TempDir;
use url::Url;

pub use cluster::{Cluster, NODES};
pub use disk::SmallDisk;
pub use install::packages;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;

/// The broker's URL, with an administrator's rights.
pub const AMQP_URL: &str = "COUNTERSIGN_AMQP_URL";
/// The URL of the broker's management API.
pub const MANAGEMENT_URL: &str = "COUNTERSIGN_MANAGEMENT_URL";
/// The database's URL, with its owner's rights.
pub const DATABASE_URL: &str = "COUNTERSIGN_DATABASE_URL";

/// Running services and where they are.
pub struct Services {
    /// The broker, as administrator.
    pub amqp_url: String,
    /// Its management API.
    pub management_url: String,
    /// The database, as owner.
    pub database_url: String,
    /// The private broker, if it is one.
    pub rabbitmq: Option<RabbitMq>,
    /// The private cluster, if it is one.
    pub cluster: Option<Cluster>,
    /// The private database, if it is one.
    pub postgres: Option<Postgres>,
    /// The database's own disk, if it has one.
    pub disk: Option<SmallDisk>,
    scratch: TempDir,
}

impl Services {
    /// Uses what the environment names and starts the rest.
    pub async fn start() -> anyhow::Result<Self> {
        let scratch = scratch()?;
        let named = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let broker = async {
            match named(AMQP_URL) {
                Some(url) => anyhow::Ok((url, None)),
                None => {
                    let rabbitmq = RabbitMq::start(scratch.path()).await?;
                    Ok((rabbitmq.amqp_url(), Some(rabbitmq)))
                }
            }
        };
        let database = async {
            match named(DATABASE_URL) {
                Some(url) => anyhow::Ok((url, None)),
                None => {
                    let postgres = Postgres::start(scratch.path()).await?;
                    Ok((postgres.database_url("postgres"), Some(postgres)))
                }
            }
        };
        // Sequential if something must be installed, as the package manager has one lock.
        install::everything(named(AMQP_URL).is_none(), named(DATABASE_URL).is_none())?;
        let ((amqp_url, rabbitmq), (database_url, postgres)) = tokio::try_join!(broker, database)?;
        let management_url = match (&rabbitmq, named(MANAGEMENT_URL)) {
            (Some(rabbitmq), _) => rabbitmq.management_url(),
            (None, Some(url)) => url,
            (None, None) => default_management(&amqp_url)?,
        };
        roles(&database_url).await.context("making the database roles")?;
        Ok(Self {
            amqp_url,
            management_url,
            database_url,
            rabbitmq,
            cluster: None,
            postgres,
            disk: None,
            scratch,
        })
    }

    /// Private instances, regardless of the environment, for tests that inject faults into them.
    pub async fn private() -> anyhow::Result<Self> {
        Self::private_in(scratch()?, None).await
    }

    /// The same, with the database on its own disk that can be filled, if this machine can mount one.
    pub async fn private_on_small_disk() -> anyhow::Result<Self> {
        let scratch = scratch()?;
        let disk = SmallDisk::mount(&Postgres::folder(scratch.path()))?;
        Self::private_in(scratch, disk).await
    }

    /// The same with [`NODES`] nodes of RabbitMQ 4, installed into `cache` where it is missing.
    pub async fn private_cluster_on_small_disk(cache: &Path) -> anyhow::Result<Self> {
        let scratch = scratch()?;
        let disk = SmallDisk::mount(&Postgres::folder(scratch.path()))?;
        Self::private_with(scratch, disk, cache, NODES).await
    }

    /// One node of RabbitMQ 4, installed into `cache` where it is missing, and a database.
    pub async fn private_rabbitmq_4(cache: &Path) -> anyhow::Result<Self> {
        Self::private_with(scratch()?, None, cache, 1).await
    }

    async fn private_with(
        scratch: TempDir,
        disk: Option<SmallDisk>,
        cache: &Path,
        nodes: usize,
    ) -> anyhow::Result<Self> {
        install::everything(false, true)?;
        let (cluster, postgres) =
            tokio::try_join!(Cluster::start(cache, nodes), Postgres::start(scratch.path()))?;
        roles(&postgres.database_url("postgres")).await.context("making the database roles")?;
        Ok(Self {
            amqp_url: cluster.amqp_url(),
            management_url: cluster.management_url(),
            database_url: postgres.database_url("postgres"),
            rabbitmq: None,
            cluster: Some(cluster),
            postgres: Some(postgres),
            disk,
            scratch,
        })
    }

    async fn private_in(scratch: TempDir, disk: Option<SmallDisk>) -> anyhow::Result<Self> {
        install::everything(true, true)?;
        let (rabbitmq, postgres) =
            tokio::try_join!(RabbitMq::start(scratch.path()), Postgres::start(scratch.path()))?;
        roles(&postgres.database_url("postgres")).await.context("making the database roles")?;
        Ok(Self {
            amqp_url: rabbitmq.amqp_url(),
            management_url: rabbitmq.management_url(),
            database_url: postgres.database_url("postgres"),
            rabbitmq: Some(rabbitmq),
            cluster: None,
            postgres: Some(postgres),
            disk,
            scratch,
        })
    }

    /// A folder that is removed with the services.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Shuts down what was started. Dropping kills it instead.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some(rabbitmq) = self.rabbitmq {
            rabbitmq.stop().await?;
        }
        if let Some(cluster) = self.cluster {
            cluster.stop().await?;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await?;
        }
        drop(self.disk);
        self.scratch.close().context("removing the scratch folder")
    }
}

/// Makes the processes' database roles, with the owner's password. Systems on the same server share them.
async fn roles(database_url: &str) -> anyhow::Result<()> {
    let url = Url::parse(database_url).context("the database URL")?;
    let password = url.password().unwrap_or_default().replace('\'', "''");
    let (client, connection) = tokio_postgres::connect(database_url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(include_str!("../../../deploy/postgres/roles.sql")).await?;
    for role in ["router", "executor", "sampler", "operator", "recorder", "eraser"] {
        client.batch_execute(&format!("ALTER ROLE countersign_{role} PASSWORD '{password}'")).await?;
    }
    drop(client);
    Ok(connection.await??)
}

/// A scratch folder that other users may traverse: as root, PostgreSQL runs as another user.
fn scratch() -> anyhow::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("countersign-").tempdir().context("making a scratch folder")?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711))?;
    Ok(dir)
}

fn default_management(amqp_url: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(amqp_url).with_context(|| format!("{AMQP_URL} is no URL"))?;
    let (user, password) = (url.username().to_owned(), url.password().unwrap_or("guest").to_owned());
    let host = url.host_str().unwrap_or("127.0.0.1").to_owned();
    url = Url::parse(&format!("http://{host}:15672"))?;
    let _ = url.set_username(if user.is_empty() { "guest" } else { &user });
    let _ = url.set_password(Some(&password));
    Ok(url.into())
}
