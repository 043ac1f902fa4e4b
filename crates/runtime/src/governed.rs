//! The governed configuration of the active generation, parsed once per generation.

use std::sync::{Arc, Mutex, PoisonError};

use countersign_core::stratum::{stratum, version};
use countersign_policy::Configuration;
use countersign_store::{
    StoreError, Transaction,
    generation::{self, Active},
    holds::{self, Hold},
    sampling_plans,
};
use serde_json::Value;

pub use crate::plans::ActionPlan;
use crate::plans::Plans;

/// What is in force under one generation.
pub struct Governed {
    /// The generation.
    pub generation: i64,
    /// Row of `configs`.
    config: i64,
    /// Policy, tools, directory.
    pub configuration: Arc<Configuration>,
    /// The operator who made them active.
    pub applied_by: String,
    /// Holds that have not been released.
    pub holds: Vec<Hold>,
    /// The plans that move between approval and audit.
    plans: Plans,
}

impl Governed {
    /// Whether a hold covers an action.
    pub fn holds(&self, agent: &str, tool: &str, rule: &str) -> bool {
        self.holds.iter().any(|hold| hold.covers(agent, tool, rule))
    }

    /// The sampling plan of an action: of its stratum, or of the one that it shares with others. `stated` is the agent as
    /// the proposal describes it.
    pub fn plan_of(
        &self,
        rule: &str,
        tool: &str,
        agent: &str,
        stated: &Value,
        band: Option<&str>,
    ) -> ActionPlan {
        let listed =
            self.configuration.directory.agent(agent).is_none_or(|agent| agent.lists(version(stated)));
        self.plans.of(stratum(rule, tool, agent, stated, band), listed)
    }
}

/// Shared by the lanes of a process.
#[derive(Default)]
pub struct GovernedCache {
    latest: Mutex<Option<Arc<Governed>>>,
}

impl GovernedCache {
    /// What was in force when this process last looked. Only for use where the database rejects an outdated generation.
    pub fn latest(&self) -> Option<Arc<Governed>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is in force in this transaction, which has locked the active generation.
    pub async fn under(&self, tx: &Transaction, active: &Active) -> Result<Arc<Governed>, StoreError> {
        let known = match self.latest() {
            Some(latest) if latest.generation == active.generation => return Ok(latest),
            // Only the holds changed: no need to parse the folder again.
            Some(latest) if latest.config == active.config => Some(latest.configuration.clone()),
            _ => None,
        };
        let configuration = match known {
            Some(configuration) => configuration,
            None => Arc::new(parse(tx, active.config).await?),
        };
        let plans = sampling_plans::plans(tx).await?;
        let governed = Arc::new(Governed {
            generation: active.generation,
            config: active.config,
            configuration,
            applied_by: generation::applied_by(tx, active.config).await?,
            holds: holds::open(tx).await?,
            plans: plans.into_iter().collect(),
        });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(governed.clone());
        tracing::info!(generation = active.generation, "generation in force");
        Ok(governed)
    }
}

/// Fails closed: while this version cannot parse the stored configuration, nothing is permitted.
async fn parse(tx: &Transaction, config: i64) -> Result<Configuration, StoreError> {
    let sources = generation::sources(tx, config).await?;
    Configuration::parse(&sources).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        StoreError::Corrupt(format!("the active configuration is invalid: {}", problems.join("; ")))
    })
}
