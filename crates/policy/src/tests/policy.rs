use countersign_core::verdict::Verdict;
use serde_json::{Value, json};

use super::{POLICY, airline, broken, parse};
use crate::{Facts, RuleResult, Sources};

/// A small policy with one rule, whose `when:` is on line 5.
fn policy_with(rule: &str) -> Sources {
    let fallback = "{verdict: require_approval, group: supervisors, expires_after: 30m, \
                    audit: {rate: 0.2, group: service-audit}}";
    let policy = format!("version: v1\ndefault: {fallback}\non_error: {fallback}\nrules:\n{rule}");
    Sources { policy, ..airline() }
}

fn rule(when: &str) -> String {
    format!(
        "  - when: {when}\n    id: only\n    verdict: allow\n    audit: {{rate: 0.1, group: service-audit}}\n"
    )
}

fn evaluate(sources: &Sources, tool: &str, arguments: Value) -> (Verdict, String, Option<String>) {
    let configuration = parse(sources);
    let action =
        json!({"source": "/agents/airline-assistant", "id": "1", "tool": tool, "arguments": arguments});
    let facts = Facts {
        action: &action,
        agent: &json!({"id": "airline-assistant"}),
        tool: configuration.tools.get(tool).unwrap(),
        now: chrono::DateTime::UNIX_EPOCH,
    };
    let evaluation = configuration.policy.evaluate(&facts);
    assert_eq!(evaluation.approval.is_some(), evaluation.verdict == Verdict::RequireApproval);
    (evaluation.verdict, evaluation.rule.to_owned(), evaluation.errored.map(|error| error.message))
}

#[test]
fn a_rule_that_errors_never_falls_through() {
    let allow_all =
        "  - when: \"true\"\n    id: all\n    verdict: allow\n    audit: {rate: 0.1, group: service-audit}\n";
    for when in [
        "decimal(action.arguments.amount) > decimal(\"100\")",
        "action.arguments.amount > 100",
        "action.arguments.missing == 1",
        "action.arguments.amount",
        "action.arguments.list.exists(x, x > 1)",
        "action.reason == \"\"",
        "int(action.arguments.amount) / 0 == 1",
    ] {
        let sources = policy_with(&format!("{}{allow_all}", rule(&format!("'{when}'"))));
        let (verdict, by, error) = evaluate(&sources, "think", json!({"amount": "x", "list": ["x"]}));
        assert_eq!((verdict, by.as_str()), (Verdict::RequireApproval, "on-error"), "{when}");
        assert!(error.is_some(), "{when}");
    }
}

#[test]
fn the_first_matching_rule_decides_or_else_the_default() {
    let deny = "  - when: \"true\"\n    id: second\n    verdict: deny\n    reason: no\n    audit: {rate: 0, group: service-audit}\n";
    let both = policy_with(&format!("{}{deny}", rule("'true'")));
    assert_eq!(evaluate(&both, "think", json!({})).1, "only");
    let second = policy_with(&format!("{}{deny}", rule("'false'")));
    assert_eq!(evaluate(&second, "think", json!({})), (Verdict::Deny, "second".to_owned(), None));
    let none = policy_with(&rule("'false'"));
    assert_eq!(evaluate(&none, "think", json!({})), (Verdict::RequireApproval, "default".to_owned(), None));
}

