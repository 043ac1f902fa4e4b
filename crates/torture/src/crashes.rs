//! Every numbered step of every lane, as a point at which a worker dies.

use std::time::Duration;

use countersign_broker::crash::CRASH_AT;
use countersign_testkit::wait::eventually;
use tokio::time::Instant;

use super::{history::Event, history::History, report::Report, schedule::process, world::World};

/// The steps of a lane.
const LANE: [&str; 8] =
    ["taken", "handling", "handling", "handling", "committed", "sent", "confirmed", "acked"];
/// Reached whenever a lane waits while it handles a batch. Statements are prepared first, so early passes are outside a
/// transaction.
const HANDLING: &str = " handling";
/// Never reached: what follows from a claim is published with its result.
const SILENT: &str = "countersign.execution sent";
/// Further points of every role with lanes.
const COMMON: [&str; 3] = ["sweep found", "sweep sent", "sweep confirmed"];
/// How long it may take to reach a point; some are reached only after an earlier failure.
const LIMIT: Duration = Duration::from_secs(12);

/// A role, its lanes, and its further points.
const ROLES: [(&str, &[&str], &[&str]); 4] = [
    ("router", &["countersign.actions", "countersign.decisions", "countersign.commands.router"], &COMMON),
    (
        "executor",
        &["countersign.execution", "countersign.commands.executor"],
        &[
            "sweep found",
            "sweep sent",
            "sweep confirmed",
            "call begins",
            "call ended",
            "results taken",
            "results committed",
            "results sent",
            "results answered",
        ],
    ),
    ("sampler", &["countersign.settled", "countersign.findings", "countersign.commands.sampler"], &COMMON),
    (
        "recorder",
        &[],
        &[
            "ledger written",
            "ledger committed",
            "stream sent",
            "stream confirmed",
            "folder tiles",
            "folder checkpoint",
        ],
    ),
];

/// All points, each with its role.
pub(crate) fn points() -> Vec<(&'static str, String)> {
    let of = |(role, lanes, more): (&'static str, &[&str], &[&str])| {
        let steps = lanes.iter().flat_map(|lane| LANE.map(|step| format!("{lane} {step}")));
        let steps = steps.filter(|point| point != SILENT);
        let points: Vec<String> = steps.chain(more.iter().map(|point| (*point).to_owned())).collect();
        points.into_iter().map(move |point| (role, point))
    };
    ROLES.into_iter().flat_map(of).collect()
}

/// Has both processes of a role die at each point in turn, the second one after it was passed a few times, and starts
/// them again.
pub(crate) async fn crash_everywhere(
    world: &mut World,
    history: &History,
    report: &mut Report,
) -> anyhow::Result<()> {
    let started = Instant::now();
    for (index, (role, point)) in points().into_iter().enumerate() {
        let fault = format!("crash of {role} at {point:?}");
        eprintln!("{:5.1} s  {fault}", started.elapsed().as_secs_f64());
        history.log(Event::Injected { fault: fault.clone() });
        for number in [1, 2] {
            let name = process(role, number);
            world.system.kill(&name)?;
            let mut passes = (number - 1) as usize * (1 + index % 3);
            if point.ends_with(HANDLING) {
                passes = number as usize * 4 + index % 7;
            }
            world.start_with(&name, vec![(CRASH_AT.into(), format!("{point}:{passes}"))])?;
        }
        let died = eventually("one of them dies", LIMIT, async || {
            world.system.ended().iter().any(|name| name.starts_with(role)).then_some(())
        })
        .await;
        report.count(if died.is_ok() { "crash point reached" } else { "crash point NOT reached" });
        if died.is_err() {
            report.missed.push(format!("{role}: {point}"));
        }
        history.log(Event::Heals { fault });
        for number in [1, 2] {
            let name = process(role, number);
            world.system.kill(&name)?;
            world.start(&name)?;
        }
        report.ended.extend(world.supervise()?);
    }
    Ok(())
}
