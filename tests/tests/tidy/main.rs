//! What the project says of itself holds: directions of dependencies, sizes of files, generated files.

mod circles;
mod gold;
mod links;
mod reference;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use countersign_app::{folder::Folder, users};
use countersign_broker::{
    contract::asyncapi,
    definitions::definitions,
    topology::{Limits, Topology},
};
use countersign_core::refusal::Code;
use countersign_runtime::settings::Settings;
use expect_test::expect_file;
use serde_json::Value;

/// The pure crates: no I/O, no clock, no randomness of their own.
const PURE: &[&str] = &["core", "statistics", "policy", "ledger"];

/// What a process may name.
const PROCESS: &[&str] = &["core", "statistics", "policy", "ledger", "store", "broker", "runtime"];

/// What development may name: all but the command line, whose every use case is in `app`.
const ALL: &[&str] = &[
    "core",
    "statistics",
    "policy",
    "ledger",
    "store",
    "broker",
    "runtime",
    "app",
    "executor",
    "testkit",
    "torture",
    "bench",
];

/// The demo prints with the command line's own tables.
const XTASK: &[&str] = &[
    "core",
    "statistics",
    "policy",
    "ledger",
    "store",
    "broker",
    "runtime",
    "app",
    "cli",
    "testkit",
    "torture",
    "bench",
];

/// Every crate of ours and which others it may name. A door names neither SQL nor AMQP: `app` does that for it. Development
/// dependencies are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("statistics", &[]),
    ("policy", &["core", "statistics"]),
    ("ledger", &["core"]),
    ("store", &["core", "statistics", "ledger"]),
    ("broker", &["core", "policy", "ledger"]),
    ("runtime", &["core", "statistics", "policy", "store", "broker"]),
    ("app", PROCESS),
    ("router", PROCESS),
    ("executor", PROCESS),
    ("sampler", PROCESS),
    ("recorder", PROCESS),
    ("cli", &["core", "statistics", "policy", "app", "runtime", "router", "executor", "sampler", "recorder"]),
    ("testkit", ALL),
    ("torture", ALL),
    ("bench", ALL),
    ("xtask", XTASK),
    ("tests", ALL),
];

/// Who alone may name an outside system's client.
const CLIENTS: &[(&str, &[&str])] = &[
    ("tokio-postgres", &["store", "testkit", "tests"]),
    ("deadpool-postgres", &["store"]),
    // `torture` has a tool service of its own behind a queue, as others write them.
    ("lapin", &["broker", "torture"]),
    // `bench` measures the executor's connector against a bare one.
    ("reqwest", &["broker", "executor", "bench"]),
];

/// What must not be anywhere below a pure crate.
const IMPURE: &[&str] = &["tokio", "lapin", "tokio-postgres", "postgres", "reqwest", "hyper", "mio"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output =
        Command::new(cargo).current_dir(root()).args(arguments).args(["--locked", "--offline"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Our crates and what each names outside of development, without our prefix.
fn named() -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let short = |name: &str| name.strip_prefix("countersign-").unwrap_or(name).to_owned();
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])?)?;
    Ok(list(&metadata["packages"])
        .iter()
        .map(|package| {
            let dependencies = list(&package["dependencies"]);
            let normal = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
            (short(text(package, "name")), normal.map(|dependency| short(text(dependency, "name"))).collect())
        })
        .collect())
}

#[test]
fn arrows_between_crates_point_down_only() -> anyhow::Result<()> {
    let named = named()?;
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    ensure!(named.keys().map(String::as_str).eq(known.iter().copied()), "{:?}", named.keys());
    for (name, allowed) in ARROWS {
        for other in named[*name].iter().filter(|other| known.contains(other.as_str())) {
            ensure!(allowed.contains(&other.as_str()), "{name} may not use {other}");
        }
    }
    for (client, allowed) in CLIENTS {
        for (name, _) in named.iter().filter(|(_, names)| names.contains(*client)) {
            ensure!(allowed.contains(&name.as_str()), "{name} may not use {client}");
        }
    }
    Ok(())
}

