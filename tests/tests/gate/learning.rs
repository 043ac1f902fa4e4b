//! What can be learnt from human feedback: training data, and the report's section about it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use countersign_broker::{publisher::Publisher, reader::Reader};
use countersign_core::{
    ids::AuditId,
    message::{AuditRequest, Decision, DecisionData, FeedbackData, FeedbackKind, Finding, FindingData},
};
use countersign_testkit::clients::{decision, finding, found, proposal};
use countersign_tests::Gate;
use serde_json::{Value, json};

/// Records written; about half are audited, and those with an even number are wrong.
const RECORDS: usize = 40;
const CUSTOMERS: usize = 5;

/// The suites' folder, changed so that half of the allowed and all rejected actions are audited, each by two of three
/// auditors.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let dir = countersign_tests::folder("rate: 0.1", "rate: 0.0")?;
    let change = |name: &str, from: &str, to: &str| -> anyhow::Result<()> {
        let path = dir.path().join(name);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{from:?} is not in {name}");
        Ok(std::fs::write(&path, text.replace(from, to))?)
    };
    let allowed = "\"pay\"]\n    verdict: allow\n    audit: {rate: ";
    change("policy.yaml", &format!("{allowed}0.0"), &format!("{allowed}0.5"))?;
    let audits = "audits: {not_executed: 1.0, twice: 1.0}";
    change("policy.yaml", "version: \"test-1\"\n", &format!("version: \"test-1\"\n{audits}\n"))?;
    // Sam edits, so Mara approves.
    change("directory.yaml", ", owner: mara}", "}")?;
    let ada = "  - {id: ada, amqp_user: auditor-ada, groups: [auditors]}\n";
    change(
        "directory.yaml",
        ada,
        &format!("{ada}{}{}", ada.replace("ada", "abe"), ada.replace("ada", "ava")),
    )?;
    Ok(dir)
}

fn customer(n: usize) -> String {
    format!("customer-{}", n % CUSTOMERS)
}

/// A proposal with a reason, a task and a customer.
fn stated(id: &str, tool: &str, arguments: Value, n: usize) -> Value {
    let mut event = proposal("one", id, tool, arguments);
    event["data"]["task"] = json!({"ticket": n});
    event["data"]["reason"] = "the customer asked for it".into();
    event["data"]["agent"]["on_behalf_of"] = customer(n).into();
    event
}

/// A rejection, an edit that is then approved, an approval, and records that policy allows.
async fn decide(gate: &Gate) -> anyhow::Result<()> {
    let agent = gate.agent("one").await?;
    let mut requests = gate.requests("sam", "approvers").await?;
    let sam = gate.reviewer("sam").await?;

    agent.send(&[stated("bad", "move_money", json!({"amount": "500"}), 0)]).await?;
    sam.decides(&requests.next().await?, Decision::Reject, Some("not ordered")).await?;
    // Everything below comes after the first feedback.
    gate.reaches("SELECT count(*) FROM actions WHERE state = 'rejected'", 1).await?;

    agent.send(&[stated("much", "move_money", json!({"amount": "900"}), 1)]).await?;
    let asked = requests.next().await?;
    let arguments = Some(json!({"amount": "300"}));
    sam.submit(&[DecisionData { arguments, ..decision(&asked, Decision::Edit, Some("too much")) }]).await?;
    gate.reviewer("mara").await?.decides(&requests.next().await?, Decision::Approve, None).await?;

    agent.send(&[stated("fine", "move_money", json!({"amount": "200"}), 2)]).await?;
    sam.decides(&requests.next().await?, Decision::Approve, Some("as ordered")).await?;

    let record = |n: usize| stated(&format!("r-{n}"), "write_record", json!({"n": n}), n);
    agent.send(&(0..RECORDS).map(record).collect::<Vec<_>>()).await?;
    // Rejected actions have a draw as well.
    gate.reaches("SELECT count(*) FROM sampling", RECORDS as i64 + 3).await
}

