//! Recorded actions of a real agent, played through the running system under twenty sampling secrets that were fixed beforehand.

use std::path::Path;

use anyhow::{Context as _, ensure};
use countersign_testkit::{
    build,
    isolation::TestEnv,
    recording::{self, Recording},
};

/// How many secrets, and how many of their 95 % intervals must cover the labelled truth.
const SECRETS: u32 = 20;
const LEAST: u32 = 19;

/// Plays the recording in `folder` once under each secret.
pub(super) async fn run(folder: &Path) -> anyhow::Result<()> {
    let recording = Recording::read(folder)?;
    let binary = build::binary(false)?;
    let played = build::with_services(async |services| {
        let (all, wrong) = (recording.actions().len(), recording.wrong());
        let truth = wrong as f64 / all as f64;
        println!("{all} recorded actions, {wrong} of them wrong ({:.2} %), as the report has them:", 100.0 * truth);
        let (mut covered, mut bounded) = (0, 0);
        for n in 0..SECRETS {
            let env = TestEnv::of(services).await?;
            let scratch = services.scratch().join(format!("recording-{n}"));
            let played = recording.play(&env, &scratch, &binary, recording::secret(n)).await;
            env.close().await?;
            let line = &played.with_context(|| format!("secret {n}"))?.report["rates"][0];
            let number = |name: &str| line[name].as_f64().with_context(|| format!("no {name}: {line}"));
            let (lower, upper) = (number("lower")?, number("upper")?);
            let most = line["at_most"]["errors"].as_u64().unwrap_or_default();
            ensure!(line["executed"] == all && line["missing"] == 0, "not everything was drawn and judged: {line}");
            let holds = (lower..=upper).contains(&truth);
            covered += u32::from(holds);
            bounded += u32::from(most >= wrong as u64);
            println!(
                "  secret {n:2}: {} audits, {} wrong: {:5.2} % [{:5.2}, {:5.2}]{}, at most {most} at any time",
                line["judged"],
                line["wrong"],
                100.0 * number("rate")?,
                100.0 * lower,
                100.0 * upper,
                if holds { "" } else { " does not cover it" },
            );
        }
        println!("{covered} of {SECRETS} intervals and {bounded} of {SECRETS} bounds at any time cover the truth");
        ensure!(covered >= LEAST && bounded >= LEAST, "the report does not cover the labelled truth");
        Ok(())
    })
    .await?;
    played.context("interrupted")
}
