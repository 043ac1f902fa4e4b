//! `countersign audits prove`: repeats the sampling draws.

use std::process::ExitCode;

use countersign_app::audits::draws::{self, Standing};

use crate::{
    Connections,
    output::{show, table},
};

pub(super) async fn run(to: &Connections, epoch: Option<i64>) -> anyhow::Result<ExitCode> {
    let proofs = draws::prove(&to.app(), epoch).await?;
    show(to, &proofs, || {
        let mut table = table(["epoch", "found", "draws", "selected", "wrong"]);
        for proof in &proofs {
            let named: Vec<String> = proof.wrong.iter().map(ToString::to_string).collect();
            let wrong = match proof.wrong_in_all {
                0 => String::new(),
                count => format!("{count}: {}", named.join(", ")),
            };
            table.add_row([
                proof.epoch.to_string(),
                proof.found.as_str().into(),
                proof.draws.to_string(),
                proof.selected.to_string(),
                wrong,
            ]);
        }
        format!("{table}\nan open epoch can be proved once it has closed")
    })?;
    let wrong = proofs.iter().any(|proof| proof.found == Standing::Wrong);
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
