//! Cumulative limits: locked sums, so that two concurrent actions cannot both slip under a limit.

use std::{collections::BTreeMap, time::Duration};

use countersign_core::ids::ActionId;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::{Pipeline, StoreError, Transaction, transaction::parameters};

/// What one action adds to a sum.
#[derive(Clone, Debug)]
pub struct LimitRow {
    /// The action.
    pub action: ActionId,
    /// The rule whose limit it is.
    pub rule: String,
    /// Identifies the sum, together with the rule.
    pub key: String,
    /// What the action adds.
    pub amount: Decimal,
}

/// Identifies a sum: a rule's id and a key.
pub type LimitKey = (String, String);

/// What has been added within each limit's period.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// By all actions that are open, in doubt or succeeded.
    pub all: BTreeMap<LimitKey, Decimal>,
    /// By single actions.
    pub own: BTreeMap<(LimitKey, ActionId), Decimal>,
}

/// Locks these sums until the transaction ends, in key order, and reads them, and what each of `single` has added.
pub async fn sums(
    tx: &Transaction,
    keys: &BTreeMap<LimitKey, Duration>,
    single: &[ActionId],
) -> Result<Sums, StoreError> {
    if keys.is_empty() {
        return Ok(Sums::default());
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
    // A separate statement: it sees what was committed while the one before waited for the locks.
    let sql = "WITH counted AS (
                 SELECT l.rule, l.key, l.action, l.amount
                 FROM UNNEST($1::text[], $2::text[], $3::float8[]) u (rule, key, within)
                 JOIN limit_uses l ON l.rule = u.rule AND l.key = u.key
                   AND l.at > clock_timestamp() - make_interval(secs => u.within)
                 JOIN actions a ON a.id = l.action
                   AND a.state NOT IN ('denied', 'rejected', 'failed', 'expired', 'cancelled'))
               SELECT rule, key, NULL::uuid, sum(amount)::text FROM counted GROUP BY rule, key
               UNION ALL
               SELECT rule, key, action, amount::text FROM counted WHERE action = ANY($4)";
    let single: Vec<Uuid> = single.iter().map(|id| id.0).collect();
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&rules, &names, &within, &single]).await?;
    let all = keys.keys().map(|key| (key.clone(), Decimal::ZERO)).collect();
    let mut sums = Sums { all, own: BTreeMap::new() };
    for row in &rows {
        let (key, amount): (LimitKey, &str) = ((row.get(0), row.get(1)), row.get(3));
        let amount = amount
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("{amount:?} is not the sum of a limit")))?;
        match row.get::<_, Option<Uuid>>(2) {
            None => sums.all.insert(key, amount),
            Some(action) => sums.own.insert((key, ActionId(action)), amount),
        };
    }
    Ok(sums)
}

/// Records what actions add. An action that is evaluated again keeps its time.
pub async fn add<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [LimitRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO limit_uses (action, rule, key, amount)
             SELECT action, rule, key, amount::numeric
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[]) u (action, rule, key, amount)
             ON CONFLICT (action) DO UPDATE SET rule = EXCLUDED.rule, key = EXCLUDED.key, amount = EXCLUDED.amount";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let rules: Vec<&str> = rows.iter().map(|row| row.rule.as_str()).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let amounts: Vec<String> = rows.iter().map(|row| row.amount.to_string()).collect();
    writes.add(tx, sql, parameters![actions, rules, keys, amounts]).await
}
