//! `cargo xtask bench`: measures the whole system, and compares it with bare lanes over the same hops.

mod ceiling;
mod fairness;
mod figures;
mod ledger;
mod load;
mod machine;
mod measured;
mod median;
mod past;
mod usage;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use countersign_testkit::{
    isolation::TestEnv,
    services::Services,
    system::{self, System},
    wait::eventually,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::{
    ceiling::Ceiling,
    figures::{CEILING, Figures, SYSTEM},
    load::{AGENTS, Client, Place, Way},
    measured::{Tools, agents_of, client, reviewers, run_with, set_up, settled},
};
use countersign_testkit::build;

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
#[command(
    after_help = "Everything runs on this machine, on services of its own with default durability. The ceiling is bare lanes over the\n\
    same hops: decode, one row per action and stage, publish with confirms, ack. System and ceiling take turns, so that\n\
    what else the machine does meets both; the ratio is what counts.\n\
    Needs a build of its own, in target/measured, with a connector that calls nothing."
)]
pub struct BenchArgs {
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
    /// Then measure again with so many past actions in the database, one number after the other
    #[arg(long, value_name = "ACTIONS", value_delimiter = ',', default_value = "1000000,5000000")]
    past: Vec<u64>,
    /// Neither with 1 and 4 lanes and 2 processes, nor with past actions: a few minutes instead of half an hour
    #[arg(long, conflicts_with = "past")]
    brief: bool,
    /// Only what one agent's flood of slow calls costs another
    #[arg(long, conflicts_with_all = ["brief", "past", "ledger", "rates", "actions"])]
    fairness: bool,
    /// Lanes per process, of the system and of the ceiling
    #[arg(long, default_value_t = 2)]
    lanes: u16,
    /// Processes per role
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=8))]
    processes: u64,
    /// Then fill the ledger up to so many entries, and time what is done with it
    #[arg(long, value_name = "ENTRIES")]
    ledger: Option<u64>,
    /// Write all figures here, as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
}

impl BenchArgs {
    fn past(&self) -> &[u64] {
        if self.brief { &[] } else { &self.past }
    }
}

/// Names the measured build of `countersign`, for the measured build of this program.
const BINARY: &str = "COUNTERSIGN_MEASURED";

/// Measures in a separate build, and prints and stores the figures.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let Some(binary) = std::env::var_os(BINARY).map(PathBuf::from) else { return rerun() };
    ensure!(
        args.runs > 0 && args.actions >= AGENTS.len(),
        "--runs must be at least 1, and --actions at least one per agent"
    );
    ensure!(
        args.past.is_sorted(),
        "past actions are added, never removed: give the numbers in ascending order"
    );
    let measured = build::with_services(async |services| {
        let mut bench = Bench::start(services, binary, &args).await?;
        let settings = json!({"actions": args.actions, "lanes": args.lanes, "processes": args.processes,
            "past": args.past(), "brief": args.brief, "rates": args.rates, "seconds": args.seconds, "runs": args.runs});
        let mut figures = Figures::new(machine::described(&bench.system).await?, settings);
        let measured = bench.measure(services, &args, &mut figures).await;
        bench.stop().await?;
        Ok((figures, measured))
    })
    .await?;
    let Some((figures, measured)) = measured else { return Ok(ExitCode::FAILURE) };
    // Print the figures so far even if the measurement failed.
    println!("{}", figures.table());
    if let Some(folder) = args.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&args.json, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("writing {}", args.json.display()))?;
    println!("all figures: {}", args.json.display());
    measured.map(|()| ExitCode::SUCCESS)
}