/// The auditors' default finding: even numbers are wrong, and the rejection was right.
fn judge(request: &AuditRequest) -> anyhow::Result<FindingData> {
    let arguments: Value = serde_json::from_str(request.action.arguments.get())?;
    let Some(n) = arguments["n"].as_u64().filter(|n| n % 2 == 0) else {
        return Ok(finding(request, Finding::Correct, None));
    };
    let correction = Some(json!({"arguments": {"n": n + 1}}));
    Ok(FindingData { correction, ..finding(request, Finding::Wrong, Some("the odd one was meant")) })
}

/// Ada and abe judge every audit. Only abe finds that the rejection was wrong, so ava is asked as well.
async fn audit(gate: &Gate) -> anyhow::Result<()> {
    let url = gate.system.url("auditor-ada")?;
    let mut requests = Reader::open(url, "test", "countersign.audits.auditors").await?;
    let submit = async |who: &str, data: FindingData| -> anyhow::Result<()> {
        let publisher = Publisher::connect(gate.system.url(&format!("auditor-{who}"))?, who).await?;
        Ok(publisher.publish(&[found(&gate.system.signer(who, who)?, &[data])]).await?)
    };
    let mut seen: Vec<AuditId> = Vec::new();
    while gate.count("SELECT count(*) FROM audits WHERE state = 'open'").await? > 0 {
        let Some(event) = requests.next::<AuditRequest>(Duration::from_millis(500)).await? else { continue };
        let request = event.data;
        if seen.contains(&request.audit) {
            continue;
        }
        seen.push(request.audit);
        submit("ada", judge(&request)?).await?;
        if request.action.id != "bad" {
            submit("abe", judge(&request)?).await?;
            continue;
        }
        let of = format!("SELECT count(*) FROM findings WHERE audit = '{}'", request.audit);
        gate.reaches(&of, 1).await?;
        submit("abe", finding(&request, Finding::Wrong, Some("it was ordered"))).await?;
        gate.reaches(&of, 2).await?;
        submit("ava", judge(&request)?).await?;
    }
    Ok(())
}

async fn finding_event(gate: &Gate, finding: &str) -> anyhow::Result<usize> {
    let sql = format!(
        "SELECT count(*) FROM audits u JOIN sampling s USING (action) WHERE s.executed AND u.finding = '{finding}'"
    );
    Ok(usize::try_from(gate.count(&sql).await?)?)
}

/// The JSON lines of an export, and the rest of its output.
async fn export(gate: &Gate, format: &str, more: &[&str]) -> anyhow::Result<(Vec<Value>, String)> {
    let arguments = [&["export", "feedback", "--test", "0.5", "--format", format], more].concat();
    let (output, ok) = gate.cli(&arguments).await?;
    ensure!(ok, "{output}");
    let (lines, summary): (Vec<&str>, Vec<&str>) = output.lines().partition(|line| line.starts_with('{'));
    let lines: Result<Vec<Value>, _> = lines.into_iter().map(serde_json::from_str).collect();
    Ok((lines?, summary.join("\n")))
}

/// The tool call in an assistant's message.
fn call(messages: &Value) -> anyhow::Result<Value> {
    ensure!(messages[0]["role"] == "assistant" && messages[1].is_null(), "{messages}");
    Ok(serde_json::from_str(messages[0]["content"].as_str().context("text")?)?)
}

fn of<'a>(lines: &'a [Value], source: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["source"] == source).collect()
}

