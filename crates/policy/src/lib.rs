//! The governed configuration of Countersign: the policy, the tool registry and the directory of agents and people.
//!
//! A [`Configuration`] is parsed from three YAML texts ([`Sources`]) and checked completely before anything uses it.
//! Every [`Problem`] is reported at once, with its file, its line and what to write instead. There is no way to hold a
//! configuration that is only partly valid. The crate does no I/O and keeps no state.
//!
//! # Evaluate an action
//!
//! ```
//! use countersign_core::verdict::Verdict;
//! use countersign_policy::{Configuration, Facts, Sources, run_cases};
//! use serde_json::json;
//!
//! let sources = Sources {
//!     policy: r#"
//! version: "1"
//! default: {verdict: deny, reason: no rule allows this, audit: {rate: 0.0, group: auditors}}
//! on_error: {verdict: deny, reason: a rule could not be evaluated, audit: {rate: 0.0, group: auditors}}
//! rules:
//!   - id: small-refunds
//!     when: tool.name == "refund" && decimal(action.arguments.amount) <= decimal("50")
//!     verdict: allow
//!     audit: {rate: 0.1, group: auditors}
//!   - id: refunds
//!     when: tool.name == "refund"
//!     verdict: require_approval
//!     group: supervisors
//!     expires_after: 30m
//!     audit: {rate: 0.5, group: auditors}
//! "#.into(),
//!     tools: r#"
//! egress: {allow_hosts: [tools.example.com]}
//! tools:
//!   - name: refund
//!     description: Refunds a payment
//!     connector: {http: {url: "https://tools.example.com/refund"}}
//!     arguments: {type: object, required: [amount], properties: {amount: {type: string}}}
//!     timeout: 5s
//!     idempotent: true
//! "#.into(),
//!     directory: r#"
//! groups: [supervisors, auditors]
//! agents: [{id: helpdesk, amqp_user: agent-helpdesk}]
//! reviewers: [{id: sam, amqp_user: reviewer-sam, groups: [supervisors]}]
//! auditors: [{id: ada, amqp_user: auditor-ada, groups: [auditors]}]
//! "#.into(),
//! };
//! let configuration = Configuration::parse(&sources).expect("the texts are valid");
//!
//! let tool = configuration.tools.get("refund").expect("the tool is registered");
//! let action = json!({"tool": "refund", "arguments": {"amount": "80.00"}});
//! tool.check_arguments(&action["arguments"]).expect("the arguments match the schema");
//! let agent = json!({"id": "helpdesk"});
//! let facts = Facts { action: &action, agent: &agent, tool, now: chrono::DateTime::UNIX_EPOCH };
//!
//! let evaluation = configuration.policy.evaluate(&facts);
//! assert_eq!((evaluation.verdict, evaluation.rule), (Verdict::RequireApproval, "refunds"));
//! assert_eq!(evaluation.approval.map(|approval| approval.require[0].group.as_str()), Some("supervisors"));
//!
//! // An amount that is no number does not fall through to the next rule: `on_error` decides.
//! let action = json!({"tool": "refund", "arguments": {"amount": "many"}});
//! let evaluation = configuration.policy.evaluate(&Facts { action: &action, ..facts });
//! assert_eq!((evaluation.verdict, evaluation.rule), (Verdict::Deny, "on-error"));
//!
//! // Test cases state what the policy's author expects.
//! let cases = r#"
//! cases:
//!   - name: a small refund runs at once
//!     action: {tool: refund, arguments: {amount: "20"}}
//!     expect: {verdict: allow, rule: small-refunds}
//! "#;
//! let results = run_cases(&configuration, cases).expect("the cases are valid");
//! assert!(results.iter().all(|result| result.passed));
//! ```
//!
//! # Problems
//!
//! ```
//! use countersign_policy::{Configuration, Sources};
//!
//! let directory = "groups: [supervisors]\nagents: []\nreviewers: [{id: Sam, groups: [supervisors]}]\n".into();
//! let sources = Sources { directory, tools: "tools: []".into(), policy: "version: 1".into() };
//! let problems = Configuration::parse(&sources).expect_err("the id is not valid");
//! assert!(problems[0].to_string().starts_with("directory.yaml:3: \"Sam\" is not a valid id of a person; use"));
//! assert!(problems.iter().any(|problem| problem.file == "policy.yaml"), "all files are checked");
//! ```
//!
//! # Where to find what
//!
//! Models such as [`Policy`] and [`Directory`] have a module each. The YAML forms, their checks and the way to the
//! models are in `parse`. CEL is in `expr`.

mod amount;
mod audit;
mod cases;
mod configuration;
mod connector;
mod diagnostic;
mod directory;
mod evaluation;
mod explanation;
mod expr;
mod facts;
mod hex;
mod inclusion;
mod key_registration;
mod limit;
mod parse;
mod policy;
mod problem;
mod schema;
mod score;
mod tools;
mod warnings;

pub use audit::{AuditSpec, Audits, Switching};
pub use cases::{CaseResult, run_cases};
pub use configuration::Configuration;
pub use connector::{AmqpConnector, Connector, Egress, HttpConnector};
pub use countersign_core::sources::Sources;
pub use directory::{
    Agent, App, Authority, ComplianceReader, Directory, KeyRefusal, Member, Operator, PublicKey, Sender,
};
pub use evaluation::{Evaluation, RuleError};
pub use explanation::{Explanation, RuleResult, RuleTrace};
pub use facts::Facts;
pub use inclusion::{Ended, Inclusion};
pub use key_registration::{add_missing_keys, registered_keys};
pub use limit::LimitUse;
pub use policy::{INTAKE, LimitSummary, Policy};
pub use problem::{CASES_FILE, DIRECTORY_FILE, POLICY_FILE, Problem, TOOLS_FILE};
pub use score::Score;
pub use tools::{Reversible, Tool, ToolRegistry};

#[cfg(test)]
mod tests;
