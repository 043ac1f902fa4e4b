//! Cumulative limits: sums that two actions at once cannot both slip under.

use std::{collections::BTreeMap, time::Duration};

use countersign_core::{config::LimitUse, ids::ActionId};
use deadpool_postgres::Transaction;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::StoreError;

/// Whose sum it is: a rule's id and a key.
pub type LimitKey = (String, String);

/// Locks these sums until the transaction ends, in key order, and reads them: what every action that is pending, in
/// doubt or done has added within the time. `but` are actions that are just being judged again.
pub async fn sums(
    tx: &Transaction<'_>,
    keys: &BTreeMap<LimitKey, Duration>,
    but: &[ActionId],
) -> Result<BTreeMap<LimitKey, Decimal>, StoreError> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rules: Vec<&str> = keys.keys().map(|(rule, _)| rule.as_str()).collect();
    let names: Vec<&str> = keys.keys().map(|(_, key)| key.as_str()).collect();
    let within: Vec<f64> = keys.values().map(Duration::as_secs_f64).collect();
    let sql = "INSERT INTO limit_keys SELECT * FROM UNNEST($1::text[], $2::text[]) u (rule, key)
               ORDER BY rule COLLATE \"C\", key COLLATE \"C\" ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&rules, &names]).await?;
    let sql = "SELECT 1 FROM limit_keys k JOIN UNNEST($1::text[], $2::text[]) u (rule, key) USING (rule, key)
               ORDER BY k.rule COLLATE \"C\", k.key COLLATE \"C\" FOR UPDATE OF k";
    tx.query(&tx.prepare_cached(sql).await?, &[&rules, &names]).await?;
    // A statement of its own: it sees what was committed while the locks were waited for.
    let sql = "SELECT u.rule, u.key, coalesce(sum(l.amount) FILTER (WHERE a.id IS NOT NULL), 0)::text
               FROM UNNEST($1::text[], $2::text[], $3::float8[]) u (rule, key, within)
               LEFT JOIN limit_uses l ON l.rule = u.rule AND l.key = u.key
                 AND l.at > clock_timestamp() - make_interval(secs => u.within) AND l.action <> ALL($4)
               LEFT JOIN actions a ON a.id = l.action
                 AND a.state NOT IN ('denied', 'rejected', 'failed', 'expired', 'cancelled')
               GROUP BY u.rule, u.key";
    let but: Vec<Uuid> = but.iter().map(|id| id.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&rules, &names, &within, &but]).await?;
    rows.iter()
        .map(|row| {
            let sum: &str = row.get(2);
            let sum =
                sum.parse().map_err(|_| StoreError::Corrupt(format!("{sum:?} is no sum of a limit")))?;
            Ok(((row.get(0), row.get(1)), sum))
        })
        .collect()
}

/// Notes what actions add. One that is judged again keeps its time.
pub async fn add(tx: &Transaction<'_>, rows: &[(ActionId, String, LimitUse)]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = tx
        .prepare_cached(
            "INSERT INTO limit_uses (action, rule, key, amount)
             SELECT action, rule, key, amount::numeric
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[]) u (action, rule, key, amount)
             ON CONFLICT (action) DO UPDATE SET rule = EXCLUDED.rule, key = EXCLUDED.key, amount = EXCLUDED.amount",
        )
        .await?;
    let actions: Vec<Uuid> = rows.iter().map(|row| row.0.0).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.2.key.as_str()).collect();
    let amounts: Vec<String> = rows.iter().map(|row| row.2.amount.to_string()).collect();
    tx.execute(&statement, &[&actions, &rules, &keys, &amounts]).await?;
    Ok(())
}
