use serde_json::{Value, json};

use super::{CONDITION, Expression, bind_fields, bind_time, bindings};

fn compile(text: &str) -> Result<Expression, String> {
    Expression::compile(text, &CONDITION).map_err(|diagnostics| {
        let lines: Vec<_> = diagnostics.iter().map(|c| format!("{}; {}", c.message, c.help)).collect();
        lines.join("\n")
    })
}

fn refused(text: &str) -> String {
    match compile(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(diagnostics) => diagnostics,
    }
}

fn holds(text: &str, arguments: Value) -> Result<bool, String> {
    let action = json!({"source": "/agents/a", "id": "1", "tool": "t", "arguments": arguments});
    let agent = json!({"id": "a", "model": "gpt-4o"});
    let tool = json!({"name": "t", "risk": "low", "idempotent": true});
    let mut names = bindings()?;
    bind_fields(&mut names, "action", &action);
    bind_fields(&mut names, "agent", &agent);
    bind_fields(&mut names, "tool", &tool);
    bind_time(&mut names, "now", chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap());
    compile(text)?.holds(&names)
}

#[test]
fn conditions_read_action_agent_tool_and_now() {
    for text in [
        r#"tool.name in ["t", "u"] && agent.model == "gpt-4o""#,
        r#"action.source.startsWith("/agents/") && action.arguments.list[1] == 2"#,
        r#"action.arguments["deep"].er.est == true"#,
        r#"now < timestamp("2026-01-02T00:00:00Z") && now.getDayOfWeek() == 4"#,
        r#"has(action.arguments.deep) && !has(action.arguments.shallow)"#,
        r#""deep" in action.arguments && size(action.arguments) == 3"#,
        r#"action.arguments.exists(key, key == "list") && action.arguments.list.all(n, n > 0)"#,
        r#"action.arguments.name.matches("^[A-Z]{3}$") && size(action.arguments.name) == 3"#,
        r#"action.arguments.list == [1, 2]"#,
    ] {
        let arguments = json!({"list": [1, 2], "deep": {"er": {"est": true}}, "name": "ABC"});
        assert_eq!(holds(text, arguments), Ok(true), "{text}");
    }
}

#[test]
fn decimals_compare_by_value_and_not_as_texts() {
    let nine = json!({"amount": "9", "limit": "10", "int": 9, "cents": ["0.10", "0.20", 1]});
    for text in [
        r#"decimal(action.arguments.amount) < decimal(action.arguments.limit)"#,
        r#"decimal(action.arguments.amount) == decimal("9.00")"#,
        r#"decimal(action.arguments.int) <= decimal(9)"#,
        r#"decimal(action.arguments.int) != decimal("9.01")"#,
        r#"decimal_sum(action.arguments.cents) == decimal("1.3")"#,
        r#"decimal_sum(action.arguments.cents.map(c, decimal(c) * 2)) == decimal("2.6")"#,
        r#"decimal("0.1") + decimal("0.2") == decimal("0.3")"#,
        r#"-decimal("5") < decimal("1") - decimal("2")"#,
    ] {
        assert_eq!(holds(text, nine.clone()), Ok(true), "{text}");
    }
}

