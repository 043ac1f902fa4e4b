//! The contract as an AsyncAPI 3 document: every exchange, queue, routing key, message and refusal.
//!
//! Generated from the same types that travel and the same table that is checked against the topology; written to
//! `docs/asyncapi.json`.

mod messages;

use countersign_core::{message::CONTENT_TYPE, refusal::Code};
use serde_json::{Map, Value, json};

use crate::topology::{
    ACTIONS, ANSWERS, APPROVALS, AUDIT_STREAM, AUDITS, COMMANDS, DECISIONS, EXECUTION, FEEDBACK, FINDINGS,
    OUTCOMES, QUARANTINE, SETTLED,
};

/// Which way messages go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Others publish, we read.
    In,
    /// We publish, others read.
    Out,
    /// Both ends are ours.
    Inner,
}

/// An exchange with the queue that hangs off it, as a reader of the contract sees them.
struct Route {
    name: &'static str,
    exchange: &'static str,
    /// `{parameters}` are explained in [`PARAMETERS`].
    key: &'static str,
    queue: &'static str,
    way: Way,
    who: &'static str,
    messages: &'static [&'static str],
}

const ROUTES: &[Route] = &[
    Route {
        name: "actions",
        exchange: ACTIONS,
        key: "{tool}",
        queue: "countersign.actions",
        way: Way::In,
        who: "Agents propose actions, and withdraw them.",
        messages: &["actionProposed", "actionCancelled"],
    },
    Route {
        name: "outcomes",
        exchange: OUTCOMES,
        key: "agent.{agent}",
        queue: "countersign.outcomes.{agent}",
        way: Way::Out,
        who: "Each agent reads how its actions ended.",
        messages: &["actionOutcome"],
    },
    Route {
        name: "approvals",
        exchange: APPROVALS,
        key: "{group}",
        queue: "countersign.approvals.{group}",
        way: Way::Out,
        who: "Reviewer apps read what their groups are asked.",
        messages: &["approvalRequested"],
    },
    Route {
        name: "decisions",
        exchange: DECISIONS,
        key: "{any}",
        queue: "countersign.decisions",
        way: Way::In,
        who: "Reviewers and their apps publish what was decided, signed.",
        messages: &["approvalDecided"],
    },
    Route {
        name: "answers",
        exchange: ANSWERS,
        key: "{sender}",
        queue: "countersign.answers.{sender}",
        way: Way::Out,
        who: "Whoever sent a decision reads what became of it.",
        messages: &["approvalAnswered"],
    },
    Route {
        name: "audits",
        exchange: AUDITS,
        key: "{group}",
        queue: "countersign.audits.{group}",
        way: Way::Out,
        who: "Auditors read what was executed and drawn for audit.",
        messages: &["auditRequested"],
    },
    Route {
        name: "findings",
        exchange: FINDINGS,
        key: "{any}",
        queue: "countersign.findings",
        way: Way::In,
        who: "Auditors publish what they found.",
        messages: &["auditFinding"],
    },
    Route {
        name: "feedback",
        exchange: FEEDBACK,
        key: "agent.{agent}",
        queue: "countersign.feedback.{agent}",
        way: Way::Out,
        who: "Each agent, and whoever trains it, reads what humans detail of its actions.",
        messages: &["feedback"],
    },
    Route {
        name: "auditStream",
        exchange: AUDIT_STREAM,
        key: "evidence",
        queue: "countersign.audit-stream",
        way: Way::Out,
        who: "Compliance reads every entry of the ledger, in order. A stream: give `x-stream-offset` and keep your place.",
        messages: &["evidenceRecorded"],
    },
    Route {
        name: "execution",
        exchange: EXECUTION,
        key: "permits",
        queue: "countersign.execution",
        way: Way::Inner,
        who: "The router alone writes permits; executors read them.",
        messages: &["permitPack"],
    },
    Route {
        name: "settled",
        exchange: SETTLED,
        key: "{any}",
        queue: "countersign.settled",
        way: Way::Inner,
        who: "Executors tell the sampler what was executed and answered.",
        messages: &["settledPack"],
    },
    Route {
        name: "commands",
        exchange: COMMANDS,
        key: "{role}",
        queue: "countersign.commands.{role}",
        way: Way::Inner,
        who: "Sweeps ask the owner of a transition to look again.",
        messages: &["command"],
    },
    Route {
        name: "quarantine",
        exchange: QUARANTINE,
        key: "{any}",
        queue: "countersign.quarantine",
        way: Way::Inner,
        who: "What no queue took, or a queue gave up, on its way to the table of quarantined messages.",
        messages: &["quarantined"],
    },
];

/// What stands in braces.
const PARAMETERS: &[(&str, &str)] = &[
    ("tool", "The name of the tool in the registry."),
    ("agent", "The agent's id in the directory."),
    ("group", "A group of the directory."),
    ("sender", "The id in the directory of the reviewer or app that sent the decision."),
    ("role", "router, executor or sampler."),
    ("any", "Any key: the queue takes all."),
];

/// The document.
pub fn asyncapi() -> Value {
    let (messages, schemas) = messages::all();
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for route in ROUTES {
        let (exchange, queue) = (route.name.to_owned(), format!("{}Queue", route.name));
        let mut operation = |name: String, action: &str, channel: &str| {
            let channel = json!({"$ref": format!("#/channels/{channel}")});
            operations.insert(name, json!({"action": action, "channel": channel, "summary": route.who}));
        };
        if route.way != Way::Out {
            let from = if route.way == Way::In { &exchange } else { &queue };
            operation(format!("receive_{}", route.name), "receive", from);
        }
        if route.way != Way::In {
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
                "description": "RabbitMQ, in the virtual host of your URL. Each user may do what its role needs.",
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            },
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "user": {"type": "userPassword", "description": "The user that the directory names."},
            },
        },
        "x-refusals": refusals(),
    })
}

const INTRODUCTION: &str = "\
Agents propose actions, reviewers decide those that need it, auditors judge a sample of what was executed. Every \
message is a CloudEvents 1.0 event in structured JSON mode, persistent, with the AMQP properties `message_id` (the \
event's id) and `user_id` (your own user: the broker validates it, and it is the message's author). Messages come at \
least once: drop those whose event id you have seen. A channel named `…Queue` is what hangs off the exchange of the \
channel without that ending.";

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
        "address": address, "summary": route.who, "messages": messages, "bindings": {"amqp": binding},
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

/// Every refusal with its code.
fn refusals() -> Value {
    let one = |code: &Code| json!({"code": code, "of": code.of(), "meaning": code.meaning()});
    Code::ALL.iter().map(one).collect()
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
