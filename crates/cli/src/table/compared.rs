//! Groups compared: a table per measure.

use countersign_app::report::comparison::{Comparisons, GROUPS, Group, Measured, Share};

use super::figures::percent;
use crate::output::{Block, blocks, fit};

/// What is compared, a table per measure, and what its columns mean.
pub fn compared(found: &Comparisons) -> String {
    let minutes = found.slow_seconds / 60.0;
    let tables: String = [
        table(found, "FOUND WRONG, of what was executed", |group| &group.wrong),
        table(found, "REJECTED, of what reviewers decided", |group| &group.rejected),
        table(
            found,
            &format!("WAITED LONGER THAN {minutes:.1} MINUTES, of requests for approval"),
            |group| &group.slow,
        ),
        table(found, "DRAWN FOR AN AUDIT, of what was executed", |group| &group.audited),
    ]
    .concat();
    let confidence = percent(1.0 - found.level);
    fit(&format!(
        "{}{tables}\n\n\
         The intervals of a table hold together with {confidence} confidence, but those of differences are made of \
         two. DIFFERS: at most {} of all flags of this report are wrong on average. unseen below: with so many cases \
         a smaller increase would hardly be flagged. few: fewer than {} cases, which are not shown.",
        heading(found),
        percent(found.level),
        found.least,
    ))
}

fn heading(found: &Comparisons) -> String {
    let time = |time: &chrono::DateTime<chrono::Utc>| time.format("%F %T").to_string();
    let (from, to) = (time(&found.from), time(&found.to));
    let what = match (&found.split, &found.by, &found.reference) {
        (Some(split), ..) => format!("{} to {to} compared with {from} to {}", time(split), time(split)),
        (None, by, Some(reference)) => {
            format!(
                "{from} to {to}, groups by {} compared with {reference}",
                by.as_deref().unwrap_or_default()
            )
        }
        (None, by, None) => {
            format!(
                "{from} to {to}, groups by {}; no reference to compare with",
                by.as_deref().unwrap_or_default()
            )
        }
    };
    format!(
        "{what} (UTC)\n{} actions; of {} the group is not known or erased, {} are of groups that are not listed: \
         smaller than {} actions, or beyond the {GROUPS} largest.",
        found.actions, found.not_known, found.not_listed, found.least,
    )
}

fn table(found: &Comparisons, title: &str, pick: fn(&Group) -> &Measured) -> String {
    let shown =
        found.groups.iter().filter(|group| pick(group).rate.is_some() || pick(group).reference.is_some());
    let rows: Vec<Block<7>> = shown.map(|group| block(group, pick(group), found.split.is_some())).collect();
    if rows.is_empty() {
        return format!("\n\n{title}: few");
    }
    let header = ["cases", "rate", "interval", "difference", "its interval", "ratio", "unseen\nbelow"];
    format!("\n\n{title}\n{}", blocks(header, &rows))
}

fn block(group: &Group, measured: &Measured, drift: bool) -> Block<7> {
    let flag = if measured.compared.is_some_and(|compared| compared.flagged) { "DIFFERS  " } else { "" };
    let name = format!("{flag}{}", group.group.last().map(String::as_str).unwrap_or_default());
    let [cases, rate, interval] = own(measured.rate.as_ref());
    let points = |value: f64| format!("{:+.2}", 100.0 * value);
    let [difference, around, ratio, visible] = match &measured.compared {
        None => std::array::from_fn(|_| String::new()),
        Some(compared) => [
            points(compared.difference),
            format!("{}..{}", points(compared.lower), points(compared.upper)),
            compared.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            compared.visible.map_or_else(|| "all".into(), points),
        ],
    };
    let row = [cases, rate, interval, difference, around, ratio, visible];
    if !drift {
        return Block::new(name, row);
    }
    let [cases, rate, interval] = own(measured.reference.as_ref());
    let none = String::new;
    let earlier = [cases, rate, interval, none(), none(), none(), none()];
    Block { name: format!("{name}\n  first before, then after"), rows: vec![earlier, row] }
}

fn own(share: Option<&Share>) -> [String; 3] {
    share.map_or_else(
        || ["few".into(), String::new(), String::new()],
        |Share { cases, rate, lower, upper, .. }| {
            let interval = format!("{:.2}..{:.2}", 100.0 * lower, 100.0 * upper);
            [cases.to_string(), percent(*rate), interval]
        },
    )
}

#[cfg(test)]
mod tests {
    use countersign_app::report::comparison::Difference;

    use super::*;
    use crate::output::WIDTH;

    fn found() -> Comparisons {
        let share =
            Share { cases: 1_234_567, positive: 123, missing: 4, rate: 1.0, lower: 0.1234, upper: 1.0 };
        let compared = Difference {
            difference: -0.4321,
            lower: -1.0,
            upper: 1.0,
            ratio: Some(12.345),
            ln_evidence: 9.0,
            flagged: true,
            visible: Some(0.2345),
        };
        let measured = Measured { rate: Some(share), reference: Some(share), compared: Some(compared) };
        let group = Group {
            group: vec![
                "one".into(),
                "pay".into(),
                "writes/update_reservation_passengers/airline-agent@2026/large".into(),
            ],
            actions: 1_234_567,
            wrong: measured.clone(),
            rejected: measured.clone(),
            slow: measured,
            audited: Measured::default(),
        };
        let time = chrono::DateTime::UNIX_EPOCH;
        Comparisons {
            from: time,
            to: time,
            split: Some(time),
            by: None,
            reference: None,
            level: 0.05,
            least: 30,
            slow_seconds: 600.0,
            actions: 1_234_567,
            not_known: 1_234,
            not_listed: 1_234,
            groups: vec![group],
        }
    }

    #[test]
    fn comparisons_fit_a_terminal_and_say_what_is_flagged_and_what_is_too_few() {
        let text = compared(&found());
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "{wide:#?}\n{text}");
        for part in [
            "DIFFERS  writes/",
            "-43.21",
            "-100.00..+100.00",
            "12.35",
            "+23.45",
            "12.34..100.00",
            "audit, of what was executed: few",
            "10.0 MINUTES",
        ] {
            assert!(
                text.split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .contains(&part.split_whitespace().collect::<Vec<_>>().join(" "))
                    || text.to_lowercase().contains(&part.to_lowercase()),
                "{part} is not in\n{text}"
            );
        }
    }
}
