//! `countersign switching`: the sampling plans of strata.

use std::process::ExitCode;

use clap::Subcommand;
use countersign_app::sampling_plans::{
    self, Change, ChangePlan, Plan, PlanStanding, PlanState, SwitchingState,
};

use crate::{
    Connections,
    output::{show, table},
};

/// Sampling plans.
#[derive(Subcommand)]
#[command(after_help = "\
Each stratum of a rule with `switching:` has a sampling plan, which is in one of four states: in pre_approval every action is\n\
approved first; in normal and tightened it is executed at once and audited by sample, in tightened three times as often; in\n\
discontinued nothing is executed. Strata of one rule, tool and agent get stricter together and loosen one by one.\n\n\
Examples:\n  countersign switching list\n  \
countersign switching pin 'refunds/send_refund/desk-bot@2.1' --state pre_approval --operator olga --reason 'new tariff'\n  \
countersign switching reset 'refunds/send_refund/desk-bot@2.1' --operator omar --reason 'cause found and fixed'")]
pub(crate) enum SwitchingCommand {
    /// Show the state of each sampling plan, and why it is in it
    List,
    /// Put a sampling plan into a state and keep it there, whatever audits find; a stricter one moves its siblings too
    Pin {
        /// The stratum, as `list` names it
        stratum: String,
        /// normal, tightened, pre_approval or discontinued [default: its present state]
        #[arg(long)]
        state: Option<PlanState>,
        #[command(flatten)]
        by: By,
    },
    /// Unpin a sampling plan: it switches again, from its present state
    Unpin {
        /// The stratum
        stratum: String,
        #[command(flatten)]
        by: By,
    },
    /// Bring a discontinued sampling plan back to pre_approval, with those of the agent's other versions and bands
    Reset {
        /// The stratum
        stratum: String,
        #[command(flatten)]
        by: By,
    },
}

/// The operator and the reason.
#[derive(clap::Args)]
pub(crate) struct By {
    /// Who does this; without it, the operator whose database login it is
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: Option<String>,
    /// Why
    #[arg(long)]
    reason: String,
}

pub(crate) async fn run(to: &Connections, command: SwitchingCommand) -> anyhow::Result<ExitCode> {
    let (stratum, change, By { operator, reason }) = match command {
        SwitchingCommand::List => return list(to).await,
        SwitchingCommand::Pin { stratum, state, by } => (stratum, Change::Pin(state), by),
        SwitchingCommand::Unpin { stratum, by } => (stratum, Change::Unpin, by),
        SwitchingCommand::Reset { stratum, by } => (stratum, Change::Reset, by),
    };
    let request = ChangePlan { stratum, change, operator, reason };
    let changed = sampling_plans::change(&to.app(), request).await?;
    show(to, &changed, || changed.done.clone())
}

async fn list(to: &Connections) -> anyhow::Result<ExitCode> {
    let all = sampling_plans::list(&to.app()).await?;
    show(to, &all, || {
        if all.is_empty() {
            return "no sampling plan yet: no rule of the policy has `switching`, or none has matched".into();
        }
        let mut table = table([
            "stratum",
            "state",
            "since",
            "executed",
            "audited",
            "wrong",
            "towards the next state",
            "e-value",
            "why",
        ]);
        for PlanStanding { plan, thresholds, e_value, .. } in &all {
            let pinned = plan.pinned_by.as_ref().map(|_| " (pinned)").unwrap_or_default();
            table.add_row([
                plan.stratum.clone(),
                format!("{}{pinned}", plan.switching.state.as_str()),
                plan.changed_at.format("%F %T").to_string(),
                plan.seen.executed.to_string(),
                plan.seen.audited.to_string(),
                plan.seen.wrong.to_string(),
                thresholds.map_or_else(
                    || "its rule no longer switches".into(),
                    |thresholds| progress(&plan.switching, &thresholds),
                ),
                e_value.map_or_else(String::new, |value| format!("{value:.2}")),
                plan.pinned_for.clone().or_else(|| plan.reason.clone()).unwrap_or_default(),
            ]);
        }
        format!(
            "{table}\ne-value: evidence that the error rate is above the rule's limit; 20 or more is 95 % confidence, \
             whenever you look"
        )
    })
}

fn progress(switching: &SwitchingState, plan: &Plan) -> String {
    match switching.state {
        PlanState::PreApproval => {
            format!("{} of {} clean approvals in a row", switching.clean, plan.clearance)
        }
        PlanState::Normal => format!("CUSUM {} of {}", switching.level, plan.tighten),
        PlanState::Tightened => {
            format!("CUSUM {} of {}, {} clean lots of 5", switching.level, plan.back, switching.clean_lots)
        }
        PlanState::Discontinued => "an operator resets it".into(),
    }
}
