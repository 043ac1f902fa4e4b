//! How reviewers decide: a table per figure.

use countersign_app::report::{
    comparison::Share,
    reviewers::{PEERS, PeerDifference, Percentile, ReviewerLine, Reviewers, Shown, Times},
};

use super::figures::percent;
use crate::output::{Block, blocks, fit};

/// A table per figure with the lines that have enough cases for one, and what the figures mean.
pub fn reviewed(found: &Reviewers) -> String {
    let shares = ["cases", "of these", "rate", "interval"];
    let audited = ["judged", "wrong", "not judged\nyet", "rate", "interval"];
    let beside = ["cases", "rate", "peers:\ncases", "rate", "difference", "its interval"];
    let gold = |pick: fn(&ReviewerLine) -> Option<Shown<Share>>| {
        move |line: &ReviewerLine| pick(line).map(|shown| row(shown, share))
    };
    let tables = [
        table(found, "APPROVED, of what they decided", shares, |line| Some(row(line.approved, share))),
        table(found, "APPROVED, beside peers in the same stratum", beside, |line| {
            line.peers.map(|peers| match (line.approved, peers) {
                (Shown::Figure(own), Shown::Figure(peers)) => Some(difference(&own, &peers)),
                _ => None,
            })
        }),
        table(found, "FOUND WRONG, of what they approved and was executed", audited, |line| {
            Some(row(line.approved_wrong, judged))
        }),
        table(found, "REJECTIONS FOUND WRONG, of what they rejected", audited, |line| {
            Some(row(line.rejected_wrong, judged))
        }),
        table(found, "CHANGED THEIR MIND, of what they decided", shares, |line| {
            Some(row(line.changed, share))
        }),
        table(
            found,
            "TIME FROM REQUEST TO DECISION, in seconds",
            ["cases", "p10", "median", "p90"],
            |line| Some(row(line.time, times)),
        ),
        table(
            found,
            "GOLD ITEMS, as auditors: found wrong, of what is known to be wrong",
            shares,
            gold(|line| Some(line.gold?.sensitivity)),
        ),
        table(
            found,
            "GOLD ITEMS, as auditors: found correct, of what is known to be right",
            shares,
            gold(|line| Some(line.gold?.specificity)),
        ),
    ];
    fit(&format!("{}{}\n\n{}", heading(found), tables.concat(), footer(found)))
}

fn heading(found: &Reviewers) -> String {
    let group = found.group.as_ref().map_or_else(String::new, |group| format!(" of {group}"));
    format!(
        "{} to {}: {} reviewers{group} have decided",
        found.from.format("%F %T"),
        found.to.format("%F %T UTC"),
        found.people,
    )
}

fn footer(found: &Reviewers) -> String {
    format!(
        "The intervals of a table hold together with 95 % confidence in lines of one kind (persons, their rules, their \
         strata); those of differences are made of two. Of audits that were drawn, each stands for as many actions as its \
         inclusion probability says. An audit that is not judged yet counts as right below and as wrong above. Percentiles \
         have intervals that assume no distribution; open: too few cases for an end. Lines with fewer than {} cases have too \
         few, and so have figures of fewer than {PEERS} people together. A difference is no reason: people may get other cases.",
        found.minimum,
    )
}

/// A figure's row; `None` where there are too few cases.
fn row<T, const N: usize>(shown: Shown<T>, print: impl Fn(&T) -> [String; N]) -> Option<[String; N]> {
    match shown {
        Shown::Figure(figure) => Some(print(&figure)),
        Shown::TooFew => None,
    }
}

/// The lines of which this figure is measured. It is absent from others, and a line with too few cases says so.
fn table<const N: usize>(
    found: &Reviewers,
    title: &str,
    header: [&str; N],
    figure: impl Fn(&ReviewerLine) -> Option<Option<[String; N]>>,
) -> String {
    let block = |line: &ReviewerLine| {
        let row = figure(line)?;
        let few = row.is_none();
        let rows = row.into_iter().collect();
        Some((few, Block { name: format!("{}{}", name(line), if few { ": too few" } else { "" }), rows }))
    };
    let lines: Vec<(bool, Block<N>)> = found.lines.iter().filter_map(block).collect();
    if lines.is_empty() {
        return String::new();
    }
    if lines.iter().all(|(few, _)| *few) {
        return format!("\n\n{title}: too few");
    }
    let lines: Vec<Block<N>> = lines.into_iter().map(|(_, block)| block).collect();
    format!("\n\n{title}\n{}", blocks(header, &lines))
}

