//! `countersign switching`: classes of actions that move between approval and audit.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use countersign_statistics::{
    sequential::EProcess,
    switching::{Plan, Stage, Switch},
};
use countersign_store::{
    Store, Transaction, generation,
    switches::{self, SwitchRecord, SwitchSummary},
};
use serde_json::json;

use crate::{
    Connections,
    apply::active,
    hold::operates,
    output::{show, table},
};

/// Classes that move.
#[derive(Subcommand)]
#[command(after_help = "\
A class is a stratum of a rule with `switching:`. In pre every action is approved first; in normal and tight it is\n\
executed at once and audited by sample, in tight three times as often; in hold nothing is executed.\n\n\
Examples:\n  countersign switching list\n  \
countersign switching pin 'refunds/send_refund/desk-bot@2.1' --stage pre --operator olga --reason 'new tariff'\n  \
countersign switching reset 'refunds/send_refund/desk-bot@2.1' --operator omar --reason 'cause found and mended'")]
pub(crate) enum SwitchingCommand {
    /// Where each class stands, and why
    List,
    /// Move a class to a stage and keep it there, whatever is found
    Pin {
        /// The class, as `list` names it
        stratum: String,
        /// normal, tight, pre or hold [default: where it stands]
        #[arg(long)]
        stage: Option<Stage>,
        #[command(flatten)]
        by: By,
    },
    /// Let a pinned class move again, from where it stands
    Unpin {
        /// The class
        stratum: String,
        #[command(flatten)]
        by: By,
    },
    /// Let a class in hold begin anew: every action is approved first
    Reset {
        /// The class
        stratum: String,
        #[command(flatten)]
        by: By,
    },
}

/// Who does it, and why.
#[derive(clap::Args)]
pub(crate) struct By {
    /// Who does this: an operator of the directory
    #[arg(long, value_name = "ID", env = "COUNTERSIGN_OPERATOR")]
    operator: String,
    /// Why
    #[arg(long)]
    reason: String,
}

pub(crate) async fn run(to: &Connections, command: SwitchingCommand) -> anyhow::Result<ExitCode> {
    let store = to.store()?;
    let (stratum, by) = match &command {
        SwitchingCommand::List => return list(to, &store).await,
        SwitchingCommand::Pin { stratum, by, .. }
        | SwitchingCommand::Unpin { stratum, by }
        | SwitchingCommand::Reset { stratum, by } => (stratum.as_str(), by),
    };
    operates(&store, &by.operator).await?;
    let tx = store.transaction().await?;
    let record = switches::lock(&tx, &[stratum]).await?.pop();
    let record = record.with_context(|| format!("there is no class {stratum:?}; see `switching list`"))?;
    let done = match command {
        SwitchingCommand::Pin { stage, .. } => {
            let stage = stage.unwrap_or(record.switch.stage);
            move_to(&tx, &record, stage, by).await?;
            switches::pin(&tx, stratum, Some((&by.operator, &by.reason))).await?;
            format!("{stratum} is pinned to {}", stage.as_str())
        }
        SwitchingCommand::Unpin { .. } => {
            anyhow::ensure!(record.pinned_by.is_some(), "{stratum} is not pinned");
            switches::remember(&tx, stratum, &Switch::new(record.switch.stage)).await?;
            switches::pin(&tx, stratum, None).await?;
            format!("{stratum} moves again, from {}", record.switch.stage.as_str())
        }
        _ => {
            anyhow::ensure!(record.pinned_by.is_none(), "{stratum} is pinned: unpin it first");
            anyhow::ensure!(record.switch.stage == Stage::Hold, "{stratum} is not in hold");
            move_to(&tx, &record, Stage::Pre, by).await?;
            format!("{stratum} begins anew: every action is approved first")
        }
    };
    tx.commit().await?;
    show(to, &json!({"stratum": stratum, "done": done}), || done.clone())
}

async fn move_to(tx: &Transaction, record: &SwitchRecord, stage: Stage, by: &By) -> anyhow::Result<()> {
    let reason = format!("{}: {}", by.operator, by.reason);
    if record.switch.stage != stage {
        switches::change(tx, record, Switch::new(stage), &reason, Some(&by.operator)).await?;
    }
    Ok(())
}

async fn list(to: &Connections, store: &Store) -> anyhow::Result<ExitCode> {
    let configuration = active(store).await?;
    let tx = store.transaction().await?;
    generation::read(&tx).await?;
    let all = switches::list(&tx).await?;
    let plan = |class: &SwitchSummary| configuration.policy.switching(&class.rule).map(|rule| rule.plan);
    let value: Vec<_> = all
        .iter()
        .map(|class| {
            let plan = plan(class);
            json!({
                "class": class,
                "clearance": plan.map(|plan| plan.clearance),
                "e_value": plan.map(|plan| e_value(class, &plan)),
            })
        })
        .collect();
    show(to, &value, || {
        if all.is_empty() {
            return "no class moves: no rule of the policy has switching, or none has matched yet".into();
        }
        let mut table = table([
            "class",
            "stage",
            "since",
            "executed",
            "audited",
            "wrong",
            "towards the next stage",
            "e-value",
            "why",
        ]);
        for class in &all {
            let plan = plan(class);
            let pinned = class.pinned_by.as_ref().map(|_| " (pinned)").unwrap_or_default();
            table.add_row([
                class.stratum.clone(),
                format!("{}{pinned}", class.switch.stage.as_str()),
                class.switched_at.format("%F %T").to_string(),
                class.seen.executed.to_string(),
                class.seen.audited.to_string(),
                class.seen.wrong.to_string(),
                plan.map_or_else(|| "its rule moves no more".into(), |plan| progress(class, &plan)),
                plan.map_or_else(String::new, |plan| format!("{:.2}", e_value(class, &plan))),
                class.pinned_for.clone().or_else(|| class.reason.clone()).unwrap_or_default(),
            ]);
        }
        format!(
            "{table}\ne-value: evidence that the error rate is above the rule's limit; 20 and more is 95 % confidence, \
             whenever one looks"
        )
    })
}

/// Evidence against "the error rate is within the limit" since the class was last let go.
fn e_value(class: &SwitchSummary, plan: &Plan) -> f64 {
    let mut process = EProcess::new(plan.wanted.limit);
    for n in 0..class.seen.audited {
        process.observe(n < class.seen.wrong);
    }
    process.ln_value().exp()
}

fn progress(class: &SwitchSummary, plan: &Plan) -> String {
    let switch = &class.switch;
    match switch.stage {
        Stage::Pre => format!("{} of {} clean approvals in a row", switch.clean, plan.clearance),
        Stage::Normal => format!("CUSUM {} of {}", switch.level, plan.tighten),
        Stage::Tight => {
            format!("CUSUM {} of {}, {} clean lots of 5", switch.level, plan.back, switch.clean_lots)
        }
        Stage::Hold => "an operator resets it".into(),
    }
}
