//! What the end-to-end suites share: a running gate, its clients and its tool service.

pub mod evidence;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use countersign_broker::{reader::Reader, topology::approvals_queue};
use countersign_core::{
    action::Outcome,
    message::{ApprovalRequest, AuditRequest, Decision, FindingData, OutcomeData},
};
use countersign_testkit::{
    clients::{Agent, AuditorApp, Reviewer, ReviewerApp, decision},
    isolation::TestEnv,
    services::Services,
    system::{Place, System, binary},
    tools::{Behaviour, ToolService},
    wait::eventually,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longer than any step takes on a busy machine; a test that waits this long has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A gate with its tool service, in a virtual host and a database of its own.
pub struct Gate {
    /// The system under test.
    pub system: System,
    /// The tool service that it calls.
    pub tools: ToolService,
    env: TestEnv,
    _scratch: TempDir,
    /// The test's own configuration folder, kept because processes read it after their start.
    config: Option<TempDir>,
}

/// The configuration folder of the suites.
pub fn config() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/gate")
}

/// A copy of the suites' folder with one text replaced.
pub fn folder(from: &str, to: &str) -> anyhow::Result<TempDir> {
    copy(&config(), from, to)
}

/// A copy of the suites' folder in which agent one has these quotas.
pub fn with_quotas(quotas: &str) -> anyhow::Result<TempDir> {
    let agent = "{id: one, amqp_user: agent-one, owner: mara";
    folder(agent, &format!("{agent}, quotas: {{{quotas}}}"))
}

/// Quotas that no test reaches.
pub const AMPLE: &str = "rate: 100000, in_flight: 10000, open_requests: 10000";

/// A copy of the airline example's folder that works with the suites' services.
pub fn airline() -> anyhow::Result<TempDir> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/airline");
    copy(&folder, "AIRLINE_TOOLS_URL", "TEST_TOOLS_URL")
}

fn copy(config: &Path, from: &str, to: &str) -> anyhow::Result<TempDir> {
    let (dir, mut found) = (tempfile::tempdir()?, false);
    for name in ["countersign.toml", "policy.yaml", "tools.yaml", "directory.yaml"] {
        let text = std::fs::read_to_string(config.join(name))?;
        found |= text.contains(from);
        std::fs::write(dir.path().join(name), text.replace(from, to))?;
    }
    anyhow::ensure!(found, "no file contains {from:?}");
    Ok(dir)
}

/// The behaviour of a tool service that accepts every call.
pub fn willing(_tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
    Ok(json!({"done": arguments}))
}

