//! `cargo xtask bench`: how fast the whole system is, and how near it comes to bare lanes over the same hops.

mod ceiling;
mod ledger;
mod load;
mod past;
mod usage;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use countersign_broker::{
    lane,
    topology::{ACTIONS, approvals_queue, outcomes_queue},
};
use countersign_testkit::{isolation::TestEnv, services::Services, system::System, wait::eventually};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::{
    ceiling::Ceiling,
    load::{AGENTS, Approves, Client, Place, lane_of},
    usage::Usage,
};
use crate::build;

/// The measurement.
#[derive(Args)]
#[command(
    after_help = "Everything runs on this machine, on services of its own with default durability. The ceiling is bare lanes over the\n\
    same hops: decode, one row per action and stage, publish with confirms, ack. System and ceiling take turns, so that\n\
    what else the machine does meets both; the ratio is what counts.\n\
    Needs a build of its own, in target/measured, with a connector that calls nothing."
)]
pub(crate) struct BenchArgs {
    /// Actions in one run
    #[arg(long, default_value_t = 20_000)]
    actions: usize,
    /// Actions a second for the latencies
    #[arg(long, value_delimiter = ',', default_value = "20,200,1000")]
    rates: Vec<f64>,
    /// How long each rate is kept up, in seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Runs; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Past actions that the database has before anything is measured
    #[arg(long, default_value_t = 0)]
    past: u64,
    /// Lanes per process, of the system and of the ceiling
    #[arg(long, default_value_t = 2)]
    lanes: u16,
    /// Processes per role
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Then fill the ledger up to so many entries, and time what is done with it
    #[arg(long, value_name = "ENTRIES")]
    ledger: Option<u64>,
    /// Write all figures here, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
}

/// Names the measured build of `countersign`, for the measured build of this program.
const BINARY: &str = "COUNTERSIGN_MEASURED";

pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let Some(binary) = std::env::var_os(BINARY).map(PathBuf::from) else { return again() };
    ensure!(args.runs > 0 && args.actions >= AGENTS.len(), "measure something");
    let measured = build::with_services(async |services| {
        let mut bench = Bench::start(services, binary, &args).await?;
        let measured = bench.measure(&args).await;
        bench.stop().await?;
        measured
    })
    .await?;
    let Some(figures) = measured else { return Ok(ExitCode::FAILURE) };
    println!("{}", figures.table());
    if let Some(folder) = args.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&args.json, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("writing {}", args.json.display()))?;
    println!("all figures: {}", args.json.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds what is measured and what measures it, and runs this command again in that build.
fn again() -> anyhow::Result<ExitCode> {
    eprintln!("building countersign to be measured ...");
    let packages = ["--package", "countersign-cli", "--package", "countersign-xtask"];
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            "measured",
            "--features",
            "countersign-cli/bench",
        ])
        .args(packages)
        .current_dir(build::workspace())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "countersign does not build");
    let folder = build::target().join("measured");
    let status = Command::new(folder.join("countersign-xtask"))
        .args(std::env::args_os().skip(1))
        .env(BINARY, folder.join("countersign"))
        .status()
        .context("running the measured build")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One figure of several runs.
#[derive(Serialize)]
struct Figure {
    what: String,
    unit: &'static str,
    system: Vec<f64>,
    ceiling: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Everything that was measured, and on what.
#[derive(Serialize)]
struct Figures {
    machine: serde_json::Value,
    settings: serde_json::Value,
    figures: Vec<Figure>,
    /// CPU seconds per 1,000 actions of the audit path, by process.
    cpu: BTreeMap<String, f64>,
    /// After everything, by process.
    usage: BTreeMap<String, Usage>,
    /// The oldest evidence that was not recorded when the last outcome had come, in seconds.
    lag: Vec<f64>,
}

impl Figures {
    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(["", "system", "min", "max", "ceiling", "ratio"]);
        let show = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        for figure in &self.figures {
            let (system, ceiling) = (median(&figure.system), median(&figure.ceiling));
            let edge =
                |pick: fn(f64, f64) -> f64| figure.system.iter().copied().reduce(pick).unwrap_or(f64::NAN);
            table.add_row([
                format!("{}, {}", figure.what, figure.unit),
                show(system),
                show(edge(f64::min)),
                show(edge(f64::max)),
                show(ceiling),
                format!("{:.2}", system / ceiling),
            ]);
        }
        let mut processes = Table::new();
        let header = ["process", "CPU s per 1,000 actions", "resident MiB", "peak MiB"];
        processes.load_preset(UTF8_HORIZONTAL_ONLY).set_header(header);
        for (name, usage) in &self.usage {
            let cpu = self.cpu.get(name).copied().unwrap_or_default();
            processes.add_row([
                name.clone(),
                format!("{cpu:.3}"),
                format!("{:.0}", usage.resident),
                format!("{:.0}", usage.peak),
            ]);
        }
        let lag = self.lag.iter().copied().fold(0.0, f64::max);
        format!("{table}\n{processes}\nthe ledger's lag when the last outcome had come, at worst: {lag:.2} s")
    }
}

