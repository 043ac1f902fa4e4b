use std::time::Duration;

use serde_json::json;

use super::{airline, broken, lines, parse};
use crate::{Configuration, Connector, Sources, parse::tools};

/// The problems of a registry with one tool, given from its line 3 on.
fn tool(fields: &str) -> String {
    let tools = format!("egress: {{allow_hosts: [127.0.0.1]}}\ntools:\n{fields}");
    let problems = Configuration::parse(&Sources { tools, ..airline() }).err().unwrap_or_default();
    let own: Vec<_> = problems.into_iter().filter(|problem| problem.file == "tools.yaml").collect();
    lines(&own)
}

const ONE: &str = "  - name: one
    description: One
    connector: {http: {url: \"http://127.0.0.1:1/one\"}}
    arguments: {type: object}
    timeout: 5s
    idempotent: true
";

#[test]
fn a_tool_defines_how_it_is_called() {
    let tools = parse(&airline()).tools;
    let cancel = tools.get("cancel_reservation").unwrap();
    assert_eq!(cancel.endpoint(), "POST http://127.0.0.1:8900/tools/cancel_reservation");
    assert_eq!((cancel.timeout(), cancel.attempts()), (Duration::from_secs(5), 3));
    // Three attempts of 5 s, and pauses of 100 ms and 200 ms.
    assert_eq!(cancel.budget(), Duration::from_millis(15_300));
    assert_eq!(cancel.pause_before(1), Duration::ZERO);
    assert_eq!(cancel.pause_before(3), Duration::from_millis(200));
    assert!(cancel.version().starts_with("sha256:") && cancel.version().len() == 23);
    let handover = tools.get("transfer_to_human_agents").unwrap();
    assert_eq!((handover.idempotent(), handover.attempts()), (false, 1));
    assert!(tools.get("Cancel_reservation").is_none());
    assert_eq!(tools.egress().allow_private, ["127.0.0.1"]);
}

#[test]
fn a_changed_definition_is_another_version_and_no_other_tool_changes() {
    let before = parse(&airline()).tools;
    let mut sources = airline();
    sources.tools = sources.tools.replacen("timeout: 5s", "timeout: 6s", 1);
    let after = parse(&sources).tools;
    let changed: Vec<_> = before
        .iter()
        .filter(|tool| after.get(tool.name()).unwrap().version() != tool.version())
        .map(|tool| tool.name().to_owned())
        .collect();
    assert_eq!(changed, ["get_user_details"]);
}

#[test]
fn arguments_that_do_not_match_are_reported_with_their_place() {
    let tools = parse(&airline()).tools;
    let bags = tools.get("update_reservation_baggages").unwrap();
    let error = bags
        .check_arguments(&json!({"reservation_id": "qk7r2m", "total_baggages": "two", "nonfree_baggages": 0, "payment_id": "card"}))
        .unwrap_err();
    assert!(error.contains("arguments/reservation_id: "), "{error}");
    assert!(error.contains("arguments/total_baggages: \"two\" is not of type \"integer\""), "{error}");
    assert!(bags.check_arguments(&json!(["x"])).is_err());
    let long = json!({"thought": "x".repeat(20_000)});
    assert!(tools.get("think").unwrap().check_arguments(&long).unwrap_err().len() < 1_000);
}

#[test]
fn a_compensation_is_made_from_the_action_and_its_result() {
    let tools = parse(&airline()).tools;
    let certificate = tools.get("send_certificate").unwrap().reversible().unwrap();
    assert_eq!((certificate.by(), certificate.within()), ("revoke_certificate", Duration::from_secs(86_400)));
    let action = json!({"tool": "send_certificate", "arguments": {"amount": 50}});
    let arguments =
        certificate.arguments(&action, &json!({"certificate_id": "certificate_5550001"})).unwrap();
    assert_eq!(arguments, json!({"certificate_id": "certificate_5550001"}));
    assert!(tools.get("revoke_certificate").unwrap().check_arguments(&arguments).is_ok());
    let error = certificate.arguments(&action, &json!({"done": true})).unwrap_err();
    assert_eq!(error, "argument certificate_id: there is no field \"certificate_id\"");
}

#[test]
fn no_list_is_too_long_to_be_undone() {
    let undone = "idempotent: true\n    reversible: {by: one, within: 1h, \
                  arguments: {items: action.arguments.items, known: result.items, two: \"2 in result.items\"}}";
    let one = ONE.replace("idempotent: true", undone);
    let parsed = parse(&Sources { tools: format!("{}{one}", airline().tools), ..airline() });
    let one = parsed.tools.get("one").unwrap();
    for length in [256, 257, 100_000] {
        let items: Vec<usize> = (0..length).collect();
        let object: serde_json::Map<_, _> = items.iter().map(|n| (n.to_string(), json!(n))).collect();
        // The schema allows them, and so the agent may send them, also where nobody reads them.
        let action = json!({"tool": "one", "arguments": {"items": items, "other": items, "object": object}});
        let arguments = one.reversible().unwrap().arguments(&action, &json!({"items": items}));
        assert_eq!(arguments.unwrap(), json!({"items": items, "known": items, "two": true}));
    }
    let looping = ONE.replace(
        "idempotent: true",
        "idempotent: true\n    reversible: {by: one, within: 1h, arguments: {a: \"result.items.map(i, i.id)\"}}",
    );
    let problems = tool(&looping);
    assert!(problems.contains("a compensation cannot loop"), "{problems}");
}

#[test]
fn a_tool_may_be_a_queue() {
    let amqp =
        ONE.replace("{http: {url: \"http://127.0.0.1:1/one\"}}", "{amqp: {routing_key: tools.letters}}");
    let tools = format!("{}{amqp}", airline().tools);
    let parsed = parse(&Sources { tools, ..airline() });
    let tool = parsed.tools.get("one").unwrap();
    assert_eq!(tool.endpoint(), "amqp:/tools.letters");
    assert!(matches!(tool.connector(), Connector::Amqp(_)));
    assert_eq!((tool.risk(), tool.attempts()), ("moderate", 1));
}

#[test]
fn a_tool_may_vouch_for_what_a_status_means() {
    let listed =
        ONE.replace("idempotent: true", "idempotent: false\n    certain_failures: [303, 408, 499, 503]");
    let parsed = parse(&Sources { tools: format!("{}{listed}", airline().tools), ..airline() });
    let one = parsed.tools.get("one").unwrap();
    let Connector::Http(http) = one.connector() else { panic!("{one:?}") };
    assert_eq!(http.certain_failures, [303, 408, 499, 503].into());
    let before = parse(&Sources { tools: format!("{}{ONE}", airline().tools), ..airline() });
    assert_ne!(before.tools.get("one").unwrap().version(), one.version(), "it is part of what is approved");
    // A queue's service says itself whether it has acted.
    let amqp =
        listed.replace("{http: {url: \"http://127.0.0.1:1/one\"}}", "{amqp: {routing_key: tools.letters}}");
    assert!(tool(&amqp).contains("tools.yaml:9: certain_failures lists HTTP"));
}

/// The text replaced in [`ONE`], the mistake, and the problem that it causes.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("name: one", "name: 'o n e'", "tools.yaml:3: \"o n e\" is not a valid name of a tool; use"),
    ("127.0.0.1:1", "127.0.0.2:1", "tools.yaml:5: calls to the host \"127.0.0.2\" are not allowed; add it"),
    ("127.0.0.1:1", "127.1:1", ""),
    (
        "http://127.0.0.1:1",
        "ftp://127.0.0.1",
        "tools.yaml:5: \"ftp://127.0.0.1/one\" is not an http or https URL",
    ),
    ("http://127", "http://me:pw@127", "is not an http or https URL without user, password"),
    (
        "http://127.0.0.1:1",
        "${TOOLS}",
        "tools.yaml:5: \"${TOOLS}/one\" contains a variable without a value; set it",
    ),
    (
        "{http: {url: \"http://127.0.0.1:1/one\"}}",
        "{}",
        "tools.yaml:5: the tool does not have exactly one connector; write",
    ),
    ("{http: {url", "{http: {uri", "tools.yaml:5: unknown field"),
    ("one\"}}", "one\", headers_env: {A B: C}}}", "tools.yaml:5: \"A B\" is not a valid name of a header"),
    (
        "one\"}}",
        "one\", signing_secret_env: s-1}}",
        "tools.yaml:5: \"s-1\" is not a valid name of an environment",
    ),
    (
        "{type: object}",
        "{type: array}",
        "tools.yaml:6: arguments of \"one\": the schema is not of type object",
    ),
    ("{type: object}", "{type: object, requird: [a]}", "#/requird is not a supported keyword; write one of"),
    (
        "{type: object}",
        "{type: object, required: a}",
        "tools.yaml:6: arguments of \"one\": the schema is not valid",
    ),
    (
        "timeout: 5s",
        "timeout: 1ms",
        "tools.yaml:7: timeout \"1ms\" is out of range; write a duration from 10ms to 10m",
    ),
    ("timeout: 5s", "timeout: 5s\n    retry: {attempts: 11}", "tools.yaml:8: attempts is 11; write 1 to 10"),
    (
        "timeout: 5s",
        "timeout: 9m\n    retry: {attempts: 2}",
        "tools.yaml:7: 2 attempts and the pauses between them can take 18m",
    ),
    (
        "idempotent: true",
        "retry: {attempts: 2}\n    idempotent: false",
        "tools.yaml:8: a tool that is not idempotent has more than one attempt; remove retry",
    ),
    ("idempotent: true", "idempotent: yes", "tools.yaml:8: "),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [303, 404]",
        "tools.yaml:9: 404 in certain_failures is a certain failure of every tool; remove it: list only 3xx",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [429]",
        "429 in certain_failures is a certain failure",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [504]",
        "504 in certain_failures is a gateway's",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [200]",
        "200 in certain_failures is no status of",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [-1]",
        "-1 in certain_failures is no status of",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [65839]",
        "65839 in certain_failures is no status",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    certain_failures: [503, 503]",
        "503 in certain_failures is listed twice",
    ),
    ("idempotent: true", "idempotent: true\n    certain_failures: 503", "tools.yaml:9: "),
    ("idempotent: true", "idempotent: true\n    risk: huge", "tools.yaml:9: unknown variant"),
    (
        "idempotent: true",
        "idempotent: true\n    reversible: {by: two, arguments: {}, within: 1h}",
        "tools.yaml:9: the compensating tool \"two\" is not defined; define it",
    ),
    (
        "idempotent: true",
        "idempotent: true\n    reversible: {by: one, arguments: {a: now}, within: 1h}",
        "tools.yaml:9: argument \"a\" of \"one\": unknown name \"now\"; use action, result",
    ),
];

