//! `countersign audits prove`: repeats the sampling draws.

use std::process::ExitCode;

use countersign_app::audits::draws::{self, Standing};
use countersign_core::ids::ActionId;

use crate::{
    Connections,
    output::{show, table},
};

pub(super) async fn run(to: &Connections, epoch: Option<i64>) -> anyhow::Result<ExitCode> {
    let proofs = draws::prove(&to.app(), epoch).await?;
    show(to, &proofs, || {
        let mut table =
            table(["epoch", "found", "draws", "selected", "gold", "unscored", "wrong", "no draw"]);
        for proof in &proofs {
            table.add_row([
                proof.epoch.to_string(),
                proof.found.as_str().into(),
                proof.draws.to_string(),
                proof.selected.to_string(),
                proof.gold.to_string(),
                proof.unscored.to_string(),
                named(proof.wrong_in_all, &proof.wrong),
                named(proof.undrawn_in_all, &proof.undrawn),
            ]);
        }
        format!("{table}\nan open epoch can be proved once it has closed")
    })?;
    let failed = proofs.iter().any(|proof| matches!(proof.found, Standing::Wrong | Standing::Undrawn));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How many, and the first of them.
fn named(all: u64, first: &[ActionId]) -> String {
    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
    if all == 0 { String::new() } else { format!("{all}: {}", first.join(", ")) }
}
