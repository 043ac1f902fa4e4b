//! Gold items: an auditor cannot tell them, nothing follows from them, and they show how auditors do.

mod desk;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use countersign_broker::{publisher::Publisher, reader::Reader};
use countersign_core::message::{AuditRequest, Finding, FindingData, Severity};
use countersign_testkit::{
    clients::{finding, found},
    wait::eventually,
};
use countersign_tests::{LIMIT, evidence::recorded};
use serde_json::{Value, json};

use self::desk::{Desk, EARLY, is_early, is_wrong, truth};

/// Every path to a member of an object, with the kind of what is there.
fn shape(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| shape(value, &format!("{at}/{name}"), into));
        }
        Value::Array(all) => all.iter().for_each(|value| shape(value, &format!("{at}/*"), into)),
        Value::String(_) => drop(into.insert(format!("{at} text"))),
        other => drop(into.insert(format!("{at} {other:?}").split('(').next().unwrap_or_default().into())),
    }
}

fn time(value: &Value) -> anyhow::Result<DateTime<Utc>> {
    Ok(serde_json::from_value(value.clone())?)
}

#[tokio::test]
async fn an_auditor_cannot_tell_a_gold_item_from_an_audit() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.executes("late", 20).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items", 2).await?;
    let requests = desk.requests().await?;
    let items = desk.items("g.state = 'open'").await?;
    ensure!(items.len() >= 2 && requests.len() == items.len() + 20, "{} {}", items.len(), requests.len());
    // No evidence speaks of an item, and nothing in the report.
    for item in &items {
        let named = format!("SELECT count(*) FROM evidence WHERE body::text LIKE '%{item}%'");
        ensure!(desk.gate.count(&named).await? == 0, "{item}");
    }
    ensure!(desk.figures("1h").await?.1 == json!({"auditors": [], "corrected": []}));

    let mut shapes: [BTreeSet<BTreeSet<String>>; 2] = Default::default();
    for event in &requests {
        let data = &event.data;
        let gold = items.contains(data["audit"].as_str().unwrap_or_default());
        let id = data["action"]["id"].as_str().context("an action")?;
        ensure!(gold == id.starts_with("early-"), "{id}");
        let mut paths = BTreeSet::new();
        shape(&serde_json::to_value(event)?, "", &mut paths);
        shapes[usize::from(gold)].insert(paths);
        // The id, the event's time and the time in the id are those of an audit that was opened then.
        let opened = time(&data["opened_at"])?;
        let uuid: uuid::Uuid = event.id.parse()?;
        ensure!(data["audit"] == event.id.as_str() && event.time == Some(opened), "{event:?}");
        let (seconds, _) = uuid.get_timestamp().context("a time")?.to_unix();
        ensure!(uuid.get_version_num() == 7 && (seconds as i64 - opened.timestamp()).abs() <= 2, "{event:?}");
        ensure!(data["reason"] == "sampled", "{data}");
        // It can be undone for as long as it could be when its first audit was opened.
        let until = time(&data["compensation"]["reversible_until"])? - opened;
        ensure!((3_500..=3_600).contains(&until.num_seconds()), "{until} {data}");
        if gold {
            ensure!(Utc::now() - opened < chrono::TimeDelta::minutes(2), "{opened}");
            let mut again = data.clone();
            let first = desk.first.get(id).context("ada has judged it")?;
            again["audit"] = first["audit"].clone();
            again["opened_at"] = first["opened_at"].clone();
            let shifted = time(&again["compensation"]["reversible_until"])? - opened;
            let before = time(&first["compensation"]["reversible_until"])? - time(&first["opened_at"])?;
            ensure!(shifted == before, "{shifted} {before}");
            again["compensation"]["reversible_until"] = first["compensation"]["reversible_until"].clone();
            ensure!(again == *first, "{again}\n{first}");
        }
    }
    ensure!(shapes[0] == shapes[1] && shapes[0].len() == 1, "{shapes:?}");

    // Nor at the command line: one line each, all alike, and not beside the audit that it shows again.
    let list = desk.json(&["audits", "list", "--state", "all", "--limit", "500", "--json"]).await?;
    let list = list.as_array().context("a list")?;
    let open = || list.iter().filter(|audit| audit["state"] == "open");
    ensure!(open().count() == requests.len() && open().all(|audit| audit["reason"] == "sampled"));
    let actions: BTreeSet<&str> = list.iter().filter_map(|audit| audit["event_id"].as_str()).collect();
    ensure!(actions.len() == list.len(), "an action stands there twice");
    let mut shown: [BTreeSet<BTreeSet<String>>; 2] = Default::default();
    for audit in open().take(60) {
        let id = audit["id"].as_str().unwrap_or_default();
        let details = desk.json(&["audits", "show", id, "--json"]).await?;
        let mut paths = BTreeSet::new();
        shape(&details, "", &mut paths);
        shown[usize::from(items.contains(id))].insert(paths);
    }
    ensure!(shown[0] == shown[1] && shown[0].len() == 1, "{shown:?}");
    desk.gate.close().await
}

