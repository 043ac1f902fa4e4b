//! `cargo xtask demo`: an airline's customer service, from proposal to report.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use clap::Args;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use countersign_cli::{actions, table};
use countersign_core::{
    action::Outcome,
    config::Member,
    message::{Decision, Finding, FindingData, OutcomeData},
};
use countersign_store::{
    listing::{self, ActionSummary, AuditSummary, Filter},
    report::{Report, report},
};
use countersign_testkit::{
    clients::{Agent, AuditorApp, ReviewerApp},
    isolation::TestEnv,
    system::{Place, System},
    tools::ToolService,
    wait::eventually,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    airline::{Airline, Labels, read},
    build,
    up::operator,
};

/// The demo.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Recorded calls, one JSON object a line, in place of the example's own
    #[arg(long, value_name = "FILE")]
    actions: Option<PathBuf>,
    /// Write the report and one line per action here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let config = build::workspace().join("examples/airline");
    let file = args.actions.clone().unwrap_or_else(|| config.join("actions.jsonl"));
    // Read before anything is started: a wrong path should not cost a minute.
    let (proposals, labels) = read(&file)?;
    let binary = build::binary(false)?;
    let shown = build::with_services(async |services| {
        let tools = ToolService::start(Airline::default()).await?;
        let variables = |name: &str| (name == "AIRLINE_TOOLS_URL").then(|| tools.url().to_owned());
        let operator = operator(&config, variables)?;
        // A virtual host and a database of its own: also where the services are somebody's.
        let env = TestEnv::of(services).await?;
        let place = Place {
            amqp_url: env.amqp_url.clone(),
            database_url: env.database_url.clone(),
            ..build::place(services, binary)
        };
        let mut system = System::set_up(place, &config, &operator, variables).await?;
        system.start_all()?;
        let played = play(&system, &proposals, Arc::new(labels)).await;
        let shown = match played {
            Ok(outcomes) => show(&system, &tools, &outcomes, args.report).await,
            Err(error) => Err(error.context(logs(&system))),
        };
        system.stop().await?;
        env.close().await?;
        shown
    })
    .await?;
    Ok(if shown.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn logs(system: &System) -> String {
    let last = |role: &str| {
        let log = system.log(role);
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        format!("{role}: {}", lines.into_iter().rev().collect::<Vec<_>>().join("\n  "))
    };
    countersign_testkit::system::ROLES.map(last).join("\n")
}

/// Plays every part but Countersign's: the agent proposes, reviewers decide, an auditor judges.
async fn play(
    system: &System,
    proposals: &[Value],
    labels: Arc<Labels>,
) -> anyhow::Result<HashMap<String, OutcomeData>> {
    let directory = &system.folder.configuration.directory;
    let agent = directory.agents().first().context("the directory names no agent")?;
    let reviewer = directory.reviewers().first().context("the directory names no reviewer")?;
    let auditor = directory.auditors().first().context("the directory names no auditor")?;
    let group = |member: &Member| member.groups.first().cloned().unwrap_or_default();
    let known = labels.clone();
    let _reviewer = ReviewerApp::start(system.url(&reviewer.amqp_user)?, &group(reviewer), move |request| {
        Some(match known.correct(&request.action.id) {
            true => (Decision::Approve, None),
            false => (Decision::Reject, Some("this is not what the customer asked for".into())),
        })
    })
    .await?;
    let _auditor = AuditorApp::start(system.url(&auditor.amqp_user)?, &group(auditor), move |request| {
        let correct = labels.correct(&request.action.id);
        Some(FindingData {
            audit: request.audit,
            finding: if correct { Finding::Correct } else { Finding::Wrong },
            reason: (!correct).then(|| "this is not what the customer asked for".into()),
            correction: None,
            resolution: None,
        })
    })
    .await?;
    let mut agent = Agent::connect(system.url(&agent.amqp_user)?, &agent.id).await?;
    let bar = ProgressBar::new(proposals.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} answered, {elapsed}") {
        bar.set_style(style);
    }
    agent.send(proposals).await?;
    let mut outcomes = HashMap::new();
    while outcomes.len() < proposals.len() {
        let outcome = agent.outcome(Duration::from_secs(120)).await?;
        let outcome =
            outcome.with_context(|| format!("{} of {} answered", outcomes.len(), proposals.len()))?;
        outcomes.insert(outcome.action.id.clone(), outcome);
        bar.set_position(outcomes.len() as u64);
    }
    bar.finish_and_clear();
    settled(system).await?;
    Ok(outcomes)
}

