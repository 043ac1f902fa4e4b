use chrono::{DateTime, Utc};
use countersign_app::report::{
    Agreement, Auditors, Bound, CorrectedRate, Correction, Gold, Learning, Line, Lowered, Percentiles,
    PlanChange, Prevented, Rate, RateCell, Remediations, Report, ScoredRate, Share, Version,
};
use serde_json::json;

use countersign_app::report::explanation::explain;

use super::{at_most, explained, render};
use crate::output::WIDTH;

/// The longest name of the airline example's strata.
const STRATUM: &str = "writes/update_reservation_passengers/airline-agent@2026-11-28/large";

fn moment() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn line(pattern: &str, rule: Option<&str>) -> Line {
    let times = Percentiles { p50: 987.654, p95: 12_345.678, p99: 86_399.999 };
    Line {
        pattern: pattern.into(),
        rule: rule.map(str::to_owned),
        actions: 1_234_567,
        executed: 1_234_567,
        reviews: 1_234_567,
        audits: 1_234_567,
        audits_judged: 1_234_567,
        errors_prevented: 123_456,
        errors_found: 123_456,
        in_doubt: 12_345,
        expired: 12_345,
        open: 12_345,
        added_latency: Some(times),
        human_latency: Some(times),
        machine_latency: Some(times),
    }
}

fn rate(rule: Option<&str>, stratum: Option<&str>) -> Rate {
    Rate {
        rule: rule.map(str::to_owned),
        stratum: stratum.map(str::to_owned),
        executed: 1_234_567,
        judged: 123_456,
        wrong: 12_345,
        missing: 1_234,
        errors: Some(123_456.7),
        undetected: Some(111_111.1),
        rate: Some(0.1),
        confidence: 0.998_7,
        lower: 0.0951,
        upper: 1.0,
        at_most: Bound { errors: 134_567, undetected: 122_222 },
        cells: vec![cell(0.05, 1_000_000), cell(1.0, 234_567)],
    }
}

fn cell(pi: f64, executed: u64) -> RateCell {
    RateCell { pi, executed, drawn: 62_345, judged: 61_728, wrong: 6_172 }
}

fn plan_change() -> PlanChange {
    let change = json!({
        "stratum": STRATUM, "was": "pre_approval", "state": "discontinued", "at": moment(),
        "reason": "the CUSUM of the audits of all versions and bands passed ln 100 (level 1234)",
        "seen": {"executed": 1_234, "audited": 123, "wrong": 12},
    });
    serde_json::from_value(change).unwrap()
}

fn learning() -> Learning {
    Learning {
        correction: Some(Correction {
            corrected: 12_345,
            errors: Some(123_456.7),
            share: Some(0.1),
            lower: 0.05,
            upper: 1.0,
            reference: [0.7, 0.9],
        }),
        prevented: Prevented { rejections: 12, edits: 3, rejections_audited: 5, rejections_upheld: 4 },
        versions: vec![Version {
            agent: "airline-agent".into(),
            version: "2026-11-28".into(),
            first_feedback: Some(moment()),
            earlier: Some(rate(None, None)),
            later: None,
        }],
        agreement: Agreement {
            pairs: 1_234,
            both_wrong: 100,
            one_wrong: 34,
            both_correct: 1_100,
            raw: Some(0.97),
            positive: Some(0.85),
        },
        plan_changes: vec![plan_change()],
        remediations: Remediations { open: 12, overdue: 3 },
        lowered: vec![Lowered {
            group: "treasury-auditors".into(),
            epochs: 123,
            remaining: 0.5,
            demand: 1_234.5,
            capacity: Some(567.8),
        }],
    }
}

fn report() -> Report {
    let rule = Some("writes");
    Report {
        from: moment(),
        to: moment(),
        measured_at: moment(),
        lines: vec![line("approval", None), line("approval", rule), line("audit", None), line("audit", rule)],
        rates: vec![rate(None, None), rate(rule, None), rate(rule, Some(STRATUM))],
        scored: vec![ScoredRate {
            rule: "writes".into(),
            executed: 1_234_567,
            audits: 234_567,
            predicted: 23_456.7,
            errors: Some(34_567.8),
            rate: Some(0.028),
            confidence: 0.974_7,
            lower: 0.0251,
            upper: 1.0,
            saved: Some(345_678.2),
        }],
        gold: gold(),
        learning: learning(),
    }
}

fn gold() -> Gold {
    let share = |share| Share { items: 1_234, recognised: 1_000, share, lower: 0.123_456, upper: 0.987_654 };
    let [sensitivity, specificity] = [share(Some(0.5)), share(None)];
    let line = |auditor: Option<&str>| Auditors {
        group: "treasury-auditors".into(),
        auditor: auditor.map(str::to_owned),
        sensitivity,
        specificity,
    };
    let corrected = |rule: Option<&str>, rate: Option<f64>| CorrectedRate {
        rule: rule.map(str::to_owned),
        plain: 0.123_456,
        known_wrong: [1_234, 1_000],
        known_right: [1_234, 1_000],
        rate,
        lower: rate.map(|_| 0.01),
        upper: rate.map(|_| 0.99),
    };
    Gold {
        auditors: vec![line(None), line(Some("ada"))],
        corrected: vec![corrected(None, None), corrected(Some("writes"), Some(0.1))],
    }
}

#[test]
fn no_line_of_the_report_is_wider_than_a_terminal() {
    for text in [render(&report()), at_most(&report()), explained(&report(), &explain(&report()))] {
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty() && text.lines().count() > 5, "{wide:#?}\n{text}");
    }
}

#[test]
fn no_figure_of_the_report_is_lost() {
    let text = render(&report());
    for figure in [
        "1234567",
        "100.0 %",
        "123456",
        "12345",
        "987.7 / 12346 / 86400",
        "10.00 %",
        "9.51 % to 100.00 % (99.87 %)",
        "123456.7",
        "111111.1",
        "134567",
        "122222",
        "234567",
        "23456.7",
        "34567.8",
        "2.51 % to 100.00 % (97.47 %)",
        "345678",
        "1234",
        "2026-09-21",
        "1234.5",
        "567.8",
    ] {
        assert!(text.contains(figure), "{figure} is not in\n{text}");
    }
}
