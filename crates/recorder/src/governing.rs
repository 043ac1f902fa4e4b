//! What governed an evaluation: the policy's digest, and what the registry says of the tool. Configurations never change.

use std::collections::HashMap;

use countersign_core::evidence::Kind;
use countersign_ledger::entry::{ActionFacts, Governing};
use countersign_policy::Configuration;
use countersign_store::{
    StoreError, Transaction, generation,
    ledger::{self, Pending},
};
use serde::Deserialize;

/// Configurations by the generation that made them active.
#[derive(Default)]
pub(crate) struct Governed {
    /// Generation and configuration, in order.
    applied: Vec<(i64, i64)>,
    /// The highest generation that `applied` was read for.
    read_for: i64,
    configurations: HashMap<i64, Known>,
}

struct Known {
    policy_digest: String,
    /// `None` where this version cannot parse what an older one made active.
    configuration: Option<Configuration>,
}

/// The member of an evaluation's body that names its generation.
#[derive(Deserialize)]
struct Evaluation {
    generation: i64,
}

impl Governed {
    /// What governed this row, if it is an evaluation.
    pub(crate) async fn of(
        &mut self,
        tx: &Transaction,
        row: &Pending,
        action: Option<&ActionFacts>,
    ) -> Result<Option<Governing>, StoreError> {
        let (true, Some(action)) = (row.kind == Kind::ActionEvaluated.as_str(), action) else {
            return Ok(None);
        };
        let Ok(Evaluation { generation }) = serde_json::from_str(&row.body) else { return Ok(None) };
        if generation > self.read_for {
            // Its configuration was applied before the evaluation, so it can be read.
            self.applied = ledger::generations(tx).await?;
            self.read_for = generation;
        }
        let before = self.applied.iter().rev().find(|(applied, _)| *applied <= generation);
        let Some((_, config)) = before else { return Ok(None) };
        if !self.configurations.contains_key(config) {
            let known = known(tx, *config).await?;
            self.configurations.insert(*config, known);
        }
        Ok(self.configurations.get(config).map(|known| {
            let tool = known.configuration.as_ref().and_then(|known| known.tools.get(&action.tool));
            Governing {
                policy_digest: known.policy_digest.clone(),
                risk: tool.map(|tool| tool.risk().to_owned()),
                reversible: tool.map(|tool| tool.reversible().is_some()),
            }
        }))
    }
}

async fn known(tx: &Transaction, config: i64) -> Result<Known, StoreError> {
    let sources = generation::sources(tx, config).await?;
    let configuration = Configuration::parse(&sources).ok();
    if configuration.is_none() {
        tracing::warn!(config, "this version cannot parse the configuration; entries leave out its tools");
    }
    Ok(Known { policy_digest: generation::policy_digest(tx, config).await?, configuration })
}
