//! Claims and results are single statements that take no lock in advance: concurrent transactions decide whether they
//! match a row.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::Utc;
use countersign_core::{
    action::{Outcome, State},
    evidence::{ActionCompleted, Event},
    ids::{ActionId, PermitId},
};
use countersign_store::{
    Store, StoreError, Transaction,
    claims::{self, Claim, ClaimRequest},
    evidence::Evidence,
    generation, holds,
    outcomes::{self, Ended, NewOutcome},
};
use countersign_testkit::{isolation::TestEnv, wait::eventually};
use countersign_tests::{Gate, expect};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;

const ACTION: ActionId = ActionId(Uuid::from_u128(1));
const PERMIT: PermitId = PermitId(Uuid::from_u128(2));

/// An action that is authorised under generation 1.
const AUTHORISED: &str = "
    INSERT INTO configs (policy, tools, directory, policy_version, policy_digest, applied_by)
      VALUES ('', '', '', '1', '', 'olga');
    INSERT INTO active (generation, config) SELECT 1, id FROM configs;
    INSERT INTO actions (id, source, event_id, agent, tool, state, verdict, rule, generation, policy_version,
                         audit_rate, audit_group, permit)
      VALUES ('00000000-0000-0000-0000-000000000001', '/agents/one', '1', 'one', 'record', 'authorised', 'allow', 'r',
              1, '1', 0, 'auditors', '00000000-0000-0000-0000-000000000002');
    INSERT INTO payloads (action, body, content, salt, body_digest, digest)
      SELECT id, '', '', decode(repeat('00', 16), 'hex'), sha256(''), sha256('') FROM actions;
    INSERT INTO permits (id, action, generation, bytes) SELECT permit, id, 1, '' FROM actions;";

struct Stored {
    env: TestEnv,
    store: Store,
}

impl Stored {
    async fn start() -> anyhow::Result<Self> {
        let env = TestEnv::new().await?;
        let store = Store::of_worker(&env.database_url, "claims", 4)?;
        store.migrate().await?;
        let tx = store.transaction().await?;
        tx.batch_execute(AUTHORISED).await?;
        tx.commit().await?;
        Ok(Self { env, store })
    }

    /// Commits `tx` once `other` waits for its locks, and returns the result of `other`.
    async fn meanwhile<T>(&self, tx: Transaction, other: JoinHandle<T>) -> anyhow::Result<T> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("it waits", Duration::from_secs(20), async || {
            // A transaction reads `pg_stat_activity` once, so each probe needs a new one.
            let look = self.store.transaction().await.ok()?;
            look.query_one(sql, &[]).await.ok().filter(|row| row.get::<_, i64>(0) == 1)
        })
        .await?;
        tx.commit().await?;
        Ok(other.await?)
    }

    /// Checks the action's final state and fence, and the kinds of its evidence.
    async fn ends(self, state: &str, fence: i32, noted: &[&str]) -> anyhow::Result<()> {
        let tx = self.store.transaction().await?;
        let row = tx.query_one("SELECT state, fence FROM actions", &[]).await?;
        let (is, under): (String, i32) = (row.get(0), row.get(1));
        ensure!(is == state && under == fence, "{is} under {under}");
        let kinds = "SELECT kind FROM evidence WHERE action IS NOT NULL ORDER BY id";
        let kinds: Vec<String> = tx.query(kinds, &[]).await?.iter().map(|row| row.get(0)).collect();
        ensure!(kinds == noted, "{kinds:?}");
        let waiting = "SELECT coalesce(sum(rows), 0) FROM evidence_pending
                       WHERE EXISTS (SELECT FROM evidence WHERE id = ANY(evidence) AND action IS NOT NULL)";
        let waiting: i64 = tx.query_one(waiting, &[]).await?.get(0);
        ensure!(waiting == noted.len() as i64, "{waiting} rows wait for the ledger");
        drop(tx);
        self.env.close().await
    }

    fn claim(&self, wanted: ClaimRequest) -> JoinHandle<Result<Vec<Claim>, StoreError>> {
        let store = self.store.clone();
        tokio::spawn(async move { claims::claim(&*store.client().await?, 1, &[wanted]).await })
    }

    fn end(&self, fence: i32, state: State) -> JoinHandle<Result<usize, StoreError>> {
        let store = self.store.clone();
        tokio::spawn(async move { Ok(outcomes::end(&store, &[ended(fence, state)]).await?.actions.len()) })
    }
}