/// Builds `countersign` and this program for the measurement, and reruns this command in that build.
fn rerun() -> anyhow::Result<ExitCode> {
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

/// The system and its ceiling, running on the same services.
struct Bench {
    system: System,
    ceiling: Ceiling,
    /// Another system without past actions, while one with them is measured.
    young: Option<(System, TestEnv)>,
    reviewers: CancellationToken,
    agents: BTreeMap<&'static str, Vec<Client>>,
    /// What the tools call.
    tools: Tools,
}

const YOUNG: &str = "no past";

/// A path that actions take.
struct Path {
    name: &'static str,
    tool: &'static str,
    /// The ceiling's queue.
    queue: &'static str,
}

const AUDIT: Path = Path { name: "audit path", tool: "direct", queue: ceiling::DIRECT };
const APPROVAL: Path = Path { name: "approval path", tool: "gated", queue: ceiling::GATED };
const HTTP: Path = Path { name: "audit path over http", tool: "called", queue: ceiling::CALLED };
/// The ceiling keeps its connections open, so the difference is what a connection for each call costs.
const HTTP_ONCE: Path =
    Path { name: "audit path over http, not repeated", tool: "called_once", queue: ceiling::CALLED };

/// Proposals that warm a run up and are not measured.
const WARM: usize = 2_000;

impl Bench {
    async fn start(services: &Services, binary: PathBuf, args: &BenchArgs) -> anyhow::Result<Self> {
        let tools = Tools::start().await?;
        let system = set_up(build::place(services, binary), &tools).await?;
        let called = format!("{}/tools/called", tools.fast.url());
        let ceiling =
            Ceiling::start(TestEnv::of(services).await?, args.lanes * args.processes as u16, &called).await?;
        let reviewers = reviewers(&system)?;
        let mut bare = Vec::new();
        for agent in AGENTS {
            let (url, outcomes) = (ceiling.env.amqp_url.clone(), ceiling::outcomes(agent));
            bare.push(
                Client::connect(Place { url, agent, exchange: ceiling::EXCHANGE.into(), outcomes }).await?,
            );
        }
        let agents = BTreeMap::from([(CEILING, bare), (SYSTEM, agents_of(&system).await?)]);
        let mut bench = Self { system, ceiling, young: None, reviewers, agents, tools };
        run_with(&mut bench.system, args.lanes, args.processes as usize).await?;
        Ok(bench)
    }

    /// Starts a system without past actions beside the other, so that other load on the machine affects both.
    async fn grow_beside(&mut self, services: &Services, args: &BenchArgs) -> anyhow::Result<()> {
        let env = TestEnv::of(services).await?;
        let place = system::Place {
            amqp_url: env.amqp_url.clone(),
            database_url: env.database_url.clone(),
            scratch: self.system.place.scratch.join("young"),
            ..self.system.place.clone()
        };
        let mut system = set_up(place, &self.tools).await?;
        run_with(&mut system, args.lanes, args.processes as usize).await?;
        self.agents.insert(YOUNG, agents_of(&system).await?);
        self.young = Some((system, env));
        self.burst(&AUDIT, YOUNG, "warm", WARM.min(args.actions)).await.map(drop)
    }

    fn system(&self, side: &str) -> Option<&System> {
        match side {
            SYSTEM => Some(&self.system),
            YOUNG => self.young.as_ref().map(|young| &young.0),
            _ => None,
        }
    }

    /// The sides in the order of their turns, which alternates from run to run.
    fn sides(&self, run: usize) -> Vec<&'static str> {
        let young = self.young.as_ref().map(|_| YOUNG);
        let mut sides: Vec<_> = [CEILING].into_iter().chain(young).chain([SYSTEM]).collect();
        if run.is_multiple_of(2) {
            sides.reverse();
        }
        sides
    }

    async fn measure(
        &mut self,
        services: &Services,
        args: &BenchArgs,
        figures: &mut Figures,
    ) -> anyhow::Result<()> {
        if args.fairness {
            self.burst(&AUDIT, SYSTEM, "warm", WARM).await?;
            return self.fairness(args, figures).await;
        }
        for side in [CEILING, SYSTEM] {
            for path in [&AUDIT, &APPROVAL, &HTTP, &HTTP_ONCE] {
                self.burst(path, side, "warm", WARM.min(args.actions)).await?;
            }
        }
        for run in 1..=args.runs {
            for path in [&AUDIT, &APPROVAL, &HTTP, &HTTP_ONCE] {
                self.rates(figures, path, &path.full_rate(), run, args.actions).await?;
            }
            for rate in &args.rates {
                for path in [&AUDIT, &APPROVAL] {
                    self.latencies(figures, path, "", run, *rate, args.seconds).await?;
                }
            }
        }
        if !args.brief {
            self.fairness(args, figures).await?;
            self.scale(figures, args).await?;
        }
        // Before past actions are added, as those are in the tables but not in the ledger.
        if let Some(entries) = args.ledger {
            figures.ledger = ledger::measure(&self.system, entries).await?;
        }
        let pasts = args.past();
        if !pasts.is_empty() {
            self.grow_beside(services, args).await?;
        }
        let mut had = 0;
        for past in pasts {
            eprintln!("writing {past} past actions ...");
            past::write(&self.system, had, *past).await?;
            had = *past;
            let behind = format!(", {past} past actions");
            for run in 1..=args.runs {
                let what = format!("audit path at full rate{behind}");
                self.rates(figures, &AUDIT, &what, run, args.actions).await?;
                let rate = args.rates.first().copied().unwrap_or(20.0);
                self.latencies(figures, &AUDIT, &behind, run, rate, args.seconds).await?;
            }
        }
        Ok(())
    }

    /// Measures what one agent's flood costs another.
    async fn fairness(&self, args: &BenchArgs, figures: &mut Figures) -> anyhow::Result<()> {
        self.rested().await?;
        let [calm, flood] = fairness::AGENTS.map(async |agent| client(&self.system, agent).await);
        let mut clients = [calm.await?, flood.await?];
        figures.fairness = fairness::measure(&mut clients, args.runs).await?;
        settled(&self.system).await
    }

    /// Measures the full rate of both sides, and the system's CPU time, memory and ledger lag.
    async fn rates(
        &mut self,
        figures: &mut Figures,
        path: &Path,
        what: &str,
        run: usize,
        actions: usize,
    ) -> anyhow::Result<()> {
        for side in self.sides(run) {
            self.rested().await?;
            let scratch = self.system.place.scratch.clone();
            let before = usage::snapshot(&scratch);
            let prefix = format!("{what}-{run}");
            let burst = self.burst(path, side, &prefix, actions);
            let (rate, samples) = usage::watched(&scratch, burst).await;
            let rate = rate?;
            eprintln!("run {run}: {what}, {side}: {rate:.0} actions/s");
            figures.note(what.to_owned(), "actions/s", side, rate);
            if let Some(system) = self.system(side) {
                // Only for the system without past actions.
                if what == path.full_rate() {
                    figures.seen(&samples);
                }
                figures.lag.push(ledger::lag(system).await?);
                settled(system).await?;
            }
            let after = usage::snapshot(&scratch);
            figures.spent(format!("{what}, {side}"), [&before, &after], actions);
        }
        Ok(())
    }

    async fn latencies(
        &mut self,
        figures: &mut Figures,
        path: &Path,
        behind: &str,
        run: usize,
        rate: f64,
        seconds: f64,
    ) -> anyhow::Result<()> {
        for side in self.sides(run) {
            self.rested().await?;
            let Some(agents) = self.agents.get_mut(side) else { continue };
            let what = format!("{} at {rate}/s{behind}", path.name);
            let prefix = id(&format!("{what}-{run}"));
            let times = load::steady(agents, path.on(side), &prefix, rate, seconds).await?;
            for share in [0.5, 0.99, 0.999] {
                let at = times[((times.len() - 1) as f64 * share).round() as usize] * 1_000.0;
                figures.note(format!("{what}, p{}", share * 100.0), "ms", side, at);
            }
            if let Some(system) = self.system(side) {
                settled(system).await?;
            }
        }
        Ok(())
    }

    /// Rates with fewer and more lanes and processes than usual.
    async fn scale(&mut self, figures: &mut Figures, args: &BenchArgs) -> anyhow::Result<()> {
        for (lanes, processes) in [(1, 1), (4, 1), (1, 2), (2, 2)] {
            run_with(&mut self.system, lanes, processes).await?;
            self.ceiling.run_with(lanes * processes as u16).await;
            let what = format!("audit path at full rate, {processes} x {lanes} lanes");
            for side in [CEILING, SYSTEM] {
                self.burst(&AUDIT, side, &format!("warm {what}"), WARM.min(args.actions)).await?;
            }
            for run in 1..=args.runs {
                self.rates(figures, &AUDIT, &what, run, args.actions).await?;
            }
        }
        self.ceiling.run_with(args.lanes * args.processes as u16).await;
        run_with(&mut self.system, args.lanes, args.processes as usize).await?;
        for side in [CEILING, SYSTEM] {
            self.burst(&AUDIT, side, "warm again", WARM.min(args.actions)).await?;
        }
        Ok(())
    }

    async fn burst(
        &mut self,
        path: &Path,
        side: &'static str,
        prefix: &str,
        count: usize,
    ) -> anyhow::Result<f64> {
        let agents = self.agents.get_mut(side).context("no such side")?;
        load::burst(agents, path.on(side), &id(&format!("{prefix} {}", path.name)), count).await
    }

    /// Waits until database and disk are idle. About half a minute after a burst, the kernel writes its dirty pages back at once,
    /// which delays every commit of the next turn; autovacuum may still be running as well.
    async fn rested(&self) -> anyhow::Result<()> {
        let client = self.system.store()?.client().await?;
        let rests = eventually("autovacuum is idle", Duration::from_secs(300), async || {
            let sql =
                "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')";
            client.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(())
        });
        if let Err(error) = rests.await {
            eprintln!("{error}");
        }
        for statement in ["SET statement_timeout = 0", "CHECKPOINT", "RESET statement_timeout"] {
            client.batch_execute(statement).await?;
        }
        let status = tokio::process::Command::new("sync").status().await.context("running sync")?;
        ensure!(status.success(), "sync failed");
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.agents.clear();
        self.reviewers.cancel();
        self.ceiling.stop().await?;
        if let Some((mut young, env)) = self.young {
            young.stop().await?;
            env.close().await?;
        }
        self.system.stop().await
    }
}

impl Path {
    fn full_rate(&self) -> String {
        format!("{} at full rate", self.name)
    }

    fn on(&self, side: &str) -> Way {
        Way { tool: self.tool, routing_key: if side == CEILING { self.queue } else { "tool" } }
    }
}

/// Turns a text into a valid prefix of action ids.
fn id(words: &str) -> String {
    words.replace(|one: char| !one.is_ascii_alphanumeric(), "-")
}