#[test]
fn another_spelling_of_a_number_evades_neither_limit_nor_rule() {
    let limit = "    limit: {sum: action.arguments.amount, by: [action.arguments.account], within: 1h, max: '10', exceeded: deny}\n";
    let counted = policy_with(&format!("{}{limit}", rule("action.arguments.amount / 2 == 3")));
    let configuration = parse(&counted);
    let tool = configuration.tools.get("think").unwrap();
    let evaluated = |text: &str| {
        let arguments = countersign_core::json::parse_strict(text.as_bytes()).unwrap();
        let action = json!({"tool": "think", "arguments": arguments});
        let facts = Facts { action: &action, agent: &json!({}), tool, now: chrono::DateTime::UNIX_EPOCH };
        let evaluation = configuration.policy.evaluate(&facts);
        (evaluation.rule.to_owned(), evaluation.limit.map(|limit| (limit.key, limit.amount)))
    };
    let plain = evaluated(r#"{"account": 5, "amount": 7}"#);
    assert_eq!(plain, ("only".to_owned(), Some(("[\"5\"]".to_owned(), 7.into()))));
    for other in [
        r#"{"account": 5.0, "amount": 7.0}"#,
        r#"{"account": 0.5e1, "amount": 70e-1}"#,
        r#"{"account": 5e0, "amount": 0.7E+1}"#,
    ] {
        assert_eq!(evaluated(other), plain, "{other}");
    }
}

#[test]
fn an_explanation_lists_every_rule_that_was_tried() {
    let configuration = parse(&airline());
    let action = json!({"tool": "send_certificate", "arguments": {"user_id": "a_b_5501", "amount": "250"}});
    let tool = configuration.tools.get("send_certificate").unwrap();
    let facts = Facts { action: &action, agent: &json!({}), tool, now: chrono::DateTime::UNIX_EPOCH };
    let explanation = configuration.policy.explain(&facts);
    let trace: Vec<_> = explanation.trace.iter().map(|rule| (rule.rule.as_str(), &rule.result)).collect();
    assert_eq!(
        trace,
        [
            ("reads", &RuleResult::NotMatched),
            ("handover", &RuleResult::NotMatched),
            ("cheap-changes", &RuleResult::NotMatched),
            ("excessive-certificates", &RuleResult::NotMatched),
            ("large-certificates", &RuleResult::Matched),
        ]
    );
    let text = explanation.to_string();
    assert!(text.contains("require_approval by large-certificates: A certificate over 100"), "{text}");
    assert!(text.contains("approval by supervisors and finance within 30m"), "{text}");
    assert_eq!(serde_json::to_value(&explanation).unwrap()["looks"][4]["looked"], "matched");
}

#[test]
fn every_rule_and_both_fallbacks_have_an_audit_rate() {
    let policy = parse(&airline()).policy;
    for id in policy.rule_ids() {
        assert!(policy.audit_spec(id).is_some(), "{id}");
    }
    assert_eq!(policy.audit_spec("reads").unwrap().rate, 0.05);
    assert!(policy.audit_spec("unknown").is_none());
    assert_eq!(policy.version(), "2026-11-01");
    assert_eq!(policy.text(), POLICY);
    assert_eq!(policy.digest().len(), "sha256:".len() + 64);
}

/// The text replaced in the example's policy, the mistake, and the problem that it causes.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("id: reads", "id: Reads", "policy.yaml:20: \"Reads\" is not a valid id of a rule; use 1 to 64"),
    ("id: reads", "id: default", "policy.yaml:20: the rule id \"default\" is reserved; choose another"),
    ("id: handover", "id: reads", "policy.yaml:28: the rule id \"reads\" is already used on line 20; give"),
    ("id: reads", "name: reads", "policy.yaml:20: unknown field"),
    ("verdict: allow", "verdict: maybe", "policy.yaml:25: unknown variant"),
    (
        "tool.name == \"transfer",
        "tool.nam == \"transfer",
        "policy.yaml:30: when of the rule \"handover\": tool has no field \"nam\"; use tool.name",
    ),
    (
        "tool.name == \"transfer",
        "tool.name == \"transfers",
        "policy.yaml:30: unknown tool \"transfers_to_human_agents\"; write the name",
    ),
    (
        "> decimal(\"100\")",
        "> \"100\"",
        "policy.yaml:51: when of the rule \"large-certificates\": < or > may compare plain strings",
    ),
    ("rate: 0.05", "rate: 1.5", "policy.yaml:26: the rate 1.5 is not a probability; write a number from 0.0"),
    ("rate: 0.05", "rate: .nan", "policy.yaml:26: "),
    (
        "not_executed: 0.1",
        "gold: 0.6",
        "policy.yaml:94: gold is 0.6; write how many audits of which the right finding is known are mixed in",
    ),
    ("not_executed: 0.1", "gold: -0.1", "policy.yaml:94: gold is -0.1; "),
    (
        "group: supervisors",
        "group: bosses",
        "policy.yaml:8: unknown group \"bosses\"; declare it under groups: in directory.yaml",
    ),
    (
        "group: supervisors",
        "group: service-audit",
        "policy.yaml:8: the group \"service-audit\" has no reviewer; add the group",
    ),
    (
        "group: service-audit",
        "group: supervisors",
        "policy.yaml:10: the group \"supervisors\" has no auditor; add the group",
    ),
    ("expires_after: 30m", "expires_after: soon", "policy.yaml:9: expires_after \"soon\" is not a duration"),
    (
        "expires_after: 30m",
        "expires_after: 99years",
        "policy.yaml:9: expires_after \"99years\" is out of range; write a duration from 1s",
    ),
    (
        "    verdict: allow\n",
        "    verdict: allow\n    group: supervisors\n",
        "policy.yaml:26: group is not allowed with the verdict allow; remove it",
    ),
    (
        "    verdict: allow\n",
        "    verdict: allow\n    reason: why\n",
        "policy.yaml:26: reason is not allowed with the verdict allow; remove it",
    ),
    (
        "    reason: Certificates over 1,000 are issued by the finance department only\n",
        "",
        "policy.yaml:45: the verdict deny has no reason; add reason",
    ),
    ("  group: supervisors\n", "", "policy.yaml:7: the approval has no group; add group: supervisors"),
    (
        "    audit: {rate: 0.05, group: service-audit}\n",
        "    audit: {rate: 0.05, floor: 0.5, group: service-audit}\n",
        "policy.yaml:26: the floor 0.5 is above the rate 0.05",
    ),
    (
        "    verdict: deny\n",
        "    verdict: deny\n    switching: {limit: 0.02, aoql: 0.02}\n",
        "switching is not allowed with the verdict deny; remove it",
    ),
    (
        "    verdict: allow\n",
        "    verdict: allow\n    switching: {limit: 0.02, aoql: 0.02}\n",
        "policy.yaml:25: the approval has no group; add group: supervisors",
    ),
    (
        "    verdict: allow\n",
        "    verdict: allow\n    switching: {limit: 0.5, aoql: 0.02}\n",
        "policy.yaml:26: switching: no clearance keeps this limit",
    ),
    (
        "    verdict: allow\n",
        "    verdict: allow\n    group: supervisors\n    expires_after: 30m\n    \
             switching: {limit: 0.02, aoql: 0.02}\n",
        "the group \"service-audit\" needs 2 auditors and has 1",
    ),
    ("  not_executed: 0.1\n", "  twice: 0.1\n", "the group \"service-audit\" needs 3 auditors and has 1"),
    ("default:", "defaults:", "policy.yaml:6: unknown field"),
    ("rules:", "rules: [", "policy.yaml:"),
];