fn wanted() -> ClaimRequest {
    let expires_at = Utc::now() + Duration::from_secs(60);
    ClaimRequest { action: ACTION, permit: PERMIT, expires_at, lease: 60.0, repeatable: true }
}

fn ended(fence: i32, state: State) -> Ended {
    let outcome = NewOutcome::new(ACTION, state, Some(b"\"done\"".to_vec()), None);
    let noted = ActionCompleted { state, fence, attempts: 1, error_code: None, result_digest: None };
    Ended { fence, outcome, evidence: Evidence::of(ACTION, Event::ActionCompleted(noted)) }
}

#[tokio::test]
async fn only_one_of_two_concurrent_claims_succeeds() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    let tx = stored.store.transaction().await?;
    let first = claims::claim(&tx, 1, &[wanted()]).await?;
    ensure!(first.iter().map(|claim| claim.fence).eq([1]));
    let second = stored.meanwhile(tx, stored.claim(wanted())).await??;
    ensure!(second.is_empty(), "{second:?}");
    stored.ends("executing", 1, &["action.claimed"]).await
}

#[tokio::test]
async fn a_claim_while_a_hold_is_placed_finds_nothing() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    let tx = stored.store.transaction().await?;
    generation::lock_exclusive(&tx).await?;
    holds::place(&tx, holds::Scope::Everything, "", "because", "olga").await?;
    let claimed = stored.meanwhile(tx, stored.claim(wanted())).await??;
    ensure!(claimed.is_empty(), "{claimed:?}");
    stored.ends("authorised", 0, &[]).await
}

#[tokio::test]
async fn a_claim_while_the_permit_is_revoked_finds_nothing() -> anyhow::Result<()> {
    for change in [
        "UPDATE actions SET state = 'cancelled', ended_at = now()",
        "UPDATE actions SET permit = gen_random_uuid()",
        "UPDATE actions SET generation = 2",
        "UPDATE actions SET expires_at = now() - interval '1 second'",
    ] {
        let stored = Stored::start().await?;
        let tx = stored.store.transaction().await?;
        tx.execute(change, &[]).await?;
        let claimed = stored.meanwhile(tx, stored.claim(wanted())).await??;
        ensure!(claimed.is_empty(), "{change}: {claimed:?}");
        let state = if change.contains("cancelled") { "cancelled" } else { "authorised" };
        // The statement found nothing after it had waited; it must also find nothing on its first look.
        let claimed = stored.claim(wanted()).await??;
        ensure!(claimed.is_empty(), "after {change}: {claimed:?}");
        stored.ends(state, 0, &[]).await.context(change)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_claim_waits_for_a_lock_on_the_action() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    let tx = stored.store.transaction().await?;
    tx.query("SELECT FROM actions FOR UPDATE", &[]).await?;
    let claimed = stored.meanwhile(tx, stored.claim(wanted())).await??;
    ensure!(claimed.len() == 1, "{claimed:?}");
    stored.ends("executing", 1, &["action.claimed"]).await
}

#[tokio::test]
async fn an_expired_or_foreign_permit_claims_nothing() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    let late = ClaimRequest { expires_at: Utc::now() - Duration::from_secs(1), ..wanted() };
    let other = ClaimRequest { permit: PermitId(Uuid::from_u128(3)), ..wanted() };
    for wanted in [late, other] {
        let claimed = stored.claim(wanted).await??;
        ensure!(claimed.is_empty(), "{wanted:?}: {claimed:?}");
    }
    stored.ends("authorised", 0, &[]).await
}

