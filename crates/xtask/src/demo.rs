//! `cargo xtask demo`: runs an example, from proposals to the report.

mod bundle;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use chrono::{TimeDelta, Utc};
use clap::Args;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use countersign_app::{
    actions::timeline,
    report::{MeasureReport, Report, measure},
};
use countersign_cli::{actions, table};
use countersign_core::{action::Outcome, ids::ActionId, message::OutcomeData};
use countersign_store::listing::{self, ActionSummary, Filter};
use countersign_testkit::{
    clients::Agent,
    isolation::TestEnv,
    system::{Place, System},
    tools::ToolService,
    wait::eventually,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    example::{Example, Labels, read},
    humans::Humans,
    up::operator,
};
use countersign_testkit::build;

/// The demo.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// The configuration, tools and actions in examples/
    #[arg(long, value_enum, default_value_t = Example::Airline)]
    example: Example,
    /// Recorded calls, one JSON object a line, in place of the example's own
    #[arg(long, value_name = "FILE")]
    actions: Option<PathBuf>,
    /// Write the report and one line per action here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let (example, config) = (args.example, args.example.folder());
    let file = args.actions.clone().unwrap_or_else(|| config.join("actions.jsonl"));
    // Read before the services start, so that a wrong path fails at once.
    let (proposals, labels) = read(&file)?;
    let labels = Arc::new(labels);
    let binary = build::binary(false)?;
    let shown = build::with_services(async |services| {
        let tools = example.tools().await?;
        let variables = |name: &str| (name == example.variable()).then(|| tools.url().to_owned());
        let operator = operator(&config, variables)?;
        // A separate virtual host and database, in case the services are shared.
        let env = TestEnv::of(services).await?;
        let place = Place {
            amqp_url: env.amqp_url.clone(),
            database_url: env.database_url.clone(),
            ..build::place(services, binary)
        };
        let mut system = System::set_up(place, &config, &operator, variables).await?;
        system.start_all()?;
        let played = play(&system, &proposals, &labels).await;
        let shown = match played {
            Ok(played) => {
                let promised = args.actions.is_none().then(|| example.promises());
                show(&system, &tools, &played, &labels, promised.unwrap_or_default(), args.report).await
            }
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

/// The outcomes and answers that the clients received.
struct Played {
    outcomes: HashMap<String, OutcomeData>,
    answers: BTreeMap<String, usize>,
}

/// Runs the clients: the agent proposes, reviewers decide, an auditor judges.
async fn play(system: &System, proposals: &[Value], labels: &Arc<Labels>) -> anyhow::Result<Played> {
    let directory = &system.folder.configuration.directory;
    let agent = directory.agents().first().context("the directory names no agent")?;
    let humans = Humans::start(system, labels).await?;
    let mut agent = Agent::connect(system.url(&agent.amqp_user)?, &agent.id).await?;
    let bar = ProgressBar::new(proposals.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} answered, {elapsed}") {
        bar.set_style(style);
    }
    agent.send(proposals).await?;
    let mut outcomes = HashMap::new();
    let mut undone = 0;
    while outcomes.len() < proposals.len() + undone {
        let outcome = agent.outcome(Duration::from_secs(120)).await?;
        let outcome =
            outcome.with_context(|| format!("{} of {} answered", outcomes.len(), proposals.len()))?;
        outcomes.insert(outcome.action.id.clone(), outcome);
        bar.set_position(outcomes.len() as u64);
        if outcomes.len() == proposals.len() + undone {
            // Compensations of actions already found wrong have outcomes as well.
            undone = settled(system).await?;
        }
    }
    bar.finish_and_clear();
    let answers = humans.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Played { outcomes, answers })
}

/// Waits until every draw is made, every audit is settled, and every requested compensation has ended, which happens after the
/// outcomes. Returns how many compensations there were.
async fn settled(system: &System) -> anyhow::Result<usize> {
    let store = system.store()?;
    eventually("every audit is judged", Duration::from_secs(60), async || {
        let tx = store.transaction().await.ok()?;
        let sql = "SELECT NOT EXISTS (SELECT FROM audits WHERE state = 'open')
                      AND NOT EXISTS (SELECT FROM actions a WHERE a.started_at IS NOT NULL
                                      AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id))
                      AND NOT EXISTS (SELECT FROM compensations c WHERE NOT EXISTS
                                      (SELECT FROM actions a WHERE a.compensates = c.action AND a.ended_at IS NOT NULL)),
                      (SELECT count(*) FROM actions WHERE compensates IS NOT NULL)";
        let row = tx.query_one(sql, &[]).await.ok()?;
        row.get::<_, bool>(0).then(|| usize::try_from(row.get::<_, i64>(1)).ok())?
    })
    .await
}

