//! What is valid in a configuration and still hardly meant.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::{
    directory::Directory,
    expr::Expression,
    policy::{Policy, Rule},
    problem::{POLICY_FILE, Problem},
    tools::{Tool, ToolRegistry},
};

/// What an agent says of itself and of its action, in whatever words it likes.
const CHOSEN: [&str; 9] = [
    "agent.version",
    "agent.model",
    "agent.on_behalf_of",
    "action.id",
    "action.reason",
    "action.task",
    "action.context",
    "action.expires_at",
    "action.compensates",
];
/// Keywords that leave a value one spelling, or few.
const BOUNDING: [&str; 4] = ["enum", "const", "pattern", "format"];
/// Types whose values have one spelling each.
const PLAIN_TYPES: [&str; 2] = ["integer", "boolean"];

/// The warnings about a policy whose actions use these tools.
pub(crate) fn of(policy: &Policy, tools: &ToolRegistry, directory: &Directory) -> Vec<Problem> {
    let chosen = policy.rules.iter().flat_map(|rule| chosen_keys(rule, tools));
    let scores = policy.rules.iter().flat_map(|rule| chosen_scores(rule, tools));
    chosen.chain(scores).chain(shared_sums(policy)).chain(lone_auditors(policy, directory)).collect()
}

/// Groups of a single person, who would be shown what they have judged: there are no gold items for them.
fn lone_auditors(policy: &Policy, directory: &Directory) -> Vec<Problem> {
    if policy.audits().gold <= 0.0 {
        return vec![];
    }
    let groups: BTreeSet<&str> = policy.audit_groups().collect();
    let people = |group: &str| {
        let members = directory.auditors().iter().filter(|member| member.groups.contains(group));
        members.map(|member| member.person.as_str()).collect::<BTreeSet<&str>>().len()
    };
    let lone = groups.into_iter().filter(|group| people(group) == 1);
    let warning = |group: &str| {
        let message = format!("audits.gold has no effect for {group:?}: only one person audits there");
        let help = "a gold item goes to somebody who has not judged it before; add an auditor to the group";
        Problem::new(POLICY_FILE, policy.audits().gold_line, message, help)
    };
    lone.map(warning).collect()
}

/// Limits without ids that count the same: they are one, although their rules are not.
fn shared_sums(policy: &Policy) -> Vec<Problem> {
    let mut first = HashMap::new();
    let limits = policy.rules.iter().filter_map(|rule| Some((rule, rule.limit.as_ref()?)));
    let unnamed = limits.filter(|(_, limit)| !limit.named);
    let shared = unnamed.filter_map(|(rule, limit)| {
        let other = *first.entry(&limit.identity).or_insert(&rule.id);
        let message =
            format!("the limits of the rules {other:?} and {:?} are one: actions of both add up", rule.id);
        let help = "give each an id: of its own, or both the same if that is meant";
        (other != &rule.id).then(|| Problem::new(POLICY_FILE, limit.line, message, help))
    });
    shared.collect()
}

/// Keys of a limit that the agent whom it limits chooses: with another one for each action it never reaches the limit.
fn chosen_keys(rule: &Rule, tools: &ToolRegistry) -> Vec<Problem> {
    let Some(limit) = &rule.limit else { return vec![] };
    let tools = tools_of(rule, tools);
    let chosen = limit.by.iter().filter_map(|key| chosen(key, &tools));
    let warning = |path: String| {
        let message =
            format!("the limit of the rule {:?} is per {path}, which the agent chooses freely", rule.id);
        let help =
            "use agent.id, or an argument that the tool's schema bounds by enum, const, pattern or format";
        Problem::new(POLICY_FILE, limit.line, message, help)
    };
    chosen.map(warning).collect()
}

/// The tools of the actions that a rule decides.
fn tools_of<'t>(rule: &Rule, tools: &'t ToolRegistry) -> Vec<&'t Tool> {
    let named = rule.condition.tools();
    tools.iter().filter(|tool| named.is_empty() || named.iter().any(|name| name == tool.name())).collect()
}

/// A score of what the agent chooses, who thereby chooses how much more than the rate it is audited.
fn chosen_scores(rule: &Rule, tools: &ToolRegistry) -> Option<Problem> {
    let score = rule.effect.score.as_ref()?;
    let path = chosen(&score.expression, &tools_of(rule, tools))?;
    let message = format!("the score of the rule {:?} reads {path}, which the agent chooses freely", rule.id);
    let help = "it raises audits above the rate only as far as the agent lets it, and never lowers them: set a rate that is \
                enough by itself, or use an argument that the tool's schema bounds by enum, const, pattern or format";
    Some(Problem::new(POLICY_FILE, score.line, message, help))
}

/// The first field that a key or a score reads and the agent chooses.
fn chosen(key: &Expression, tools: &[&Tool]) -> Option<String> {
    let whole = |path: &&String| {
        let longer =
            |other: &String| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        !key.paths().iter().any(longer)
    };
    let is_chosen = |path: &&String| match path.strip_prefix("action.arguments") {
        Some(argument) => !tools.iter().all(|tool| is_bounded(tool.schema(), argument)),
        None => CHOSEN.iter().any(|field| path.starts_with(field)),
    };
    key.paths().iter().filter(whole).find(is_chosen).cloned()
}

/// Whether a schema bounds an argument, given as a path such as `.payee.account`.
fn is_bounded(schema: &Value, argument: &str) -> bool {
    let names = argument.split('.').skip(1);
    let found = names.into_iter().try_fold(schema, |schema, name| schema.get("properties")?.get(name));
    found.is_some_and(|schema| {
        BOUNDING.iter().any(|keyword| schema.get(keyword).is_some())
            || schema.get("type").and_then(Value::as_str).is_some_and(|kind| PLAIN_TYPES.contains(&kind))
    })
}
