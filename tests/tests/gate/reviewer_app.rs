//! The reviewer app of `examples/`, in another language and built on the contract alone.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
};

use anyhow::{Context as _, ensure};
use countersign_core::action::Outcome;
use countersign_tests::{Gate, LIMIT, expect};
use serde_json::json;

/// The running app, with its standard input and the lines that it prints.
struct App {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl App {
    fn start(python: &str, gate: &Gate) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .arg("-u")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/reviewer_app.py"))
            .env("REVIEWER_AMQP_URL", gate.system.url("reviewer-sam")?)
            .env("REVIEWER_ID", "sam")
            .env("REVIEWER_KEY", gate.system.key_file("sam"))
            .env("REVIEWER_GROUP", "approvers")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("stdin")?;
        let out = BufReader::new(child.stdout.take().context("stdout")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, input, lines })
    }

    /// Enters a decision on the current or next request, and waits for the answer.
    fn decides(&mut self, words: &str) -> anyhow::Result<String> {
        self.enter(words)?;
        self.answer()
    }

    fn enter(&mut self, words: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "{words}")?)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        loop {
            let line = self.lines.recv_timeout(LIMIT).context("no answer from the app")?;
            if let Some((_, answer)) = line.split_once("answer: ") {
                return Ok(answer.trim().to_owned());
            }
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reviewer_app_of_the_examples_approves_rejects_and_edits() -> anyhow::Result<()> {
    let Ok(python) = std::env::var("COUNTERSIGN_TEST_PYTHON") else {
        eprintln!("SKIPPED: COUNTERSIGN_TEST_PYTHON is not set; `cargo xtask test` sets it");
        return Ok(());
    };
    let gate = Gate::start().await?;
    // Nobody owns this agent, so all approvers may decide.
    let mut agent = gate.agent("two").await?;
    let mut app = App::start(&python, &gate)?;

    agent.propose("good", "move_money", json!({"amount": "500"})).await?;
    ensure!(app.decides("approve")? == "approve recorded");
    expect(&mut agent, "good", Outcome::Succeeded).await?;

    agent.propose("bad", "move_money", json!({"amount": "500"})).await?;
    ensure!(app.decides("reject not ordered")? == "reject recorded");
    let outcome = expect(&mut agent, "bad", Outcome::Rejected).await?;
    ensure!(outcome.error.is_some_and(|error| error.message == "not ordered"));

    agent.propose("much", "move_money", json!({"amount": "900"})).await?;
    // The refusal shows its code; the request stays open and is published again.
    let refused = app.decides(r#"edit {"amount": 1.5}"#)?;
    ensure!(refused.starts_with("edit refused edit_denied"), "{refused}");
    // The next request may be shown before the answer to the edit.
    app.enter(r#"edit {"amount": "300"}"#)?;
    app.enter("approve")?;
    let answers = BTreeSet::from([app.answer()?, app.answer()?]);
    let refused = answers.iter().find(|answer| answer.starts_with("approve refused editor"));
    ensure!(refused.is_some() && answers.contains("edit recorded"), "{answers:?}");
    // Who has edited an action does not approve it: a colleague does.
    drop(app);
    let mara = gate.approving("mara", "approvers").await?;
    let outcome = expect(&mut agent, "much", Outcome::Succeeded).await?;
    ensure!(
        outcome.result.is_some_and(|result| result.get().contains("300")) && outcome.approvers == ["mara"]
    );
    ensure!(gate.tools.effects().len() == 2);
    drop(mara);

    let mut app = App::start(&python, &gate)?;
    agent.propose("odd", "move_money", json!({"amount": "500"})).await?;
    // An earlier request or answer may come once more: it was not acked when the first app ended.
    let respond = "respond ask for less";
    app.enter(respond)?;
    loop {
        let answer = app.answer()?;
        if answer == "respond recorded" {
            break;
        }
        if answer.starts_with("respond refused") {
            app.enter(respond)?;
        }
    }
    let outcome = expect(&mut agent, "odd", Outcome::Rejected).await?;
    ensure!(outcome.error.is_some_and(|error| error.message == "ask for less"));
    gate.close().await
}