/// Audits come after the outcomes: waits until every throw has fallen and every audit is judged.
async fn settled(system: &System) -> anyhow::Result<()> {
    let store = system.store()?;
    eventually("every audit is judged", Duration::from_secs(60), async || {
        let mut client = store.client().await.ok()?;
        let tx = client.transaction().await.ok()?;
        let sql = "SELECT NOT EXISTS (SELECT FROM audits WHERE state = 'open')
                      AND NOT EXISTS (SELECT FROM actions a WHERE a.started_at IS NOT NULL
                                      AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id))";
        tx.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(())
    })
    .await
}

async fn show(
    system: &System,
    tools: &ToolService,
    outcomes: &HashMap<String, OutcomeData>,
    file: Option<PathBuf>,
) -> anyhow::Result<()> {
    let store = system.store()?;
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let filter = Filter { limit: i64::MAX, ..Filter::default() };
    let list = listing::actions(&tx, &filter).await?;
    let audits = listing::audits(&tx, None, None, i64::MAX).await?;
    let to = Utc::now() + TimeDelta::seconds(5);
    let report = report(&tx, to - TimeDelta::days(1), to).await?;
    println!("{}", summary(&list));
    for pick in [approved, rejected, audited] {
        if let Some(action) = list.iter().find(|action| pick(action, &audits)) {
            println!("{}", actions::text(&actions::timeline(&tx, action).await?));
        }
    }
    println!("{}", table::render(&report));
    let succeeded = outcomes.values().filter(|outcome| outcome.outcome == Outcome::Succeeded).count();
    println!("\n{} effects in the tool service, {succeeded} outcomes succeeded", tools.effects().len());
    if let Some(file) = file {
        write(&file, &report, &list, outcomes, tools)?;
    }
    ensure!(tools.effects().len() == succeeded, "effects and outcomes differ");
    Ok(())
}

// One action of each kind, for its timeline.

fn approved(action: &ActionSummary, _: &[AuditSummary]) -> bool {
    action.state == "succeeded" && !action.approvers.is_empty()
}

fn rejected(action: &ActionSummary, _: &[AuditSummary]) -> bool {
    action.state == "rejected"
}

fn audited(action: &ActionSummary, audits: &[AuditSummary]) -> bool {
    action.approvers.is_empty() && audits.iter().any(|audit| audit.action == action.id)
}

/// Counts by tool and state.
fn summary(list: &[ActionSummary]) -> String {
    let mut counts: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for action in list {
        *counts.entry((&action.tool, &action.rule, &action.state)).or_default() += 1;
    }
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(["tool", "rule", "outcome", "actions"]);
    for ((tool, rule, state), count) in counts {
        table.add_row([tool, rule, state, &count.to_string()]);
    }
    table.to_string()
}

fn write(
    path: &PathBuf,
    report: &Report,
    list: &[ActionSummary],
    outcomes: &HashMap<String, OutcomeData>,
    tools: &ToolService,
) -> anyhow::Result<()> {
    let effects = tools.effects();
    let mut by_key: HashMap<&str, usize> = HashMap::new();
    for effect in &effects {
        *by_key.entry(&effect.key).or_default() += 1;
    }
    let lines: Vec<Value> = list
        .iter()
        .map(|action| {
            json!({
                "id": action.event_id, "tool": action.tool, "verdict": action.verdict, "rule": action.rule,
                "approvers": action.approvers, "outcome": outcomes.get(&action.event_id).map(|o| o.outcome),
                "error_code": action.error_code,
                "effects": by_key.get(action.id.to_string().as_str()).copied().unwrap_or(0),
            })
        })
        .collect();
    let whole = json!({"report": report, "effects": effects.len(), "actions": lines});
    fs::write(path, serde_json::to_string_pretty(&whole)?)
        .with_context(|| format!("writing {}", path.display()))
}