#[test]
fn a_bad_tool_is_refused_with_line_and_help() {
    for &(from, to, wanted) in MISTAKES {
        assert!(ONE.contains(from), "{from}");
        let problems = tool(&ONE.replacen(from, to, 1));
        assert!(problems.contains(wanted), "{to}:\n{problems}");
    }
    assert_eq!(tool(ONE), "");
    assert!(
        tool(&format!("{ONE}{ONE}")).contains("tools.yaml:9: the tool \"one\" is already defined on line 3")
    );
    assert!(
        broken("tools.yaml", "allow_hosts: [127.0.0.1]", "allow_hosts: ['http://a']")
            .contains("is not a host")
    );
}

#[test]
fn a_tool_may_not_use_countersigns_own_queues() {
    let queue =
        |connector: &str| tool(&ONE.replacen("{http: {url: \"http://127.0.0.1:1/one\"}}", connector, 1));
    assert_eq!(queue("{amqp: {routing_key: tools}}"), "");
    for connector in [
        "{amqp: {exchange: countersign.commands, routing_key: router}}",
        "{amqp: {exchange: amq.topic, routing_key: x}}",
        "{amqp: {routing_key: countersign.commands.router}}",
        "{amqp: {exchange: '', routing_key: countersign.execution}}",
    ] {
        assert!(queue(connector).contains("is reserved"), "{connector}: {}", queue(connector));
    }
}

