//! Holds and new generations: operators' changes apply to all workers at once.

use anyhow::ensure;
use countersign_core::action::Outcome;
use countersign_testkit::{clients::proposal, tools::Slow, wait::eventually};
use countersign_tests::{AMPLE, Gate, LIMIT, all_succeed, config, expect, folder, willing, with_quotas};
use serde_json::{Value, json};

#[tokio::test]
async fn no_claim_starts_after_a_hold_has_returned_and_everything_resumes_after_its_release()
-> anyhow::Result<()> {
    const ACTIONS: usize = 2_000;
    let config = with_quotas(AMPLE)?;
    let gate = Gate::configured(config.path()).await?;
    let mut agent = gate.agent("one").await?;
    let events: Vec<Value> =
        (0..ACTIONS).map(|n| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n}))).collect();
    agent.send(&events).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE started_at IS NOT NULL", 50).await?;
    let (output, ok) = gate.cli(&["hold", "--operator", "olga", "--reason", "stop everything"]).await?;
    ensure!(ok, "{output}");
    let started = "SELECT count(*) FROM actions WHERE started_at IS NOT NULL";
    let at_return = gate.count(started).await?;
    // Everything under way is held or has succeeded.
    gate.reaches("SELECT count(*) FROM actions WHERE state IN ('held', 'succeeded')", ACTIONS as i64).await?;
    ensure!(gate.count(started).await? == at_return, "a claim started after the hold had returned");
    ensure!(at_return < ACTIONS as i64, "the hold came too late to show anything");
    // In the database's order, no claim's evidence comes after the hold's.
    let later = "SELECT count(*) FROM evidence WHERE kind = 'action.claimed'
                 AND (body->>'generation')::bigint >= (SELECT generation FROM holds)";
    ensure!(gate.count(later).await? == 0);

    let (output, ok) = gate.cli(&["hold", "release", "1", "--operator", "olga"]).await?;
    ensure!(!ok && output.contains("another operator"), "{output}");
    let (output, ok) = gate.cli(&["hold", "release", "1", "--operator", "omar"]).await?;
    ensure!(ok, "{output}");
    all_succeed(&mut agent, ACTIONS).await?;
    ensure!(gate.tools.effects().len() == ACTIONS);
    gate.close().await
}

