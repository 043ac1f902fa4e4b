//! The statistics on labelled recordings of a real agent's actions. The recordings are not in the repository; without them
//! these tests are skipped.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use countersign_core::{
    keyed::{KeyedSampler, Secret},
    message::Finding,
};
use countersign_statistics::estimate::{ALPHA, Cell, estimate};
use countersign_testkit::clients::{Agent, AuditorApp, finding, proposal, withdrawal};
use countersign_tests::{Gate, folder, willing};
use serde_json::{Value, json};

/// The audit rate.
const PI: f64 = 0.2;

fn recorded() -> anyhow::Result<Option<Vec<Value>>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/airline-actions.jsonl");
    if !path.exists() {
        eprintln!("SKIPPED: {} is missing", path.display());
        return Ok(None);
    }
    let text = std::fs::read_to_string(path)?;
    Ok(Some(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
}

/// How many of twenty keys yield an interval that covers the labelled error rate.
fn covered(writes: &[Value]) -> anyhow::Result<u32> {
    let wrong = |action: &Value| action["correct"] == false;
    let truth = writes.iter().filter(|action| wrong(action)).count();
    let mut covered = 0;
    for key in 0..20_u8 {
        let keyed_sampler = KeyedSampler::new(Secret::new(vec![key; 32])?);
        let drawn = |action: &&Value| keyed_sampler.draw(1, "/agents/one", &id(action), PI).selected;
        let drawn: Vec<&Value> = writes.iter().filter(drawn).collect();
        let cell = Cell {
            pi: PI,
            executed: writes.len() as u64,
            judged: drawn.len() as u64,
            wrong: drawn.iter().filter(|action| wrong(action)).count() as u64,
            missing: 0,
        };
        let interval = estimate(&[cell], ALPHA).interval;
        covered += u32::from(interval.contains(truth as f64 / writes.len() as f64));
    }
    Ok(covered)
}

/// Only state-changing actions.
#[test]
fn the_estimate_covers_the_labelled_truth_for_nearly_every_key() -> anyhow::Result<()> {
    let Some(actions) = recorded()? else { return Ok(()) };
    let writes: Vec<Value> = actions.into_iter().filter(|action| action["writes"] == true).collect();
    let truth = writes.iter().filter(|action| action["correct"] == false).count();
    ensure!((writes.len(), truth) == (250, 162), "{} {truth}", writes.len());
    let covered = covered(&writes)?;
    eprintln!("{covered} of 20 keys cover 162 of 250");
    ensure!(covered >= 18, "{covered} of 20");
    Ok(())
}

/// A configuration with all tools of the recording, all allowed; the rule for state-changing ones may switch to approval.
fn config(switching: &str) -> anyhow::Result<tempfile::TempDir> {
    let Some(actions) = recorded()? else { anyhow::bail!("there is no recording") };
    let dir = folder("version: \"test-1\"", "version: \"recorded\"")?;
    let mut names: Vec<(String, bool)> = actions
        .iter()
        .filter_map(|action| Some((action["tool"].as_str()?.to_owned(), action["writes"] == true)))
        .collect();
    names.sort();
    names.dedup();
    let mut tools = String::from("tools:\n");
    for (name, _) in &names {
        tools.push_str(&format!(
            "  - name: {name}\n    description: As recorded\n    connector: {{http: {{url: \
             \"${{TEST_TOOLS_URL}}/tools/{name}\"}}}}\n    arguments: {{type: object}}\n    timeout: 5s\n    idempotent: true\n"
        ));
    }
    tools.push_str("egress: {allow_hosts: [127.0.0.1], allow_private: [127.0.0.1]}\n");
    std::fs::write(dir.path().join("tools.yaml"), tools)?;
    let writes: Vec<String> =
        names.iter().filter(|name| name.1).map(|name| format!("{:?}", name.0)).collect();
    let fallback = "verdict: deny\n  reason: no\n  audit: {rate: 0.0, group: auditors}";
    let policy = format!(
        "version: recorded\ndefault:\n  {fallback}\non_error:\n  {fallback}\nrules:\n  - id: writes\n    when: tool.name in \
         [{}]\n    verdict: allow\n    audit: {{rate: {PI}, group: auditors}}\n    group: approvers\n    expires_after: \
         10m\n    switching: {{{switching}}}\n  - id: reads\n    when: \"true\"\n    verdict: allow\n    audit: {{rate: {PI}, \
         group: auditors}}\n",
        writes.join(", ")
    );
    std::fs::write(dir.path().join("policy.yaml"), policy)?;
    Ok(dir)
}

fn id(action: &Value) -> String {
    format!("task-{}-{}-{}", action["task"], action["trial"], action["seq"])
}

fn proposed(action: &Value) -> Option<Value> {
    Some(proposal("one", &id(action), action["tool"].as_str()?, action["arguments"].clone()))
}

/// A gate and the recording's state-changing actions; its sampling plans start in the state `normal`.
struct Run {
    gate: Gate,
    agent: Agent,
    writes: Vec<Value>,
    _auditor: AuditorApp,
}

impl Run {
    async fn start(actions: Vec<Value>) -> anyhow::Result<Self> {
        let config = config("limit: 0.1, aoql: 0.1, look_back: 10")?;
        let gate = Gate::configured_acting(config, willing).await?;
        let labels: HashMap<String, bool> =
            actions.iter().map(|action| (id(action), action["correct"] == true)).collect();
        let auditor = gate
            .auditor("ada", move |request| {
                let found = match labels.get(&request.action.id) {
                    Some(true) => Finding::Correct,
                    _ => Finding::Wrong,
                };
                Some(finding(request, found, Some("not what the customer asked for")))
            })
            .await?;
        let agent = gate.agent("one").await?;
        let writes = actions.into_iter().filter(|action| action["writes"] == true).collect();
        Ok(Self { gate, agent, writes, _auditor: auditor })
    }

    /// Makes each stratum known by a proposal, which is withdrawn, and pins its plan to `normal`; unpins it unless `stay`.
    async fn make_known(&self, stay: bool) -> anyhow::Result<()> {
        let mut tools: Vec<&str> = self.writes.iter().filter_map(|action| action["tool"].as_str()).collect();
        tools.sort_unstable();
        tools.dedup();
        for tool in tools {
            self.agent.propose(&format!("known-{tool}"), tool, json!({})).await?;
            self.gate
                .reaches(
                    &format!("SELECT count(*) FROM sampling_plans WHERE stratum LIKE 'writes/{tool}/%'"),
                    1,
                )
                .await?;
            let stratum = format!("writes/{tool}/one@1.4.2");
            self.operates(&["pin", &stratum, "--state", "normal"]).await?;
            if !stay {
                self.operates(&["unpin", &stratum]).await?;
            }
        }
        let known = self.writes.iter().filter_map(|action| action["tool"].as_str());
        let known: std::collections::BTreeSet<String> = known.map(|tool| format!("known-{tool}")).collect();
        let withdrawn: Vec<Value> = known.iter().map(|id| withdrawal("one", id)).collect();
        self.agent.send(&withdrawn).await?;
        self.gate.reaches("SELECT count(*) FROM actions WHERE state = 'cancelled'", known.len() as i64).await
    }

    async fn operates(&self, command: &[&str]) -> anyhow::Result<()> {
        let by = ["--operator", "olga", "--reason", "the recording"];
        let (output, ok) = self.gate.cli(&[&["switching"], command, &by].concat()).await?;
        ensure!(ok, "{output}");
        Ok(())
    }

    /// Sends the actions `at_once` at a time, and waits until their audits are settled.
    async fn plays(&self, at_once: usize) -> anyhow::Result<()> {
        let mut sent = 0;
        for some in self.writes.chunks(at_once) {
            self.agent.send(&some.iter().filter_map(proposed).collect::<Vec<_>>()).await?;
            sent += some.len() as i64;
            let known = "SELECT count(*) FROM actions WHERE event_id NOT LIKE 'known-%' AND (state = 'pending_approval' OR
                         (ended_at IS NOT NULL AND EXISTS (SELECT FROM sampling s WHERE s.action = id)))";
            self.gate.reaches(known, sent).await?;
            let judged = "SELECT count(*) FROM (SELECT 1) one WHERE NOT EXISTS
                          (SELECT FROM audits WHERE state = 'open')";
            self.gate.reaches(judged, 1).await?;
        }
        Ok(())
    }
}