#[tokio::test]
async fn an_interrupted_attempt_is_repeated_once_under_a_new_permit() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    ensure!(stored.claim(ClaimRequest { lease: 0.0, ..wanted() }).await??.len() == 1);
    ensure!(stored.claim(wanted()).await??.is_empty(), "under the permit of the first attempt");
    let tx = stored.store.transaction().await?;
    tx.execute("UPDATE permits SET issued_at = clock_timestamp()", &[]).await?;
    tx.commit().await?;
    ensure!(stored.claim(ClaimRequest { repeatable: false, ..wanted() }).await??.is_empty());
    let tx = stored.store.transaction().await?;
    ensure!(claims::claim(&tx, 1, &[wanted()]).await?.iter().map(|claim| claim.fence).eq([2]));
    let second = stored.meanwhile(tx, stored.claim(wanted())).await??;
    ensure!(second.is_empty(), "{second:?}");
    stored.ends("executing", 2, &["action.claimed", "action.claimed"]).await
}

#[tokio::test]
async fn only_one_of_two_concurrent_results_is_stored() -> anyhow::Result<()> {
    let stored = Stored::start().await?;
    stored.claim(wanted()).await??;
    ensure!(stored.end(2, State::Failed).await?? == 0, "under a claim that is not there");
    let tx = stored.store.transaction().await?;
    outcomes::settle(&tx, &[ended(1, State::InDoubt)], &[]).await?;
    ensure!(stored.meanwhile(tx, stored.end(1, State::Succeeded)).await?? == 0);
    let tx = stored.store.transaction().await?;
    let outcomes = tx.query("SELECT outcome FROM outcomes", &[]).await?;
    ensure!(outcomes.iter().map(|row| row.get::<_, String>(0)).eq(["in_doubt"]));
    drop(tx);
    stored.ends("in_doubt", 1, &["action.claimed", "action.completed"]).await
}

#[tokio::test]
async fn a_claim_is_renewed_only_while_it_is_in_force() -> anyhow::Result<()> {
    for (change, renewed) in [
        ("UPDATE actions SET source = source", true),
        ("UPDATE actions SET lease_until = now() - interval '1 second'", false),
        ("UPDATE actions SET fence = 2", false),
        ("UPDATE active SET generation = 2", false),
        ("UPDATE actions SET expires_at = now() - interval '1 second'", false),
    ] {
        let stored = Stored::start().await?;
        ensure!(stored.claim(wanted()).await??.len() == 1);
        let tx = stored.store.transaction().await?;
        tx.execute(change, &[]).await?;
        let store = stored.store.clone();
        let renewal =
            tokio::spawn(async move { claims::renew(&*store.client().await?, ACTION, 1, 600.0).await });
        // It waits for the lock on the row, and finds what has been committed meanwhile.
        let found = stored.meanwhile(tx, renewal).await??;
        ensure!(found == renewed, "{change}: {found}");
        let longer = "SELECT count(*) FROM actions WHERE lease_until > now() + interval '500 seconds'";
        let tx = stored.store.transaction().await?;
        let longer: i64 = tx.query_one(longer, &[]).await?.get(0);
        ensure!(longer == i64::from(renewed), "{change}");
        drop(tx);
        stored.env.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_whose_claim_was_slow_is_made_and_does_not_fail() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    // The claim's answer comes when its lease no longer covers an attempt.
    let tx = gate.system.store()?.transaction().await?;
    tx.batch_execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_sleep(6); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE UPDATE ON actions FOR EACH ROW
         WHEN (OLD.state = 'authorised' AND NEW.state = 'executing') EXECUTE FUNCTION slow();",
    )
    .await?;
    tx.commit().await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("letter", "send_letter", json!({})).await?;
    expect(&mut agent, "letter", Outcome::Succeeded).await?;
    ensure!(gate.tools.calls() == 1);
    gate.close().await
}