#[tokio::test]
async fn nothing_follows_from_a_finding_on_a_gold_item_but_a_measure_of_auditors() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    let from = (Utc::now() - chrono::TimeDelta::minutes(10)).to_rfc3339();
    desk.executes("late", 30).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items WHERE known = 'wrong'", 2).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items WHERE known = 'correct'", 1).await?;
    desk.all_gold_is_open().await?;
    let late = desk.ben(|request| (!is_early(request)).then(|| truth(request))).await?;
    desk.gate.reaches("SELECT count(*) FROM audits WHERE state = 'judged'", EARLY as i64 + 30).await?;
    drop(late);
    let before = desk.figures(&from).await?.0;
    let counts = "SELECT jsonb_build_object('actions', (SELECT count(*) FROM actions),
        'outcomes', (SELECT count(*) FROM outcomes), 'compensations', (SELECT count(*) FROM compensations),
        'remediations', (SELECT count(*) FROM remediations), 'findings', (SELECT count(*) FROM findings),
        'evidence', (SELECT count(*) FROM evidence WHERE action IS NOT NULL))::text";
    let stored = async || -> anyhow::Result<String> {
        let store = desk.gate.system.store()?;
        let tx = store.transaction().await?;
        Ok(tx.query_one(counts, &[]).await?.get(0))
    };
    let before_stored = stored().await?;
    let feedback_url = desk.gate.system.url("agent-one")?;
    let mut feedback = Reader::open(feedback_url, "test", "countersign.feedback.one").await?;
    while feedback.next::<Value>(Duration::from_secs(1)).await?.is_some() {}

    judged_at_the_command_line(&desk).await?;
    submitted_twice(&desk).await?;
    // Whatever is found of the others, ben wants it undone where that is offered.
    let early = desk
        .ben(|request| {
            let found = truth(request);
            let compensate = found.finding == Finding::Wrong && request.compensation.is_some();
            is_early(request).then_some(FindingData { compensate, ..found })
        })
        .await?;
    desk.all_gold_is_judged().await?;
    drop(early);
    let asked = "SELECT count(*) FROM gold_findings WHERE compensate";
    ensure!(desk.gate.count(asked).await? >= 1);
    ensure!(feedback.next::<Value>(Duration::from_secs(2)).await?.is_none(), "an agent got feedback");
    ensure!(desk.agent.outcome(Duration::from_millis(500)).await?.is_none(), "an agent got an outcome");
    ensure!(stored().await? == before_stored, "{} {before_stored}", stored().await?);
    ensure!(desk.gate.tools.effects().iter().all(|effect| effect.tool == "write_record"));
    let (after, gold) = desk.figures(&from).await?;
    ensure!(after == before, "{after}\n{before}");

    let judged = desk.gate.count("SELECT count(*) FROM gold_items WHERE state = 'judged'").await?;
    they_measure_the_auditors(&gold, judged, &after)?;
    let (output, ok) = desk.gate.cli(&["report", "--from", &from]).await?;
    ensure!(ok && output.contains("sensitivity") && output.contains("  cleo"), "{output}");
    the_ledger_tells_afterwards(&desk, judged).await?;
    desk.gate.close().await
}