impl Gate {
    /// Starts a gate with one process per role on the services of `cargo xtask test`.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(TestEnv::new().await?, willing).await
    }

    /// The same with the tool behaviour that the test provides.
    pub async fn acting(behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::with(TestEnv::new().await?, behaviour).await
    }

    /// The same on private services that the test may kill.
    pub async fn on(services: &Services, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::with(TestEnv::of(services).await?, behaviour).await
    }

    /// The same with the test's own configuration folder.
    pub async fn configured(config: &Path) -> anyhow::Result<Self> {
        Self::in_folder(TestEnv::new().await?, willing, config).await
    }

    /// The same with both; the folder is kept as long as the gate.
    pub async fn configured_acting(config: TempDir, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        let gate = Self::in_folder(TestEnv::new().await?, behaviour, config.path()).await?;
        Ok(Self { config: Some(config), ..gate })
    }

    async fn with(env: TestEnv, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::in_folder(env, behaviour, &config()).await
    }

    async fn in_folder(env: TestEnv, behaviour: impl Behaviour, config: &Path) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Logs help when a test fails.
        let keep = std::env::var_os("COUNTERSIGN_KEEP_LOGS").is_some();
        let scratch = tempfile::Builder::new().prefix("countersign-test-").disable_cleanup(keep).tempdir()?;
        let tools = ToolService::start(behaviour).await?;
        let place = Place {
            amqp_url: env.amqp_url.clone(),
            management_url: env.management_url.clone(),
            database_url: env.database_url.clone(),
            scratch: scratch.path().into(),
            binary: binary()?,
        };
        let url = tools.url().to_owned();
        let variables = move |name: &str| (name == "TEST_TOOLS_URL").then(|| url.clone());
        let mut system = System::set_up(place, config, "olga", variables).await?;
        system.start_all()?;
        Ok(Self { system, tools, env, _scratch: scratch, config: None })
    }

    /// The test's own configuration folder, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        self.config.as_ref().map(TempDir::path)
    }

    /// An agent of the directory.
    pub async fn agent(&self, id: &str) -> anyhow::Result<Agent> {
        Agent::connect(self.system.url(&format!("agent-{id}"))?, id).await
    }

    /// A reviewer of the directory, with an own user and key.
    pub async fn reviewer(&self, id: &str) -> anyhow::Result<Reviewer> {
        Reviewer::connect(self.system.url(&format!("reviewer-{id}"))?, self.system.signer(id, id)?).await
    }

    /// The requests to a group, as one of its reviewers reads them.
    pub async fn requests(&self, reviewer: &str, group: &str) -> anyhow::Result<Requests> {
        let url = self.system.url(&format!("reviewer-{reviewer}"))?;
        Ok(Requests(Reader::open(url, "test", &approvals_queue(group)).await?))
    }

    /// A reviewer's app that approves every request to a group.
    pub async fn approving(&self, reviewer: &str, group: &str) -> anyhow::Result<ReviewerApp> {
        let url = self.system.url(&format!("reviewer-{reviewer}"))?;
        let signer = self.system.signer(reviewer, reviewer)?;
        ReviewerApp::start(url, signer, group, |request| Some(decision(request, Decision::Approve, None)))
            .await
    }

    /// An auditor's app that judges the audits of the group `auditors`; `None` leaves one open.
    pub async fn auditor(
        &self,
        auditor: &str,
        judge: impl FnMut(&AuditRequest) -> Option<FindingData> + Send + 'static,
    ) -> anyhow::Result<AuditorApp> {
        let url = self.system.url(&format!("auditor-{auditor}"))?;
        AuditorApp::start(url, self.system.signer(auditor, auditor)?, "auditors", judge).await
    }

    /// One number from the test's database, read as its owner. Changes that the statement makes are committed.
    pub async fn count(&self, sql: &str) -> anyhow::Result<i64> {
        let store = self.system.store()?;
        let tx = store.transaction().await?;
        let count = tx.query_one(sql, &[]).await.with_context(|| sql.to_owned())?.get(0);
        tx.commit().await?;
        Ok(count)
    }

    /// Waits until a count is at least `least`.
    pub async fn reaches(&self, sql: &str, least: i64) -> anyhow::Result<()> {
        let what = format!("{sql} reaches {least}");
        eventually(&what, LIMIT, async || {
            self.count(sql).await.ok().filter(|count| *count >= least).map(drop)
        })
        .await
    }

    /// Runs the command line as administrator of the broker, with the database login of the operator whom the arguments
    /// name, and otherwise as its owner. Returns its output and whether it succeeded.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        let named = arguments.windows(2).find(|pair| pair[0] == "--operator");
        let url = named.and_then(|pair| self.system.operator_url(pair[1]).ok());
        let url = url.unwrap_or_else(|| self.system.place.database_url.clone());
        self.cli_with(&self.env.amqp_url, &url, arguments).await
    }

    /// The same as another AMQP user, and as the database's owner.
    pub async fn cli_as(&self, amqp_url: &str, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        self.cli_with(amqp_url, &self.system.place.database_url, arguments).await
    }

    /// The same with these servers.
    pub async fn cli_with(
        &self,
        amqp_url: &str,
        database_url: &str,
        arguments: &[&str],
    ) -> anyhow::Result<(String, bool)> {
        let mut command = self.system.command();
        command
            .args(arguments)
            .env("COUNTERSIGN_AMQP_URL", amqp_url)
            .env("COUNTERSIGN_DATABASE_URL", database_url)
            .env("TEST_TOOLS_URL", self.tools.url());
        run(command).await
    }

    /// Runs the command line with an operator's database login.
    pub async fn cli_of(&self, operator: &str, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        self.cli_with(&self.env.amqp_url, &self.system.operator_url(operator)?, arguments).await
    }

    /// Applies the suites' folder with `from` replaced by `to`.
    pub async fn apply(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let dir = folder(from, to)?;
        let path = dir.path().display().to_string();
        let (output, ok) = self.cli(&["apply", &path, "--operator", "olga"]).await?;
        anyhow::ensure!(ok, "{output}");
        Ok(())
    }

    /// How many refusals with this code are recorded in the timelines of actions.
    pub async fn refusals(&self, kind: &str, code: &str) -> anyhow::Result<i64> {
        self.count(&format!(
            "SELECT count(*) FROM evidence WHERE kind = '{kind}' AND body->>'code' = '{code}'"
        ))
        .await
    }

    /// Stops the processes and removes what the test created.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.system.stop().await?;
        self.env.close().await
    }
}

/// The approval requests to a group.
pub struct Requests(Reader);

impl Requests {
    /// The next request; fails if none comes within [`LIMIT`].
    pub async fn next(&mut self) -> anyhow::Result<ApprovalRequest> {
        Ok(self.0.next::<ApprovalRequest>(LIMIT).await?.context("no request came")?.data)
    }
}

/// Runs a program to its end without blocking the test's clients. Returns its output and whether it succeeded.
pub async fn run(command: std::process::Command) -> anyhow::Result<(String, bool)> {
    let run = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = timeout(2 * LIMIT, run).await.context("the program does not exit")??;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((text, output.status.success()))
}

/// The agent's next outcome; fails if none comes within [`LIMIT`].
pub async fn answer(agent: &mut Agent) -> anyhow::Result<OutcomeData> {
    agent.outcome(LIMIT).await?.context("no outcome came")
}

/// Waits until `count` different actions have succeeded. Outcomes are delivered at least once, so one may come twice.
pub async fn all_succeed(agent: &mut Agent, count: usize) -> anyhow::Result<()> {
    let mut done = std::collections::BTreeSet::new();
    while done.len() < count {
        let data = answer(agent).await.with_context(|| format!("{} of {count} answered", done.len()))?;
        anyhow::ensure!(data.outcome == Outcome::Succeeded, "{data:?}");
        done.insert(data.action.id);
    }
    Ok(())
}

/// Fails unless the agent's next outcome is this one, but for one that comes again.
pub async fn expect(agent: &mut Agent, id: &str, outcome: Outcome) -> anyhow::Result<OutcomeData> {
    loop {
        let data = answer(agent).await?;
        if data.action.id == id && data.outcome == outcome {
            return Ok(data);
        }
        anyhow::ensure!(agent.received_again(&data), "expected {id} {outcome:?}, got {data:?}");
    }
}
