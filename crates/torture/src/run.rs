//! One run: load and faults, healing, settling, checking.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use countersign_core::action::State;
use countersign_testkit::{services::Services, tools::ToolService};
use tokio::time::{Instant, sleep_until};

use super::{
    broken::Broken,
    check::check,
    clients::Clients,
    crashes::crash_everywhere,
    history::{Event, History, Phase},
    hostile, latency,
    report::Report,
    schedule::{Planned, plan},
    stored::{self, Stored},
    tools::Tools,
    world::World,
};
use countersign_testkit::build;

/// How long agents wait for outcomes before they repeat their proposals.
const ASK_AFTER: Duration = Duration::from_secs(20);

/// What to do.
pub(crate) struct Torture {
    /// What is tortured.
    pub(crate) binary: PathBuf,
    /// The seed of schedule and clients.
    pub(crate) seed: u64,
    /// How long.
    pub(crate) length: Duration,
    /// Actions per second and agent.
    pub(crate) rate: f64,
    /// How long everything may take to end after all faults are healed.
    pub(crate) settle: Duration,
    /// How long the clients go on after all faults are healed; honest agents must then be answered in time. Zero for not at all.
    pub(crate) calm: Duration,
    /// Crash at every point in turn instead of following the schedule; the binary must have the points.
    pub(crate) crash_points: bool,
    /// What is wrong with the binary.
    pub(crate) broken: Option<Broken>,
    /// Three RabbitMQ 4 nodes instead of one node of this machine's version.
    pub(crate) cluster: bool,
}

/// A step of the schedule.
enum Step {
    Inject(usize),
    Heal(usize),
}

/// Injections and healings in the order of their times.
fn steps(planned: &[Planned]) -> Vec<(Duration, Step)> {
    let mut steps: Vec<_> = planned
        .iter()
        .enumerate()
        .flat_map(|(index, one)| [(one.at, Step::Inject(index)), (one.at + one.lasts, Step::Heal(index))])
        .collect();
    steps.sort_by_key(|step| step.0);
    steps
}

