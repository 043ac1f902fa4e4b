//! The statistics on recorded actions of a real agent, with labels. They lie outside the repository: where they are
//! missing, these tests say so and are skipped.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use countersign_core::{
    keyed::{Coin, Secret},
    stats::estimate::{Group, estimate},
};
use serde_json::Value;

fn recorded() -> anyhow::Result<Option<Vec<Value>>> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/airline-actions.jsonl");
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return Ok(None);
    }
    let text = std::fs::read_to_string(path)?;
    Ok(Some(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?))
}

/// Everything is executed and every fifth audited; state-changing actions are strata of their own.
#[test]
fn the_estimate_covers_the_labelled_truth_for_nearly_every_key() -> anyhow::Result<()> {
    const PI: f64 = 0.2;
    let Some(actions) = recorded()? else { return Ok(()) };
    let writes: Vec<&Value> = actions.iter().filter(|action| action["writes"] == true).collect();
    let wrong = |action: &Value| action["correct"] == false;
    let truth = writes.iter().filter(|action| wrong(action)).count();
    ensure!((writes.len(), truth) == (250, 162), "{} {truth}", writes.len());
    let mut tools: Vec<&str> = writes.iter().filter_map(|action| action["tool"].as_str()).collect();
    tools.sort_unstable();
    tools.dedup();
    let mut covered = 0;
    for key in 0..20_u8 {
        let coin = Coin::new(Secret::new(vec![key; 32])?);
        let mut executed = vec![0; tools.len()];
        let mut groups: Vec<Group> = (0..tools.len())
            .map(|stratum| Group { stratum, pi: PI, judged: 0, wrong: 0, missing: 0 })
            .collect();
        for action in &writes {
            let stratum = tools.iter().position(|tool| action["tool"] == *tool).unwrap_or_default();
            executed[stratum] += 1;
            let id = format!("task-{}-{}-{}", action["task"], action["trial"], action["seq"]);
            if coin.throw(1, "/agents/airline-assistant", &id, PI).selected {
                groups[stratum].judged += 1;
                groups[stratum].wrong += u64::from(wrong(action));
            }
        }
        let estimate = estimate(&executed, &groups);
        covered += u32::from(estimate.interval.contains(truth as f64 / writes.len() as f64));
    }
    eprintln!("{covered} of 20 keys cover 162 of 250");
    ensure!(covered >= 18, "{covered} of 20");
    Ok(())
}
