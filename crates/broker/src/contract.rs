//! The contract as an AsyncAPI 3 document: every exchange, queue, routing key, message and code.
//!
//! Generated from the types of the messages and from a table that is checked against the topology; written to
//! `docs/asyncapi.json`.

mod messages;

use countersign_core::{
    message::CONTENT_TYPE,
    refusal::{CHOSEN, Code, PATTERNS},
};
use serde_json::{Map, Value, json};

use crate::topology::{
    ANSWERS, APPROVALS, AUDIT_STREAM, AUDITS, COMMANDS, DECISIONS, EXECUTION, FEEDBACK, FINDINGS, OUTCOMES,
    QUARANTINE, SETTLED,
};

/// The direction of messages, seen from Countersign.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Others publish, Countersign consumes.
    Inbound,
    /// Countersign publishes, others consume.
    Outbound,
    /// Between processes of Countersign.
    Internal,
}

/// An exchange with the queue bound to it, as a reader of the contract sees them.
struct Route {
    name: &'static str,
    exchange: &'static str,
    /// `{parameters}` are explained in [`PARAMETERS`].
    key: &'static str,
    queue: &'static str,
    direction: Direction,
    summary: &'static str,
    messages: &'static [&'static str],
}

const ROUTES: &[Route] = &[
    Route {
        name: "actions",
        exchange: "countersign.actions.{agent}",
        key: "{tool}",
        queue: "countersign.actions.{agent}",
        direction: Direction::Inbound,
        summary: "Each agent proposes and withdraws actions at an exchange of its own.",
        messages: &["actionProposed", "actionCancelled"],
    },
    Route {
        name: "outcomes",
        exchange: OUTCOMES,
        key: "agent.{agent}",
        queue: "countersign.outcomes.{agent}",
        direction: Direction::Outbound,
        summary: "Each agent receives the outcomes of its actions.",
        messages: &["actionOutcome"],
    },
    Route {
        name: "approvals",
        exchange: APPROVALS,
        key: "{group}",
        queue: "countersign.approvals.{group}",
        direction: Direction::Outbound,
        summary: "Reviewer apps receive the approval requests for their groups.",
        messages: &["approvalRequested"],
    },
    Route {
        name: "decisions",
        exchange: DECISIONS,
        key: "{any}",
        queue: "countersign.decisions",
        direction: Direction::Inbound,
        summary: "Reviewers and their apps publish signed decisions.",
        messages: &["approvalDecided"],
    },
    Route {
        name: "answers",
        exchange: ANSWERS,
        key: "{sender}",
        queue: "countersign.answers.{sender}",
        direction: Direction::Outbound,
        summary: "The sender of a decision receives its result.",
        messages: &["approvalAnswered"],
    },
    Route {
        name: "audits",
        exchange: AUDITS,
        key: "{group}",
        queue: "countersign.audits.{group}",
        direction: Direction::Outbound,
        summary: "Auditors receive the audits requested from their groups.",
        messages: &["auditRequested"],
    },
    Route {
        name: "findings",
        exchange: FINDINGS,
        key: "{any}",
        queue: "countersign.findings",
        direction: Direction::Inbound,
        summary: "Auditors publish signed findings.",
        messages: &["auditFinding"],
    },
    Route {
        name: "feedback",
        exchange: FEEDBACK,
        key: "agent.{agent}",
        queue: "countersign.feedback.{agent}",
        direction: Direction::Outbound,
        summary: "Each agent, and those who train it, receives feedback on its actions.",
        messages: &["feedback"],
    },
    Route {
        name: "auditStream",
        exchange: AUDIT_STREAM,
        key: "evidence",
        queue: "countersign.audit-stream",
        direction: Direction::Outbound,
        summary: "Compliance receives every entry of the ledger in order. This is a stream: consume with `x-stream-offset` and store your offset.",
        messages: &["evidenceRecorded"],
    },
    Route {
        name: "execution",
        exchange: EXECUTION,
        key: "permits",
        queue: "countersign.execution",
        direction: Direction::Internal,
        summary: "The router publishes permits; executors consume them.",
        messages: &["permitPack"],
    },
    Route {
        name: "settled",
        exchange: SETTLED,
        key: "{any}",
        queue: "countersign.settled",
        direction: Direction::Internal,
        summary: "Executors report to the sampler which actions have ended and been answered.",
        messages: &["settledPack"],
    },
    Route {
        name: "commands",
        exchange: COMMANDS,
        key: "{role}",
        queue: "countersign.commands.{role}",
        direction: Direction::Internal,
        summary: "Sweeps ask the worker that owns a transition to check whether it is due.",
        messages: &["command"],
    },
    Route {
        name: "quarantine",
        exchange: QUARANTINE,
        key: "{any}",
        queue: "countersign.quarantine",
        direction: Direction::Internal,
        summary: "Messages that no queue accepted or that a queue dropped, on their way to the quarantine table.",
        messages: &["quarantined"],
    },
];