/// Checks the metadata of every line of training data.
fn check(lines: &[Value], sides: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for line in lines {
        let id = line["action"]["id"].as_str().context("an id")?;
        let customer = match id.strip_prefix("r-") {
            Some(n) => customer(n.parse()?),
            None => {
                customer(["bad", "much", "fine"].iter().position(|name| *name == id).context("an action")?)
            }
        };
        let side = line["split"].as_str().context("a side")?.to_owned();
        ensure!(*sides.entry(customer).or_insert_with(|| side.clone()) == side, "{line}");
        ensure!(line["model"] == "gpt-4o" && line["agent_version"] == "1.4.2", "{line}");
        ensure!(line["policy_version"] == "test-1", "{line}");
        let weight = if id.starts_with("r-") { 2.0 } else { 1.0 };
        ensure!(line["weight"] == weight, "{line}");
        if let Some(prompt) = line.get("prompt") {
            let user = prompt[1]["content"].as_str().context("text")?;
            ensure!(prompt[0]["role"] == "system" && prompt[1]["role"] == "user", "{line}");
            ensure!(
                user.starts_with("Task: {\"ticket\":") && user.contains("the customer asked for it"),
                "{line}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn human_feedback_becomes_training_data_and_is_measured() -> anyhow::Result<()> {
    let config = folder()?;
    let gate = Gate::configured(config.path()).await?;
    decide(&gate).await?;
    audit(&gate).await?;
    let (wrong, correct) = (finding_event(&gate, "wrong").await?, finding_event(&gate, "correct").await?);
    ensure!(wrong > 0 && correct > 0, "{wrong} {correct}");
    training_data(&gate, wrong, correct).await?;
    report(&gate, wrong, correct).await?;

    // Erased content is left out, and the summary counts it.
    let erased = "WITH erased AS (UPDATE payloads p SET content = NULL FROM actions a
                                  WHERE a.id = p.action AND a.event_id = 'much' RETURNING 1)
                  SELECT count(*) FROM erased";
    ensure!(gate.count(erased).await? == 1);
    let (lines, summary) = export(&gate, "dpo", &[]).await?;
    ensure!(lines.len() == wrong && summary.contains("1 actions left out"), "{summary}");
    gate.close().await
}

async fn training_data(gate: &Gate, wrong: usize, correct: usize) -> anyhow::Result<()> {
    let mut sides = BTreeMap::new();
    let (dpo, summary) = export(gate, "dpo", &[]).await?;
    check(&dpo, &mut sides)?;
    ensure!(dpo.len() == wrong + 1 && of(&dpo, "correction").len() == wrong, "{summary}");
    for line in of(&dpo, "correction") {
        let (chosen, rejected) = (call(&line["chosen"])?, call(&line["rejected"])?);
        let n = |call: &Value| call["arguments"]["n"].as_u64().unwrap_or_default();
        ensure!(n(&chosen) == n(&rejected) + 1 && chosen["tool"] == "write_record", "{line}");
        ensure!(line["severity"] == "major" && line["rationale"] == "the odd one was meant", "{line}");
    }
    let edit = *of(&dpo, "edit").first().context("the edit")?;
    ensure!(call(&edit["chosen"])?["arguments"]["amount"] == "300", "{edit}");
    ensure!(call(&edit["rejected"])?["arguments"]["amount"] == "900", "{edit}");
    ensure!(edit["rationale"] == "too much" && edit["rule"] == "large", "{edit}");

    let (kto, summary) = export(gate, "kto", &[]).await?;
    check(&kto, &mut sides)?;
    let labelled = |label: bool| kto.iter().filter(|line| line["label"] == label).count();
    // Corrections and the edit give pairs; the approval and the rejection give one line each.
    ensure!(labelled(true) == wrong + correct + 2 && labelled(false) == wrong + 2, "{summary}");
    let rejection = *of(&kto, "rejection").first().context("the rejection")?;
    ensure!(rejection["label"] == false && rejection["rationale"] == "not ordered", "{rejection}");
    ensure!(call(&rejection["completion"])? == json!({"tool": "move_money", "arguments": {"amount": "500"}}));
    ensure!(of(&kto, "judged_correct").len() == correct && of(&kto, "approval").len() == 1, "{summary}");

    let (sft, summary) = export(gate, "sft", &[]).await?;
    check(&sft, &mut sides)?;
    ensure!(
        sft.len() == wrong + correct + 2 && sft.iter().all(|line| line.get("label").is_none()),
        "{summary}"
    );
    let approval = *of(&sft, "approval").first().context("the approval")?;
    ensure!(call(&approval["completion"])?["arguments"]["amount"] == "200", "{approval}");

    let (plain, summary) = export(gate, "jsonl", &[]).await?;
    check(&plain, &mut sides)?;
    ensure!(plain.len() == wrong + 2, "{summary}");
    for line in &plain {
        let data: FeedbackData = serde_json::from_value(line.clone())?;
        ensure!((data.kind == FeedbackKind::Correction) == (line["pi"] == 0.5), "{line}");
    }
    ensure!(sides.len() == CUSTOMERS, "{sides:?}");
    files(gate, &kto).await
}

/// `--out` writes the same lines into two files, each customer's into one of them.
async fn files(gate: &Gate, all: &[Value]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("data").display().to_string();
    let (lines, summary) = export(gate, "kto", &["--out", &path]).await?;
    ensure!(lines.is_empty() && summary.contains(&format!("{} lines", all.len())), "{summary}");
    for side in ["train", "test"] {
        let text = std::fs::read_to_string(dir.path().join(format!("data/{side}.jsonl")))?;
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let here: Vec<Value> = all.iter().filter(|line| line["split"] == side).cloned().collect();
        ensure!(lines? == here, "{side}");
    }
    // Without a customer the split is by agent, and there is one agent.
    let (lines, _) = export(gate, "kto", &["--customer", "/data/nobody"]).await?;
    ensure!(lines.iter().all(|line| line["split"] == lines[0]["split"]));
    let (output, ok) = gate.cli(&["export", "feedback", "--format", "kto", "--customer", "nobody"]).await?;
    ensure!(!ok && output.contains("JSON pointer"), "{output}");
    let (lines, summary) = export(gate, "kto", &["--to", "1h"]).await?;
    ensure!(lines.is_empty() && summary.contains("0 lines of 0 actions"), "{summary}");
    Ok(())
}

/// Each audit of a record stands for as many records.
fn estimated(report: &Value) -> anyhow::Result<()> {
    let [all, records] = [&report["rates"][0], &report["rates"][1]];
    let number = |member: &str| records[member].as_f64().with_context(|| format!("{member} in {records}"));
    let errors = RECORDS as f64 * number("wrong")? / number("judged")?;
    ensure!(errors > 0.0 && (number("errors")? - errors).abs() < 1e-9, "{records}");
    ensure!(report["learning"]["correction"]["errors"] == all["errors"], "{all}");
    Ok(())
}

async fn report(gate: &Gate, wrong: usize, correct: usize) -> anyhow::Result<()> {
    // No tool can undo the errors found; one remediation is closed by hand.
    let (output, _) = gate.cli(&["remediations", "list", "--json"]).await?;
    let tasks: Vec<Value> = serde_json::from_str(&output)?;
    ensure!(tasks.len() == wrong, "{output}");
    let task = tasks[0]["id"].as_str().context("an id")?;
    let (output, ok) =
        gate.cli(&["remediations", "close", task, "--evidence", "letter 7", "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    // A sampling plan that changed, and a group beyond its capacity.
    let inserted = "WITH changed_plan AS (INSERT INTO sampling_plans (stratum, family, slot, rule, plan_state, switching_state, since)
                                   VALUES ('a/b/c@1', 'a/b/c@', 1, 'a', 'discontinued', '{}', 1) RETURNING stratum),
                    moved AS (INSERT INTO plan_changes (stratum, was, plan_state, reason, generation, executed, audited, wrong)
                              SELECT stratum, 'normal', 'discontinued', 'too many errors', 1, 70, 30, 4 FROM changed_plan),
                    less AS (INSERT INTO epoch_groups (epoch, group_name, demand, capacity, remaining)
                             SELECT epoch, 'treasury', 10, 5, 0.5 FROM epochs LIMIT 1 RETURNING 1)
                    SELECT count(*) FROM less";
    ensure!(gate.count(inserted).await? == 1);

    let (output, ok) = gate.cli(&["report", "--json"]).await?;
    ensure!(ok, "{output}");
    let report: Value = serde_json::from_str(&output)?;
    let learning = &report["learning"];
    let number = |value: &Value| value.as_f64().with_context(|| format!("a number, not {value}: {output}"));
    let correction = &learning["correction"];
    ensure!(correction["corrected"] == 1 && correction["reference"] == json!([0.7, 0.9]), "{output}");
    estimated(&report)?;
    let errors = number(&correction["errors"])?;
    let share = number(&correction["share"])?;
    ensure!((share - 1.0 / errors).abs() < 1e-12, "{output}");
    ensure!(number(&correction["lower"])? <= share && share <= number(&correction["upper"])?, "{output}");

    let prevented = json!({"rejections": 1, "edits": 1, "rejections_audited": 1, "rejections_upheld": 1});
    ensure!(learning["prevented"] == prevented, "{output}");
    let agreement = &learning["agreement"];
    ensure!(agreement["pairs"] == wrong + correct + 1 && agreement["one_wrong"] == 1, "{output}");
    ensure!(agreement["both_wrong"] == wrong && agreement["both_correct"] == correct, "{output}");
    let positive = 2.0 * wrong as f64 / (2.0 * wrong as f64 + 1.0);
    ensure!((number(&agreement["positive"])? - positive).abs() < 1e-12, "{output}");

    let [version] = learning["versions"].as_array().context("versions")?.as_slice() else {
        anyhow::bail!("{output}")
    };
    ensure!(version["agent"] == "one" && version["version"] == "1.4.2", "{output}");
    // The first feedback was the rejection, before anything was executed, and moves no half.
    ensure!(version["first_feedback"].is_string(), "{output}");
    let halves = |member: &str| [&version["earlier"], &version["later"]].map(|half| half[member].as_u64());
    let sum = |member: &str| halves(member).iter().flatten().sum::<u64>();
    ensure!(sum("executed") == RECORDS as u64 + 2 && sum("wrong") == wrong as u64, "{output}");
    let [earlier, later] = halves("executed");
    ensure!(earlier.zip(later).is_some_and(|(earlier, later)| earlier - later <= 1), "{output}");
    ensure!(learning["remediations"] == json!({"open": wrong - 1, "overdue": 0}), "{output}");
    ensure!(learning["plan_changes"][0]["reason"] == "too many errors", "{output}");
    ensure!(
        learning["lowered"][0]["group"] == "treasury" && learning["lowered"][0]["epochs"] == 1,
        "{output}"
    );
    printed(gate, wrong).await
}

/// Checks the report as text.
async fn printed(gate: &Gate, wrong: usize) -> anyhow::Result<()> {
    let (output, ok) = gate.cli(&["report"]).await?;
    ensure!(ok, "{output}");
    let wide = output.lines().find(|line| line.chars().count() > 80);
    ensure!(wide.is_none(), "{wide:?} is wider than a terminal");
    // A sentence may go on in the next line.
    let words = output.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "correction efficacy: ",
        "reference 70-90 %",
        "prevented by reviewers: 1 rejected, 1 edited",
        "of 1 rejections that were audited, 1 were upheld",
        "agreement of auditors: ",
        "versions of agents: the halves",
        "too many errors",
        "remediation tasks: ",
        "groups that could not judge",
    ] {
        ensure!(wrong == 1 || words.contains(part.trim()), "{part:?} is not in:\n{output}");
    }
    Ok(())
}

#[tokio::test]
async fn without_feedback_nothing_is_exported_and_no_section_is_printed() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    for format in ["dpo", "kto", "sft", "jsonl"] {
        let (lines, summary) = export(&gate, format, &[]).await?;
        ensure!(lines.is_empty() && summary.contains("0 lines of 0 actions"), "{summary}");
    }
    let (output, ok) = gate.cli(&["report"]).await?;
    ensure!(ok, "{output}");
    for part in
        ["correction efficacy", "prevented by reviewers", "agreement", "half", "remediation", "groups"]
    {
        ensure!(!output.contains(part), "{part:?} is in:\n{output}");
    }
    gate.close().await
}
