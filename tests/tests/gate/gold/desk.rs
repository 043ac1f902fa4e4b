//! A gate where somebody has judged what gold items are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, ensure};
use countersign_broker::{publisher::Publisher, reader::Reader, topology::audits_queue};
use countersign_core::message::{AuditRequest, CloudEvent, Finding, FindingData};
use countersign_testkit::{
    clients::{Agent, AuditorApp, finding, found, proposal},
    wait::eventually,
};
use countersign_tests::{Gate, LIMIT, answer, willing};
use serde_json::{Value, json};

use crate::compensation::reversible;

/// How many records are settled before the first gold item.
pub(super) const EARLY: usize = 24;

/// A gate where records can be undone, all are audited, and ada has judged the first of them: every third was wrong.
pub(super) struct Desk {
    pub(super) gate: Gate,
    pub(super) agent: Agent,
    /// What ada was shown, by the action's id.
    pub(super) first: BTreeMap<String, Value>,
}

/// Whether a record is wrong.
pub(super) fn is_wrong(request: &AuditRequest) -> bool {
    let arguments: Value = serde_json::from_str(request.action.arguments.get()).unwrap_or_default();
    arguments["n"].as_u64().is_some_and(|n| n % 3 == 0)
}

pub(super) fn truth(request: &AuditRequest) -> FindingData {
    let found = if is_wrong(request) { Finding::Wrong } else { Finding::Correct };
    finding(request, found, Some("a multiple of three"))
}

pub(super) fn is_early(request: &AuditRequest) -> bool {
    request.action.id.starts_with("early-")
}

impl Desk {
    pub(super) async fn open() -> anyhow::Result<Self> {
        let config = reversible("1h", "0.0")?;
        let path = config.path().join("countersign.toml");
        let settings = std::fs::read_to_string(&path)?;
        let short = "\n[limits]\ntransaction = \"5s\"\n[sampling]\nepoch = \"1s\"\n";
        std::fs::write(&path, settings + short)?;
        let gate = Gate::configured_acting(config, willing).await?;
        let agent = gate.agent("one").await?;
        let mut desk = Self { gate, agent, first: BTreeMap::new() };
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let noting = seen.clone();
        let ada = move |request: &AuditRequest| {
            let shown = serde_json::to_value(request).ok()?;
            noting.lock().ok()?.insert(request.action.id.clone(), shown);
            Some(truth(request))
        };
        let app = desk.gate.auditor("ada", ada).await?;
        desk.executes("early", EARLY).await?;
        desk.gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", EARLY as i64).await?;
        drop(app);
        desk.first = seen.lock().map_err(|_| anyhow::anyhow!("a test panicked"))?.clone();
        // From now on one gold item for two audits.
        let folder = desk.gate.folder().context("a folder of its own")?.to_path_buf();
        let path = folder.join("policy.yaml");
        let policy = std::fs::read_to_string(&path)?.replacen("audits: {", "audits: {gold: 0.5, ", 1);
        let folder = folder.display().to_string();
        // A proof also asks the policy before the one in force, which may have come into force a little late.
        for version in ["test-2", "test-3"] {
            std::fs::write(&path, policy.replacen("test-1", version, 1))?;
            let (output, ok) = desk.gate.cli(&["apply", &folder, "--operator", "olga"]).await?;
            ensure!(ok, "{output}");
        }
        Ok(desk)
    }

    /// Records are written, each for a customer of its own.
    pub(super) async fn executes(&mut self, name: &str, count: usize) -> anyhow::Result<()> {
        let record = |n: usize| {
            let mut event = proposal("one", &format!("{name}-{n}"), "write_record", json!({"n": n}));
            event["data"]["agent"]["on_behalf_of"] = format!("customer:c{n}").into();
            event
        };
        self.agent.send(&(0..count).map(record).collect::<Vec<_>>()).await?;
        for _ in 0..count {
            answer(&mut self.agent).await?;
        }
        Ok(())
    }

    /// An app in which ben judges what `judge` wants to.
    pub(super) async fn ben(
        &self,
        judge: impl FnMut(&AuditRequest) -> Option<FindingData> + Send + 'static,
    ) -> anyhow::Result<AuditorApp> {
        self.gate.auditor("ben", judge).await
    }

    pub(super) async fn submits(&self, auditor: &str, data: FindingData) -> anyhow::Result<()> {
        let publisher =
            Publisher::connect(self.gate.system.url(&format!("auditor-{auditor}"))?, "test").await?;
        Ok(publisher.publish(&[found(&self.gate.system.signer(auditor, auditor)?, &[data])]).await?)
    }

    /// The auditors' requests that nobody has read yet, until every open audit and gold item has come.
    pub(super) async fn requests(&self) -> anyhow::Result<Vec<CloudEvent<Value>>> {
        let url = self.gate.system.url("auditor-ben")?;
        let mut queue = Reader::open(url, "test", &audits_queue("auditors")).await?;
        self.all_gold_is_open().await?;
        let mut open = self.items("g.state = 'open'").await?;
        let store = self.gate.system.store()?;
        let audits =
            store.transaction().await?.query("SELECT id::text FROM audits WHERE state = 'open'", &[]).await?;
        open.extend(audits.iter().map(|row| row.get::<_, String>(0)));
        let mut all = BTreeMap::new();
        while !open.is_empty() {
            let event = queue.next::<Value>(LIMIT).await?.context("no request came")?;
            if open.remove(&event.id) {
                all.insert(event.id.clone(), event);
            }
        }
        Ok(all.into_values().collect())
    }

    /// The ids of gold items.
    pub(super) async fn items(&self, condition: &str) -> anyhow::Result<BTreeSet<String>> {
        let store = self.gate.system.store()?;
        let tx = store.transaction().await?;
        let sql =
            format!("SELECT g.id::text FROM gold_items g JOIN audits u ON u.id = g.audit WHERE {condition}");
        Ok(tx.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let (output, ok) = self.gate.cli(arguments).await?;
        ensure!(ok, "{output}");
        serde_json::from_str(&output).with_context(|| output.clone())
    }

    /// The report without the part about gold items, which alone may know of them.
    pub(super) async fn figures(&self, from: &str) -> anyhow::Result<(Value, Value)> {
        let mut report = self.json(&["report", "--from", from, "--json"]).await?;
        let gold = report["gold"].take();
        report["to"] = Value::Null;
        report["measured_at"] = Value::Null;
        Ok((report, gold))
    }

    pub(super) async fn all_gold_is_open(&self) -> anyhow::Result<()> {
        let due = "SELECT count(*) FROM gold_draws WHERE opened_at IS NULL";
        eventually("all are open", LIMIT, async || (self.gate.count(due).await.ok()? == 0).then_some(()))
            .await
    }

    pub(super) async fn all_gold_is_judged(&self) -> anyhow::Result<()> {
        let open = "SELECT count(*) FROM gold_items WHERE state = 'open'";
        eventually("every gold item is judged", LIMIT, async || {
            (self.gate.count(open).await.ok()? == 0).then_some(())
        })
        .await
    }
}