#[test]
fn a_value_that_is_no_decimal_is_an_error_that_does_not_quote_it() {
    let text = r#"decimal(action.arguments.amount) > decimal("200")"#;
    for amount in
        [json!(1.5), json!("1e3"), json!("secret"), json!(""), json!("1."), json!(null), json!(["1"])]
    {
        let error = holds(text, json!({"amount": amount})).unwrap_err();
        assert!(error.starts_with("decimal()"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(holds(text, json!({"amount": "9".repeat(39)})).is_err());
    assert_eq!(holds(text, json!({})).unwrap_err(), "there is no field \"amount\"");
}

#[test]
fn a_policy_that_may_order_plain_strings_does_not_check() {
    for text in [
        r#"action.arguments.amount > "200""#,
        r#""200" <= action.arguments.amount"#,
        r#"action.arguments.a < action.arguments.b"#,
        r#"string(action.arguments.a) < "b""#,
        r#"action.arguments.list.exists(x, x >= "b")"#,
        r#"action.arguments.a + action.arguments.b > action.arguments.c"#,
        r#"(true ? "a" : "b") < action.arguments.c"#,
        r#"b"a" < action.arguments.c"#,
    ] {
        assert!(refused(text).contains("decimal(..)"), "{text}");
    }
}

#[test]
fn an_ordering_with_a_number_is_an_error_on_a_string() {
    let text = "action.arguments.amount > 200";
    assert_eq!(holds(text, json!({"amount": 250})), Ok(true));
    assert!(holds(text, json!({"amount": "250"})).is_err());
    assert!(holds("200 < action.arguments.amount", json!({"amount": "250"})).is_err());
    assert!(holds("now < action.arguments.amount", json!({"amount": "2027"})).is_err());
}

#[test]
fn a_decimal_is_compared_with_decimals_only() {
    for text in [
        r#"decimal(action.arguments.a) == "200""#,
        r#"decimal(action.arguments.a) > 200"#,
        r#"200 < decimal(action.arguments.a)"#,
        r#"decimal(action.arguments.a) != action.arguments.b"#,
        r#"decimal(action.arguments.a) in [1, 2]"#,
        r#"decimal(action.arguments.a) / 2 == decimal(1)"#,
    ] {
        assert!(refused(text).contains("decimal"), "{text}");
    }
}

#[test]
fn unknown_names_fields_and_functions_do_not_check() {
    for (text, wanted) in [
        ("act.tool == 'x'", "unknown name \"act\"; use action, agent, tool, now"),
        ("action.argumens.x == 1", "action has no field \"argumens\"; use action.source"),
        ("tool.nam == 'x'", "tool has no field \"nam\""),
        ("lower(tool.name) == 'x'", "no function lower"),
        ("tool.name.lower() == 'x'", "no function lower"),
        ("size(1, 2) == 1", "no function size"),
        ("optional.of(1).hasValue()", "optional"),
        ("type(tool) == map", "no function type"),
        ("action.arguments == action.arguments", "action.arguments is used as a whole value"),
        ("action[\"arguments\"] in [1]", "action.arguments is used as a whole value"),
        ("{'a': 1} == {'a': 1}", "cannot contain an object literal"),
        ("[1].all(action, action == 1)", "shadows action"),
        ("tool.name = 'x'", "invalid CEL at 1:"),
        ("tool.name == 'x", "invalid CEL at 1:"),
        ("", "invalid CEL at"),
        ("tool.name.matches(action.reason)", "the pattern of matches() is not a literal"),
        ("tool.name.matches('(')", "is not accepted"),
        ("tool.name.matches('(\\\\w{100}){100}')", "is not accepted"),
    ] {
        let diagnostics = refused(text);
        assert!(diagnostics.contains(wanted), "{text}: {diagnostics}");
    }
}

#[test]
fn bombs_do_not_check_and_do_not_overflow_the_stack() {
    let chain = |sign: &str, count| vec!["1"; count].join(sign);
    for text in [
        format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}1{}", "[".repeat(100), "]".repeat(100)),
        format!("{}true", "!".repeat(4_000)),
        format!("{}1", "-".repeat(4_000)),
        chain(" + ", 1_000),
        format!("tool{}", ".a".repeat(2_000)),
        format!("tool{}", "[0]".repeat(1_000)),
        format!("{}1", "true ? 1 : ".repeat(300)),
        format!("tool.name == '{}'", "x".repeat(5_000)),
        "[1].all(a, [1].all(b, [1].all(c, [1].all(d, a + b + c + d > 1))))".to_owned(),
    ] {
        refused(&text);
    }
}

#[test]
fn an_expression_that_is_slow_on_the_longest_lists_does_not_check() {
    let twice = |inner: &str| format!("action.arguments.l.all(a, action.arguments.l.all(b, {inner}))");
    let each = [
        "a == b",
        r#"a.matches("x")"#,
        // The cost depends on the values read, not on the expression's length.
        "!action.arguments.s.contains(a)",
        "a in action.arguments.l",
        r#"decimal_sum(action.arguments.l) > decimal("1")"#,
        "size(action.arguments.s) > 1 && action.arguments.s.startsWith(a) && action.arguments.s.endsWith(b)",
    ];
    for inner in each {
        assert!(refused(&twice(inner)).contains("steps"), "{inner}");
    }
    assert!(
        refused(&vec![r#"action.arguments.l.all(a, a.matches("x"))"#; 17].join(" && ")).contains("steps")
    );
    compile("['x', 'y'].all(a, action.arguments.l.exists(b, a == b))").unwrap();
    compile(r#"action.arguments.l.all(a, a.matches("^[A-Z]{3}$") && a != "XXX")"#).unwrap();
    compile("action.arguments.l.all(a, action.arguments.s.contains(a) && a in action.arguments.l)").unwrap();
}

#[test]
fn a_pattern_is_matched_in_time_linear_in_the_text() {
    // With backtracking, each of these would take longer than the age of the universe.
    let text = format!("{}!", "a".repeat(200_000));
    for pattern in ["^(a+)+$", "^(a|aa)+$", "^(a|a)*$", "^(.*a){8}$"] {
        let condition = format!(r#"action.arguments.s.matches("{pattern}")"#);
        assert_eq!(holds(&condition, json!({"s": text})), Ok(false), "{pattern}");
    }
    for pattern in ["(a)\\\\1", "(?=a)a", "(?<!a)b"] {
        let condition = format!(r#"action.arguments.s.matches("{pattern}")"#);
        assert!(refused(&condition).contains("is not accepted"), "{pattern}");
    }
}

#[test]
fn expressions_within_the_limits_are_compiled_and_evaluated_on_a_small_stack() {
    let chain = |sign: &str, count| vec!["1"; count].join(sign);
    let evaluated = [
        format!("{}true{}", "(".repeat(24), ")".repeat(24)),
        format!("{}true{}", "!(".repeat(16), ")".repeat(16)),
        format!("{} > 0", chain("+", 17)),
        format!("{}true", "true?true:".repeat(17)),
        format!("tool.name == \"x\"{}", " || tool.name == \"t\"".repeat(70)),
        format!("tool.name != \"x\"{}", " && tool.name != \"y\"".repeat(70)),
        format!("action.arguments.l{} == 1", "[0]".repeat(16)),
    ];
    // The check refuses what is still too deep, on the parser's own stack.
    let too_deep = [
        format!("{}1", "-".repeat(399)),
        chain("+", 399),
        chain("<", 399),
        chain("==", 199),
        format!("{}1", "true?1:".repeat(199)),
        format!("tool{}", ".a".repeat(399)),
        format!("tool{}", "[0]".repeat(399)),
    ];
    let list = (0..16).fold(json!(1), |inner, _| json!([inner]));
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for text in evaluated {
            assert_eq!(holds(&text, json!({"l": list})), Ok(true), "{text}");
        }
        too_deep.iter().for_each(|text| drop(compile(text)));
    });
    small.unwrap().join().unwrap();
}

#[test]
fn lists_longer_than_the_limit_are_an_error() {
    let text = "action.arguments.list.all(a, [1, 2].all(b, a > 0 && b > 0))";
    assert_eq!(holds(text, json!({"list": vec![1; 256]})), Ok(true));
    assert!(holds(text, json!({"list": vec![1; 257]})).is_err());
    assert!(refused("action.arguments.l.all(a, a + a == 'xx')").contains("+ may join strings"));
}

#[test]
fn a_condition_that_returns_no_bool_is_an_error() {
    assert_eq!(
        holds("action.arguments.a", json!({"a": 1})).unwrap_err(),
        "the condition returned int, not a bool"
    );
    assert_eq!(holds("action.arguments.a", json!({"a": true})), Ok(true));
}

#[test]
fn numbers_in_strings_are_read_in_one_spelling_by_every_function() {
    for function in ["int", "double", "decimal"] {
        let condition = format!("{function}(action.arguments.a) < {function}('100')");
        assert_eq!(holds(&condition, json!({"a": "5"})), Ok(true), "{function}");
        for text in ["+5", "1_0", "1e1", "inf", "-inf", "nan", ".5", "5.", " 5"] {
            assert!(holds(&condition, json!({"a": text})).is_err(), "{function} {text}");
        }
    }
    assert_eq!(holds("int(action.arguments.a) == 5 && double(5) == 5.0", json!({"a": 5.7})), Ok(true));
}

#[test]
fn the_cost_of_an_expression_counts_what_the_values_of_a_message_cost() {
    let cost = |text: &str| compile(text).unwrap().cost();
    let plain = "action.arguments.a";
    assert!(cost(&format!("{plain} == 'x'")) < 10);
    assert!(cost(&format!("{plain} == action.arguments.b")) > 200);
    assert!(cost(&format!("{plain} in action.arguments.l")) > 200);
    assert!(cost(&format!("{plain} in ['x', 'y']")) < 20);
    assert!(cost(&format!("{plain}.matches('x')")) > 400);
    assert!(cost(&format!("{plain}.exists(a, a == 'x')")) > 4_000);
    let joined = format!("{plain} == {}", [plain; 12].join(" + "));
    assert!(cost(&joined) > 12 * 12 / 2 * 30, "{}", cost(&joined));
}

#[test]
fn lists_and_objects_are_converted_once_and_read_as_before() {
    let arguments = json!({"l": [1, [2, {"a": "x"}]], "o": {"a": {"b": [3]}}, "s": "t", "n": null});
    for text in [
        "action.arguments.l == [1, [2, action.arguments.l[1][1]]] && action.arguments.l[1][1].a == 'x'",
        "action.arguments.o.a.b[0] == 3 && has(action.arguments.o.a) && !has(action.arguments.o.c)",
        "action.arguments.l == action.arguments.l && action.arguments.o == action.arguments.o",
        "action.arguments['s'] == 't' && action.arguments.n == null && size(action.arguments.l) == 2",
        "action.arguments.l.map(x, x) == action.arguments.l && action['arguments']['o']['a']['b'] == [3]",
        "action.arguments.l.exists(x, x == 1) && 1 in action.arguments.l",
    ] {
        assert_eq!(holds(text, arguments.clone()), Ok(true), "{text}");
    }
}
