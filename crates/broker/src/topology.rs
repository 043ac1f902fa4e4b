//! Every exchange and queue, as data. `deploy/rabbitmq/definitions.json` is generated from here.

use std::collections::BTreeSet;

use countersign_policy::Directory;
use serde_json::{Map, Value, json};

/// Agents publish proposals to exchanges whose names begin so: see [`actions_exchange`].
pub const ACTIONS: &str = "countersign.actions";
/// Outcomes to agents, routing key `agent.<agent id>`.
pub const OUTCOMES: &str = "countersign.outcomes";
/// Approval requests, routing key = group.
pub const APPROVALS: &str = "countersign.approvals";
/// Reviewers' decisions.
pub const DECISIONS: &str = "countersign.decisions";
/// Results of decisions, routing key = the sender.
pub const ANSWERS: &str = "countersign.answers";
/// Permits: the router alone may write.
pub const EXECUTION: &str = "countersign.execution";
/// Actions whose outcomes have been published, to the sampler.
pub const SETTLED: &str = "countersign.settled";
/// Audits, routing key = group.
pub const AUDITS: &str = "countersign.audits";
/// Auditors' findings.
pub const FINDINGS: &str = "countersign.findings";
/// Human feedback on actions, routing key `agent.<agent id>`.
pub const FEEDBACK: &str = "countersign.feedback";
/// The sweeps' commands, routing key = role.
pub const COMMANDS: &str = "countersign.commands";
/// The ledger's entries, as a stream.
pub const AUDIT_STREAM: &str = "countersign.audit-stream";
/// Messages that could not be processed or routed.
pub const QUARANTINE: &str = "countersign.quarantine";

/// The queue of commands to a role.
pub fn commands_queue(role: &str) -> String {
    format!("{COMMANDS}.{role}")
}

/// The exchange that one agent publishes its proposals to, with the tool's name as routing key, and the name of its queue. No
/// other agent can write to it, so that one agent's flood fills nobody else's queue.
pub fn actions_exchange(agent: &str) -> String {
    format!("{ACTIONS}.{agent}")
}

/// Whether an exchange takes an agent's proposals.
pub fn takes_actions(exchange: &str) -> bool {
    exchange.strip_prefix(ACTIONS).is_some_and(|agent| agent.starts_with('.'))
}

/// The queue of outcomes to one agent.
pub fn outcomes_queue(agent: &str) -> String {
    format!("{OUTCOMES}.{agent}")
}

/// The queue of feedback to one agent.
pub fn feedback_queue(agent: &str) -> String {
    format!("{FEEDBACK}.{agent}")
}

/// The routing key of outcomes and feedback to an agent.
pub fn agent_key(agent: &str) -> String {
    format!("agent.{agent}")
}

/// The queue of approval requests to a group.
pub fn approvals_queue(group: &str) -> String {
    format!("{APPROVALS}.{group}")
}

/// The queue of answers to a reviewer or app.
pub fn answers_queue(sender: &str) -> String {
    format!("{ANSWERS}.{sender}")
}

/// The queue of audits for a group.
pub fn audits_queue(group: &str) -> String {
    format!("{AUDITS}.{group}")
}

/// An exchange. All are durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `topic` or `fanout`.
    pub kind: &'static str,
    /// Arguments as the management API writes them.
    pub arguments: Map<String, Value>,
}

/// A queue. All are durable quorum queues, except the audit stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Arguments as the management API writes them.
    pub arguments: Map<String, Value>,
    /// The exchange it is bound to, and with which key.
    pub binding: (String, String),
}

/// All of it, in the order in which it must be declared: the quarantine before whatever dead-letters to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// In the order of declaration.
    pub exchanges: Vec<Exchange>,
    /// In the order of declaration.
    pub queues: Vec<Queue>,
}

/// How full the queues may get.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages in a queue that others read before its oldest are dropped; PostgreSQL has them all.
    pub reader_messages: u64,
    /// Bytes in such a queue.
    pub reader_bytes: u64,
    /// Messages in an agent's queue, before the agent is refused: what one leaves there must not fill the broker's disk.
    pub agent_messages: u64,
    /// Bytes in such a queue.
    pub agent_bytes: u64,
    /// Messages in one of our own queues, before the publisher is refused.
    pub own_messages: u64,
    /// Bytes in one of our own queues, before the publisher is refused.
    pub own_bytes: u64,
    /// Bytes in the audit stream, before its oldest segment is dropped.
    pub stream_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reader_messages: 100_000,
            reader_bytes: 256 << 20,
            agent_messages: 100_000,
            agent_bytes: 256 << 20,
            own_messages: 1_000_000,
            own_bytes: 4 << 30,
            stream_bytes: 20 << 30,
        }
    }
}

/// A delivery limit that no outage reaches: a lane detects poison messages itself.
const DELIVERY_LIMIT: u64 = 1_000_000;

fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A queue that our workers read. When it is full, it refuses the publisher; a message it cannot keep goes to the quarantine.
fn inbound(name: &str, exchange: &str, key: &str, messages: u64, bytes: u64) -> Queue {
    let arguments = arguments(json!({
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-overflow": "reject-publish",
        "x-max-length": messages,
        "x-max-length-bytes": bytes,
        "x-dead-letter-exchange": QUARANTINE,
        "x-dead-letter-strategy": "at-least-once",
    }));
    Queue { name: name.into(), arguments, binding: (exchange.into(), key.into()) }
}

