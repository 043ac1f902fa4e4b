//! Proves the sampling draws: repeats them with the keys of closed epochs.

use countersign_core::{ids::ActionId, keyed};
use countersign_store::{
    Transaction,
    epochs::{self, Epoch},
    sampling,
};
use serde::Serialize;

use crate::{AppError, Connections};

/// Most draws that are read at once.
const PAGE: i64 = 5_000;

/// Most wrong draws that are named.
const NAMED: usize = 10;

/// The result of proving an epoch's draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The epoch is open and its key still secret.
    #[default]
    Open,
    /// The key matches the commitment and reproduces every draw.
    Proved,
    /// The key does not match the commitment, or does not reproduce every draw.
    Wrong,
}

impl Standing {
    /// The value in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Proved => "proved",
            Self::Wrong => "wrong",
        }
    }
}

/// The proof of one epoch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EpochProof {
    /// The epoch.
    pub epoch: i64,
    /// Whether its draws are those of its key.
    pub found: Standing,
    /// How many draws it has.
    pub draws: u64,
    /// How many selected their action.
    pub selected: u64,
    /// The first few actions whose draw cannot be reproduced.
    pub wrong: Vec<ActionId>,
    /// How many such actions there are.
    pub wrong_in_all: u64,
}

/// Proves the draws of `epoch`, or of all epochs.
///
/// # Errors
/// Where the database cannot be read.
pub async fn prove(connections: &Connections, epoch: Option<i64>) -> Result<Vec<EpochProof>, AppError> {
    let tx = connections.store()?.transaction().await?;
    let mut proofs = Vec::new();
    for epoch in epochs::list(&tx, epoch).await? {
        proofs.push(prove_epoch(&tx, &epoch).await?);
    }
    Ok(proofs)
}

async fn prove_epoch(tx: &Transaction, epoch: &Epoch) -> Result<EpochProof, AppError> {
    let mut proof = EpochProof { epoch: epoch.epoch, ..EpochProof::default() };
    let key: Option<[u8; 32]> = epoch.key.as_deref().and_then(|key| key.try_into().ok());
    let mut after = None;
    loop {
        let page = sampling::of_epoch(tx, epoch.epoch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.action);
        for stored in &page {
            proof.draws += 1;
            proof.selected += u64::from(stored.draw.selected);
            let Some(key) = &key else { continue };
            let draw = keyed::draw(key, &stored.reference.source, &stored.reference.id, stored.draw.pi);
            if draw != stored.draw || stored.audited != stored.draw.selected {
                proof.wrong_in_all += 1;
                if proof.wrong.len() < NAMED {
                    proof.wrong.push(stored.action);
                }
            }
        }
    }
    if let Some(key) = &key {
        let committed = keyed::commitment(key).as_slice() == epoch.commitment;
        let holds = committed && proof.wrong_in_all == 0;
        proof.found = if holds { Standing::Proved } else { Standing::Wrong };
    }
    Ok(proof)
}
