//! Logs contain no secrets, whatever goes wrong, and at the default level no payloads.

use std::path::Path;

use anyhow::{Context as _, ensure};
use countersign_core::action::Outcome;
use countersign_testkit::system::{Link, ROLES};
use countersign_tests::{Gate, answer, folder};
use serde_json::{Value, json};

use super::until;

/// The values of the tool's two secrets.
const SIGNING: &str = "c2VjcmV0LW9mLXRoZS13ZWJob29r";
const TOKEN: &str = "Bearer token-of-the-tool-service";

/// Texts in the payloads of agents, people and tools.
const PAYLOADS: [&str; 4] = ["PAYLOAD-ARGUMENT", "PAYLOAD-REASON", "PAYLOAD-PERSON", "PAYLOAD-ANSWER"];

/// A tool behaviour whose answers and refusals contain confidential text.
fn talkative(_tool: &str, arguments: &Value) -> Result<Value, (u16, String)> {
    match arguments["fail"].as_bool() {
        Some(true) => Err((409, "PAYLOAD-ANSWER".into())),
        _ => Ok(json!({"said": "PAYLOAD-ANSWER"})),
    }
}

/// The password in a URL.
fn password(url: &str) -> Option<String> {
    let (user, _) = url.split_once("://")?.1.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password.to_owned())
}

/// All secrets of the gate: passwords of broker and database, the tools' secrets, and private keys.
fn secrets(gate: &Gate) -> anyhow::Result<Vec<String>> {
    let place = &gate.system.place;
    let mut secrets = vec![SIGNING.to_owned(), TOKEN.to_owned()];
    let urls = [&place.amqp_url, &place.management_url, &place.database_url].map(String::as_str);
    let roles: Vec<String> = ROLES.iter().map(|role| format!("countersign-{role}")).collect();
    let users = roles.iter().map(String::as_str).chain(["agent-one", "reviewer-sam"]);
    let users = users.map(|user| gate.system.url(user)).collect::<anyhow::Result<Vec<_>>>()?;
    secrets.extend(urls.into_iter().chain(users).filter_map(password));
    for dir in [place.scratch.join("keys"), gate.system.signers()] {
        for file in std::fs::read_dir(dir)? {
            secrets.extend(private(&file?.path())?);
        }
    }
    // A default such as `guest` or `postgres` is no secret and appears in many places.
    secrets.retain(|secret| secret.len() >= 12);
    ensure!(secrets.len() > 20, "{} secrets", secrets.len());
    Ok(secrets)
}

/// The secret part of a key file.
fn private(path: &Path) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(path)?;
    Ok(match serde_json::from_str::<Value>(&text) {
        Ok(jwk) => jwk["d"].as_str().map(str::to_owned),
        Err(_) => Some(text.trim().to_owned()),
    })
}