async fn show(
    system: &System,
    tools: &ToolService,
    played: &Played,
    labels: &Labels,
    promised: &[&str],
    file: Option<PathBuf>,
) -> anyhow::Result<()> {
    let store = system.store()?;
    let tx = store.transaction().await?;
    let filter = Filter { limit: i64::MAX, ..Filter::default() };
    let list = listing::actions(&tx, &filter).await?;
    let to = Utc::now() + TimeDelta::seconds(5);
    let report = measure(&tx, MeasureReport { from: to - TimeDelta::days(1), to }).await?;
    bundle::recorded(system).await?;
    println!("{}", summary(&list));
    for (title, condition) in SHOWN {
        let sql = format!("SELECT a.id FROM actions a WHERE {condition} ORDER BY a.id LIMIT 1");
        let Some(row) = tx.query_opt(&sql, &[]).await? else {
            ensure!(!promised.contains(&title), "no action was {title}");
            continue;
        };
        let id = ActionId(row.get(0));
        if let Some(action) = list.iter().find(|action| action.id == id) {
            println!("{title}:\n{}", actions::text(&timeline(&tx, action).await?));
            println!("  {}\n", bundle::proved(system, id)?);
        }
    }
    println!("{}", table::render(&report));
    println!("\nanswers to the reviewers' apps: {}", counts(&played.answers));
    let proposed = list.iter().filter(|action| action.source.starts_with("/agents/"));
    let gated: Vec<_> = proposed.filter(|action| action.verdict == "require_approval").collect();
    let wrong: Vec<_> = gated.iter().filter(|action| labels.wrong(&action.event_id)).collect();
    let executed = wrong.iter().filter(|action| EXECUTED.contains(&action.state.as_str())).count();
    println!(
        "{} held for approval, {} of them wrong, {executed} of those executed",
        gated.len(),
        wrong.len()
    );
    let succeeded = played.outcomes.values().filter(|outcome| outcome.outcome == Outcome::Succeeded).count();
    println!("{} effects in the tool service, {succeeded} outcomes succeeded", tools.effects().len());
    if let Some(file) = file {
        write(&file, &report, &list, &played.outcomes, tools)?;
    }
    ensure!(executed == 0, "something wrong was executed although it needed approval");
    ensure!(tools.effects().len() == succeeded, "effects and outcomes differ");
    Ok(())
}

/// States after a call of the tool.
const EXECUTED: [&str; 3] = ["succeeded", "failed", "in_doubt"];

/// Actions whose timelines are shown, as conditions on `actions a`.
const SHOWN: [(&str, &str); 9] = [
    ("approved", "a.state = 'succeeded' AND cardinality(a.approvers) = 1"),
    ("approved by a quorum", "a.state = 'succeeded' AND cardinality(a.approvers) > 1"),
    (
        "edited by a reviewer",
        "EXISTS (SELECT FROM decisions d WHERE d.action = a.id AND d.decision = 'edit')",
    ),
    ("escalated", "EXISTS (SELECT FROM evidence e WHERE e.action = a.id AND e.kind = 'approval.escalated')"),
    ("caught splitting", "a.state = 'rejected' AND EXISTS (SELECT FROM limit_uses u WHERE u.action = a.id)"),
    ("rejected", "a.state = 'rejected'"),
    (
        "found wrong by an auditor",
        "EXISTS (SELECT FROM actions c WHERE c.compensates = a.id AND c.state = 'succeeded')",
    ),
    ("undoing what was wrong", "a.compensates IS NOT NULL AND a.state = 'succeeded'"),
    (
        "executed at once and audited",
        "cardinality(a.approvers) = 0 AND EXISTS (SELECT FROM audits u WHERE u.action = a.id)",
    ),
];

/// `approve 12, refused: beyond_authority 2`.
fn counts(answers: &BTreeMap<String, usize>) -> String {
    let counts = answers.iter().map(|(what, count)| format!("{what} {count}"));
    counts.collect::<Vec<_>>().join(", ")
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
