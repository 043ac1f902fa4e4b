use std::collections::BTreeSet;

use chrono::DateTime;
use countersign_store::rates::DrawCounts;
use serde_json::{Value, json};

use super::*;
use crate::report::{
    Agreement, Auditors, CorrectedRate, Correction, Gold, Learning, Prevented, Rate, Remediations, Share,
    Version,
};

fn rate(cells: &[(f64, [u64; 4])]) -> Rate {
    let counts = cells.iter().map(|(pi, [executed, judged, wrong, missing])| DrawCounts {
        rule: "r".into(),
        stratum: "r/t/a@1".into(),
        pi: *pi,
        executed: *executed,
        judged: *judged,
        wrong: *wrong,
        missing: *missing,
    });
    Rate::of(&counts.collect::<Vec<_>>(), 1).unwrap()
}

fn report(all: Rate) -> Report {
    let time = DateTime::UNIX_EPOCH;
    let share = Share { items: 50, recognised: 40, share: Some(0.8), lower: 0.6, upper: 0.9 };
    let auditors =
        vec![Auditors { group: "g".into(), auditor: None, sensitivity: share, specificity: share }];
    let corrected = vec![CorrectedRate {
        rule: None,
        plain: 0.08,
        known_wrong: [50, 40],
        known_right: [50, 40],
        rate: Some(0.1),
        lower: Some(0.0),
        upper: Some(0.3),
    }];
    let half = Some(all.clone());
    let version =
        Version { agent: "a".into(), version: "1".into(), first_feedback: None, earlier: half, later: None };
    let learning = Learning {
        correction: Some(Correction {
            corrected: 3,
            errors: Some(30.0),
            share: Some(0.1),
            lower: 0.05,
            upper: 0.5,
            reference: [0.7, 0.9],
        }),
        prevented: Prevented { rejections: 0, edits: 0, rejections_audited: 0, rejections_upheld: 0 },
        versions: vec![version],
        agreement: Agreement {
            pairs: 10,
            both_wrong: 1,
            one_wrong: 1,
            both_correct: 8,
            raw: Some(0.9),
            positive: Some(2.0 / 3.0),
        },
        plan_changes: vec![],
        remediations: Remediations { open: 0, overdue: 0 },
        lowered: vec![],
    };
    let gold = Gold { auditors, corrected };
    Report {
        from: time,
        to: time,
        measured_at: time,
        lines: vec![],
        rates: vec![all],
        scored: vec![],
        gold,
        learning,
    }
}

fn value(line: &ExplainedLine, figure: &str, input: &str) -> f64 {
    let step = line.steps.iter().find(|step| step.figure == figure).unwrap();
    step.from.iter().find(|from| from.name == input).unwrap_or_else(|| panic!("{input}: {step:?}")).value
}

#[test]
fn every_figure_has_a_formula_and_every_formula_a_figure() {
    let explained = explain(&report(rate(&[(0.1, [1_000, 100, 3, 2]), (1.0, [20, 20, 1, 0])])));
    let formulas: BTreeSet<&str> = FORMULAS.iter().map(|formula| formula.figure).collect();
    let steps = || explained.lines.iter().flat_map(|line| &line.steps);
    let figures: BTreeSet<&str> = steps().map(|step| step.figure).collect();
    let inputs: BTreeSet<&str> =
        steps().flat_map(|step| &step.from).map(|input| input.name.as_str()).collect();
    assert_eq!(formulas.len(), FORMULAS.len());
    assert!(figures.is_subset(&formulas), "{figures:?}");
    let unused: Vec<_> =
        formulas.iter().filter(|name| !figures.contains(*name) && !inputs.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn the_ends_of_an_interval_are_made_of_what_is_said_of_them() {
    let all = rate(&[(0.1, [1_000, 100, 3, 2]), (1.0, [20, 20, 1, 0])]);
    let line = &explain(&report(all.clone())).lines[0];
    assert_eq!(line.cells, all.cells);
    for (figure, expected) in [("upper", all.upper), ("lower", 1.0 - all.lower)] {
        let of = |input| value(line, figure, input);
        let most = of("korn-graubard").max(of("with unseen")).max(of("alone")).min(of("possible"));
        assert!((most / 1_020.0 - expected).abs() < 1e-12, "{figure}: {most}");
    }
    // Two audits are not judged yet: wrong above, right below.
    assert_eq!(value(line, "upper", "possible"), 1_020.0 - 97.0 - 19.0);
    assert_eq!(value(line, "lower", "possible"), 1_020.0 - 4.0);
    let bound = line.steps.iter().find(|step| step.figure == "at most undetected").unwrap();
    assert_eq!(bound.value, Some(all.at_most.undetected as f64));
    assert_eq!(value(line, bound.figure, "unseen with π 0.1") + 2.0, all.at_most.undetected as f64);
    assert!(value(line, bound.figure, "ln of the average") < value(line, bound.figure, "ln 20"));
    assert!(value(line, bound.figure, "with one error more") >= value(line, bound.figure, "ln 20"));
}

#[test]
fn what_is_unknown_has_no_value_but_the_reasons() {
    let line = &explain(&report(rate(&[(0.5, [10, 0, 0, 4])]))).lines[0];
    let json: Value = serde_json::to_value(line).unwrap();
    assert_eq!(json["steps"][0], json!({"figure": "errors"}));
    assert_eq!(json["cells"][0], json!({"pi": 0.5, "executed": 10, "drawn": 4, "judged": 0, "wrong": 0}));
}
