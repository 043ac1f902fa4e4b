//! Proves the sampling draws: repeats them with the keys of closed epochs.
//!
//! A draw is right if the epoch's key leads to it, a policy that was in force can have asked for its inclusion probability, and
//! what it selected has an audit; where its rule has a score, the proposal leads to the stored one. So is that of a gold item, if the key also leads to the earlier audit that it shows. Every executed action that ended before the last of these epochs has one.

mod scores;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use countersign_core::{ids::ActionId, keyed, keyed::gold::GoldDraw, proposal::Proposal};
use countersign_policy::{Configuration, Ended, Inclusion};
use countersign_statistics::switching::PlanState;
use countersign_store::{
    Transaction,
    epochs::{self, Epoch},
    generation, gold,
    sampling::{self, StoredDraw},
};
use serde::Serialize;

use crate::{AppError, Connections, configuration};

/// Most draws that are read at once, with their proposals where they have scores.
const PAGE: i64 = 1_000;

/// Most wrong draws, and most actions without one, that are named.
const NAMED: usize = 10;

/// The result of proving an epoch's draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The epoch is open and its key still secret.
    #[default]
    Open,
    /// The key matches the commitment and reproduces every draw, policies ask for the probabilities, and no executed action
    /// lacks a draw.
    Proved,
    /// All is as it should be but for executed actions that have no draw. A sampler that is behind makes them yet.
    Undrawn,
    /// That is not so.
    Wrong,
}

impl Standing {
    /// The value in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Proved => "proved",
            Self::Undrawn => "undrawn",
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
    /// How many of these were followed by a gold item.
    pub gold: u64,
    /// The first few actions whose draw, or that of a gold item, cannot be reproduced, or has a probability that no policy asked
    /// for.
    pub wrong: Vec<ActionId>,
    /// How many such actions there are.
    pub wrong_in_all: u64,
    /// How many scores cannot be evaluated again, because the content has been erased: they are taken as they are stored.
    pub unscored: u64,
    /// The first few executed actions that ended in the epoch's time and have no draw.
    pub undrawn: Vec<ActionId>,
    /// How many such actions there are.
    pub undrawn_in_all: u64,
}

impl EpochProof {
    fn note_wrong(&mut self, action: ActionId) {
        self.wrong_in_all += 1;
        if self.wrong.len() < NAMED {
            self.wrong.push(action);
        }
    }
}

/// Proves the draws of `epoch`, or of all epochs.
///
/// # Errors
/// Where the database cannot be read.
pub async fn prove(connections: &Connections, epoch: Option<i64>) -> Result<Vec<EpochProof>, AppError> {
    let tx = connections.store()?.transaction().await?;
    let mut policies = Policies { applied: generation::applied(&tx).await?, parsed: HashMap::new() };
    let mut proofs = Vec::new();
    for epoch in epochs::list(&tx, epoch).await? {
        proofs.push(prove_epoch(&tx, &epoch, &mut policies).await?);
    }
    Ok(proofs)
}

async fn prove_epoch(
    tx: &Transaction,
    epoch: &Epoch,
    policies: &mut Policies,
) -> Result<EpochProof, AppError> {
    let mut proof = EpochProof { epoch: epoch.epoch, ..EpochProof::default() };
    let key: Option<[u8; 32]> = epoch.key.as_deref().and_then(|key| key.try_into().ok());
    let mut after = None;
    loop {
        let page = sampling::of_epoch(tx, epoch.epoch, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.action);
        let proposals = scores::proposals(tx, &page).await?;
        for stored in &page {
            let proposal = proposals.get(&stored.action);
            proof.unscored += u64::from(stored.score.is_some() && proposal.is_none());
            proof.draws += 1;
            proof.selected += u64::from(stored.draw.selected);
            let Some(key) = &key else { continue };
            let draw = keyed::draw(key, &stored.reference.source, &stored.reference.id, stored.draw.pi);
            let repeated = draw == stored.draw && stored.audited == stored.draw.selected;
            // No draw is made under a key that was revealed before the action was accepted.
            let consistent = stored.executed == stored.called && stored.proposed_at <= epoch.ends_at;
            let gold = keyed::gold::draw(key, &stored.reference.source, &stored.reference.id);
            let asked = policies.ask_for(tx, stored, proposal, &gold, epoch.ends_at).await?;
            if !(repeated && consistent && asked) {
                proof.note_wrong(stored.action);
            }
        }
    }
    for choice in gold::choices(tx, epoch.epoch).await? {
        proof.gold += 1;
        let Some(key) = &key else { continue };
        let (source, id) = (&choice.reference.source, &choice.reference.id);
        let chosen = keyed::gold::choose(key, source, id, &choice.candidates);
        if !choice.settled || chosen != Some(choice.audit) {
            proof.note_wrong(choice.action);
        }
    }
    if let Some(key) = &key {
        let named = i64::try_from(NAMED).unwrap_or(i64::MAX);
        (proof.undrawn_in_all, proof.undrawn) = sampling::undrawn(tx, epoch.epoch, named).await?;
        let committed = keyed::commitment(key).as_slice() == epoch.commitment;
        proof.found = match (committed && proof.wrong_in_all == 0, proof.undrawn_in_all) {
            (true, 0) => Standing::Proved,
            (true, _) => Standing::Undrawn,
            (false, _) => Standing::Wrong,
        };
    }
    Ok(proof)
}

/// The policies that were in force, parsed when a draw first needs them.
struct Policies {
    applied: Vec<(i64, DateTime<Utc>)>,
    parsed: HashMap<i64, Configuration>,
}

impl Policies {
    /// Whether a policy that was in force after the action was accepted, and not only after its epoch, asks for the draw's
    /// probabilities, gives the proposal, where it can be read, the score that is stored, and for the gold item that follows or does not.
    async fn ask_for(
        &mut self,
        tx: &Transaction,
        stored: &StoredDraw,
        proposal: Option<&Proposal>,
        gold: &GoldDraw,
        ends_at: DateTime<Utc>,
    ) -> Result<bool, AppError> {
        let ended = Ended {
            rule: &stored.rule,
            rate: stored.rate,
            score: stored.score,
            approved: stored.approved,
            group: &stored.group,
            tighter: stored.plan_state.map_or(1.0, PlanState::tighter),
            executed: stored.executed,
        };
        let inclusion = Inclusion { pi: stored.draw.pi, wanted: stored.wanted, forced: stored.forced };
        // One more: a configuration comes into force a little after the time that is stored with it.
        let first = self.applied.partition_point(|(_, at)| *at <= stored.proposed_at).saturating_sub(2);
        let last = self.applied.partition_point(|(_, at)| *at <= ends_at);
        for (config, _) in self.applied.get(first..last.max(first)).unwrap_or_default() {
            if !self.parsed.contains_key(config) {
                self.parsed.insert(*config, configuration::of(tx, *config).await?);
            }
            let asks = |parsed: &Configuration| {
                let follows = stored.draw.selected && gold.selects(parsed.policy.audits().gold);
                let scored = proposal.is_none_or(|proposal| scores::agrees(parsed, stored, proposal));
                parsed.policy.asks_for(&ended, &inclusion) && scored && follows == stored.gold
            };
            if self.parsed.get(config).is_some_and(asks) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
