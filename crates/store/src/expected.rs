//! What an epoch's rates depend on: data of earlier epochs, fixed when the first draw needs them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use countersign_core::evidence::{Event, RatesLowered};

use crate::{
    StoreError, Transaction,
    evidence::{self, Evidence},
};

/// How many actions of each stratum are expected in an epoch: as many as in the epoch before.
pub async fn of_strata(
    tx: &Transaction,
    epoch: i64,
    strata: &BTreeSet<&str>,
) -> Result<HashMap<String, u64>, StoreError> {
    let names: Vec<&&str> = strata.iter().collect();
    let sql = "INSERT INTO epoch_strata (epoch, stratum, expected)
               SELECT $1::bigint, u.stratum,
                      (SELECT count(*) FROM sampling s WHERE s.epoch = $1::bigint - 1 AND s.stratum = u.stratum AND s.executed)
               FROM UNNEST($2::text[]) AS u (stratum)
               WHERE NOT EXISTS (SELECT FROM epoch_strata e WHERE e.epoch = $1 AND e.stratum = u.stratum)
               ORDER BY 2 ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&epoch, &names]).await?;
    let sql = "SELECT stratum, expected FROM epoch_strata WHERE epoch = $1 AND stratum = ANY($2)";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&epoch, &names]).await?;
    let expected = |row: &tokio_postgres::Row| u64::try_from(row.get::<_, i64>(1)).unwrap_or_default();
    Ok(rows.iter().map(|row| (row.get(0), expected(row))).collect())
}

/// The share of its audit rates that a group's capacity allows each agent in an epoch: what is left out has all it wants.
/// `groups` has each group's capacity, in audits per epoch. Evidence records where it is too small for what the epoch
/// before demanded.
pub async fn of_groups(
    tx: &Transaction,
    epoch: i64,
    groups: &BTreeMap<&str, f64>,
) -> Result<HashMap<(String, String), f64>, StoreError> {
    let names: Vec<&&str> = groups.keys().collect();
    let capacities: Vec<f64> = groups.values().copied().collect();
    let sql = "INSERT INTO epoch_groups (epoch, group_name, demand, capacity, remaining)
               SELECT $1::bigint, u.group_name, d.demand, u.capacity,
                      CASE WHEN d.demand <= u.capacity THEN 1 ELSE u.capacity / d.demand END
               FROM UNNEST($2::text[], $3::float8[]) AS u (group_name, capacity),
               LATERAL (SELECT coalesce(sum(s.wanted), 0) AS demand FROM sampling s JOIN actions a ON a.id = s.action
                        WHERE s.epoch = $1::bigint - 1 AND a.audit_group = u.group_name) d
               WHERE NOT EXISTS (SELECT FROM epoch_groups e WHERE e.epoch = $1 AND e.group_name = u.group_name)
               ORDER BY 2 ON CONFLICT DO NOTHING RETURNING group_name, demand, capacity, remaining";
    let new = tx.query(&tx.prepare_cached(sql).await?, &[&epoch, &names, &capacities]).await?;
    let mut noted = Vec::new();
    for row in new.iter().filter(|row| row.get::<_, f64>(3) < 1.0) {
        let (group, capacity): (String, f64) = (row.get(0), row.get(2));
        share_out(tx, epoch, &group, capacity).await?;
        let (demand, remaining) = (row.get(1), row.get(3));
        let lowered = RatesLowered { epoch, group, demand, capacity, remaining };
        noted.push(Evidence::global(Event::RatesLowered(lowered)));
    }
    evidence::insert(tx, &noted).await?;
    let sql =
        "SELECT group_name, agent, remaining FROM epoch_agents WHERE epoch = $1 AND group_name = ANY($2)";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&epoch, &names]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