/// Run A: everything is executed, and the report's interval is compared with those of twenty other keys.
#[tokio::test]
async fn pinned_to_normal_the_estimate_covers_the_truth_through_the_whole_system() -> anyhow::Result<()> {
    let Some(actions) = recorded()? else { return Ok(()) };
    let run = Run::start(actions).await?;
    run.make_known(true).await?;
    run.plays(250).await?;
    let (gate, truth) = (&run.gate, run.writes.iter().filter(|action| action["correct"] == false).count());
    ensure!(gate.count("SELECT count(*) FROM sampling WHERE executed AND pi = 0.2").await? == 250);
    let (output, _) = gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    let all = &report["rates"][0];
    let drawn = gate.count("SELECT count(*) FROM sampling WHERE selected").await?;
    ensure!(all["executed"] == 250 && all["judged"] == drawn && all["missing"] == 0, "{all}");
    let covered = covered(&run.writes)?;
    eprintln!(
        "run A: {truth} of 250 wrong, this key: {} to {}; {covered} of 20 keys cover it",
        all["lower"], all["upper"]
    );
    ensure!(covered >= 18, "{covered} of 20");
    run.gate.close().await
}

/// Run B: the plans switch, and the report shows after how many actions and errors.
#[tokio::test]
async fn with_switching_what_is_often_wrong_goes_to_approval() -> anyhow::Result<()> {
    let Some(actions) = recorded()? else { return Ok(()) };
    let run = Run::start(actions).await?;
    run.make_known(false).await?;
    run.plays(10).await?;
    let (output, _) = run.gate.cli(&["report", "--json"]).await?;
    let report: Value = serde_json::from_str(&output)?;
    let back: Vec<&Value> = report["learning"]["plan_changes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|moved| moved["state"] == "pre_approval" && moved["was"] != "discontinued")
        .collect();
    for moved in &back {
        eprintln!("run B: {} after {} ({})", moved["stratum"], moved["seen"], moved["reason"]);
    }
    // 72 of 104 changes of flights and 52 of 53 bookings are wrong. The draws may miss one of the two until nearly the
    // end in three of a thousand runs; both in less than one of 100,000.
    let mut stopped = 0;
    for (tool, all) in [("update_reservation_flights", 104), ("book_reservation", 53)] {
        let stratum = format!("writes/{tool}/one@1.4.2");
        let Some(moved) = back.iter().find(|moved| moved["stratum"] == stratum) else { continue };
        let executed = moved["seen"]["executed"].as_i64().unwrap_or_default();
        ensure!(executed > 0 && executed <= all && moved["seen"]["wrong"].as_u64() >= Some(2), "{moved}");
        let waits = format!(
            "SELECT count(*) FROM actions WHERE rule = 'writes' AND tool = '{tool}' AND state = 'pending_approval'"
        );
        let waits = run.gate.count(&waits).await?;
        stopped += i32::from(waits > 0);
        eprintln!("run B: {waits} of {all} calls of {tool} wait for an approval");
    }
    ensure!(stopped > 0, "nothing went to approval: {}", report["learning"]["plan_changes"]);
    let done = run.gate.count("SELECT count(*) FROM actions WHERE state = 'succeeded'").await?;
    eprintln!("run B: {done} of 250 executed");
    run.gate.close().await
}
