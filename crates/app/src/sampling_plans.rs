//! Sampling plans: where each stratum stands between approval and audit, and why.

use countersign_statistics::{sequential::EProcess, switching::Plan};
pub use countersign_store::sampling_plans::PlanSummary;
use countersign_store::{generation, sampling_plans};
use serde::Serialize;

use crate::{AppError, Connections, configuration::active};

/// A sampling plan beside what its rule asks for.
#[derive(Clone, Debug, Serialize)]
pub struct PlanStanding {
    /// Clean approvals in a row that end `pre_approval`; absent where its rule no longer switches.
    pub clearance: Option<u32>,
    /// Evidence against "the error rate is within the rule's limit"; absent where its rule no longer switches.
    pub e_value: Option<f64>,
    /// The plan.
    pub plan: PlanSummary,
    /// The thresholds of its rule; absent where it no longer switches.
    #[serde(skip)]
    pub thresholds: Option<Plan>,
}

/// Lists all sampling plans.
///
/// # Errors
/// Where no configuration is active yet, or the database cannot be read.
pub async fn list(connections: &Connections) -> Result<Vec<PlanStanding>, AppError> {
    let store = connections.store()?;
    let configuration = active(&store).await?;
    let tx = store.transaction().await?;
    generation::read(&tx).await?;
    let standing = |plan: PlanSummary| {
        let thresholds = configuration.policy.switching(&plan.rule).map(|rule| rule.plan);
        PlanStanding {
            clearance: thresholds.map(|thresholds| thresholds.clearance),
            e_value: thresholds.map(|thresholds| e_value(&plan, &thresholds)),
            plan,
            thresholds,
        }
    };
    Ok(sampling_plans::list(&tx).await?.into_iter().map(standing).collect())
}

/// Evidence against "the error rate is within the limit" since actions of the stratum were last executed at once.
fn e_value(plan: &PlanSummary, thresholds: &Plan) -> f64 {
    let mut process = EProcess::new(thresholds.wanted.limit);
    for n in 0..plan.seen.audited {
        process.observe(n < plan.seen.wrong);
    }
    process.ln_value().exp()
}