/// The system and its ceiling, both at work on the same services.
struct Bench {
    system: System,
    ceiling: Ceiling,
    reviewers: CancellationToken,
    /// By path and side.
    clients: BTreeMap<(&'static str, &'static str), Vec<Client>>,
}

/// The paths, with the tool, and the ceiling's queue.
const PATHS: [(&str, &str, &str); 2] =
    [("audit path", "direct", ceiling::DIRECT), ("approval path", "gated", ceiling::GATED)];

impl Bench {
    async fn start(services: &Services, binary: PathBuf, args: &BenchArgs) -> anyhow::Result<Self> {
        let place = build::place(services, binary);
        let config = place.scratch.join("config");
        fs::create_dir_all(&config)?;
        for name in ["policy.yaml", "tools.yaml", "directory.yaml"] {
            let from = build::workspace().join("crates/xtask/fixtures/bench").join(name);
            fs::copy(from, config.join(name))?;
        }
        let settings = format!("[lanes]\nper_process = {}\n", args.lanes);
        fs::write(config.join("countersign.toml"), settings)?;
        let mut system = System::set_up(place, &config, "olga", |_| None).await?;
        if args.past > 0 {
            eprintln!("writing {} past actions ...", args.past);
            past::write(&system, args.past).await?;
        }
        for role in countersign_testkit::system::ROLES {
            for index in 0..args.processes.max(1) {
                let name = if index == 0 { role.to_owned() } else { format!("{role}-{index}") };
                system.start(role, &name)?;
            }
        }
        let lanes = args.lanes.saturating_mul(args.processes.max(1) as u16);
        let ceiling = Ceiling::start(TestEnv::of(services).await?, lanes, 256).await?;
        let reviewers = reviewers(&system)?;
        let mut clients = BTreeMap::new();
        for (path, tool, queue) in PATHS {
            let bare = |agent| {
                let (url, outcomes) = (ceiling.env.amqp_url.clone(), ceiling::outcomes(agent));
                Ok(Place { url, agent, exchange: ceiling::EXCHANGE, routing_key: queue, outcomes, tool })
            };
            let whole = |agent| {
                let url = system.url(&format!("agent-{agent}"))?.to_owned();
                let outcomes = outcomes_queue(agent);
                Ok(Place { url, agent, exchange: ACTIONS, routing_key: "tool", outcomes, tool })
            };
            clients.insert((path, "ceiling"), agents(tool, bare).await?);
            clients.insert((path, "system"), agents(tool, whole).await?);
        }
        Ok(Self { system, ceiling, reviewers, clients })
    }

