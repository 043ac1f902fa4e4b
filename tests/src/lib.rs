//! What the end-to-end suites share: a running gate with stand-ins around it.

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

/// Longer than anything takes on a busy machine; a test that waits this long has failed.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A gate with its tool service, in a virtual host and a database of its own.
pub struct Gate {
    /// The system under test.
    pub system: System,
    /// What it acts on.
    pub tools: ToolService,
    env: TestEnv,
    _scratch: TempDir,
    /// A configuration folder of the test's own: processes read it after they have been started.
    _config: Option<TempDir>,
}

/// The configuration folder of the suites.
pub fn config() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/gate")
}

/// A copy of the suites' folder with one text replaced.
pub fn folder(from: &str, to: &str) -> anyhow::Result<TempDir> {
    copy(&config(), from, to)
}

/// A copy of the airline's folder for a gate of the suites.
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
    anyhow::ensure!(found, "{from:?} is in no file");
    Ok(dir)
}

/// A tool service that does whatever it is asked.
pub fn willing(_tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
    Ok(json!({"done": arguments}))
}

impl Gate {
    /// Everything runs, on the services of `cargo xtask test`.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(TestEnv::new().await?, willing).await
    }

    /// The same with a tool service of the test's own behaviour.
    pub async fn acting(behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::with(TestEnv::new().await?, behaviour).await
    }

    /// The same on services that the test may hurt.
    pub async fn on(services: &Services, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::with(TestEnv::of(services).await?, behaviour).await
    }

    /// The same with a configuration folder of the test's own.
    pub async fn configured(config: &Path) -> anyhow::Result<Self> {
        Self::in_folder(TestEnv::new().await?, willing, config).await
    }

    /// The same with both; the folder is kept as long as the gate.
    pub async fn configured_acting(config: TempDir, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        let gate = Self::in_folder(TestEnv::new().await?, behaviour, config.path()).await?;
        Ok(Self { _config: Some(config), ..gate })
    }

    async fn with(env: TestEnv, behaviour: impl Behaviour) -> anyhow::Result<Self> {
        Self::in_folder(env, behaviour, &config()).await
    }

    async fn in_folder(env: TestEnv, behaviour: impl Behaviour, config: &Path) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // What the processes said is worth reading where a test fails.
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
        Ok(Self { system, tools, env, _scratch: scratch, _config: None })
    }

    /// An agent of the directory.
    pub async fn agent(&self, id: &str) -> anyhow::Result<Agent> {
        Agent::connect(self.system.url(&format!("agent-{id}"))?, id).await
    }

    /// A reviewer of the directory, with their own user and key.
    pub async fn reviewer(&self, id: &str) -> anyhow::Result<Reviewer> {
        Reviewer::connect(self.system.url(&format!("reviewer-{id}"))?, self.system.signer(id, id)?).await
    }

    /// The requests to a group, as one of its reviewers reads them.
    pub async fn requests(&self, reviewer: &str, group: &str) -> anyhow::Result<Requests> {
        let url = self.system.url(&format!("reviewer-{reviewer}"))?;
        Ok(Requests(Reader::open(url, "test", &approvals_queue(group)).await?))
    }

    /// An app of a reviewer that approves everything a group is asked.
    pub async fn approving(&self, reviewer: &str, group: &str) -> anyhow::Result<ReviewerApp> {
        let url = self.system.url(&format!("reviewer-{reviewer}"))?;
        let signer = self.system.signer(reviewer, reviewer)?;
        ReviewerApp::start(url, signer, group, |request| Some(decision(request, Decision::Approve, None)))
            .await
    }

    /// An app of an auditor that judges what the group `auditors` is asked; `None` leaves it open.
    pub async fn auditor(
        &self,
        auditor: &str,
        judge: impl FnMut(&AuditRequest) -> Option<FindingData> + Send + 'static,
    ) -> anyhow::Result<AuditorApp> {
        let url = self.system.url(&format!("auditor-{auditor}"))?;
        AuditorApp::start(url, self.system.signer(auditor, auditor)?, "auditors", judge).await
    }

    /// One number from the test's database, as its owner. What the statement changes stays changed.
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

    /// Runs the command line as administrator and owner. Its standard output, and whether it succeeded.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        self.cli_as(&self.env.amqp_url, arguments).await
    }

    /// The same as another AMQP user.
    pub async fn cli_as(&self, amqp_url: &str, arguments: &[&str]) -> anyhow::Result<(String, bool)> {
        let mut command = self.system.command();
        command.args(arguments).env("COUNTERSIGN_AMQP_URL", amqp_url).env("TEST_TOOLS_URL", self.tools.url());
        said(command).await
    }

    /// Makes the suites' folder active with `from` replaced by `to`.
    pub async fn apply(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let dir = folder(from, to)?;
        let path = dir.path().display().to_string();
        let (said, done) = self.cli(&["apply", &path, "--operator", "olga"]).await?;
        anyhow::ensure!(done, "{said}");
        Ok(())
    }

    /// A refusal noted in the timeline of an agent's action: how many with this code.
    pub async fn refusals(&self, kind: &str, code: &str) -> anyhow::Result<i64> {
        self.count(&format!(
            "SELECT count(*) FROM evidence WHERE kind = '{kind}' AND body->>'code' = '{code}'"
        ))
        .await
    }

    /// Stops the processes and removes what the test made. A worker's log is worth reading if one complained.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.system.stop().await?;
        self.env.close().await
    }
}

/// The approval requests to a group.
pub struct Requests(Reader);

impl Requests {
    /// The next one, which must come.
    pub async fn next(&mut self) -> anyhow::Result<ApprovalRequest> {
        Ok(self.0.next::<ApprovalRequest>(LIMIT).await?.context("no request came")?.data)
    }
}

/// Runs a program to its end while the stand-ins of this test go on: what it said, and whether it succeeded.
pub async fn said(command: std::process::Command) -> anyhow::Result<(String, bool)> {
    let run = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = timeout(2 * LIMIT, run).await.context("a program does not end")??;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((text, output.status.success()))
}

/// The next outcome of an agent, which must come.
pub async fn answer(agent: &mut Agent) -> anyhow::Result<OutcomeData> {
    agent.outcome(LIMIT).await?.context("no outcome came")
}

/// Waits until so many different actions have succeeded. One whose sampler is late is told twice, as at least once means.
pub async fn all_succeed(agent: &mut Agent, count: usize) -> anyhow::Result<()> {
    let mut done = std::collections::BTreeSet::new();
    while done.len() < count {
        let data = answer(agent).await.with_context(|| format!("{} of {count} answered", done.len()))?;
        anyhow::ensure!(data.outcome == Outcome::Succeeded, "{data:?}");
        done.insert(data.action.id);
    }
    Ok(())
}

/// The next outcome must be this one.
pub async fn expect(agent: &mut Agent, id: &str, outcome: Outcome) -> anyhow::Result<OutcomeData> {
    let data = answer(agent).await?;
    anyhow::ensure!(
        data.action.id == id && data.outcome == outcome,
        "expected {id} {outcome:?}, got {data:?}"
    );
    Ok(data)
}