/// One item is judged like an audit, and answered like one.
async fn judged_at_the_command_line(desk: &Desk) -> anyhow::Result<()> {
    let item = desk.items("g.state = 'open' AND g.known = 'wrong'").await?.pop_first().context("an item")?;
    let key = desk.gate.system.signers().join("cleo.jwk").display().to_string();
    let judge = [
        "audits",
        "judge",
        &item,
        "--finding",
        "wrong",
        "--severity",
        "major",
        "--reason",
        "no",
        "--compensate",
        "--key",
        &key,
        "--json",
    ];
    let (output, ok) = desk.gate.cli_as(desk.gate.system.url("auditor-cleo")?, &judge).await?;
    let answered: Value = serde_json::from_str(&output).with_context(|| output.clone())?;
    ensure!(ok && answered["kind"] == "finding.recorded" && answered["compensate"] == true, "{output}");
    // Again, and differently.
    let (output, ok) = desk.gate.cli_as(desk.gate.system.url("auditor-cleo")?, &judge).await?;
    ensure!(ok && output.contains("finding.repeated"), "{output}");
    let other = ["audits", "judge", &item, "--finding", "correct", "--key", &key, "--json"];
    let (output, ok) = desk.gate.cli_as(desk.gate.system.url("auditor-cleo")?, &other).await?;
    ensure!(!ok && output.contains("already_judged"), "{output}");
    Ok(())
}

/// A finding comes twice in the same message.
async fn submitted_twice(desk: &Desk) -> anyhow::Result<()> {
    let item = desk.items("g.state = 'open' AND g.known = 'wrong'").await?.pop_first().context("an item")?;
    let digest = desk.json(&["audits", "show", &item, "--json"]).await?["digest"].clone();
    let mut wrong = FindingData::new(item.parse()?, digest.as_str().context("a digest")?, Finding::Wrong);
    (wrong.severity, wrong.reason, wrong.compensate) = (Some(Severity::Major), Some("no".into()), true);
    let message = found(&desk.gate.system.signer("ben", "ben")?, &[wrong]);
    let publisher = Publisher::connect(desk.gate.system.url("auditor-ben")?, "test").await?;
    publisher.publish(std::slice::from_ref(&message)).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items WHERE state = 'judged'", 2).await?;
    Ok(publisher.publish(&[message]).await?)
}

fn they_measure_the_auditors(gold: &Value, judged: i64, report: &Value) -> anyhow::Result<()> {
    let group = &gold["auditors"][0];
    ensure!(group["group"] == "auditors" && group.get("auditor").is_none(), "{gold}");
    ensure!(group["sensitivity"]["share"] == 1.0 && group["specificity"]["share"] == 1.0, "{gold}");
    let items = group["sensitivity"]["items"].as_i64().zip(group["specificity"]["items"].as_i64());
    ensure!(items.map(|(wrong, right)| wrong + right) == Some(judged), "{gold}");
    let rates = gold["corrected"][0]["rate"].as_f64().zip(report["rates"][0]["rate"].as_f64());
    ensure!(rates.is_some_and(|(corrected, plain)| (corrected - plain).abs() < 1e-9), "{gold}");
    Ok(())
}

/// Evidence names the items once they are settled, and no bundle of an action that they have shown does.
async fn the_ledger_tells_afterwards(desk: &Desk, judged: i64) -> anyhow::Result<()> {
    recorded(&desk.gate).await?;
    let settled = "SELECT count(*) FROM evidence e JOIN ledger l ON l.evidence = e.id
                   WHERE e.kind = 'gold.settled' AND e.action IS NULL";
    ensure!(desk.gate.count(settled).await? == judged);
    let found = "SELECT count(*) FROM evidence e JOIN gold_items g ON e.body ->> 'audit' = g.id::text
                 WHERE e.kind LIKE 'finding.%' AND e.action IS NULL";
    ensure!(desk.gate.count(found).await? >= judged);
    for item in desk.items("true").await? {
        let store = desk.gate.system.store()?;
        let tx = store.transaction().await?;
        let sql = format!(
            "SELECT u.action::text FROM gold_items g JOIN audits u ON u.id = g.audit WHERE g.id = '{item}'"
        );
        let action: String = tx.query_one(&sql, &[]).await?.get(0);
        drop(tx);
        let (bundle, ok) = desk.gate.cli(&["ledger", "prove", &action]).await?;
        ensure!(ok && !bundle.contains(&item), "{bundle}");
    }
    Ok(())
}