impl Torture {
    /// Runs on private services and prints the report. Returns the promise of each violation, and a text for each crash point
    /// that was not reached.
    pub(crate) async fn run(&self) -> anyhow::Result<Vec<&'static str>> {
        eprintln!("torture with seed {} for {:?}: starting services ...", self.seed, self.length);
        let services = match self.cluster {
            true => Services::private_cluster_on_small_disk(&build::rabbitmq_4()).await?,
            false => Services::private_on_small_disk().await?,
        };
        let path = services.scratch().join("history.jsonl");
        let history = History::create(&path)?;
        let tools = ToolService::start(Tools::new(history.clone(), self.seed)).await?;
        let mut world = World::set_up(services, self.binary.clone(), tools.url()).await?;
        let mut report = Report::default();
        self.hurt(&mut world, &history, &mut report).await?;
        report.reopened = world.reopened.clone();
        let events = history.events();
        let stored = Stored::read(&world.system).await?;
        let mut violations = check(&events, &stored);
        let timed = history.timed();
        let waits = latency::waits(&timed);
        violations.extend(latency::check(&waits));
        report.print(&events, &stored, &violations);
        if let Some(((median, _), (most, _))) =
            latency::percentile(&waits, 50).zip(latency::percentile(&waits, 99))
        {
            println!("without faults, {} honest actions: p50 {median:.2?}, p99 {most:.2?}", waits.len());
        }
        let missed = report.missed.iter().map(|_| "crash points are reached");
        let failed: Vec<_> = violations.iter().map(|violation| violation.promise).chain(missed).collect();
        if !failed.is_empty() {
            let name = format!(
                "{}{}",
                self.seed,
                self.broken.map(|broken| format!("-{}", broken.feature())).unwrap_or_default()
            );
            let kept = report.keep(world.services.scratch(), &name)?;
            println!("history and logs are in {}", kept.display());
            println!("again: {}", self.command());
        }
        world.close().await?;
        Ok(failed)
    }

    fn command(&self) -> String {
        if self.crash_points {
            return format!("cargo xtask torture --crash-points --seed {} --rate {}", self.seed, self.rate);
        }
        let minutes = self.length.as_secs_f64() / 60.0;
        let cluster = if self.cluster { " --cluster" } else { "" };
        let broken = self.broken.map(|broken| format!(" --broken {}", broken.name())).unwrap_or_default();
        format!(
            "cargo xtask torture{cluster}{broken} --minutes {minutes} --seed {} --rate {}",
            self.seed, self.rate
        )
    }

    async fn hurt(&self, world: &mut World, history: &History, report: &mut Report) -> anyhow::Result<()> {
        let clients = Clients::new(history.clone(), self.seed);
        let mut tasks = clients.start(&world.system, self.rate)?;
        hostile::start(&world.system, history, self.seed, &mut tasks)?;
        if self.crash_points {
            crash_everywhere(world, history, report).await?;
        } else {
            self.follow_schedule(world, history, report).await?;
        }
        self.rest(world, history, report).await?;
        clients.stop_proposing();
        eprintln!("everything is healed; waiting until everything has ended ...");
        self.settle(world, history, &clients, report).await?;
        // Stop the clients, as their further messages would be stored only in part when the state is read.
        drop(tasks);
        Ok(())
    }

    async fn follow_schedule(
        &self,
        world: &mut World,
        history: &History,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut planned = plan(self.seed, self.length, self.cluster);
        planned.retain(|one| match one.fault.possible(world) {
            Ok(()) => true,
            Err(why) => {
                eprintln!("left out: {}: {why}", one.fault);
                report.count(&format!("left out: {}", one.fault.kind()));
                false
            }
        });
        let (started, mut begun) = (Instant::now(), BTreeMap::new());
        for (at, step) in steps(&planned) {
            sleep_until(started + at).await;
            match step {
                Step::Inject(index) => {
                    let fault = &planned[index].fault;
                    eprintln!(
                        "{:5.1} s  {fault} for {:.1?}",
                        started.elapsed().as_secs_f64(),
                        planned[index].lasts
                    );
                    history.log(Event::Injected { fault: fault.to_string() });
                    // A process that has just ended by itself cannot be hurt.
                    report.ended.extend(world.supervise()?);
                    if fault.inject(world).await? {
                        history.log(Event::Stands { fault: fault.to_string() });
                        report.count(&fault.kind());
                    } else {
                        report.count(&format!("attempted: {}", fault.kind()));
                    }
                    begun.insert(index, Instant::now());
                }
                Step::Heal(index) => {
                    let Planned { fault, lasts, .. } = &planned[index];
                    // A slow start of a server delays the schedule, so wait until the fault has lasted its time.
                    if let Some(begun) = begun.get(&index) {
                        sleep_until(*begun + *lasts).await;
                    }
                    history.log(Event::Heals { fault: fault.to_string() });
                    fault.heal(world).await?;
                    world.catch_up().await;
                }
            }
        }
        sleep_until(started + self.length).await;
        world.loosen().await
    }

    /// Lets everybody go on without faults, the hostile clients too.
    async fn rest(&self, world: &mut World, history: &History, report: &mut Report) -> anyhow::Result<()> {
        if self.calm.is_zero() {
            return Ok(());
        }
        eprintln!("everything is healed; for {:?} there are hostile clients alone ...", self.calm);
        history.log(Event::Calm);
        let started = Instant::now();
        while started.elapsed() < self.calm {
            report.ended.extend(world.supervise()?);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }

    /// Waits until all confirmed actions have ended and are answered, at most `settle`; the checker reports the rest.
    async fn settle(
        &self,
        world: &mut World,
        history: &History,
        clients: &Clients,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let (started, mut asked) = (Instant::now(), None);
        while started.elapsed() < self.settle {
            tokio::time::sleep(Duration::from_millis(500)).await;
            report.ended.extend(world.supervise()?);
            let Known { confirmed, received, statements } = known(&history.events());
            let Ok(progress) = stored::progress(&world.system).await else { continue };
            let open = confirmed.iter().filter(|id| !progress.ended.contains_key(*id)).count();
            let open = open + usize::try_from(progress.open)?;
            let unrecorded = statements.difference(&progress.recorded).count();
            let unanswered =
                |(id, state): &(&String, &State)| !received.get(*id).is_some_and(|all| all.contains(state));
            let silent = progress.ended.iter().filter(|(id, _)| confirmed.contains(*id)).filter(unanswered);
            let silent: Vec<String> = silent.map(|(id, _)| id.clone()).collect();
            report.settled_in = started.elapsed();
            if open + unrecorded == 0 && silent.is_empty() && progress.pending == 0 {
                return Ok(());
            }
            if open == 0
                && started.elapsed() > ASK_AFTER
                && asked.is_none_or(|at: Instant| at.elapsed() > ASK_AFTER)
            {
                asked = Some(Instant::now());
                report.asked_again = report.asked_again.max(silent.len());
                if let Err(error) = clients.ask_again(&world.system, &silent).await {
                    eprintln!("repeating proposals: {error}");
                }
            }
        }
        eprintln!("not everything has ended within {:?}", self.settle);
        Ok(())
    }
}

/// The clients' view.
#[derive(Default)]
struct Known {
    /// Actions that were confirmed.
    confirmed: BTreeSet<String>,
    /// Actions that were answered, with what.
    received: BTreeMap<String, Vec<State>>,
    /// Decisions and findings that were confirmed.
    statements: BTreeSet<String>,
}

fn known(events: &[Event]) -> Known {
    let mut known = Known::default();
    for event in events {
        match event {
            Event::Proposed { id, phase: Phase::Ok, .. } => {
                known.confirmed.insert(id.clone());
            }
            Event::OutcomeReceived { id, outcome } => {
                let state = State::ALL.into_iter().find(|state| state.outcome() == Some(*outcome));
                known.received.entry(id.clone()).or_default().extend(state);
            }
            Event::Decided { event, phase: Phase::Ok, .. } | Event::Found { event, phase: Phase::Ok, .. } => {
                known.statements.insert(event.clone());
            }
            _ => {}
        }
    }
    known
}
