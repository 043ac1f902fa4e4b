//! `cargo xtask test`: runs every test on private services.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::ensure;
use clap::Args;
use countersign_testkit::services::{self, Services, packages};

use crate::{
    fuzz,
    program::{finish, has},
};
use countersign_testkit::build;
use countersign_torture as torture;

/// Every test, and a minute of torture where no further arguments are given.
#[derive(Args)]
pub(crate) struct TestArgs {
    /// Afterwards run each fuzz target for a minute; must come before arguments for the test runner
    #[arg(long)]
    extended: bool,
    /// With RabbitMQ 4 in place of this machine's version, but where a test hurts its broker: installs a Debian 13
    /// with it under target/, once. Needs root; must come before arguments for the test runner
    #[arg(long)]
    rabbitmq_4: bool,
    /// For the test runner, such as a filter
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let binary = build::binary(false)?;
    let (python, node) = (python()?, node()?);
    let services = async {
        match args.rabbitmq_4 {
            true => Services::private_rabbitmq_4(&build::rabbitmq_4()).await,
            false => Services::start().await,
        }
    };
    let failed = build::with(services, async |services| {
        let mut failed = Vec::new();
        for (name, mut command) in runners(&args.arguments) {
            environment(&mut command, services, &binary, &python, &node);
            if !finish(command).await? {
                failed.push(name);
            }
        }
        Ok(failed)
    })
    .await?;
    let Some(mut failed) = failed else {
        println!("interrupted");
        return Ok(ExitCode::FAILURE);
    };
    // On private services, after everything else has released the machine.
    if args.arguments.is_empty() && !torture::briefly(binary).await? {
        failed.push("torture");
    }
    if args.extended && !fuzz::every_target().await? {
        failed.push("fuzzing");
    }
    if failed.is_empty() {
        println!("\neverything passed");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nfailed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// What is run, by name: nextest where it is installed, else cargo's own runner; documentation tests need the latter anyway.
fn runners(arguments: &[String]) -> Vec<(&'static str, Command)> {
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(build::workspace());
        command
    };
    let mut runner = cargo();
    let nextest = has("cargo", &["nextest", "--version"]);
    if nextest {
        runner.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        // Fault tests start private services; more at a time would only be slower.
        runner.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    }
    runner.args(arguments);
    if nextest && arguments.is_empty() {
        let mut documentation = cargo();
        documentation.args(["test", "--workspace", "--locked", "--doc", "--quiet"]);
        return vec![("tests", runner), ("documentation tests", documentation)];
    }
    vec![("tests", runner)]
}

fn environment(command: &mut Command, services: &Services, binary: &Path, python: &Python, node: &Path) {
    command
        .env(services::AMQP_URL, &services.amqp_url)
        .env(services::MANAGEMENT_URL, &services.management_url)
        .env(services::DATABASE_URL, &services.database_url)
        .env("COUNTERSIGN_BIN", binary)
        .env("COUNTERSIGN_TEST_PYTHON", &python.program)
        .env("PYTHONPATH", &python.modules)
        .env("COUNTERSIGN_TEST_NODE_MODULES", node);
}

/// The official parser of the contract document's format, from the npm registry.
const PARSER: &str = "@asyncapi/parser@3.6.6";

/// The folder with the parser, installed where it is missing.
fn node() -> anyhow::Result<PathBuf> {
    let folder = build::workspace().join("target/node");
    let modules = folder.join("node_modules");
    let missing: Vec<&str> = [("node", "nodejs"), ("npm", "npm")]
        .iter()
        .filter(|(p, _)| !has(p, &["--version"]))
        .map(|(_, p)| *p)
        .collect();
    if !missing.is_empty() {
        packages(&missing)?;
    }
    let (_, version) = PARSER.rsplit_once('@').unwrap_or_default();
    let there = std::fs::read_to_string(modules.join("@asyncapi/parser/package.json"));
    if there.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\""))) {
        return Ok(modules);
    }
    eprintln!("installing {PARSER} to check the contract document ...");
    let status = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix"])
        .arg(&folder)
        .arg(PARSER)
        .status()?;
    ensure!(status.success(), "{PARSER} cannot be installed; run: npm install {PARSER}");
    Ok(modules)
}

/// A Python for the tests with foreign clients.
struct Python {
    program: String,
    modules: PathBuf,
}

/// The client library of the foreign clients, from the Python package index.
const PIKA: &str = "pika==1.3.2";
/// The library with which the reviewer app of `examples/` signs.
const CRYPTOGRAPHY: &str = "cryptography==50.0.2";

fn python() -> anyhow::Result<Python> {
    let program = "python3".to_owned();
    if !has(&program, &["--version"]) {
        packages(&["python3"])?;
    }
    let modules = build::workspace().join("target/python");
    let importable =
        Command::new(&program).args(["-c", "import pika, cryptography"]).env("PYTHONPATH", &modules).output();
    if importable.is_ok_and(|output| output.status.success()) {
        return Ok(Python { program, modules });
    }
    eprintln!("installing {PIKA} and {CRYPTOGRAPHY} for the tests of foreign clients ...");
    if !has(&program, &["-m", "pip", "--version"]) {
        packages(&["python3-pip"])?;
    }
    let status = Command::new(&program)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"])
        .arg("--target")
        .arg(&modules)
        .args([PIKA, CRYPTOGRAPHY])
        .status()?;
    ensure!(status.success(), "they cannot be installed; run: python3 -m pip install {PIKA} {CRYPTOGRAPHY}");
    Ok(Python { program, modules })
}