/// The logs of a gate's processes, as (name, text).
fn logs(gate: &Gate) -> anyhow::Result<Vec<(String, String)>> {
    let mut logs = Vec::new();
    for file in std::fs::read_dir(&gate.system.place.scratch)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            logs.push((path.display().to_string(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(logs)
}

fn link(level: &str) -> Link {
    let variables = [
        ("TEST_SIGNING", format!("whsec_{SIGNING}")),
        ("TEST_TOKEN", TOKEN.into()),
        ("RUST_LOG", level.into()),
    ];
    let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
    Link { variables: variables.map(|(name, value)| (name.into(), value)).collect(), ..Link::default() }
}

/// Sends an action that succeeds, one that the tool refuses, two that are denied, and an unreadable message.
async fn work(gate: &Gate, round: &str) -> anyhow::Result<()> {
    let mut agent = gate.agent("one").await?;
    for (id, tool, fail, outcome) in [
        ("good", "write_record", false, Outcome::Succeeded),
        ("bad", "write_record", true, Outcome::Failed),
        ("no", "no_such_tool", false, Outcome::Denied),
        ("fits-not", "pay", false, Outcome::Denied),
    ] {
        let id = format!("{round}-{id}");
        let arguments = json!({"n": 1, "fail": fail, "text": "PAYLOAD-ARGUMENT"});
        let mut event = countersign_testkit::clients::proposal("one", &id, tool, arguments);
        event["data"]["reason"] = "PAYLOAD-REASON".into();
        event["data"]["agent"]["on_behalf_of"] = "PAYLOAD-PERSON".into();
        agent.send(&[event]).await?;
        // A process that was killed between the rounds may repeat earlier outcomes; within a round none is repeated.
        let mut received = answer(&mut agent).await?;
        while !received.action.id.starts_with(&format!("{round}-")) {
            received = answer(&mut agent).await?;
        }
        ensure!(
            received.action.id == id && received.outcome == outcome,
            "expected {id} {outcome:?}, got {received:?}"
        );
    }
    let before = gate.count("SELECT count(*) FROM quarantine").await?;
    agent.send_raw(&[br#"{"PAYLOAD-ARGUMENT": "PAYLOAD-REASON"}"#.to_vec()]).await?;
    gate.reaches("SELECT count(*) FROM quarantine", before + 1).await
}

#[tokio::test]
async fn logs_contain_no_secrets_and_payloads_only_on_request() -> anyhow::Result<()> {
    let url = "{url: \"${TEST_TOOLS_URL}/tools/write_record\"";
    let secret =
        format!("{url}, signing_secret_env: TEST_SIGNING, headers_env: {{authorization: TEST_TOKEN}}");
    let mut gate = Gate::configured_acting(folder(url, &secret)?, talkative).await?;
    // Without its secrets the executor logs which variables are missing.
    let agent = gate.agent("two").await?;
    agent.propose("early", "write_record", json!({"n": 1})).await?;
    until("the executor misses its secrets", async || {
        gate.system.log("executor").contains("TEST_").then_some(())
    })
    .await?;
    for level in ["", "debug"] {
        for role in ROLES {
            gate.system.kill(role)?;
            gate.system.start_behind(role, role, &link(level))?;
        }
        work(&gate, &format!("round{level}")).await?;
        let forbidden = secrets(&gate)?;
        let payloads = PAYLOADS.iter().filter(|_| level.is_empty()).map(|&text| text.to_owned());
        for secret in forbidden.into_iter().chain(payloads) {
            for (name, text) in logs(&gate)? {
                let line = text.lines().find(|line| line.contains(&secret));
                ensure!(line.is_none(), "{name} has {secret:?}: {line:?}");
            }
        }
    }
    // Broker and database are unreachable; the log entries omit the passwords.
    for role in ROLES {
        gate.system.kill(role)?;
        let nowhere = Link { amqp: Some(1), database: Some(1), ..link("debug") };
        gate.system.start_behind(role, role, &nowhere)?;
    }
    let before = logs(&gate)?;
    until("every role complains", async || {
        let now = logs(&gate).ok()?;
        let more = |(name, text): &(String, String)| {
            let before = before.iter().find(|(other, _)| other == name).map_or(0, |(_, text)| text.len());
            text.get(before..).is_some_and(|new| new.contains("WARN") || new.contains("ERROR"))
        };
        now.iter().all(more).then_some(())
    })
    .await?;
    for secret in secrets(&gate)? {
        for (name, text) in logs(&gate)? {
            ensure!(!text.contains(&secret), "{name} has {secret:?}");
        }
    }
    gate.close().await
}

#[tokio::test]
async fn an_unreadable_url_is_reported_without_its_password() -> anyhow::Result<()> {
    let gate = Gate::start().await?;
    let keys = gate.system.place.scratch.join("keys").display().to_string();
    let urls = [
        "amqp://user:HIDE-ME-12345@host:notaport/",
        "http://user:HIDE-ME-12345@127.0.0.1:1/",
        "amqp://user:HIDE-ME-12345@",
        "amqp://user:HIDE-ME-12345@[::1/",
        "postgres://user:HIDE-ME-12345@host:notaport/db",
        "postgres://user:HIDE-ME-12345@127.0.0.1:1/db?nonsense=HIDE-ME-12345",
        "host=127.0.0.1 password=HIDE-ME-12345 port=x",
        "user:HIDE-ME-12345",
    ];
    for url in urls {
        for arguments in [
            vec!["--database-url", url, "actions", "list"],
            vec!["--amqp-url", url, "quarantine", "replay", "1"],
            vec!["--amqp-url", url, "--management-url", url, "apply", "/nowhere", "--operator", "olga"],
            vec!["--amqp-url", "amqp://127.0.0.1:1", "--database-url", url, "router", "--keys", &keys],
        ] {
            // A role with readable URLs waits for its servers and prints nothing more.
            if arguments.contains(&"router") && url.starts_with("postgres://user:HIDE-ME-12345@127") {
                continue;
            }
            let (output, ok) = gate.cli(&arguments).await.with_context(|| format!("{arguments:?}"))?;
            ensure!(!ok, "{arguments:?} succeeded: {output}");
            ensure!(!output.contains("HIDE-ME"), "{arguments:?}: {output}");
        }
    }
    gate.close().await
}