#[test]
fn no_arguments_make_their_check_slow() {
    let schema = "{type: object, properties: {s: {pattern: \"^(a+)+$\"}, t: {type: string, format: email},
                   l: {type: array, uniqueItems: true, items: {type: [integer, object]}, contains: {const: 7}}}}";
    let text = format!(
        "egress: {{allow_hosts: [127.0.0.1]}}\ntools:\n{}",
        ONE.replacen("{type: object}", schema, 1)
    );
    let parsed = tools::parse(&text).unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    let one = parsed.get("one").unwrap();
    let begun = std::time::Instant::now();
    let text = format!("{}!", "a".repeat(200_000));
    assert!(one.check_arguments(&json!({"s": text, "t": text})).is_err());
    let numbers: Vec<u32> = (0..60_000).collect();
    assert!(one.check_arguments(&json!({"l": numbers})).is_ok());
    let objects: Vec<_> = (0..20_000).map(|n| json!({"a": n})).collect();
    assert!(one.check_arguments(&json!({"l": objects})).is_err());
    let all_wrong = vec!["x"; 60_000];
    assert!(one.check_arguments(&json!({"l": all_wrong})).unwrap_err().len() < 1_500);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for pattern in ["(a)\\\\1", "(?=a)a", "(?<!a)b"] {
        let schema = format!("{{type: object, properties: {{a: {{pattern: \"{pattern}\"}}}}}}");
        let problems = tool(&ONE.replacen("{type: object}", &schema, 1));
        assert!(problems.contains("the schema is not valid"), "{pattern}: {problems}");
    }
}