#[tokio::test]
async fn whoever_has_judged_an_action_before_is_answered_and_does_not_count() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.executes("late", 20).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items", 1).await?;
    let items = desk.items("g.state = 'open'").await?;
    let requests = desk.requests().await?;
    let gold = requests.iter().find(|event| items.contains(event.data["audit"].as_str().unwrap_or_default()));
    let request: AuditRequest = serde_json::from_value(gold.context("a gold item")?.data.clone())?;
    // Ada has judged it; she finds the contrary now.
    let contrary = if is_wrong(&request) { Finding::Correct } else { Finding::Wrong };
    desk.submits("ada", finding(&request, contrary, Some("no"))).await?;
    let id = request.audit;
    let noted = |kind: &str| {
        format!("SELECT count(*) FROM gold_notes WHERE item = '{id}' AND kind = 'finding.{kind}'")
    };
    desk.gate.reaches(&noted("recorded"), 1).await?;
    ensure!(desk.items("g.state = 'open'").await?.contains(&id.to_string()), "her finding counts");
    // Nor does the ledger tell the next auditor.
    let told = format!("SELECT count(*) FROM evidence WHERE body::text LIKE '%{id}%'");
    ensure!(desk.gate.count(&told).await? == 0);
    // Another is asked, whose finding does, and only once.
    desk.submits("ben", truth(&request)).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items WHERE state = 'judged'", 1).await?;
    desk.submits("cleo", truth(&request)).await?;
    desk.gate.reaches(&noted("refused"), 1).await?;
    let (_, gold) = desk.figures("1h").await?;
    let auditors: Vec<Option<&str>> = gold["auditors"]
        .as_array()
        .context("auditors")?
        .iter()
        .map(|line| line["auditor"].as_str())
        .collect();
    ensure!(auditors == [None, Some("ben")], "{gold}");
    desk.gate.close().await
}

#[tokio::test]
async fn no_gold_item_concerns_what_is_erased_or_under_a_legal_hold() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    // Half of the customers are under a hold, and one of them each time is erased.
    let place = |customer: usize| {
        let subject = format!("customer:c{customer}");
        let gate = &desk.gate;
        async move {
            gate.cli(&[
                "legal-hold",
                "place",
                "--subject",
                &subject,
                "--reason",
                "case",
                "--operator",
                "omar",
            ])
            .await
        }
    };
    for customer in (0..EARLY).filter(|n| n % 4 == 0) {
        let (output, ok) = place(customer).await?;
        ensure!(ok, "{output}");
    }
    let (output, ok) = desk.gate.cli(&["erase", "--subject", "customer:c1", "--operator", "olga"]).await?;
    ensure!(ok, "{output}");
    desk.executes("late", 40).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items", 4).await?;
    desk.all_gold_is_open().await?;
    let concerned =
        "SELECT count(*) FROM gold_items g JOIN audits u ON u.id = g.audit JOIN actions a ON a.id = u.action
                     WHERE a.event_id = 'early-1' OR split_part(a.event_id, '-', 2)::int % 4 = 0";
    ensure!(desk.gate.count(concerned).await? == 0);

    // What is placed or erased later withdraws what is open.
    let open = "SELECT min(split_part(a.event_id, '-', 2)::int)::bigint FROM gold_items g JOIN audits u ON u.id = g.audit
                JOIN actions a ON a.id = u.action WHERE g.state = 'open'";
    let customer = desk.gate.count(open).await?;
    let before = desk.items("g.state = 'open'").await?.len();
    let subject = format!("customer:c{customer}");
    let (output, ok) = desk
        .gate
        .cli(&["legal-hold", "place", "--subject", &subject, "--reason", "case", "--operator", "omar"])
        .await?;
    ensure!(ok && desk.items("g.state = 'open'").await?.len() == before - 1, "{output}");
    let customer = desk.gate.count(open).await?;
    let subject = format!("customer:c{customer}");
    let (output, ok) = desk.gate.cli(&["erase", "--subject", &subject, "--operator", "olga"]).await?;
    ensure!(ok && desk.items("g.state = 'open'").await?.len() == before - 2, "{output}");
    ensure!(desk.items("g.state = 'withdrawn'").await?.len() == 2);
    desk.gate.close().await
}