/// A queue of our own.
fn own(name: &str, exchange: &str, key: &str, limits: &Limits) -> Queue {
    inbound(name, exchange, key, limits.own_messages, limits.own_bytes)
}

/// A queue that others read. When it is full, it drops its oldest message, so that a silent reader blocks nobody.
fn reader(name: String, exchange: &str, key: String, limits: &Limits) -> Queue {
    let arguments = arguments(json!({
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-overflow": "drop-head",
        "x-max-length": limits.reader_messages,
        "x-max-length-bytes": limits.reader_bytes,
    }));
    Queue { name, arguments, binding: (exchange.into(), key) }
}

/// The audit stream. Each reader keeps its own position. When it is full, it drops its oldest segment; the ledger has all.
fn stream(limits: &Limits) -> Queue {
    let arguments = arguments(json!({
        "x-queue-type": "stream",
        "x-max-length-bytes": limits.stream_bytes,
        "x-stream-max-segment-size-bytes": 100_u64 << 20,
    }));
    Queue { name: AUDIT_STREAM.into(), arguments, binding: (AUDIT_STREAM.into(), "#".into()) }
}

/// The quarantine queue only feeds the table; it has nowhere to dead-letter to.
fn quarantine(limits: &Limits) -> Queue {
    let arguments = arguments(json!({
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-overflow": "reject-publish",
        "x-max-length": limits.own_messages,
        "x-max-length-bytes": limits.own_bytes,
    }));
    Queue { name: QUARANTINE.into(), arguments, binding: (QUARANTINE.into(), "#".into()) }
}

impl Topology {
    /// The exchanges and queues for everyone in the directory.
    pub fn of(directory: &Directory, limits: &Limits) -> Self {
        let plain = |name: &str, kind| Exchange { name: name.into(), kind, arguments: Map::new() };
        // A message that no queue is bound for goes to the quarantine.
        let routed = |name: String| Exchange {
            arguments: arguments(json!({"alternate-exchange": QUARANTINE})),
            ..plain(&name, "topic")
        };
        let mut exchanges = vec![plain(QUARANTINE, "fanout")];
        let names = [
            OUTCOMES, APPROVALS, DECISIONS, ANSWERS, EXECUTION, SETTLED, AUDITS, FINDINGS, FEEDBACK, COMMANDS,
        ];
        exchanges.extend(names.map(str::to_owned).map(routed));
        exchanges.extend(directory.agents().iter().map(|agent| routed(actions_exchange(&agent.id))));
        // Without an alternate exchange: the feeder must learn that the stream is missing.
        exchanges.push(plain(AUDIT_STREAM, "topic"));

        let mut queues = vec![quarantine(limits)];
        queues.extend([DECISIONS, EXECUTION, SETTLED, FINDINGS].map(|name| own(name, name, "#", limits)));
        queues.extend(
            ["router", "executor", "sampler"].map(|role| own(&commands_queue(role), COMMANDS, role, limits)),
        );
        queues.push(stream(limits));
        for agent in directory.agents() {
            let actions = actions_exchange(&agent.id);
            queues.push(inbound(&actions, &actions, "#", limits.agent_messages, limits.agent_bytes));
            queues.push(reader(outcomes_queue(&agent.id), OUTCOMES, agent_key(&agent.id), limits));
            queues.push(reader(feedback_queue(&agent.id), FEEDBACK, agent_key(&agent.id), limits));
        }
        let groups = |members: &[countersign_policy::Member]| {
            members.iter().flat_map(|member| member.groups.clone()).collect::<BTreeSet<_>>()
        };
        for group in groups(directory.reviewers()) {
            queues.push(reader(approvals_queue(&group), APPROVALS, group, limits));
        }
        for sender in directory.senders() {
            queues.push(reader(answers_queue(sender.id()), ANSWERS, sender.id().into(), limits));
        }
        for group in groups(directory.auditors()) {
            queues.push(reader(audits_queue(&group), AUDITS, group, limits));
        }
        Self { exchanges, queues }
    }
}

impl Topology {
    /// The queues of agents' proposals.
    pub fn inbound(&self) -> Vec<String> {
        let names = self.queues.iter().map(|queue| queue.name.clone());
        names.filter(|name| takes_actions(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use countersign_policy::Sources;

    use super::*;

    #[test]
    fn every_queue_is_bound_to_a_declared_exchange_and_every_exchange_has_a_queue() {
        let example = |name: &str| {
            let path = format!("{}/../../examples/airline/{name}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap().replace("${AIRLINE_TOOLS_URL}", "http://127.0.0.1:1")
        };
        let [policy, tools, directory] = ["policy.yaml", "tools.yaml", "directory.yaml"].map(example);
        let sources = Sources { policy, tools, directory };
        let configuration = countersign_policy::Configuration::parse(&sources).unwrap();
        let topology = Topology::of(&configuration.directory, &Limits::default());
        let exchanges: BTreeSet<&str> = topology.exchanges.iter().map(|one| one.name.as_str()).collect();
        for queue in &topology.queues {
            assert!(exchanges.contains(queue.binding.0.as_str()), "{}", queue.name);
        }
        let bound: BTreeSet<&str> = topology.queues.iter().map(|queue| queue.binding.0.as_str()).collect();
        assert_eq!(exchanges, bound);
    }
}
