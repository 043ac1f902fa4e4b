//! Labelled recordings of a real agent's actions, played through a whole system. The recordings are not in the repository.
//!
//! The labels reach the auditor alone: an action's proposal has its tool and arguments only.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use countersign_core::{
    keyed::{KeyedSampler, Secret},
    message::{AuditRequest, Finding, FindingData},
};
use countersign_runtime::keys;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    build,
    clients::{Agent, AuditorApp, finding, proposal},
    isolation::TestEnv,
    system::{Place, System},
    tools::ToolService,
    wait::eventually,
};

/// The variable that names the folder with the recordings.
pub const FOLDER: &str = "COUNTERSIGN_RECORDINGS";
/// The variable of the tool service in the configuration.
pub const TOOLS_URL: &str = "TEST_TOOLS_URL";
/// The agent whose actions they are, as the configuration's directory has it.
pub const AGENT: &str = "one";
/// The audit rate of actions that change something ...
pub const WRITES: f64 = 0.2;
/// ... and of all others.
pub const READS: f64 = 0.05;

/// Longer than a recording takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// One sampling key for as long as the settings allow, so that a secret makes the same draws today and tomorrow.
const SETTINGS: &str = "\
[sweep]
every = \"300ms\"

[sampling]
epoch = \"366days\"

[ledger]
every = \"200ms\"
lease = \"2s\"
";

const DIRECTORY: &str = "\
groups: [approvers, auditors]
agents:
  - {id: one, amqp_user: agent-one, quotas: {rate: 100000, in_flight: 10000, open_requests: 10000}}
reviewers: [{id: sam, amqp_user: reviewer-sam, groups: [approvers]}]
auditors:
  - {id: ada, amqp_user: auditor-ada, groups: [auditors]}
  # Confirms what the first finds critical; a rule that switches needs one.
  - {id: ben, amqp_user: auditor-ben, groups: [auditors]}
operators: [{id: olga, db_user: operator_olga}]
";

/// Recorded actions, one JSON object each: `tool`, `arguments`, `writes`, `correct`, and `task`, `trial` and `seq`, which
/// make its id.
#[derive(Clone)]
pub struct Recording {
    actions: Vec<Value>,
}

/// A recorded action's id.
pub fn id(action: &Value) -> String {
    format!("task-{}-{}-{}", action["task"], action["trial"], action["seq"])
}

/// Whether its label says that it was wrong.
pub fn is_wrong(action: &Value) -> bool {
    action["correct"] == false
}

/// The proposal of a recorded action.
pub fn proposed(action: &Value) -> Value {
    proposal(AGENT, &id(action), action["tool"].as_str().unwrap_or_default(), action["arguments"].clone())
}

/// The sampling secret number `n` of those that were fixed before anybody saw what they draw: the SHA-256 of the decimal number.
pub fn secret(n: u32) -> [u8; 32] {
    Sha256::digest(n.to_string()).into()
}