#[test]
fn pure_crates_do_no_io() -> anyhow::Result<()> {
    for pure in PURE {
        let package = format!("countersign-{pure}");
        let tree = cargo(&["tree", "--package", &package, "--edges", "normal", "--prefix", "none"])?;
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        ensure!(names.contains("serde") && names.len() > 10, "{tree}");
        for name in IMPURE {
            ensure!(!names.contains(name), "{pure} depends on {name}");
        }
    }
    Ok(())
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn no_file_is_long() -> anyhow::Result<()> {
    let mut files = Vec::new();
    for dir in ["crates", "tests"] {
        sources(&root().join(dir), &mut files)?;
    }
    ensure!(files.len() > 100);
    for file in files {
        let lines = fs::read_to_string(&file)?.lines().count();
        ensure!(lines <= 500, "{} has {lines} lines", file.display());
    }
    let main = fs::read_to_string(root().join("crates/cli/src/main.rs"))?;
    ensure!(main.lines().count() < 60);
    Ok(())
}

/// Where a code stands in the sources. What tools, reviewers and policies call their own reasons is theirs.
const CODED: &[&str] = &["code: \"", "entry(delivery, \"", "entry(&delivery, \"", ".quarantine(delivery, \""];

#[test]
fn every_code_is_one_of_the_contract() -> anyhow::Result<()> {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files)?;
    let product = files.iter().filter(|file| {
        let path = file.to_string_lossy();
        !["tests", "testkit", "torture", "xtask", "bench"].iter().any(|part| path.contains(part))
    });
    for file in product {
        let text = fs::read_to_string(file)?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for mark in CODED {
            ensure!(!code.contains(mark), "{} has {mark}...: name a Code", file.display());
        }
    }
    let contract = fs::read_to_string(root().join("docs/asyncapi.json"))?;
    for code in Code::ALL {
        ensure!(contract.contains(&format!("\"code\": \"{code}\"")), "{code} is not in the contract");
    }
    Ok(())
}

#[test]
fn every_test_that_is_said_to_stand_against_an_attack_exists() -> anyhow::Result<()> {
    let mut files = Vec::new();
    for dir in ["crates", "tests"] {
        sources(&root().join(dir), &mut files)?;
    }
    let code = files.iter().map(fs::read_to_string).collect::<Result<String, _>>()?;
    let page = fs::read_to_string(root().join("docs/src/explanation/attacks.md"))?;
    // What stands between backticks and has the length of a sentence is a test.
    let quoted = page.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 4);
    let names: BTreeSet<&str> = quoted.filter_map(|name| name.rsplit("::").next()).collect();
    ensure!(names.len() > 40, "{} tests", names.len());
    for name in names {
        ensure!(
            code.contains(&format!("fn {name}(")),
            "docs/src/explanation/attacks.md: there is no test {name}"
        );
    }
    Ok(())
}

fn airline() -> anyhow::Result<Folder> {
    let tools = |name: &str| (name == "AIRLINE_TOOLS_URL").then(|| "http://127.0.0.1:1".to_owned());
    Ok(Folder::read_with(&root().join("examples/airline"), tools)?)
}

#[test]
fn the_definitions_in_deploy_are_the_topology() -> anyhow::Result<()> {
    let folder = airline()?;
    let topology = Topology::of(&folder.configuration.directory, &Limits::default());
    let all = definitions("/", &topology, &users::everyone(&folder.configuration));
    // Written again with UPDATE_EXPECT=1.
    expect_file!["../../../deploy/rabbitmq/definitions.json"].assert_eq(&format!("{all:#}\n"));
    Ok(())
}

#[test]
fn the_contract_document_is_what_the_types_and_the_topology_say() -> anyhow::Result<()> {
    let document = asyncapi();
    // Written again with UPDATE_EXPECT=1.
    expect_file!["../../../docs/asyncapi.json"].assert_eq(&format!("{document:#}\n"));
    let bindings = document["channels"].as_object().into_iter().flatten();
    let bindings = bindings.map(|(_, channel)| &channel["bindings"]["amqp"]);
    let names: BTreeSet<&str> =
        bindings.flat_map(|amqp| [text(&amqp["exchange"], "name"), text(&amqp["queue"], "name")]).collect();
    let folder = airline()?;
    let topology = Topology::of(&folder.configuration.directory, &Limits::default());
    let described = |name: &str| {
        names.iter().any(|pattern| match pattern.split_once('{') {
            Some((before, _)) => name.starts_with(before) && name != before,
            None => name == *pattern,
        })
    };
    for exchange in &topology.exchanges {
        ensure!(described(&exchange.name), "{} is not in the contract", exchange.name);
    }
    for queue in &topology.queues {
        ensure!(described(&queue.name), "{} is not in the contract", queue.name);
    }
    Ok(())
}

#[test]
fn the_official_parser_finds_nothing_wrong_with_the_contract_document() -> anyhow::Result<()> {
    let Some(modules) = std::env::var_os("COUNTERSIGN_TEST_NODE_MODULES") else {
        eprintln!("SKIPPED: COUNTERSIGN_TEST_NODE_MODULES is not set; `cargo xtask test` sets it");
        return Ok(());
    };
    let output = Command::new("node")
        .arg(root().join("tests/fixtures/check_asyncapi.cjs"))
        .arg(root().join("docs/asyncapi.json"))
        .env("NODE_PATH", modules)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("26 channels"), "{said}");
    Ok(())
}

#[test]
fn the_examples_settings_are_the_defaults_that_they_explain() -> anyhow::Result<()> {
    let read = Settings::read(&root().join("examples/airline"))?;
    ensure!(format!("{read:?}") == format!("{:?}", Settings::default()), "{read:?}");
    Ok(())
}
