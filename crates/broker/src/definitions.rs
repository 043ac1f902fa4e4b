//! Topology and access as a RabbitMQ definitions file: to be read, or imported before the first start.

use serde_json::{Value, json};

use crate::{access::Access, topology::Topology};

/// The definitions for one virtual host. Users come without a password, so nobody can log in as one of them
/// until `countersign users create` has given it one.
pub fn definitions(vhost: &str, topology: &Topology, access: &[Access]) -> Value {
    let exchanges: Vec<Value> = topology
        .exchanges
        .iter()
        .map(|exchange| {
            json!({
                "name": exchange.name, "vhost": vhost, "type": exchange.kind, "durable": true,
                "auto_delete": false, "internal": false, "arguments": exchange.arguments,
            })
        })
        .collect();
    let queues: Vec<Value> = topology
        .queues
        .iter()
        .map(|queue| {
            json!({
                "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
                "arguments": queue.arguments,
            })
        })
        .collect();
    let bindings: Vec<Value> = topology
        .queues
        .iter()
        .map(|queue| {
            json!({
                "source": queue.binding.0, "vhost": vhost, "destination": queue.name,
                "destination_type": "queue", "routing_key": queue.binding.1, "arguments": {},
            })
        })
        .collect();
    let users: Vec<Value> = access
        .iter()
        .map(|access| {
            json!({
                "name": access.user, "password_hash": "", "tags": [],
                "hashing_algorithm": "rabbit_password_hashing_sha256",
            })
        })
        .collect();
    let permissions: Vec<Value> = access
        .iter()
        .map(|access| {
            json!({
                "user": access.user, "vhost": vhost, "configure": "",
                "write": access.write_pattern(), "read": access.read_pattern(),
            })
        })
        .collect();
    json!({
        "vhosts": [{"name": vhost}], "users": users, "permissions": permissions,
        "exchanges": exchanges, "queues": queues, "bindings": bindings,
    })
}