#[tokio::test]
async fn a_new_policy_applies_to_all_workers_at_once_and_a_broken_one_changes_nothing() -> anyhow::Result<()>
{
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("before", "send_letter", json!({})).await?;
    expect(&mut agent, "before", Outcome::Succeeded).await?;

    let broken = folder("verdict: allow", "verdict: perhaps")?;
    let (output, ok) =
        gate.cli(&["apply", &broken.path().display().to_string(), "--operator", "olga"]).await?;
    ensure!(!ok && output.contains("policy.yaml:"), "{output}");
    let (output, ok) = gate.cli(&["apply", &config().display().to_string(), "--operator", "mallory"]).await?;
    ensure!(!ok && output.contains("is not an operator"), "{output}");
    ensure!(gate.count("SELECT generation FROM active").await? == 1);

    let stricter = folder("\"send_letter\", ", "")?;
    let (output, ok) =
        gate.cli(&["apply", &stricter.path().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok && output.contains("generation 2"), "{output}");
    agent.propose("after", "send_letter", json!({})).await?;
    let outcome = expect(&mut agent, "after", Outcome::Denied).await?;
    ensure!(outcome.rule == "default");
    gate.close().await
}

#[tokio::test]
async fn a_policy_change_while_actions_flow_loses_none_and_executes_none_twice() -> anyhow::Result<()> {
    const ACTIONS: usize = 1_000;
    let gate = Gate::start().await?;
    let mut agent = gate.agent("one").await?;
    let events: Vec<Value> =
        (0..ACTIONS).map(|n| proposal("one", &format!("n-{n}"), "write_record", json!({"n": n}))).collect();
    agent.send(&events).await?;
    let next = folder("version: \"test-1\"", "version: \"test-2\"")?;
    let (output, ok) = gate.cli(&["apply", &next.path().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    all_succeed(&mut agent, ACTIONS).await?;
    ensure!(gate.tools.effects().len() == ACTIONS);
    // Every claim was made under the generation of the action's evaluation.
    let stale =
        "SELECT count(*) FROM actions a JOIN permits p ON p.id = a.permit WHERE p.generation <> a.generation";
    ensure!(gate.count(stale).await? == 0);
    gate.close().await
}

#[tokio::test]
async fn an_interrupted_call_is_not_repeated_under_a_policy_that_denies_it() -> anyhow::Result<()> {
    let mut gate = Gate::acting(Slow(willing, LIMIT)).await?;
    let mut agent = gate.agent("one").await?;
    agent.propose("a-1", "write_record", json!({"n": 1})).await?;
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'executing'", 1).await?;
    eventually("the tool is called", LIMIT, async || (gate.tools.calls() == 1).then_some(())).await?;
    gate.system.kill("executor")?;
    let stricter = folder("\"write_record\", ", "")?;
    let (output, ok) =
        gate.cli(&["apply", &stricter.path().display().to_string(), "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    gate.system.start("executor", "executor")?;
    let outcome = expect(&mut agent, "a-1", Outcome::InDoubt).await?;
    ensure!(outcome.error.is_some_and(|error| error.code == "interrupted"));
    ensure!(gate.tools.calls() == 1, "it was called again");
    gate.close().await
}

#[tokio::test]
async fn a_hold_on_an_unknown_name_is_refused() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let hold = async |scope: &str, name: &str| {
        gate.cli(&["hold", scope, name, "--operator", "olga", "--reason", "test"]).await
    };
    for (scope, name) in [("--tool", "write_recrod"), ("--agent", "three"), ("--rule", "larger")] {
        let (output, ok) = hold(scope, name).await?;
        ensure!(!ok && output.contains(name), "{output}");
    }
    for (scope, name) in [("--tool", "write_record"), ("--agent", "two"), ("--rule", "large")] {
        let (output, ok) = hold(scope, name).await?;
        ensure!(ok, "{output}");
    }
    gate.close().await
}

#[tokio::test]
async fn an_operator_is_whoever_has_logged_in_to_the_database() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let folder = config().display().to_string();
    // Omar's login and Olga's name.
    let nothing = uuid::Uuid::nil().to_string();
    let commands: [&[&str]; 9] = [
        &["hold", "--reason", "x"],
        &["hold", "release", "1"],
        &["apply", &folder],
        &["switching", "pin", "x", "--reason", "x"],
        &["switching", "reset", "x", "--reason", "x"],
        &["erase", "--subject", "mia"],
        &["legal-hold", "place", "--subject", "mia", "--reason", "x"],
        &["legal-hold", "release", "1"],
        &["remediations", "close", &nothing, "--evidence", "x"],
    ];
    for command in commands {
        let (output, ok) = gate.cli_of("omar", &[command, &["--operator", "olga"]].concat()).await?;
        ensure!(
            !ok && output.contains("as \"operator_olga\", and this login is \"operator_omar\""),
            "{output}"
        );
        // The database's owner is nobody's either, with or without a name.
        let (output, ok) = gate.cli_as(&gate.system.place.amqp_url, command).await?;
        ensure!(!ok && output.contains("is no operator's"), "{output}");
    }
    let hold = ["hold", "--reason", "x", "--operator"];
    for (operator, why) in [("otis", "cannot act"), ("sam", "is not an operator")] {
        let (output, ok) = gate.cli_of("omar", &[&hold[..], &[operator]].concat()).await?;
        ensure!(!ok && output.contains(why), "{output}");
    }
    ensure!(
        gate.count("SELECT (SELECT count(*) FROM holds) + (SELECT count(*) FROM legal_holds)").await? == 0
    );
    ensure!(gate.count("SELECT generation FROM active").await? == 1);
    // A login cannot become another.
    let (omar, connection) =
        tokio_postgres::connect(&gate.system.operator_url("omar")?, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    for sql in ["SET SESSION AUTHORIZATION operator_olga", "SET ROLE operator_olga"] {
        ensure!(omar.batch_execute(sql).await.is_err(), "{sql}");
    }
    drop(omar);
    connection.await??;
    // The login is enough.
    let (output, ok) = gate.cli_of("omar", &hold[..3]).await?;
    ensure!(ok, "{output}");
    ensure!(gate.count("SELECT count(*) FROM holds WHERE held_by = 'omar'").await? == 1);
    gate.close().await
}

#[tokio::test]
async fn one_person_under_two_ids_does_not_release_their_own_hold() -> anyhow::Result<()> {
    let config = folder("{id: omar,", "{id: omar, person: olga,")?;
    let gate = Gate::configured(config.path()).await?;
    let (output, ok) = gate.cli(&["hold", "--operator", "olga", "--reason", "stop"]).await?;
    ensure!(ok, "{output}");
    let (output, ok) = gate.cli(&["hold", "release", "1", "--operator", "omar"]).await?;
    ensure!(!ok && output.contains("another operator"), "{output}");
    gate.close().await
}

#[tokio::test]
async fn the_owner_applies_the_first_folder_and_operators_all_others() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let path = config().display().to_string();
    let owner = async |operator: &[&str]| {
        let arguments = [&["apply", path.as_str()], operator].concat();
        gate.cli_as(&gate.system.place.amqp_url, &arguments).await
    };
    let (output, ok) = owner(&["--operator", "olga"]).await?;
    ensure!(!ok && output.contains("\"operator_olga\""), "{output}");
    // As before the first.
    ensure!(
        gate.count("WITH gone AS (DELETE FROM active RETURNING 1) SELECT count(*) FROM gone").await? == 1
    );
    let (output, ok) = gate.cli_of("olga", &["apply", &path]).await?;
    ensure!(!ok && output.contains("applied by the database's owner"), "{output}");
    for (operator, why) in [
        (&[][..], "--operator"),
        (&["--operator", "mallory"], "is not an operator"),
        (&["--operator", "otis"], "has no db_user"),
    ] {
        let (output, ok) = owner(operator).await?;
        ensure!(!ok && output.contains(why), "{output}");
    }
    let (output, ok) = owner(&["--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    let (output, ok) = owner(&["--operator", "olga"]).await?;
    ensure!(!ok && output.contains("\"operator_olga\""), "{output}");
    let (output, ok) = gate.cli_of("omar", &["apply", &path]).await?;
    ensure!(ok, "{output}");
    ensure!(gate.count("SELECT count(*) FROM configs WHERE applied_by = 'omar'").await? == 1);
    gate.close().await
}