/// The meaning of the parameters in braces.
const PARAMETERS: &[(&str, &str)] = &[
    ("tool", "The name of the tool in the registry."),
    ("agent", "The agent's id in the directory."),
    ("group", "A group of the directory."),
    ("sender", "The sender's id in the directory: a reviewer or an app."),
    ("role", "router, executor or sampler."),
    ("any", "Any routing key: the queue is bound to all."),
];

/// The document.
pub fn asyncapi() -> Value {
    let (messages, schemas) = messages::all();
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for route in ROUTES {
        let (exchange, queue) = (route.name.to_owned(), format!("{}Queue", route.name));
        let mut operation = |name: String, action: &str, channel: &str| {
            let channel = json!({"$ref": format!("#/channels/{channel}")});
            operations.insert(name, json!({"action": action, "channel": channel, "summary": route.summary}));
        };
        if route.direction != Direction::Outbound {
            let from = if route.direction == Direction::Inbound { &exchange } else { &queue };
            operation(format!("receive_{}", route.name), "receive", from);
        }
        if route.direction != Direction::Inbound {
            operation(format!("send_{}", route.name), "send", &exchange);
        }
        channels.insert(exchange, channel(route, route.key, &exchange_binding(route)));
        channels.insert(queue, channel(route, route.queue, &queue_binding(route)));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Countersign",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ, in the virtual host of your URL. Each user has only the permissions that its role needs.",
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "user": {"type": "userPassword", "description": "The AMQP user that the directory names."},
            },
        },
        "x-refusals": refusals(),
        "x-code-patterns": PATTERNS,
        "x-chosen-codes": chosen(),
    })
}

const INTRODUCTION: &str = "\
Agents propose actions, reviewers decide those that need it, auditors judge a sample of what was executed. Every \
message is a CloudEvents 1.0 event in structured JSON mode, persistent, with the AMQP properties `message_id` (the \
event's id) and `user_id` (your own user, which the broker validates: it identifies the sender). Messages are delivered \
at least once: ignore those whose event id you have already processed. A channel named `…Queue` is the queue bound to \
the exchange of the channel without that suffix. `x-refusals` lists every code with its meaning, `x-code-patterns` those \
with a variable part, and `x-chosen-codes` says which codes policies, reviewers and tools choose themselves.";

fn channel(route: &Route, address: &str, binding: &Value) -> Value {
    let messages: Map<String, Value> = route
        .messages
        .iter()
        .map(|name| ((*name).into(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect();
    let parameters: Map<String, Value> = PARAMETERS
        .iter()
        .filter(|(name, _)| address.contains(&format!("{{{name}}}")))
        .map(|(name, text)| ((*name).into(), json!({"description": text})))
        .collect();
    let mut channel = json!({
        "address": address, "summary": route.summary, "messages": messages, "bindings": {"amqp": binding},
    });
    if !parameters.is_empty() {
        channel["parameters"] = parameters.into();
    }
    channel
}

fn exchange_binding(route: &Route) -> Value {
    let kind = if route.exchange == QUARANTINE { "fanout" } else { "topic" };
    json!({
        "is": "routingKey", "bindingVersion": "0.3.0",
        "exchange": {"name": route.exchange, "type": kind, "durable": true, "autoDelete": false},
    })
}

fn queue_binding(route: &Route) -> Value {
    json!({
        "is": "queue", "bindingVersion": "0.3.0",
        "queue": {"name": route.queue, "durable": true, "exclusive": false, "autoDelete": false},
    })
}

/// Every code with its meaning.
fn refusals() -> Value {
    let one = |code: &Code| json!({"code": code, "of": code.of(), "meaning": code.meaning()});
    Code::ALL.iter().map(one).collect()
}

/// The codes that others choose.
fn chosen() -> Value {
    CHOSEN.iter().map(|(at, meaning)| json!({"where": at, "meaning": meaning})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_explained_and_every_message_exists() {
        let (messages, _) = messages::all();
        for route in ROUTES {
            for text in [route.key, route.queue] {
                let named = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
                let explained = |name: &str| PARAMETERS.iter().any(|(known, _)| *known == name);
                assert!(named.is_none_or(|(name, _)| explained(name)), "{text}");
            }
            assert!(route.messages.iter().all(|name| messages.contains_key(*name)), "{}", route.name);
        }
    }
}
