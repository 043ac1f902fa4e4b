use proptest::prelude::*;
use serde_json::{Value, json};

use super::{JsonRefusal, canonical, envelope_ids, parse_strict};

fn code(text: &str) -> &'static str {
    parse_strict(text.as_bytes()).expect_err(text).code().as_str()
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn a_duplicate_key_is_refused_at_any_depth() {
    assert_eq!(code(r#"{"a":1,"a":1}"#), "duplicate_key");
    assert_eq!(code(r#"{"x":[{"y":{"a":1,"\u0061":2}}]}"#), "duplicate_key");
    assert!(parse_strict(br#"{"a":{"a":1},"b":{"a":2}}"#).is_ok());
}

#[test]
fn a_number_that_json_does_not_carry_exactly_is_refused() {
    for text in ["9007199254740992", "-9007199254740992", "18446744073709551616", "1e300", "-1e16", "1e400"] {
        assert_eq!(code(text), "integer_out_of_range", "{text}");
        assert_eq!(code(&format!("{{\"a\":[{text}]}}")), "integer_out_of_range", "{text}");
    }
    for text in ["9007199254740991", "-9007199254740991", "0.1", "1e15", "-0", "1e-400"] {
        assert!(parse_strict(text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn a_key_that_serde_json_reserves_is_refused() {
    for key in
        ["$serde_json::private::RawValue", "$serde_json::private::Number", "$serde_json\\u003a:private::x"]
    {
        assert_eq!(code(&format!(r#"{{"a":[{{"{key}":"1"}}]}}"#)), "reserved_key", "{key}");
    }
    // Because a second parse would yield another value.
    let again: Value = serde_json::from_str(r#"{"$serde_json::private::RawValue":"[1,2]"}"#).unwrap();
    assert_eq!(again, json!([1, 2]));
    assert!(parse_strict(br#"{"$serde_json":1,"a$serde_json::private::":2}"#).is_ok());
}

#[test]
fn a_whole_number_is_an_integer_however_it_is_written() {
    for (text, integer) in
        [("5.0", 5), ("50e-1", 5), ("-0", 0), ("-0.0", 0), ("0e5", 0), ("1e-400", 0), ("-2e3", -2000)]
    {
        assert_eq!(parse_strict(text.as_bytes()).unwrap(), json!(integer), "{text}");
    }
    assert_eq!(parse_strict(b"0.5").unwrap(), json!(0.5));
}

#[test]
fn nesting_beyond_the_limit_is_refused_without_a_stack_overflow() {
    assert!(parse_strict(nested(64).as_bytes()).is_ok());
    for levels in [65, 1_000, 1_000_000] {
        assert_eq!(parse_strict(nested(levels).as_bytes()), Err(JsonRefusal::NestedTooDeeply));
        assert_eq!(code(&"{\"a\":".repeat(levels)), "nested_too_deeply");
    }
}

#[test]
fn what_is_not_one_json_value_is_refused() {
    for text in ["", "{", "nul", "1 2", "{} x", "'a'", "[1,]", "\u{feff}1", r#""\ud800""#, "NaN"] {
        assert_eq!(code(text), "not_json", "{text}");
    }
    assert_eq!(parse_strict(b"\"\xff\"").unwrap_err().code().as_str(), "not_json");
}

#[test]
fn the_ids_of_an_unacceptable_message_are_found() {
    let deep = format!(r#"{{"source":"/agents/a","x":{},"id":"1"}}"#, nested(1_000_000));
    let ids = Some(("/agents/a".to_owned(), "1".to_owned()));
    assert_eq!(envelope_ids(deep.as_bytes()), ids);
    assert_eq!(envelope_ids(br#"{"a":1,"a":1e999,"source":"/agents/a","id":"1"}"#), ids);
    assert_eq!(envelope_ids(br#"{"d":{"id":"2"},"source":"/agents/a","id":"1"}"#), ids);
}

#[test]
fn ambiguous_or_missing_ids_are_not_guessed() {
    for text in [
        r#"{"source":"/agents/a","id":"1","id":"2"}"#,
        r#"{"source":"/agents/a","id":"1","\u0069d":"1"}"#,
        r#"{"source":"/agents/a","id":1}"#,
        r#"{"source":"/agents/a"}"#,
        r#"["/agents/a","1"]"#,
        r#"{"source":"/agents/a","id":"1"} {"source":"/agents/b","id":"1"}"#,
        r#"{"source":"/agents/a","id":"1""#,
        "x",
    ] {
        assert_eq!(envelope_ids(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn the_canonical_form_orders_keys_and_drops_space() {
    let value = parse_strict(br#" { "b" : 1.0 , "a" : [ "\u00e9" ] } "#).unwrap();
    assert_eq!(canonical(&value).unwrap(), "{\"a\":[\"é\"],\"b\":1}".as_bytes());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::from),
        (-1.0e9..1.0e9).prop_map(|number: f64| json!(number)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Numbers near the limits within which serde_json writes them as ECMAScript does.
fn any_number() -> impl Strategy<Value = f64> {
    let scaled = |(digits, exponent): (i64, i32)| digits as f64 * 10_f64.powi(exponent);
    // Halfway between two shortest forms: all 53 bits, a few of them fractional.
    let halfway = |(bits, places): (u64, i32)| bits as f64 * 0.5_f64.powi(places);
    prop_oneof![
        any::<f64>(),
        (-99_999_i64..99_999, -24..24).prop_map(scaled),
        (1_u64 << 52..1 << 53, 1..12).prop_map(halfway),
    ]
    .prop_filter("JSON has finite numbers", |number| number.is_finite())
}

proptest! {
    #[test]
    fn the_fast_path_to_the_canonical_form_gives_the_same_bytes(
        value in any_json(), number in any_number(), key in "\\PC{0,3}", text in any::<String>(),
    ) {
        let value = json!({"x": value, key: [number, text]});
        prop_assert_eq!(canonical(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
    }

    #[test]
    fn accepted_values_equal_their_canonical_form(value in any_json()) {
        let strict = parse_strict(value.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&strict, &serde_json::from_slice::<Value>(&canonical(&value).unwrap()).unwrap());
        prop_assert_eq!(canonical(&strict).unwrap(), canonical(&value).unwrap());
    }

    #[test]
    fn the_canonical_form_is_stable(value in any_json()) {
        let once = canonical(&value).unwrap();
        let again = canonical(&parse_strict(&once).unwrap()).unwrap();
        prop_assert_eq!(once, again);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse_strict(&bytes);
        let _ = envelope_ids(&bytes);
    }
}
