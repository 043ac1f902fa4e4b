//! Connections: a pool, timeouts on everything, migrations.

use std::{str::FromStr as _, time::Duration};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Metrics, Object, Pool, QueueMode,
    RecyclingMethod, Runtime, Timeouts,
};
use tokio_postgres::NoTls;

use crate::StoreError;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// How long it may take to get a client from the pool.
const GET_LIMIT: Duration = Duration::from_secs(10);

/// A connection that has been idle for this long is probed before it is used again: it looks alive even if its server has
/// stopped.
const IDLE: Duration = Duration::from_secs(1);

/// Server-side limits for every session: a dropped future does not cancel its query, and a transaction that
/// was forgotten must not hold its locks.
const SESSION: &str =
    "-c statement_timeout=30s -c lock_timeout=20s -c idle_in_transaction_session_timeout=60s";

/// Workers read few rows by their keys. While a table is new or has just grown, the planner lacks statistics, and a
/// prepared statement may keep a plan that scans the whole table; compiling plans takes longer than running them. The
/// remaining plan does not depend on the parameters, so it is made once and not for every execution.
const BY_KEY: &str = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off -c jit=off \
                      -c plan_cache_mode=force_generic_plan";

/// A database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

impl Store {
    /// A pool of at most `size` connections, opened on demand.
    pub fn new(url: &str, name: &str, size: usize) -> Result<Self, StoreError> {
        Self::with(url, name, size, SESSION)
    }

    /// [`Store::new`] for a worker, which reads rows by their keys.
    pub fn of_worker(url: &str, name: &str, size: usize) -> Result<Self, StoreError> {
        Self::with(url, name, size, &format!("{SESSION} {BY_KEY}"))
    }

    fn with(url: &str, name: &str, size: usize, options: &str) -> Result<Self, StoreError> {
        let mut config = tokio_postgres::Config::from_str(url).map_err(StoreError::Url)?;
        config
            .application_name(name)
            .connect_timeout(GET_LIMIT)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(30));
        if config.get_options().is_none() {
            config.options(options);
        }
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, NoTls, manager))
            .max_size(size)
            .pre_recycle(Hook::async_fn(|client, metrics| Box::pin(alive(client, metrics))))
            // Keeps few connections busy: each one holds plans and buffers, here and in the server.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(GET_LIMIT), create: Some(GET_LIMIT), recycle: Some(GET_LIMIT) })
            .build()
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { pool })
    }

    /// A client, within ten seconds.
    pub async fn client(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(|error| {
            use std::error::Error as _;
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            StoreError::Unavailable(format!("{error}{cause}"))
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.within(GET_LIMIT, async { Ok(self.client().await?.simple_query("SELECT 1").await.map(drop)?) })
            .await
    }

    /// Runs `operation` on this database under a limit: a server that has stopped still accepts bytes.
    pub async fn within<T>(
        &self,
        limit: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        tokio::time::timeout(limit, operation)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {limit:?}"))))
    }

    /// Brings the schema up to date. Needs the owner's rights. Returns the names of the migrations that were run.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let mut client = self.client().await?;
        let report = embedded::migrations::runner().run_async(&mut **client.as_mut()).await?;
        Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
    }

    /// Grants each process's role its rights. Needs the owner's rights.
    pub async fn grant(&self) -> Result<(), StoreError> {
        let tx = self.transaction().await?;
        tx.batch_execute(include_str!("../../../deploy/postgres/grants.sql")).await?;
        tx.commit().await
    }
}

/// Who has logged in to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The role, which neither SET ROLE nor a membership changes.
    pub user: String,
    /// Whether the role has the rights of the schema's owner.
    pub owns: bool,
}

impl Store {
    /// Who has logged in.
    pub async fn login(&self) -> Result<Login, StoreError> {
        let sql = "SELECT session_user::text, pg_has_role(session_user, relowner, 'USAGE')
                   FROM pg_class WHERE oid = 'active'::regclass";
        let row = self.transaction().await?.query_one(sql, &[]).await?;
        Ok(Login { user: row.get(0), owns: row.get(1) })
    }
}

/// Whether a connection's server is still there.
async fn alive(client: &ClientWrapper, metrics: &Metrics) -> Result<(), HookError> {
    if metrics.last_used() < IDLE {
        return Ok(());
    }
    let answer = tokio::time::timeout(GET_LIMIT, client.simple_query("")).await;
    answer.map_err(|_| HookError::message("no answer"))?.map(drop).map_err(HookError::Backend)
}
