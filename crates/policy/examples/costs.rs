//! Measures what expressions cost on the dearest message, for the estimates in `src/expr/cost.rs`:
//! `cargo run --release -p countersign-policy --example costs`.

use std::{hint::black_box, time::Instant};

use countersign_policy::{Configuration, Facts, Sources};
use serde_json::json;

/// What each estimate is about, and an expression that does little else.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("nothing", "true"),
    ("TEXT: reading the longest string", "size(action.arguments.text) > 3"),
    ("TEXT: joining two of them", "size(action.arguments.text + action.arguments.text) > 3"),
    ("SEARCH: searching it", "action.arguments.text.contains(\"zz\")"),
    ("PATTERN: matching a pattern", "action.arguments.text.matches(\"a.*z\")"),
    ("COMPARISON: two strings", "action.arguments.text == action.arguments.same"),
    ("COMPARISON: two lists", "action.arguments.items == action.arguments.others"),
    ("COMPARISON: an item in a list", "action.arguments.text in action.arguments.items"),
    ("RANGE: a loop over a list", "action.arguments.items.exists(i, false)"),
    ("RANGE and ITEM: comparing its items", "action.arguments.items.exists(i, i == \"zz\")"),
];

const ROUNDS: u32 = 200;

fn main() {
    let tools = r#"
egress: {allow_hosts: [tools.example.com]}
tools:
  - name: act
    description: Acts
    connector: {http: {url: "https://tools.example.com/act"}}
    arguments: {type: object}
    timeout: 5s
    idempotent: true
"#;
    let directory = r#"
groups: [auditors]
agents: [{id: one, amqp_user: agent-one}]
auditors: [{id: ada, amqp_user: auditor-ada, groups: [auditors]}]
"#;
    // Together about as long as a message may be.
    let items: Vec<String> = (0..256).map(|n| format!("{n:0>300}")).collect();
    let text = "a".repeat(80_000);
    let action =
        json!({"tool": "act", "arguments": {"text": text, "same": text, "items": items, "others": items}});
    let agent = json!({"id": "one"});
    for (what, expression) in EXPRESSIONS {
        let policy = format!(
            "version: \"1\"
default: {{verdict: deny, reason: no rule, audit: {{rate: 0.0, group: auditors}}}}
on_error: {{verdict: deny, reason: an error, audit: {{rate: 0.0, group: auditors}}}}
rules:
  - {{id: one, when: '{expression}', verdict: allow, audit: {{rate: 0.1, group: auditors}}}}
"
        );
        let sources = Sources { policy, tools: tools.into(), directory: directory.into() };
        let configuration = match Configuration::parse(&sources) {
            Ok(configuration) => configuration,
            Err(problems) => {
                eprintln!("{expression}: {problems:?}");
                continue;
            }
        };
        let Some(tool) = configuration.tools.get("act") else { continue };
        let facts = Facts { action: &action, agent: &agent, tool, now: chrono::DateTime::UNIX_EPOCH };
        let evaluation = configuration.policy.evaluate(&facts);
        assert!(evaluation.errored.is_none(), "{expression}: {:?}", evaluation.errored);
        let begun = Instant::now();
        for _ in 0..ROUNDS {
            black_box(configuration.policy.evaluate(black_box(&facts)));
        }
        println!("{:>9.1} us  {what}", begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
}