#[test]
fn schema_bombs_and_foreign_references_are_refused() {
    let schema = |schema: &str| tool(&ONE.replacen("{type: object}", schema, 1));
    let mut growing = String::from("{type: object, $ref: \"#/$defs/d0\", $defs: {d9: {type: object}");
    for level in 0..9 {
        let next = format!("{{$ref: \"#/$defs/d{}\"}}", level + 1);
        growing.push_str(&format!(", d{level}: {{allOf: [{next}, {next}, {next}, {next}]}}"));
    }
    growing.push_str("}}");
    assert!(
        schema(&growing).contains("checking arguments against the schema can take"),
        "{}",
        schema(&growing)
    );
    for (bad, wanted) in [
        ("{type: object, $ref: \"https://example.com/s.json\"}", "which is not in this schema"),
        ("{type: object, $ref: \"file:///etc/passwd\"}", "which is not in this schema"),
        ("{type: object, $ref: \"#\"}", "which contains this reference"),
        (
            "{type: object, $ref: \"#/$defs/a\", $defs: {a: {items: {$ref: \"#/$defs/a\"}}}}",
            "which contains this reference",
        ),
        ("{type: object, $id: \"https://example.com\"}", "#/$id is not a supported keyword"),
        ("{type: object, properties: {a: {pattern: \"(a{1000}){1000}\"}}}", "the schema is not valid"),
        ("{type: object, properties: {a: {pattern: \"(\"}}}", "the schema is not valid"),
        ("{type: object, properties: {a: {format: dates}}}", "the schema is not valid"),
    ] {
        let problems = schema(bad);
        assert!(problems.contains(wanted), "{bad}:\n{problems}");
    }
    let good = "{type: object, properties: {a: {$ref: \"#/$defs/a\"}, b: {$ref: \"#/$defs/a\"}}, $defs: {a: {type: string}}}";
    assert_eq!(schema(good), "");
}