    async fn measure(&mut self, args: &BenchArgs) -> anyhow::Result<Figures> {
        let mut figures: Vec<Figure> = Vec::new();
        let (mut cpu, mut lag) = (BTreeMap::new(), Vec::new());
        for side in ["ceiling", "system"] {
            for (path, ..) in PATHS {
                self.burst(path, side, "warm", 2_000.min(args.actions)).await?;
            }
        }
        for run in 0..args.runs {
            for (path, ..) in PATHS {
                for side in ["ceiling", "system"] {
                    let before = usage::snapshot(&self.system.place.scratch);
                    let rate = self.burst(path, side, &format!("burst{run}"), args.actions).await?;
                    eprintln!("run {}: {path}, {side}: {rate:.0} actions/s", run + 1);
                    if side == "system" {
                        lag.push(ledger::lag(&self.system).await?);
                        self.settled().await?;
                        let after = usage::snapshot(&self.system.place.scratch);
                        if path == PATHS[0].0 {
                            cpu = spent(&before, &after, args.actions);
                        }
                    }
                    note(&mut figures, format!("{path} at full rate"), "actions/s", side, rate);
                }
            }
            for rate in &args.rates {
                for (path, ..) in PATHS {
                    for side in ["ceiling", "system"] {
                        let Some(clients) = self.clients.get_mut(&(path, side)) else { continue };
                        let prefix = format!("steady{run}-{rate}-{path}");
                        let times =
                            load::steady(clients, &prefix.replace(' ', "-"), *rate, args.seconds).await?;
                        for share in [0.5, 0.99, 0.999] {
                            let at = times[((times.len() - 1) as f64 * share).round() as usize] * 1_000.0;
                            let what = format!("{path} at {rate}/s, p{}", share * 100.0);
                            note(&mut figures, what, "ms", side, at);
                        }
                    }
                }
            }
        }
        if let Some(entries) = args.ledger {
            ledger::measure(&self.system, entries).await?;
        }
        Ok(Figures {
            machine: machine(),
            settings: json!({"actions": args.actions, "lanes": args.lanes, "processes": args.processes, "past": args.past,
                             "seconds": args.seconds, "runs": args.runs}),
            figures,
            cpu,
            usage: usage::snapshot(&self.system.place.scratch),
            lag,
        })
    }

    async fn burst(
        &mut self,
        path: &'static str,
        side: &'static str,
        prefix: &str,
        count: usize,
    ) -> anyhow::Result<f64> {
        let clients = self.clients.get_mut(&(path, side)).context("no such clients")?;
        load::burst(clients, &format!("{prefix}-{}", path.replace(' ', "-")), count).await
    }

    /// Waits until everything is sampled and recorded: what one side leaves behind must not slow the other.
    async fn settled(&self) -> anyhow::Result<()> {
        let store = self.system.store()?;
        eventually("everything is sampled and recorded", Duration::from_secs(600), async || {
            let mut client = store.client().await.ok()?;
            let tx = client.transaction().await.ok()?;
            let sql = "SELECT NOT EXISTS (SELECT FROM evidence_pending) AND NOT EXISTS
                         (SELECT FROM actions a WHERE a.ended_at > now() - interval '1 hour'
                          AND NOT EXISTS (SELECT FROM sampling s WHERE s.action = a.id))";
            tx.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(())
        })
        .await
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.clients.clear();
        self.reviewers.cancel();
        self.ceiling.stop().await?;
        self.system.stop().await
    }
}

fn note(figures: &mut Vec<Figure>, what: String, unit: &'static str, side: &str, value: f64) {
    let at = figures.iter().position(|figure| figure.what == what).unwrap_or_else(|| {
        figures.push(Figure { what, unit, system: vec![], ceiling: vec![] });
        figures.len() - 1
    });
    let figure = &mut figures[at];
    if side == "system" { figure.system.push(value) } else { figure.ceiling.push(value) }
}

fn spent(
    before: &BTreeMap<String, Usage>,
    after: &BTreeMap<String, Usage>,
    actions: usize,
) -> BTreeMap<String, f64> {
    let spent = |(name, after): (&String, &Usage)| {
        let before = before.get(name).map_or(0.0, |before| before.cpu);
        (name.clone(), (after.cpu - before) * 1_000.0 / actions as f64)
    };
    after.iter().map(spent).collect()
}

/// The two agents of a path: an outcome goes to whoever reads the agent's queue, so each path has its own.
async fn agents(
    tool: &'static str,
    place: impl Fn(&'static str) -> anyhow::Result<Place>,
) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for agent in AGENTS.into_iter().skip(if tool == "direct" { 0 } else { 2 }).take(2) {
        clients.push(Client::connect(place(agent)?).await?);
    }
    Ok(clients)
}

/// A reviewer's program with two lanes, until it is cancelled.
fn reviewers(system: &System) -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for index in 0..2 {
        let settings = lane_of(system.url("reviewer-sam")?, approvals_queue("approvers"));
        let name: Arc<str> = format!("reviewer.{index}").into();
        let approves = Approves(system.signer("sam", "sam")?);
        tokio::spawn(lane::run(name, settings, approves, stop.clone()));
    }
    Ok(stop)
}

/// What the figures were measured on.
fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({
        "cores": cores, "cpu": model, "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory": read("/proc/meminfo").lines().next(), "version": env!("CARGO_PKG_VERSION"), "at": chrono::Utc::now(),
    })
}
