use serde_json::{Value, json};

use super::{airline, broken, lines, parse};
use crate::{Configuration, Facts, Score, Sources};

const AUDIT: &str = "audit: {rate: 0.2, at_least: 30, group: service-audit}";

/// The example, with this audit for cheap changes.
fn with(audit: &str) -> Sources {
    let mut sources = airline();
    assert!(sources.policy.contains(AUDIT));
    sources.policy = sources.policy.replacen(AUDIT, &format!("audit: {{{audit}, group: service-audit}}"), 1);
    sources
}

/// The evaluation of a change of this many bags.
fn evaluated(configuration: &Configuration, bags: &Value) -> (f64, Option<Score>, String) {
    let tool = configuration.tools.get("update_reservation_baggages").unwrap();
    let action = json!({"tool": "update_reservation_baggages", "arguments": {"total_baggages": bags}});
    let facts = Facts { action: &action, agent: &json!({}), tool, now: chrono::DateTime::UNIX_EPOCH };
    let evaluation = configuration.policy.evaluate(&facts);
    assert_eq!(evaluation.rule, "cheap-changes");
    assert_eq!(configuration.policy.score("cheap-changes", &facts), evaluation.score);
    let explained = configuration.policy.explain(&facts).to_string();
    (evaluation.audit_rate(), evaluation.score, explained)
}

#[test]
fn a_score_raises_the_rate_of_its_rule() {
    let score = "rate: 0.1, ceiling: 0.5, score: 'action.arguments.total_baggages > 5 ? 0.2 : 0.001'";
    let configuration = parse(&with(score));
    let (rate, score, explained) = evaluated(&configuration, &json!(2));
    assert_eq!((rate, score), (0.1, Some(Score { value: 0.001, error: None })));
    assert!(explained.ends_with("score 0.001\n  audited at 10 % by service-audit"), "{explained}");
    // 0.5 · 2√(0.2 · 0.8) is 0.4; the next power of √2 is the ceiling.
    assert_eq!(evaluated(&configuration, &json!(6)).0, 0.5);
}

#[test]
fn what_is_no_score_counts_as_if_nothing_were_known_and_is_seen() {
    for score in [
        "action.arguments.missing",
        "action.arguments.total_baggages > 5",
        "1.5",
        "-0.1",
        "0.0 / 0.0",
        "1.0 / 0.0",
        "\"0.5\"",
    ] {
        let configuration = parse(&with(&format!("rate: 0.1, ceiling: 0.4, score: '{score}'")));
        let (rate, found, explained) = evaluated(&configuration, &json!(2));
        let found = found.unwrap();
        assert!(rate == 0.4 && found.value == 0.5 && found.error.is_some(), "{score}: {rate} {found:?}");
        assert!(explained.contains("score 0.5, as it could not be evaluated: "), "{score}: {explained}");
    }
}

#[test]
fn a_rule_without_a_score_has_its_rate() {
    let (rate, score, explained) = evaluated(&parse(&airline()), &json!(2));
    assert_eq!((rate, score), (0.2, None));
    assert!(explained.ends_with("\n  audited at 20 % by service-audit"), "{explained}");
}

#[test]
fn mistakes_in_scores_are_reported() {
    let audit =
        |audit: &str| broken("policy.yaml", AUDIT, &format!("audit: {{{audit}, group: service-audit}}"));
    for (mistake, problem) in [
        ("rate: 0.2, ceiling: 0.5", "the audit has a ceiling and no score; the ceiling is"),
        ("rate: 0.2, ceiling: 0.1, score: '0.1'", "the ceiling 0.1 is below the rate 0.2; the ceiling is"),
        ("rate: 0.2, ceiling: 2.0, score: '0.1'", "the ceiling 2 is not a probability"),
        ("rate: 0.2, score: 'now > now'", "score: unknown name \"now\"; use action, agent, tool"),
        ("rate: 0.2, score: '0.1 +'", "score: invalid CEL"),
    ] {
        let problems = audit(mistake);
        assert!(problems.contains(problem), "{mistake}: {problems}");
    }
    let fallback = "audit: {rate: 0.2, group: service-audit}";
    let problems = broken("policy.yaml", fallback, "audit: {rate: 0.2, score: '0.1', group: service-audit}");
    assert!(problems.contains("score is allowed only in rules; move it to a rule"), "{problems}");
}

#[test]
fn a_score_of_what_the_agent_chooses_is_warned_of() {
    let warned = |score: &str| lines(&parse(&with(&format!("rate: 0.1, score: '{score}'"))).warnings);
    for score in [
        "agent.version == \"1\" ? 0.1 : 0.2",
        "action.reason.contains(\"urgent\") ? 0.1 : 0.2",
        "size(action.context.notes) > 5 ? 0.1 : 0.2",
        "action.arguments.anything == \"x\" ? 0.1 : 0.2",
    ] {
        let warned = warned(score);
        assert!(warned.contains("the score of the rule \"cheap-changes\" reads a"), "{score}: {warned}");
        assert!(
            warned.contains("which the agent chooses freely; it raises audits above the rate only"),
            "{warned}"
        );
    }
    for score in ["tool.risk == \"high\" ? 0.1 : 0.2", "agent.id == \"x\" ? 0.1 : 0.2"] {
        assert_eq!(warned(score), "", "{score}");
    }
}
