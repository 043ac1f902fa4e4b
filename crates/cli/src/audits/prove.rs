//! `countersign audits prove`: throws the coin again.

use std::process::ExitCode;

use countersign_core::{ids::ActionId, keyed};
use countersign_store::{
    Transaction,
    epochs::{self, Epoch},
    sampling,
};
use serde::Serialize;

use crate::{
    Connections,
    output::{show, table},
};

/// Most throws that are read at once.
const PAGE: i64 = 5_000;

/// What was found of an epoch.
#[derive(Default, Serialize)]
struct Proof {
    epoch: i64,
    /// `open`, `proved` or `wrong`.
    found: &'static str,
    throws: u64,
    selected: u64,
    /// The first few actions that were not selected as the key says.
    wrong: Vec<ActionId>,
    /// How many there are.
    wrong_in_all: u64,
}

const NAMED: usize = 10;

pub(super) async fn run(to: &Connections, epoch: Option<i64>) -> anyhow::Result<ExitCode> {
    let tx = to.store()?.transaction().await?;
    let mut proofs = Vec::new();
    for epoch in epochs::list(&tx, epoch).await? {
        proofs.push(prove(&tx, &epoch).await?);
    }
    show(to, &proofs, || {
        let mut table = table(["epoch", "found", "throws", "selected", "wrong"]);
        for proof in &proofs {
            let named: Vec<String> = proof.wrong.iter().map(ToString::to_string).collect();
            let wrong = match proof.wrong_in_all {
                0 => String::new(),
                count => format!("{count}: {}", named.join(", ")),
            };
            table.add_row([
                proof.epoch.to_string(),
                proof.found.into(),
                proof.throws.to_string(),
                proof.selected.to_string(),
                wrong,
            ]);
        }
        format!("{table}\nan open epoch is proved after it has closed")
    })?;
    let wrong = proofs.iter().any(|proof| proof.found == "wrong");
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn prove(tx: &Transaction, epoch: &Epoch) -> anyhow::Result<Proof> {
    let mut proof = Proof { epoch: epoch.epoch, found: "open", ..Proof::default() };
    let key: Option<[u8; 32]> = epoch.key.as_deref().and_then(|key| key.try_into().ok());
    let mut after = None;
    loop {
        let page = sampling::of_epoch(tx, epoch.epoch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.action);
        for stored in &page {
            proof.throws += 1;
            proof.selected += u64::from(stored.draw.selected);
            let Some(key) = &key else { continue };
            let again = keyed::draw(key, &stored.reference.source, &stored.reference.id, stored.draw.pi);
            if again != stored.draw || stored.audited != stored.draw.selected {
                proof.wrong_in_all += 1;
                if proof.wrong.len() < NAMED {
                    proof.wrong.push(stored.action);
                }
            }
        }
    }
    if let Some(key) = &key {
        let committed = keyed::commitment(key).as_slice() == epoch.commitment;
        proof.found = if committed && proof.wrong_in_all == 0 { "proved" } else { "wrong" };
    }
    Ok(proof)
}
