//! `tools.yaml` with its JSON Schemas: no tool calls a host that is not allowed, and none writes to our own queues.
#![no_main]

use countersign_core::json::parse_strict;
use countersign_fuzz::{configuration, sources, text};
use countersign_policy::{Connector, Sources};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let Some(tools) = text(data) else { return };
    let Some(configuration) = configuration(&Sources { tools: tools.into(), ..sources() }) else { return };
    for tool in configuration.tools.iter() {
        match tool.connector() {
            Connector::Http(http) => {
                let url = url::Url::parse(&http.url).expect("the URL was checked");
                let host = url.host_str().unwrap_or_default().to_owned();
                assert!(configuration.tools.egress().allow_hosts.contains(&host), "{url}");
                assert!(["http", "https"].contains(&url.scheme()) && url.password().is_none(), "{url}");
            }
            Connector::Amqp(amqp) => {
                assert!(!amqp.exchange.starts_with("countersign."));
                assert!(!amqp.exchange.is_empty() || !amqp.routing_key.starts_with("countersign."));
            }
        }
        assert!(tool.attempts() == 1 || tool.idempotent(), "a tool that is not idempotent has one attempt");
        let deep = parse_strict(format!("{{\"a\":{}{}}}", "[".repeat(60), "]".repeat(60)).as_bytes());
        for arguments in
            [json!({}), json!({"a": "x", "b": [1, 2, 1], "c": {"d": 1.5}}), deep.expect("the depth is within the limit")]
        {
            assert_eq!(tool.check_arguments(&arguments).is_ok(), tool.check_arguments(&arguments).is_ok());
        }
    }
});
