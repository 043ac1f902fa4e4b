//! `countersign submit`: proposes actions as an agent.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use countersign_app::submit::{self, Outcomes, Progress, Step, SubmitAndWait};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    Connections,
    output::{show, table},
};

/// Proposes actions.
#[derive(Args)]
#[command(after_help = "\
--amqp-url is the agent's own. Each line is a proposal event, a proposal's data, or a recorded call.\n\
Sending the same line again is safe: it is answered with the stored outcome and executed once.")]
pub(crate) struct SubmitArgs {
    /// One action a line
    file: PathBuf,
    /// Wait for the outcomes
    #[arg(long)]
    wait: bool,
    /// How long to wait without any outcome
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(crate) async fn run(to: &Connections, args: SubmitArgs) -> anyhow::Result<ExitCode> {
    let SubmitArgs { file, wait, timeout: silence } = args;
    let mut bars = Bars::default();
    if !wait {
        let submitted = submit::submit(&to.app(), &file, |progress| bars.show(progress)).await?;
        bars.clear();
        return show(to, &submitted, || format!("{} submitted", submitted.submitted));
    }
    let request = SubmitAndWait { file, silence };
    let outcomes = submit::submit_and_wait(&to.app(), &request, |progress| bars.show(progress)).await?;
    bars.clear();
    print(to, &outcomes)
}

/// One progress bar per step.
#[derive(Default)]
struct Bars {
    current: Option<(Step, ProgressBar)>,
}

impl Bars {
    fn show(&mut self, progress: Progress) {
        let Progress { step, done, total } = progress;
        if self.current.as_ref().is_none_or(|(current, _)| *current != step) {
            self.clear();
        }
        let (_, bar) = self.current.get_or_insert_with(|| (step, bar(total, step)));
        bar.set_position(done as u64);
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: usize, step: Step) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(match step {
        Step::Submit => "submitted",
        Step::Answer => "answered",
    });
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn print(to: &Connections, outcomes: &Outcomes) -> anyhow::Result<ExitCode> {
    if to.json {
        for data in &outcomes.outcomes {
            println!("{}", serde_json::to_string(data)?);
        }
    } else {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for data in &outcomes.outcomes {
            let outcome = serde_json::to_value(data.outcome)?;
            *counts.entry(outcome.as_str().unwrap_or_default().into()).or_default() += 1;
        }
        let mut table = table(["outcome", "actions"]);
        for (outcome, count) in counts {
            table.add_row([outcome, count.to_string()]);
        }
        println!("{table}");
    }
    if outcomes.unanswered > 0 {
        eprintln!("{} without an outcome yet", outcomes.unanswered);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
