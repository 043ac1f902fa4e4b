//! The shape of what `--json` prints: programs rely on it.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use countersign_core::action::Outcome;
use countersign_core::message::{Decision, DecisionData, Finding, FindingData};
use countersign_testkit::clients::{decision, finding};
use countersign_tests::{Gate, LIMIT, expect, folder};
use expect_test::expect_file;
use serde_json::{Map, Value, json};

/// Names of types in place of values; an array has the shape of its elements together.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(all) => json!([all.iter().map(shape).fold(Value::Null, merged)]),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
    }
}

/// The shape of values that have either shape: members are merged; what differs otherwise are alternatives.
fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Null, other) | (other, Value::Null) => other,
        (Value::Object(mut one), Value::Object(other))
            if !one.contains_key(EITHER) && !other.contains_key(EITHER) =>
        {
            for (name, shape) in other {
                let before = one.remove(&name).unwrap_or_default();
                one.insert(name, merged(before, shape));
            }
            one.into()
        }
        (Value::Array(one), Value::Array(other)) => {
            json!([one.into_iter().chain(other).fold(Value::Null, merged)])
        }
        (one, other) if one == other => one,
        (one, other) => {
            let mut all = alternatives(one);
            for shape in alternatives(other) {
                let same = |known: &&mut Value| {
                    **known == shape
                        || known.is_object() && shape.is_object()
                        || known.is_array() && shape.is_array()
                };
                match all.iter_mut().find(same) {
                    Some(known) => *known = merged(known.take(), shape),
                    None => all.push(shape),
                }
            }
            all.sort_by_key(Value::to_string);
            json!({EITHER: all})
        }
    }
}

/// The member that lists alternatives, as in JSON Schema.
const EITHER: &str = "anyOf";

fn alternatives(shape: Value) -> Vec<Value> {
    match shape {
        Value::Object(mut members) if members.contains_key(EITHER) => match members.remove(EITHER) {
            Some(Value::Array(all)) => all,
            _ => Vec::new(),
        },
        shape => vec![shape],
    }
}

/// Actions, decisions and findings for the commands to print.
async fn scene(gate: &Gate) -> anyhow::Result<()> {
    let mut agent = gate.agent("one").await?;
    // Before any feedback, and not audited.
    agent.propose("first", "few", json!({})).await?;
    expect(&mut agent, "first", Outcome::Succeeded).await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;
    agent.propose("bad", "move_money", json!({"amount": "500"})).await?;
    sam.decides(&requests.next().await?, Decision::Reject, Some("not ordered")).await?;
    agent.propose("much", "move_money", json!({"amount": "900"})).await?;
    let asked = requests.next().await?;
    let arguments = Some(json!({"amount": "300"}));
    sam.submit(&[DecisionData { arguments, ..decision(&asked, Decision::Edit, Some("too much")) }]).await?;
    gate.reviewer("mara").await?.decides(&requests.next().await?, Decision::Approve, None).await?;
    agent.propose("no", "forbidden", json!({})).await?;
    agent.propose("record", "write_record", json!({"n": 1})).await?;
    agent.propose("open", "move_money", json!({"amount": "700"})).await?;
    agent.propose("record", "write_record", json!({"n": 2})).await?;
    gate.reaches("SELECT count(*) FROM quarantine", 1).await?;
    gate.reaches("SELECT count(*) FROM approvals WHERE state = 'open'", 1).await?;
    gate.reaches("SELECT count(*) FROM audits", 1).await?;
    let _auditor = gate
        .auditor("ada", |request| {
            let correction = Some(json!({"arguments": {"n": 2}}));
            let wrong = finding(request, Finding::Wrong, Some("the next one was meant"));
            Some(FindingData { correction, ..wrong })
        })
        .await?;
    gate.reaches("SELECT count(*) FROM sampling WHERE executed", 3).await?;
    gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", 1).await
}

