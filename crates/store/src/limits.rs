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
    /// The limit.
    pub limit: String,
    /// Identifies the sum, together with the limit.
    pub key: String,
    /// What the action adds.
    pub amount: Decimal,
}

/// Identifies a sum: a limit and a key.
pub type LimitKey = (String, String);

/// No amount and no `max` of a limit is greater than a tenth of this, so a sum that has reached it is beyond every limit,
/// whatever single actions take away from it. How far beyond is not read: [`sums`] stops here. 10^19.
pub const BEYOND: Decimal = Decimal::from_parts(0x89e8_0000, 0x8ac7_2304, 0, false, 0);

/// What counts towards each limit: what is open, and what ended within its period.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// By all actions that are open, in doubt or succeeded; at most [`BEYOND`].
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
    let limits: Vec<&str> = keys.keys().map(|(limit, _)| limit.as_str()).collect();
    let names: Vec<&str> = keys.keys().map(|(_, key)| key.as_str()).collect();
    let within: Vec<f64> = keys.values().map(Duration::as_secs_f64).collect();
    let sql = "INSERT INTO limit_keys SELECT * FROM UNNEST($1::text[], $2::text[]) u (limit_id, key)
               ORDER BY limit_id COLLATE \"C\", key COLLATE \"C\" ON CONFLICT DO NOTHING";
    tx.execute(&tx.prepare_cached(sql).await?, &[&limits, &names]).await?;
    let sql = "SELECT 1 FROM limit_keys k JOIN UNNEST($1::text[], $2::text[]) u (limit_id, key) USING (limit_id, key)
               ORDER BY k.limit_id COLLATE \"C\", k.key COLLATE \"C\" FOR UPDATE OF k";
    tx.query(&tx.prepare_cached(sql).await?, &[&limits, &names]).await?;
    // A separate statement: it sees what was committed while the one before waited for the locks.
    let sql = "WITH wanted AS MATERIALIZED (
                 SELECT * FROM UNNEST($1::text[], $2::text[], $3::float8[]) u (limit_id, key, within)),
               ended AS (
                 UPDATE limit_uses l SET ended_at = a.ended_at
                 FROM wanted u, actions a
                 WHERE l.limit_id = u.limit_id AND l.key = u.key AND l.ended_at = 'infinity'
                   AND a.id = l.action AND a.ended_at IS NOT NULL),
               counted AS (
                 SELECT l.limit_id, l.key, l.action, l.amount
                 FROM wanted u
                 JOIN limit_uses l ON l.limit_id = u.limit_id AND l.key = u.key
                   AND l.ended_at > clock_timestamp() - make_interval(secs => u.within)
                 JOIN actions a ON a.id = l.action
                   AND a.state NOT IN ('denied', 'rejected', 'failed', 'expired', 'cancelled')
                   -- The end of an action in doubt is when it was given up, also once somebody has found out more.
                   AND least(l.ended_at, a.ended_at) > clock_timestamp() - make_interval(secs => u.within))
               SELECT limit_id, key, NULL::uuid, least(sum(amount), $5::text::numeric)::text
               FROM counted GROUP BY limit_id, key
               UNION ALL
               SELECT limit_id, key, action, least(amount, $5::text::numeric)::text
               FROM counted WHERE action = ANY($4)";
    let single: Vec<Uuid> = single.iter().map(|id| id.0).collect();
    let beyond = BEYOND.to_string();
    let rows =
        tx.query(&tx.prepare_cached(sql).await?, &[&limits, &names, &within, &single, &beyond]).await?;
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

/// Records what actions add, until they end and for the limit's period after that.
pub async fn add<'a>(
    tx: &Transaction,
    writes: &mut Pipeline<'a>,
    rows: &'a [LimitRow],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO limit_uses (action, limit_id, key, amount)
             SELECT action, limit_id, key, amount::numeric
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[]) u (action, limit_id, key, amount)
             ON CONFLICT (action) DO UPDATE
             SET limit_id = EXCLUDED.limit_id, key = EXCLUDED.key, amount = EXCLUDED.amount";
    let actions: Vec<Uuid> = rows.iter().map(|row| row.action.0).collect();
    let limits: Vec<&str> = rows.iter().map(|row| row.limit.as_str()).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let amounts: Vec<String> = rows.iter().map(|row| row.amount.to_string()).collect();
    writes.add(tx, sql, parameters![actions, limits, keys, amounts]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_every_limit_is_ten_times_the_largest_amount() {
        assert_eq!(BEYOND, Decimal::from(10_u64.pow(18)) * Decimal::TEN);
    }
}
