use std::fmt::Write as _;

use countersign_core::verdict::Verdict;
use serde_json::json;

use crate::{Configuration, Facts, Problem, Sources, run_cases};

const POLICY: &str = include_str!("../../../examples/airline/policy.yaml");
const TOOLS: &str = include_str!("../../../examples/airline/tools.yaml");
const DIRECTORY: &str = include_str!("../../../examples/airline/directory.yaml");
const CASES: &str = include_str!("../../../examples/airline/policy_test.yaml");
const ACTIONS: &str = include_str!("../../../examples/airline/actions.jsonl");

fn airline() -> Sources {
    Sources {
        policy: POLICY.to_owned(),
        tools: TOOLS.replace("${AIRLINE_TOOLS_URL}", "http://127.0.0.1:8900"),
        directory: DIRECTORY.to_owned(),
    }
}

fn parse(sources: &Sources) -> Configuration {
    Configuration::parse(sources).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{problem}");
        text
    })
}

/// The problems of the example with `from` replaced in one of its files.
fn broken(file: &str, from: &str, to: &str) -> String {
    let mut sources = airline();
    let text = match file {
        "policy.yaml" => &mut sources.policy,
        "tools.yaml" => &mut sources.tools,
        _ => &mut sources.directory,
    };
    assert!(text.contains(from), "{from:?} is not in {file}");
    *text = text.replacen(from, to, 1);
    lines(&Configuration::parse(&sources).err().unwrap_or_default())
}

#[test]
fn the_airline_example_checks_and_its_cases_pass() {
    let configuration = parse(&airline());
    let results = run_cases(&configuration, CASES).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    assert!(results.len() > 10);
    let failed: Vec<_> = results.iter().filter(|result| !result.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_payments_example_checks_and_its_cases_pass() {
    let example = |name: &str| {
        let path = format!("{}/../../examples/payments/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let sources = Sources {
        policy: example("policy.yaml"),
        tools: example("tools.yaml").replace("${PAYMENTS_TOOLS_URL}", "http://127.0.0.1:8900"),
        directory: example("directory.yaml"),
    };
    let configuration = parse(&sources);
    let transfer = |amount: &str| json!({"tool": "transfer", "arguments": {"payee": "p", "amount": amount}});
    let reversal = json!({"tool": "reverse_transfer", "arguments": {"transfer_id": "transfer-1"}});
    let may = |reviewer: &str, action: &serde_json::Value| {
        let tool = configuration.tools.get(action["tool"].as_str().unwrap()).unwrap();
        let facts = Facts { action, agent: &json!({}), tool, now: chrono::DateTime::UNIX_EPOCH };
        configuration.directory.reviewer(reviewer).unwrap().within_authority(&facts).is_ok()
    };
    assert!(may("tara", &transfer("50000")) && !may("tara", &transfer("50000.01")));
    assert!(may("tess", &transfer("250000")) && may("tara", &reversal));
    let results = run_cases(&configuration, &example("policy_test.yaml"));
    let results = results.unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    assert!(results.len() >= 5 && results.iter().all(|result| result.passed), "{results:#?}");
}

#[test]
fn the_examples_actions_match_their_tools_and_every_costly_error_needs_approval() {
    let configuration = parse(&airline());
    let (mut cheap_and_wrong, mut denied) = (0, 0);
    for line in ACTIONS.lines() {
        let action = countersign_core::json::parse_strict(line.as_bytes()).unwrap();
        let tool = configuration.tools.get(action["tool"].as_str().unwrap());
        let Some(tool) = tool.filter(|tool| tool.check_arguments(&action["arguments"]).is_ok()) else {
            assert_eq!(action["correct"], false, "{line}");
            denied += 1;
            continue;
        };
        let facts = Facts { action: &action, agent: &json!({}), tool, now: chrono::DateTime::UNIX_EPOCH };
        let evaluation = configuration.policy.evaluate(&facts);
        assert_ne!(evaluation.rule, "default");
        assert_eq!(evaluation.errored, None);
        if action["correct"] == false && evaluation.verdict == Verdict::Allow {
            assert!(["cheap-changes", "small-certificates"].contains(&evaluation.rule), "{line}");
            cheap_and_wrong += 1;
        }
    }
    assert!(cheap_and_wrong > 0, "something must be left for the audits to find");
    assert_eq!(denied, 2, "an unknown tool and a call without its amount");
}

#[test]
fn all_problems_of_all_files_are_reported_at_once() {
    let mut sources = airline();
    sources.policy = sources.policy.replace("id: reads", "id: Reads").replace("rate: 0.05", "rate: 7");
    sources.tools = sources.tools.replacen("timeout: 5s", "timeout: 5h", 1);
    sources.directory = sources.directory.replace("reviewer-rita", "reviewer-sam");
    let problems = Configuration::parse(&sources).unwrap_err();
    let files: std::collections::BTreeSet<_> = problems.iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(files.len(), 3);
    assert!(problems.len() >= 5, "{}", lines(&problems));
    assert!(problems.iter().all(|problem| problem.line.is_some() && !problem.help.is_empty()));
}

#[test]
fn yaml_bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![before; 9].join(", "));
    }
    let deep = format!("version: {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let long = format!("version: \"{}\"", "x".repeat(2 << 20));
    for text in [bomb, deep, long, "x".to_owned(), String::new()] {
        let sources = Sources { policy: text.clone(), tools: text.clone(), directory: text };
        assert!(Configuration::parse(&sources).unwrap_err().len() >= 3);
    }
}

#[test]
fn cases_of_unknown_rules_or_bad_times_are_problems() {
    let configuration = parse(&airline());
    let text = "cases:\n  - name: a\n    action: {tool: think}\n    now: noon\n    expect: {verdict: allow, rule: red}\n";
    let problems = lines(&run_cases(&configuration, text).unwrap_err());
    assert!(
        problems.contains("policy_test.yaml:5: the policy has no rule \"red\"; write one of reads"),
        "{problems}"
    );
    assert!(problems.contains("policy_test.yaml:4: now \"noon\" is not a time"), "{problems}");
}

#[test]
fn a_case_that_differs_or_cannot_be_evaluated_does_not_pass() {
    let configuration = parse(&airline());
    let case = |action: &str| {
        format!("cases:\n  - name: a\n    action: {action}\n    expect: {{verdict: deny, rule: default}}\n")
    };
    for (action, wanted) in [
        ("{tool: think, arguments: {thought: x}}", "Looking things up"),
        ("{tool: thinks}", "unknown tool"),
        ("{tool: think}", "\"thought\" is a required property"),
    ] {
        let results = run_cases(&configuration, &case(action)).unwrap();
        assert!(!results[0].passed && results[0].message.contains(wanted), "{results:?}");
        assert_eq!(results[0].line, 2);
    }
}

mod directory;
mod policy;
mod score;
mod switching;
mod tools;