#[tokio::test]
async fn what_commands_print_as_json_has_the_shape_that_is_documented() -> anyhow::Result<()> {
    // Draws by chance would give other shapes: only what the policy allows is audited, and always.
    let config = folder("audit: {rate: 0.1,", "audit: {rate: 0.0,")?;
    let policy = config.path().join("policy.yaml");
    let text = std::fs::read_to_string(&policy)?;
    let (before, after) =
        ("verdict: allow\n    audit: {rate: 0.0,", "verdict: allow\n    audit: {rate: 1.0,");
    ensure!(text.contains(before), "{text}");
    std::fs::write(&policy, text.replace(before, after))?;
    let dir = config.path().display().to_string();
    // Sam edits, so Mara approves.
    let people = config.path().join("directory.yaml");
    let text = std::fs::read_to_string(&people)?.replace(", owner: mara}", "}");
    std::fs::write(&people, text)?;
    let action = config.path().join("action.json");
    std::fs::write(
        &action,
        json!({"agent": {"id": "one"}, "tool": "write_record", "arguments": {"n": 1}}).to_string(),
    )?;
    let cases = "cases:\n  - {name: a record, action: {tool: write_record, arguments: {n: 1}, agent: {id: one}}, expect: {verdict: allow, rule: allowed}}\n";
    std::fs::write(config.path().join("policy_test.yaml"), cases)?;
    let gate = Gate::configured(config.path()).await?;
    scene(&gate).await?;
    // Everything is in the ledger before it is verified.
    countersign_testkit::wait::eventually("evidence is recorded", LIMIT, async || {
        (gate.count("SELECT count(*) FROM evidence_pending").await.ok()? == 0).then_some(())
    })
    .await?;
    let (action, key) = (action.display().to_string(), gate.system.ledger_key());
    let key = key.display().to_string();
    let commands: Vec<Vec<&str>> = vec![
        vec!["policy", "check", &dir],
        vec!["policy", "explain", "--policy", &dir, &action],
        vec!["policy", "test", &dir],
        vec!["apply", &dir, "--operator", "olga"],
        vec!["approvals", "list"],
        vec!["audits", "list", "--state", "all"],
        vec!["audits", "prove"],
        vec!["actions", "list"],
        vec!["actions", "show", "much"],
        vec!["actions", "show", "record"],
        vec!["switching", "list"],
        vec!["remediations", "list"],
        vec!["quarantine", "list"],
        vec!["quarantine", "show", "1"],
        vec!["report"],
        vec!["ledger", "verify", "--key", &key],
        vec!["ledger", "key", "--key", &key, "--origin", "countersign.invalid/ledger"],
        vec!["hold", "--tool", "send_letter", "--operator", "olga", "--reason", "duplicates"],
        vec!["hold", "list"],
        vec!["hold", "release", "1", "--operator", "omar"],
        vec!["legal-hold", "place", "--subject", "mia", "--reason", "case 7", "--operator", "omar"],
        vec!["legal-hold", "list"],
        vec!["legal-hold", "release", "1", "--operator", "olga"],
        vec!["erase", "--subject", "nobody", "--operator", "olga"],
    ];
    let mut shapes: BTreeMap<String, Value> = BTreeMap::new();
    for command in commands {
        let (text, done) = gate.cli(&[command.as_slice(), &["--json"]].concat()).await?;
        ensure!(done, "{command:?}: {text}");
        let words = command.into_iter().take(2);
        let name: Vec<&str> = words.filter(|word| !word.contains('/') && !word.starts_with("--")).collect();
        let value: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let known = shapes.remove(&name.join(" ")).unwrap_or_default();
        shapes.insert(name.join(" "), merged(known, shape(&value)));
    }
    let shapes: Map<String, Value> = shapes.into_iter().collect();
    // Written again with UPDATE_EXPECT=1.
    expect_file!["../../fixtures/json.json"].assert_eq(&format!("{:#}\n", Value::from(shapes)));
    gate.close().await
}