/// Divides a group's capacity between the agents by what the epoch before demanded for each.
async fn share_out(tx: &Transaction, epoch: i64, group: &str, capacity: f64) -> Result<(), StoreError> {
    let sql = "SELECT a.agent, sum(s.wanted) FROM sampling s JOIN actions a ON a.id = s.action
               WHERE s.epoch = $1::bigint - 1 AND a.audit_group = $2 GROUP BY a.agent";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&epoch, &group]).await?;
    let demands: Vec<f64> = rows.iter().map(|row| row.get(1)).collect();
    let level = fair_level(&demands, capacity);
    let lowered: Vec<(&str, f64)> = rows
        .iter()
        .zip(&demands)
        .filter(|(_, demand)| **demand > level && level > 0.0)
        .map(|(row, demand)| (row.get(0), level / demand))
        .collect();
    let (agents, remaining): (Vec<&str>, Vec<f64>) = lowered.into_iter().unzip();
    let sql = "INSERT INTO epoch_agents (epoch, group_name, agent, remaining)
               SELECT $1::bigint, $2::text, agent, remaining FROM UNNEST($3::text[], $4::float8[]) AS u (agent, remaining)";
    tx.execute(&tx.prepare_cached(sql).await?, &[&epoch, &group, &agents, &remaining]).await?;
    Ok(())
}

/// The most that each may have so that all together have no more than `capacity`, and whoever asks for less than an equal
/// share has all of it (max-min fairness).
fn fair_level(demands: &[f64], capacity: f64) -> f64 {
    let mut sorted = demands.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut left = capacity;
    for (index, demand) in sorted.iter().enumerate() {
        let share = left / (sorted.len() - index) as f64;
        if *demand > share {
            return share;
        }
        left -= demand;
    }
    f64::INFINITY
}

/// How many actions have been forced into the sample under each of these names, such as a new version or an epoch's
/// failures. Locks the counts.
pub async fn forced_counts(
    tx: &Transaction,
    names: &BTreeSet<String>,
) -> Result<HashMap<String, u64>, StoreError> {
    let names: Vec<&String> = names.iter().collect();
    // Locked in the same order everywhere, so that concurrent transactions share what is left of a cap without
    // deadlock.
    let sql = "INSERT INTO forced (name, taken) SELECT name, 0 FROM UNNEST($1::text[]) AS u (name)
               WHERE NOT EXISTS (SELECT FROM forced f WHERE f.name = u.name)
               ORDER BY name ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&names]).await?;
    let sql = "SELECT name, taken FROM forced WHERE name = ANY($1) ORDER BY name FOR UPDATE";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&names]).await?;
    let count = |row: &tokio_postgres::Row| u64::try_from(row.get::<_, i64>(1)).unwrap_or_default();
    Ok(rows.iter().map(|row| (row.get(0), count(row))).collect())
}

/// Those of these names under which actions have been forced into the sample, or might have been.
pub async fn known(tx: &Transaction, names: &[&str]) -> Result<HashSet<String>, StoreError> {
    if names.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = tx.prepare_cached("SELECT name FROM forced WHERE name = ANY($1)").await?;
    Ok(tx.query(&statement, &[&names]).await?.iter().map(|row| row.get(0)).collect())
}

/// Those of these names that have reached their caps; they need not be locked.
pub async fn full(tx: &Transaction, names: &BTreeMap<String, u32>) -> Result<BTreeSet<String>, StoreError> {
    let caps: Vec<i64> = names.values().map(|cap| i64::from(*cap)).collect();
    let names: Vec<&String> = names.keys().collect();
    let sql = "SELECT name FROM UNNEST($1::text[], $2::bigint[]) AS u (name, cap) JOIN forced USING (name)
               WHERE taken >= cap";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&names, &caps]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Writes the counts of locked names.
pub async fn store_forced_counts(tx: &Transaction, counts: &HashMap<String, u64>) -> Result<(), StoreError> {
    let names: Vec<&String> = counts.keys().collect();
    let counts: Vec<i64> = counts.values().map(|count| i64::try_from(*count).unwrap_or(i64::MAX)).collect();
    let sql = "UPDATE forced f SET taken = u.taken FROM UNNEST($1::text[], $2::bigint[]) AS u (name, taken)
               WHERE f.name = u.name AND f.taken <> u.taken";
    tx.execute(&tx.prepare_cached(sql).await?, &[&names, &counts]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::fair_level;

    #[test]
    fn an_agent_that_asks_for_much_takes_nothing_from_one_that_asks_for_little() {
        assert_eq!(fair_level(&[1_000.0, 10.0], 100.0), 90.0);
        assert_eq!(fair_level(&[1_000.0, 10.0, 80.0], 100.0), 45.0);
        assert_eq!(fair_level(&[40.0], 10.0), 10.0);
        assert!(fair_level(&[40.0, 60.0], 100.0).is_infinite() && fair_level(&[], 1.0).is_infinite());
    }
}
