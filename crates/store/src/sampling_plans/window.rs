//! Windows: what is known of what an agent has executed at once under a rule since its strata were last sent back to
//! approval.

use std::time::Duration;

use countersign_core::ids::ActionId;
use countersign_statistics::{
    estimate::Cell,
    switching::{Unsettled, Window},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::FamilyRecord;
use crate::{StoreError, Transaction, rates::count, sweeps::SWEEP_MAX};

/// The draw of an action that was executed at once.
#[derive(Clone, Copy, Debug)]
pub struct CountedDraw {
    /// The action.
    pub action: ActionId,
    /// π as the window counts it.
    pub pi: f64,
    /// Whether an audit was opened.
    pub selected: bool,
}

/// A family whose oldest audit may be overdue.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The family.
    pub family: String,
    /// Its rule.
    pub rule: String,
    /// Its oldest audit that is not settled.
    pub oldest: Unsettled,
}

fn unsettled(row: &Row) -> Unsettled {
    let age = row.get::<_, f64>("age").max(0.0);
    Unsettled { behind: count(row, "behind"), age: Duration::try_from_secs_f64(age).unwrap_or_default() }
}

/// The window of a locked family.
pub async fn window(tx: &Transaction, family: &FamilyRecord) -> Result<Window, StoreError> {
    let sql = "SELECT pi, executed, judged, wrong, missing FROM plan_cells WHERE family = $1 AND since = $2";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&family.family, &family.since]).await?;
    let cell = |row: &Row| Cell {
        pi: row.get("pi"),
        executed: count(row, "executed"),
        judged: count(row, "judged"),
        wrong: count(row, "wrong"),
        missing: count(row, "missing"),
    };
    let mut window = Window { cells: rows.iter().map(cell).collect(), oldest: None };
    let sql =
        "SELECT $3 - position AS behind, extract(epoch FROM clock_timestamp() - drawn_at)::float8 AS age
               FROM plan_audits WHERE family = $1 AND since = $2 AND NOT settled ORDER BY position LIMIT 1";
    let executed = i64::try_from(window.executed()).unwrap_or(i64::MAX);
    let oldest =
        tx.query_opt(&tx.prepare_cached(sql).await?, &[&family.family, &family.since, &executed]).await?;
    window.oldest = oldest.as_ref().map(unsettled);
    Ok(window)
}

/// Counts new draws in the window of a locked family, in order.
pub async fn count_draws(
    tx: &Transaction,
    family: &FamilyRecord,
    draws: &[CountedDraw],
) -> Result<(), StoreError> {
    let sql = "INSERT INTO plan_audits (action, family, since, pi, position)
               SELECT action, $1, $2, pi, place + (SELECT coalesce(sum(executed), 0) FROM plan_cells
                                                   WHERE family = $1 AND since = $2)
               FROM UNNEST($3::uuid[], $4::float8[], $5::bool[]) WITH ORDINALITY AS u (action, pi, selected, place)
               WHERE selected";
    let actions: Vec<Uuid> = draws.iter().map(|draw| draw.action.0).collect();
    let pis: Vec<f64> = draws.iter().map(|draw| draw.pi).collect();
    let selected: Vec<bool> = draws.iter().map(|draw| draw.selected).collect();
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&family.family, &family.since, &actions, &pis, &selected]).await?;
    let sql = "INSERT INTO plan_cells (family, since, pi, executed, judged, wrong, missing)
               SELECT $1, $2, pi, count(*), 0, 0, count(*) FILTER (WHERE selected)
               FROM UNNEST($3::float8[], $4::bool[]) AS u (pi, selected) GROUP BY pi
               ON CONFLICT (family, since, pi)
                 DO UPDATE SET executed = plan_cells.executed + excluded.executed,
                               missing = plan_cells.missing + excluded.missing";
    let statement = tx.prepare_cached(sql).await?;
    tx.execute(&statement, &[&family.family, &family.since, &pis, &selected]).await?;
    Ok(())
}

/// Counts the audits of these actions that are settled now, as far as they are in a window. Their families are locked.
pub async fn count_findings(tx: &Transaction, actions: &[ActionId]) -> Result<(), StoreError> {
    let sql = "WITH settled AS (
                 UPDATE plan_audits p SET settled = true FROM audits u
                 WHERE u.action = p.action AND p.action = ANY($1) AND NOT p.settled AND u.state = 'judged'
                 RETURNING p.family, p.since, p.pi, u.finding),
               counted AS (
                 SELECT family, since, pi, count(*) AS judged, count(*) FILTER (WHERE finding = 'wrong') AS wrong
                 FROM settled GROUP BY family, since, pi)
               UPDATE plan_cells c SET judged = c.judged + n.judged, wrong = c.wrong + n.wrong,
                                       missing = c.missing - n.judged
               FROM counted n WHERE c.family = n.family AND c.since = n.since AND c.pi = n.pi";
    let actions: Vec<Uuid> = actions.iter().map(|action| action.0).collect();
    tx.execute(&tx.prepare_cached(sql).await?, &[&actions]).await?;
    Ok(())
}

/// The families that execute at once and have an audit that is not settled, those first that have waited longest.
pub async fn waiting(tx: &Transaction) -> Result<Vec<Waiting>, StoreError> {
    let sql = "SELECT f.family, f.rule, extract(epoch FROM clock_timestamp() - w.drawn_at)::float8 AS age,
                      (SELECT coalesce(sum(executed), 0) FROM plan_cells c WHERE c.family = f.family AND c.since = f.since)
                      ::bigint - w.position AS behind
               FROM plan_families f CROSS JOIN LATERAL
                 (SELECT position, drawn_at FROM plan_audits a
                  WHERE a.family = f.family AND a.since = f.since AND NOT a.settled ORDER BY position LIMIT 1) w
               WHERE EXISTS (SELECT FROM sampling_plans p WHERE p.family = f.family AND p.pinned_by IS NULL
                             AND p.plan_state IN ('normal', 'tightened'))
               ORDER BY w.drawn_at LIMIT $1";
    let rows = tx.query(&tx.prepare_cached(sql).await?, &[&SWEEP_MAX]).await?;
    let waiting =
        |row: &Row| Waiting { family: row.get("family"), rule: row.get("rule"), oldest: unsettled(row) };
    Ok(rows.iter().map(waiting).collect())
}
