//! A virtual host and a database per test.

use anyhow::Context as _;
use countersign_broker::management::Management;
use url::Url;

use crate::services::{AMQP_URL, DATABASE_URL, MANAGEMENT_URL, Services};

/// Where one test works. Call [`TestEnv::close`] at its end.
pub struct TestEnv {
    /// The broker with the test's virtual host, as administrator.
    pub amqp_url: String,
    /// Its management API.
    pub management_url: String,
    /// The test's database, as owner.
    pub database_url: String,
    /// The virtual host's name.
    pub vhost: String,
    admin_database: String,
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run `cargo xtask test`, or set it"))
}

impl TestEnv {
    /// In the services that the environment names, as `cargo xtask test` does.
    pub async fn new() -> anyhow::Result<Self> {
        Self::within(&variable(AMQP_URL)?, &variable(MANAGEMENT_URL)?, &variable(DATABASE_URL)?).await
    }

    /// In services of the test's own.
    pub async fn of(services: &Services) -> anyhow::Result<Self> {
        Self::within(&services.amqp_url, &services.management_url, &services.database_url).await
    }

    async fn within(amqp: &str, management: &str, database: &str) -> anyhow::Result<Self> {
        let name = format!("test_{:016x}", rand::random::<u64>());
        let mut amqp_url = Url::parse(amqp)?;
        let admin = amqp_url.username().to_owned();
        amqp_url.set_path(&name);
        Management::new(management, &name)?.create_vhost(&admin).await?;
        execute(database, &format!("CREATE DATABASE {name}")).await?;
        let mut database_url = Url::parse(database)?;
        database_url.set_path(&name);
        Ok(Self {
            amqp_url: amqp_url.into(),
            management_url: management.into(),
            database_url: database_url.into(),
            vhost: name,
            admin_database: database.into(),
        })
    }

    /// A client of the management API for the test's virtual host.
    pub fn management(&self) -> anyhow::Result<Management> {
        Ok(Management::new(&self.management_url, &self.vhost)?)
    }

    /// Removes virtual host and database.
    pub async fn close(self) -> anyhow::Result<()> {
        self.management()?.delete_vhost().await?;
        execute(&self.admin_database, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.vhost)).await
    }
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.with_context(|| sql.to_owned())?;
    drop(client);
    connection.await??;
    Ok(())
}