#[tokio::test]
async fn the_draw_and_the_choice_of_gold_items_are_proved_when_they_are_judged() -> anyhow::Result<()> {
    let mut desk = Desk::open().await?;
    desk.executes("late", 20).await?;
    desk.gate.reaches("SELECT count(*) FROM gold_items", 2).await?;
    // As long as one is open, the key that would tell it stays secret.
    let closed = "SELECT count(*) FROM epochs WHERE ends_at < now() - interval '15 seconds'
                  AND epoch IN (SELECT epoch FROM gold_draws)";
    desk.gate.reaches(closed, 1).await?;
    let revealed = "SELECT count(*) FROM epoch_keys k JOIN gold_draws d USING (epoch) JOIN gold_items g ON g.draw = d.action
                    WHERE g.state = 'open'";
    ensure!(desk.gate.count(revealed).await? == 0 && desk.items("g.state = 'withdrawn'").await?.is_empty());
    let _ben = desk.ben(|request| Some(truth(request))).await?;
    desk.all_gold_is_judged().await?;
    let open = "SELECT count(*) FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epoch_keys)";
    eventually("every epoch closes", LIMIT, async || (desk.gate.count(open).await.ok()? == 0).then_some(()))
        .await?;
    let items = desk.gate.count("SELECT count(*) FROM gold_items").await?;
    ensure!(proved(&desk, true).await? == items as u64);

    whoever_picks_or_leaves_out_is_found_out(&desk, items).await?;
    desk.gate.close().await
}

/// Proves all draws, as they should or should not be. Returns how many gold items there are.
async fn proved(desk: &Desk, expected: bool) -> anyhow::Result<u64> {
    let (output, ok) = desk.gate.cli(&["audits", "prove", "--json"]).await?;
    let proofs: Vec<Value> = serde_json::from_str(&output)?;
    let all = proofs.iter().all(|proof| proof["found"] == "proved");
    ensure!(ok == expected && all == expected, "{output}");
    Ok(proofs.iter().filter_map(|proof| proof["gold"].as_u64()).sum())
}

/// Somebody with database access picks easier items by hand, or leaves some out.
async fn whoever_picks_or_leaves_out_is_found_out(desk: &Desk, items: i64) -> anyhow::Result<()> {
    let picked = "WITH picked AS (UPDATE gold_items g SET audit = (SELECT c FROM unnest(candidates) c WHERE c <> audit LIMIT 1)
                  WHERE id = (SELECT id FROM gold_items WHERE cardinality(candidates) > 1 LIMIT 1) RETURNING 1)
                  SELECT count(*) FROM picked";
    ensure!(desk.gate.count("WITH kept AS (INSERT INTO sweep_marks SELECT 'kept ' || id || ' ' || audit, now() FROM gold_items RETURNING 1)
                             SELECT count(*) FROM kept").await? == items);
    ensure!(desk.gate.count(picked).await? == 1);
    proved(desk, false).await?;
    let restored = "WITH restored AS (UPDATE gold_items g SET audit = split_part(m.name, ' ', 3)::uuid FROM sweep_marks m
                    WHERE m.name LIKE 'kept ' || g.id || ' %' RETURNING 1) SELECT count(*) FROM restored";
    ensure!(desk.gate.count(restored).await? == items);
    proved(desk, true).await?;
    let left_out = "WITH one AS (SELECT id, draw FROM gold_items LIMIT 1),
                    findings AS (DELETE FROM gold_findings WHERE item IN (SELECT id FROM one)),
                    notes AS (DELETE FROM gold_notes WHERE item IN (SELECT id FROM one)),
                    item AS (DELETE FROM gold_items WHERE id IN (SELECT id FROM one)),
                    draw AS (DELETE FROM gold_draws WHERE action IN (SELECT draw FROM one) RETURNING 1)
                    SELECT count(*) FROM draw";
    ensure!(desk.gate.count(left_out).await? == 1);
    proved(desk, false).await?;
    Ok(())
}