impl Recording {
    /// The recording in the folder that [`FOLDER`] names, or beside the workspace. `None`, and a message, where it is missing.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn find() -> anyhow::Result<Option<Self>> {
        let named = std::env::var_os(FOLDER).map(PathBuf::from);
        let folder = named.unwrap_or_else(|| build::workspace().join("../shared/data"));
        if !file(&folder).exists() {
            eprintln!("SKIPPED: {} is missing; {FOLDER} names its folder", file(&folder).display());
            return Ok(None);
        }
        Self::read(&folder).map(Some)
    }

    /// Reads `airline-actions.jsonl` in a folder.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = file(folder);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let actions = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        Ok(Self { actions: actions.with_context(|| format!("reading {}", path.display()))? })
    }

    /// Those that change something.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.actions.retain(|action| action["writes"] == true);
        self
    }

    /// The actions, in the order in which they were made.
    pub fn actions(&self) -> &[Value] {
        &self.actions
    }

    /// How many are wrong.
    pub fn wrong(&self) -> usize {
        self.actions.iter().filter(|action| is_wrong(action)).count()
    }

    /// A configuration with every tool of the recording, all of them allowed. `more` belongs to the rule of those that change
    /// something, such as `switching: {...}`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn configuration(&self, more: &str) -> anyhow::Result<TempDir> {
        let dir = tempfile::tempdir()?;
        let named = |action: &Value| {
            (action["tool"].as_str().unwrap_or_default().to_owned(), action["writes"] == true)
        };
        let tools: BTreeMap<String, bool> = self.actions.iter().map(named).collect();
        let entry = |name: &String| {
            format!(
                "  - name: {name}\n    description: As recorded\n    connector: {{http: {{url: \
                 \"${{{TOOLS_URL}}}/tools/{name}\"}}}}\n    arguments: {{type: object}}\n    timeout: 5s\n    \
                 idempotent: true\n"
            )
        };
        let entries: String = tools.keys().map(entry).collect();
        let egress = "egress: {allow_hosts: [127.0.0.1], allow_private: [127.0.0.1]}\n";
        let writing = tools.iter().filter(|(_, writes)| **writes).map(|(name, _)| format!("{name:?}"));
        let writing = writing.collect::<Vec<_>>().join(", ");
        let fallback = "{verdict: deny, reason: no rule allows this, audit: {rate: 0.0, group: auditors}}";
        let policy = format!(
            "version: recorded\ndefault: {fallback}\non_error: {fallback}\nrules:\n  - id: writes\n    when: tool.name in \
             [{writing}]\n    verdict: allow\n    audit: {{rate: {WRITES}, group: auditors}}\n    {more}\n  - id: reads\n    \
             when: \"true\"\n    verdict: allow\n    audit: {{rate: {READS}, group: auditors}}\n"
        );
        let tools = format!("tools:\n{entries}{egress}");
        for (name, text) in [
            ("countersign.toml", SETTINGS),
            ("directory.yaml", DIRECTORY),
            ("tools.yaml", &tools),
            ("policy.yaml", &policy),
        ] {
            fs::write(dir.path().join(name), text)?;
        }
        Ok(dir)
    }

    /// What an auditor says who knows the labels.
    pub fn judge(&self) -> impl FnMut(&AuditRequest) -> Option<FindingData> + Send + use<> {
        let labels: HashMap<String, bool> =
            self.actions.iter().map(|action| (id(action), is_wrong(action))).collect();
        move |request| {
            let wrong = labels.get(&request.action.id).copied().unwrap_or(true);
            let found = if wrong { Finding::Wrong } else { Finding::Correct };
            Some(finding(request, found, Some("not what the customer asked for")))
        }
    }

    /// How many of the actions with each rate the draws of a secret select in an epoch, and how many of those are wrong: of
    /// those that change something, and of the others.
    ///
    /// # Errors
    /// None for 32 bytes.
    pub fn drawn(&self, secret: [u8; 32], epoch: i64) -> anyhow::Result<[Drawn; 2]> {
        let sampler = KeyedSampler::new(Secret::new(secret.to_vec())?);
        let source = format!("/agents/{AGENT}");
        let of = |writes: bool, pi: f64| {
            let all = self.actions.iter().filter(|action| (action["writes"] == true) == writes);
            let selected = |action: &&Value| sampler.draw(epoch, &source, &id(action), pi).selected;
            let selected: Vec<&Value> = all.clone().filter(selected).collect();
            let wrong = selected.iter().filter(|action| is_wrong(action)).count() as u64;
            Drawn { pi, executed: all.count() as u64, judged: selected.len() as u64, wrong }
        };
        Ok([of(true, WRITES), of(false, READS)])
    }

    /// Plays every action through a system of its own, which draws with `secret`: one process of each role, a tool service that
    /// accepts each call, and an auditor who knows the labels. `scratch` is for its keys and logs.
    ///
    /// # Errors
    /// Where that takes too long, or the report cannot be made.
    pub async fn play(
        &self,
        env: &TestEnv,
        scratch: &Path,
        binary: &Path,
        secret: [u8; 32],
    ) -> anyhow::Result<Played> {
        let config = self.configuration("")?;
        let tools = ToolService::start(accept).await?;
        let place = Place {
            amqp_url: env.amqp_url.clone(),
            management_url: env.management_url.clone(),
            database_url: env.database_url.clone(),
            scratch: scratch.into(),
            binary: binary.into(),
        };
        let variables = |name: &str| (name == TOOLS_URL).then(|| tools.url().to_owned());
        let mut system = System::set_up(place, config.path(), "olga", variables).await?;
        let path = scratch.join("keys").join(keys::file::SAMPLING);
        fs::write(&path, BASE64.encode(secret)).with_context(|| format!("writing {}", path.display()))?;
        system.start_all()?;
        let played = self.act(&system).await;
        system.stop().await?;
        played
    }

    /// Has the agent act, and waits until every action is executed, drawn and judged.
    async fn act(&self, system: &System) -> anyhow::Result<Played> {
        let signer = system.signer("ada", "ada")?;
        let url = system.url("auditor-ada")?;
        let _auditor = AuditorApp::start(url, signer, "auditors", self.judge()).await?;
        let agent = Agent::connect(system.url(&format!("agent-{AGENT}"))?, AGENT).await?;
        agent.send(&self.actions.iter().map(proposed).collect::<Vec<_>>()).await?;
        let (store, all) = (system.store()?, i64::try_from(self.actions.len())?);
        let epoch = eventually("every action is executed, drawn and judged", LIMIT, async || {
            let tx = store.transaction().await.ok()?;
            let sql =
                "SELECT count(*) = $1 AND NOT EXISTS (SELECT FROM audits WHERE state = 'open'), max(epoch)
                       FROM sampling WHERE executed";
            let row = tx.query_one(sql, &[&all]).await.ok()?;
            row.get::<_, bool>(0).then(|| row.get::<_, i64>(1))
        })
        .await?;
        let output =
            tokio::process::Command::from(system.command()).args(["report", "--json"]).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report = serde_json::from_slice(&output.stdout).context("the report is not JSON")?;
        Ok(Played { report, epoch })
    }
}

/// Accepts every call.
fn accept(_tool: &str, _arguments: &Value) -> Result<Value, (u16, String)> {
    Ok(json!({"done": true}))
}

/// What came of playing a recording.
#[derive(Clone, Debug)]
pub struct Played {
    /// What `countersign report --json` printed.
    pub report: Value,
    /// The epoch of the draws.
    pub epoch: i64,
}

fn file(folder: &Path) -> PathBuf {
    folder.join("airline-actions.jsonl")
}

/// Actions with one inclusion probability, and what a draw has shown of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// π.
    pub pi: f64,
    /// How many.
    pub executed: u64,
    /// Selected, and therefore judged.
    pub judged: u64,
    /// Judged wrong.
    pub wrong: u64,
}
