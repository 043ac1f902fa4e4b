//! The statistics on labelled recordings of a real agent's actions. The recordings are not in the repository; without them
//! these tests are skipped.

use std::collections::BTreeSet;

use anyhow::ensure;
use countersign_statistics::{
    binomial::Interval,
    estimate::{ALPHA, Cell, estimate},
};
use countersign_testkit::{
    clients::{Agent, AuditorApp, withdrawal},
    isolation::TestEnv,
    recording::{self, Drawn, Played, Recording, proposed},
    system::binary,
};
use countersign_tests::{Gate, willing};
use serde_json::{Value, json};

/// The interval that the report must print for these draws.
fn interval(drawn: &[Drawn]) -> Interval {
    let cell = |drawn: &Drawn| {
        let Drawn { pi, executed, judged, wrong } = *drawn;
        Cell { pi, executed, judged, wrong, missing: 0 }
    };
    estimate(&drawn.iter().map(cell).collect::<Vec<_>>(), ALPHA).interval
}

/// The draws that the twenty secrets make in the first epoch. `cargo xtask simulate --airline` has the running system make them.
#[test]
fn the_estimate_covers_the_labelled_truth_for_nearly_every_secret() -> anyhow::Result<()> {
    let Some(recording) = Recording::find()? else { return Ok(()) };
    let (all, wrong) = (recording.actions().len(), recording.wrong());
    ensure!((all, wrong) == (1_164, 162), "{wrong} of {all}");
    let writes = recording.clone().writes();
    ensure!((writes.actions().len(), writes.wrong()) == (250, 162));
    let [mut together, mut writing] = [0, 0];
    for n in 0..20 {
        let [writes, reads] = recording.drawn(recording::secret(n), 0)?;
        together += u32::from(interval(&[writes, reads]).contains(wrong as f64 / all as f64));
        writing += u32::from(interval(&[writes]).contains(162.0 / 250.0));
    }
    eprintln!("of 20 secrets {together} cover 162 of 1,164, and {writing} cover 162 of 250");
    ensure!(together >= 19 && writing >= 18, "{together} and {writing} of 20");
    Ok(())
}

/// A gate and the recording's state-changing actions; its sampling plans start in the state `normal`.
struct Run {
    gate: Gate,
    agent: Agent,
    writes: Recording,
    _auditor: AuditorApp,
}

impl Run {
    async fn start(recording: &Recording) -> anyhow::Result<Self> {
        let switching =
            "group: approvers\n    expires_after: 10m\n    switching: {limit: 0.1, aoql: 0.1, look_back: 10}";
        let gate = Gate::configured_acting(recording.configuration(switching)?, willing).await?;
        let auditor = gate.auditor("ada", recording.judge()).await?;
        let agent = gate.agent("one").await?;
        Ok(Self { gate, agent, writes: recording.clone().writes(), _auditor: auditor })
    }

    /// Makes each stratum known by a proposal, which is withdrawn, and sets its plan to `normal`.
    async fn make_known(&self) -> anyhow::Result<()> {
        let named = self.writes.actions().iter().filter_map(|action| action["tool"].as_str());
        let tools: BTreeSet<&str> = named.collect();
        for tool in &tools {
            self.agent.propose(&format!("known-{tool}"), tool, json!({})).await?;
            self.gate
                .reaches(
                    &format!("SELECT count(*) FROM sampling_plans WHERE stratum LIKE 'writes/{tool}/%'"),
                    1,
                )
                .await?;
            let stratum = format!("writes/{tool}/one@1.4.2");
            self.operates(&["pin", &stratum, "--state", "normal"]).await?;
            self.operates(&["unpin", &stratum]).await?;
        }
        let withdrawn: Vec<Value> =
            tools.iter().map(|tool| withdrawal("one", &format!("known-{tool}"))).collect();
        self.agent.send(&withdrawn).await?;
        self.gate.reaches("SELECT count(*) FROM actions WHERE state = 'cancelled'", tools.len() as i64).await
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
        for some in self.writes.actions().chunks(at_once) {
            self.agent.send(&some.iter().map(proposed).collect::<Vec<_>>()).await?;
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

/// Everything is executed, and the report prints the interval of the draws that the secret makes.
#[tokio::test]
async fn the_running_system_draws_by_its_secret_and_prints_the_interval_of_these_draws() -> anyhow::Result<()>
{
    let Some(recording) = Recording::find()? else { return Ok(()) };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (env, scratch) = (TestEnv::new().await?, tempfile::tempdir()?);
    let secret = recording::secret(0);
    let played = recording.play(&env, scratch.path(), &binary()?, secret).await;
    env.close().await?;
    let Played { report, epoch } = played?;
    let (drawn, line) = (recording.drawn(secret, epoch)?, &report["rates"][0]);
    let expected = interval(&drawn);
    let [judged, wrong] =
        [drawn.map(|drawn| drawn.judged), drawn.map(|drawn| drawn.wrong)].map(|counts| counts.iter().sum());
    let counts =
        ["executed", "judged", "wrong", "missing"].map(|name| line[name].as_u64().unwrap_or(u64::MAX));
    ensure!(counts == [1_164, judged, wrong, 0], "{line}, drawn {drawn:?}");
    let printed = [&line["lower"], &line["upper"]].map(|end| end.as_f64().unwrap_or(f64::NAN));
    let equal = |one: f64, other: f64| (one - other).abs() < 1e-12;
    ensure!(
        equal(printed[0], expected.lower) && equal(printed[1], expected.upper),
        "{line}, expected {expected:?}"
    );
    eprintln!("162 of 1,164 are wrong, the report prints {printed:?}");
    Ok(())
}

/// The plans switch, and the report shows after how many actions and errors.
#[tokio::test]
async fn with_switching_what_is_often_wrong_goes_to_approval() -> anyhow::Result<()> {
    let Some(recording) = Recording::find()? else { return Ok(()) };
    let run = Run::start(&recording).await?;
    run.make_known().await?;
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
        eprintln!("{} after {} ({})", moved["stratum"], moved["seen"], moved["reason"]);
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
        eprintln!("{waits} of {all} calls of {tool} wait for an approval");
    }
    ensure!(stopped > 0, "nothing went to approval: {}", report["learning"]["plan_changes"]);
    let done = run.gate.count("SELECT count(*) FROM actions WHERE state = 'succeeded'").await?;
    eprintln!("{done} of 250 executed");
    run.gate.close().await
}
