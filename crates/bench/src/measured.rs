//! The measured system, its clients and its tools.

use std::{fs, sync::Arc, time::Duration};

use countersign_broker::{
    lane,
    topology::{actions_exchange, answers_queue, approvals_queue, outcomes_queue},
};
use countersign_testkit::{
    build,
    system::{self, ROLES, System},
    tools::{Slow, ToolService},
    wait::eventually,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    fairness,
    load::{AGENTS, Answered, Approves, Client, Place, lane_of},
};

/// The tool services that are called over HTTP.
pub(super) struct Tools {
    pub(super) fast: ToolService,
    slow: ToolService,
}

impl Tools {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let done = |_: &str, _: &Value| Ok(json!("done"));
        let slow = ToolService::start(Slow(done, fairness::SLOW)).await?;
        Ok(Self { fast: ToolService::start(done).await?, slow })
    }
}

/// A system in the bench's configuration. Starts nothing.
pub(super) async fn set_up(place: system::Place, tools: &Tools) -> anyhow::Result<System> {
    let config = place.scratch.join("config");
    fs::create_dir_all(&config)?;
    for name in ["policy.yaml", "tools.yaml", "directory.yaml"] {
        let from = build::workspace().join("crates/bench/fixtures").join(name);
        fs::copy(from, config.join(name))?;
    }
    fs::write(config.join("countersign.toml"), "")?;
    let variables = |name: &str| match name {
        "BENCH_TOOLS_URL" => Some(tools.fast.url().to_owned()),
        "BENCH_SLOW_URL" => Some(tools.slow.url().to_owned()),
        _ => None,
    };
    System::set_up(place, &config, "olga", variables).await
}

/// Replaces the running processes by `processes` of each role, with `lanes` lanes each.
pub(super) async fn run_with(system: &mut System, lanes: u16, processes: usize) -> anyhow::Result<()> {
    system.stop().await?;
    fs::write(system.config.join("countersign.toml"), format!("[lanes]\nper_process = {lanes}\n"))?;
    for role in ROLES {
        for index in 0..processes {
            let name = if index == 0 { role.to_owned() } else { format!("{role}-{index}") };
            system.start(role, &name)?;
        }
    }
    Ok(())
}

pub(super) async fn agents_of(system: &System) -> anyhow::Result<Vec<Client>> {
    let mut agents = Vec::new();
    for agent in AGENTS {
        agents.push(client(system, agent).await?);
    }
    Ok(agents)
}

/// An agent of a system.
pub(super) async fn client(system: &System, agent: &'static str) -> anyhow::Result<Client> {
    let (url, outcomes) = (system.url(&format!("agent-{agent}"))?.to_owned(), outcomes_queue(agent));
    Client::connect(Place { url, agent, exchange: actions_exchange(agent), outcomes }).await
}

/// Waits until everything is sampled and recorded, so that one side's backlog does not slow the other.
pub(super) async fn settled(system: &System) -> anyhow::Result<()> {
    let store = system.store()?;
    eventually("everything is sampled and recorded", Duration::from_secs(600), async || {
        let tx = store.transaction().await.ok()?;
        let sql = "SELECT NOT EXISTS (SELECT FROM evidence_pending) AND NOT EXISTS
                     (SELECT FROM actions a WHERE a.ended_at > now() - interval '1 hour'
                      AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id))";
        tx.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(())
    })
    .await
}

/// Starts a reviewer's program, which runs until cancelled: two lanes that decide, and one that reads the answers.
pub(super) fn reviewers(system: &System) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for index in 0..2 {
        let settings = lane_of(system.url("reviewer-sam")?, approvals_queue("approvers"));
        let name: Arc<str> = format!("reviewer.{index}").into();
        let approves = Approves(system.signer("sam", "sam")?);
        tokio::spawn(lane::run(name, settings, approves, stop.clone()));
    }
    let answers = lane_of(system.url("reviewer-sam")?, answers_queue("sam"));
    tokio::spawn(lane::run("answers".into(), answers, Answered, stop.clone()));
    Ok(stop)
}