/// Whose line it is, and of what.
fn name(line: &ReviewerLine) -> String {
    match (&line.rule, &line.stratum) {
        (_, Some(stratum)) => format!("    {stratum}"),
        (Some(rule), None) => format!("  {rule}"),
        (None, None) => line.person.clone().unwrap_or_else(|| format!("ALL OTHERS, {} people", line.people)),
    }
}

fn share(share: &Share) -> [String; 4] {
    [
        share.cases.to_string(),
        share.positive.to_string(),
        percent(share.rate),
        interval(share.lower, share.upper),
    ]
}

fn judged(share: &Share) -> [String; 5] {
    let [cases, positive, rate, interval] = self::share(share);
    [cases, positive, share.missing.to_string(), rate, interval]
}

fn difference(own: &Share, peers: &PeerDifference) -> [String; 6] {
    let points = |value: f64| format!("{:+.2}", 100.0 * value);
    [
        own.cases.to_string(),
        percent(own.rate),
        peers.peers.cases.to_string(),
        percent(peers.peers.rate),
        points(peers.difference),
        format!("{}..{}", points(peers.lower), points(peers.upper)),
    ]
}

fn times(times: &Times) -> [String; 4] {
    let end = |end: Option<f64>| end.map_or_else(|| "open".into(), seconds);
    let print = |it: &Percentile| format!("{} ({}..{})", seconds(it.seconds), end(it.lower), end(it.upper));
    [times.cases.to_string(), print(&times.p10), print(&times.median), print(&times.p90)]
}

/// Seconds, to a tenth where that matters.
fn seconds(seconds: f64) -> String {
    let digits = usize::from(seconds < 100.0);
    format!("{seconds:.digits$}")
}

fn interval(lower: f64, upper: f64) -> String {
    format!("{:.2}..{:.2}", 100.0 * lower, 100.0 * upper)
}

#[cfg(test)]
mod tests {
    use countersign_app::report::reviewers::GoldShares;

    use super::*;
    use crate::output::WIDTH;

    fn line(person: Option<&str>, stratum: Option<&str>) -> ReviewerLine {
        let share =
            Share { cases: 1_234_567, positive: 123, missing: 1_234, rate: 1.0, lower: 0.1234, upper: 1.0 };
        let at = Percentile { seconds: 86_399.94, lower: Some(12_345.6), upper: None };
        let soon = Percentile { seconds: 8.24, ..at };
        ReviewerLine {
            person: person.map(str::to_owned),
            people: 3,
            rule: stratum.map(|_| "large".into()),
            stratum: stratum.map(str::to_owned),
            cases: 1_234_567,
            confidence: 0.99,
            approved: Shown::Figure(share),
            peers: stratum.map(|_| {
                Shown::Figure(PeerDifference {
                    people: 2,
                    peers: share,
                    difference: -0.4321,
                    lower: -1.0,
                    upper: 1.0,
                })
            }),
            approved_wrong: Shown::Figure(share),
            rejected_wrong: Shown::TooFew,
            changed: Shown::Figure(share),
            time: Shown::Figure(Times { cases: 1_234_567, p10: soon, median: at, p90: at }),
            gold: person
                .map(|_| GoldShares { sensitivity: Shown::Figure(share), specificity: Shown::TooFew }),
        }
    }

    fn found(lines: Vec<ReviewerLine>) -> Reviewers {
        let time = chrono::DateTime::UNIX_EPOCH;
        Reviewers {
            from: time,
            to: time,
            group: Some("approvers".into()),
            minimum: 20,
            people: 4,
            time_from: "request".into(),
            lines,
        }
    }

    #[test]
    fn figures_of_reviewers_fit_a_terminal_and_say_what_is_too_few() {
        let few = ReviewerLine { approved: Shown::TooFew, ..line(None, None) };
        let stratum = "large/update_reservation_passengers/airline-agent@2026/large";
        let text = reviewed(&found(vec![line(Some("sam"), None), line(Some("sam"), Some(stratum)), few]));
        let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "{wide:#?}\n{text}");
        for part in [
            "4 reviewers of approvers",
            "sam\n",
            "ALL OTHERS, 3 people: too few",
            "REJECTIONS FOUND WRONG, of what they rejected: too few",
            "-43.21",
            "-100.00..+100.00",
            "86400 (12346..open)",
            "8.2 (12346..open)",
            "12.34..100.00",
            "found correct, of what is known to be right: too few",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn without_decisions_there_is_no_table() {
        let text = reviewed(&found(vec![]));
        assert!(!text.contains("APPROVED") && text.contains("reviewers of approvers"), "{text}");
    }
}