#[test]
fn a_bad_policy_is_refused_with_line_and_help() {
    for &(from, to, wanted) in MISTAKES {
        let problems = broken("policy.yaml", from, to);
        assert!(problems.contains(wanted), "{to}:\n{problems}");
    }
}

#[test]
fn on_error_may_not_allow() {
    let on_error = "on_error:\n  verdict: require_approval\n  group: supervisors\n  expires_after: 30m\n";
    let problems = broken("policy.yaml", on_error, "on_error:\n  verdict: allow\n");
    assert!(
        problems.contains(
            "policy.yaml:14: on_error allows actions for which a rule could not be evaluated; write"
        ),
        "{problems}"
    );
    let missing = broken("policy.yaml", "on_error:\n  verdict", "on_errors:\n  verdict");
    assert!(missing.contains("on_error"), "{missing}");
}

/// The amount that an action with these arguments adds to a limit, or the error that kept it from being counted.
fn counted(arguments: Value) -> Result<String, String> {
    let limit =
        "    limit: {sum: action.arguments.amount, by: [agent.id], within: 1h, max: '10', exceeded: deny}\n";
    let configuration = parse(&policy_with(&format!("{}{limit}", rule("'true'"))));
    let tool = configuration.tools.get("think").unwrap();
    let action = json!({"tool": "think", "arguments": arguments});
    let agent = json!({"id": "airline-assistant"});
    let facts = Facts { action: &action, agent: &agent, tool, now: chrono::DateTime::UNIX_EPOCH };
    let evaluation = configuration.policy.evaluate(&facts);
    match (evaluation.limit, evaluation.errored) {
        (Some(limit), None) => Ok(limit.amount.to_string()),
        (None, Some(error)) => Err(error.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_counts_only_amounts_with_one_spelling_and_within_its_range() {
    assert_eq!(counted(json!({"amount": "12.50"})), Ok("12.50".to_owned()));
    assert_eq!(
        counted(json!({"amount": 1_000_000_000_000_000_000_u64})),
        Ok("1000000000000000000".to_owned())
    );
    for amount in ["+5", "1_000", "1e3", ".5", "5.", " 5", "٥"] {
        let error = counted(json!({"amount": amount})).unwrap_err();
        assert!(error.contains("is not a decimal number"), "{amount}: {error}");
    }
    for amount in ["79228162514264337593543950335", "1000000000000000000.01", "0.0000000001", "-1"] {
        let error = counted(json!({"amount": amount})).unwrap_err();
        assert!(error.starts_with("limit: the amount"), "{amount}: {error}");
    }
}

#[test]
fn the_maximum_of_a_limit_is_an_amount_as_well() {
    let with = |max: &str| {
        let limit =
            format!("    limit: {{count: true, by: [agent.id], within: 1h, max: '{max}', exceeded: deny}}\n");
        super::lines(
            &crate::Configuration::parse(&policy_with(&format!("{}{limit}", rule("'true'"))))
                .err()
                .unwrap_or_default(),
        )
    };
    assert_eq!(with("1000000000000000000"), "");
    for max in ["+5", "1_000", "1e3", "1000000000000000001", "0.0000000001", "-1"] {
        assert!(with(max).contains("is not an amount that a limit can count"), "{max}: {}", with(max));
    }
}

#[test]
fn expressions_that_are_slow_together_do_not_check() {
    let rules = |count: usize| {
        let costly = r#"action.arguments.l.all(a, a.matches("x"))"#;
        let rules =
            (0..count).map(|n| rule(&format!("'{costly}'")).replace("id: only", &format!("id: rule-{n}")));
        super::lines(
            &crate::Configuration::parse(&policy_with(&rules.collect::<String>())).err().unwrap_or_default(),
        )
    };
    assert_eq!(rules(1), "");
    let problems = rules(3);
    assert!(
        problems.contains("policy.yaml:5: evaluating all expressions of the file can take"),
        "{problems}"
    );
    assert!(problems.contains("when of the rule \"rule-0\" on line 5 ("), "{problems}");
    assert!(problems.contains("keep them within 250000 steps together"), "{problems}");
}

#[test]
fn five_hundred_ordinary_rules_check() {
    let rules = (0..500).map(|n| {
        rule(&format!("'tool.name == \"think\" && decimal(action.arguments.a) > decimal(\"{n}\") && action.reason != \"\"'"))
            .replace("id: only", &format!("id: rule-{n}"))
    });
    parse(&policy_with(&rules.collect::<String>()));
}

/// The warnings about a limit of the tool `send_certificate` with this key.
fn warnings(key: &str) -> String {
    let limit = format!("    limit: {{count: true, by: [{key}], within: 1h, max: '10', exceeded: deny}}\n");
    let when = "'tool.name == \"get_user_details\"'";
    super::lines(&parse(&policy_with(&format!("{}{limit}", rule(when)))).warnings)
}

#[test]
fn a_limit_per_something_that_the_agent_chooses_is_warned_of() {
    for key in [
        "agent.on_behalf_of",
        "agent.version",
        "agent.model",
        "action.id",
        "action.context.customer",
        "action.arguments.anything",
        "string(size(action.arguments))",
    ] {
        let warned = warnings(key);
        assert!(warned.contains("policy.yaml:9: the limit of the rule \"only\" is per"), "{key}: {warned}");
        assert!(warned.contains("which the agent chooses freely; use agent.id"), "{key}: {warned}");
    }
    for key in ["agent.id", "action.tool", "action.source", "tool.risk"] {
        assert_eq!(warnings(key), "", "{key}");
    }
}

#[test]
fn an_argument_is_a_key_if_every_tool_of_the_rule_bounds_it() {
    let policy = |when: &str| {
        let limit =
            "    limit: {count: true, by: [action.arguments.who], within: 1h, max: '10', exceeded: deny}\n";
        policy_with(&format!("{}{limit}", rule(when))).policy
    };
    let with = |when: &str, who: &str| {
        let tool = |name: &str, who: &str| {
            format!(
                "  - name: {name}\n    description: x\n    connector: {{http: {{url: \"http://127.0.0.1/x\"}}}}\n    \
                 arguments: {{type: object, properties: {{who: {who}}}}}\n    timeout: 5s\n    idempotent: true\n"
            )
        };
        let tools = format!(
            "egress: {{allow_hosts: [127.0.0.1], allow_private: [127.0.0.1]}}\ntools:\n{}{}",
            tool("one", who),
            tool("two", "{type: string}")
        );
        super::lines(&parse(&Sources { policy: policy(when), tools, ..airline() }).warnings)
    };
    let one = "'tool.name == \"one\"'";
    for bounded in [
        "{enum: [a]}",
        "{const: a}",
        "{type: string, pattern: '^a$'}",
        "{type: string, format: uuid}",
        "{type: integer}",
    ] {
        assert_eq!(with(one, bounded), "", "{bounded}");
        assert!(!with("'true'", bounded).is_empty(), "the other tool does not bound it");
    }
    assert!(!with(one, "{type: string, maxLength: 5}").is_empty());
}

#[test]
fn spellings_of_a_key_are_one_key_and_letters_that_look_alike_are_an_error() {
    let limit = "    limit: {count: true, by: [agent.on_behalf_of], within: 1h, max: '10', exceeded: deny}\n";
    let configuration = parse(&policy_with(&format!("{}{limit}", rule("'true'"))));
    let key = |whom: &str| {
        let tool = configuration.tools.get("think").unwrap();
        let agent = json!({"on_behalf_of": whom});
        let facts = Facts { action: &json!({}), agent: &agent, tool, now: chrono::DateTime::UNIX_EPOCH };
        let evaluation = configuration.policy.evaluate(&facts);
        evaluation.limit.map(|limit| limit.key).ok_or(evaluation.rule)
    };
    for whom in ["customer:lim", "customer:lim ", "Customer:Lim", "customer:l\u{200b}im", "ｃustomer:lim"] {
        assert_eq!(key(whom), Ok("[\"customer:lim\"]".to_owned()), "{whom:?}");
    }
    assert_eq!(key("customer:l\u{456}m"), Err("on-error"));
}

/// The identities of the limits of rules `rule-0`, `rule-1` and so on, or the problems; and the warnings.
fn identities(limits: &[&str]) -> Result<(Vec<String>, String), String> {
    let rules = limits.iter().enumerate().map(|(n, limit)| {
        let rule = rule("'true'").replace("id: only", &format!("id: rule-{n}"));
        format!("{rule}    limit: {{{limit}, max: '10', exceeded: deny}}\n")
    });
    let configuration = crate::Configuration::parse(&policy_with(&rules.collect::<String>()));
    let configuration = configuration.map_err(|problems| super::lines(&problems))?;
    let known = configuration.policy.limits().map(|limit| limit.limit.to_owned()).collect();
    Ok((known, super::lines(&configuration.warnings)))
}

#[test]
fn a_limit_is_identified_by_its_id_or_by_what_it_counts_and_for_how_long() {
    let identity = |limit: &str| identities(&[limit]).unwrap().0[0].clone();
    let plain = identity("sum: action.arguments.amount, by: [agent.id], within: 1h");
    assert!(plain.starts_with("sha256:"));
    for same in [
        "sum: 'action . arguments.amount', by: [' agent.id'], within: 60m",
        "sum: \"action.arguments\\n  .amount\", by: [agent.id], within: 3600s",
    ] {
        assert_eq!(identity(same), plain, "{same}");
    }
    for other in [
        "count: true, by: [agent.id], within: 1h",
        "sum: action.arguments.amount, by: [agent.id, action.tool], within: 1h",
        "sum: action.arguments.amount, by: [agent.id], within: 2h",
        "sum: 'action.arguments.amount in [1]', by: [agent.id], within: 1h",
    ] {
        assert_ne!(identity(other), plain, "{other}");
    }
    assert_eq!(identity("id: daily, count: true, by: [agent.id], within: 1h"), "daily");
    assert_ne!(
        identity("count: true, by: ['agent.id + \" a\"'], within: 1h"),
        identity("count: true, by: ['agent.id + \"a\"'], within: 1h")
    );
}

#[test]
fn limits_that_count_the_same_are_one_and_one_id_has_one_period() {
    let count = "count: true, by: [agent.id], within: 1h";
    let (same, warned) = identities(&[count, count]).unwrap();
    assert_eq!(same[0], same[1]);
    assert!(warned.contains("the limits of the rules \"rule-0\" and \"rule-1\" are one"), "{warned}");
    let meant = identities(&[&format!("id: calls, {count}"), &format!("id: calls, {count}")]).unwrap();
    assert_eq!(meant, (vec!["calls".to_owned(), "calls".to_owned()], String::new()));
    let apart = identities(&[&format!("id: a, {count}"), count]).unwrap();
    assert_eq!(apart.1, "");
    let refused = identities(&[&format!("id: a, {count}"), "id: a, count: true, by: [agent.id], within: 2h"]);
    assert!(refused.unwrap_err().contains("the limit \"a\" has another within than the one on line 9"));
    assert!(identities(&[&format!("id: Daily, {count}")]).unwrap_err().contains("not a valid id of a limit"));
}

#[test]
fn gold_items_for_a_group_of_one_person_are_warned_of() {
    let gold = |directory: String| {
        let policy = POLICY.replacen("not_executed: 0.1", "gold: 0.05", 1);
        super::lines(&parse(&Sources { policy, directory, ..airline() }).warnings)
    };
    let alone = gold(airline().directory);
    assert!(
        alone.contains(
            "policy.yaml:94: audits.gold has no effect for \"service-audit\": only one person audits there"
        ),
        "{alone}"
    );
    let ada = "  - {id: ada, amqp_user: auditor-ada,";
    let second = |person: &str| {
        let ann = format!(
            "  - {{id: ann, {person}amqp_user: auditor-ann, groups: [service-audit], public_keys: []}}\n{ada}"
        );
        gold(airline().directory.replacen(ada, &ann, 1))
    };
    assert!(!second("").contains("service-audit"));
    assert!(second("person: ada, ").contains("service-audit"), "one person under two ids is one");
}
