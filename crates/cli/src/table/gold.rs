//! The report's part about gold items, as text.

use countersign_app::report::{Auditors, CorrectedRate, Gold, Share};

use super::figures::{known, percent};
use crate::output::table;

/// How auditors judge what is known, and corrected rates, each after an empty line; nothing without gold items.
pub(super) fn render(gold: &Gold) -> String {
    let sections = [auditors(&gold.auditors), corrected(&gold.corrected)];
    sections.into_iter().flatten().map(|section| format!("\n\n{section}")).collect()
}

fn auditors(lines: &[Auditors]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let mut table = table([
        "group / auditor",
        "known\nwrong",
        "sensitivity\ninterval",
        "known\nright",
        "specificity\ninterval",
    ]);
    let share = |share: &Share| {
        format!("{}\n{} to {}", known(share.share, percent), percent(share.lower), percent(share.upper))
    };
    for Auditors { group, auditor, sensitivity, specificity } in lines {
        table.add_row([
            auditor.as_ref().map_or_else(|| group.clone(), |auditor| format!("  {auditor}")),
            sensitivity.items.to_string(),
            share(sensitivity),
            specificity.items.to_string(),
            share(specificity),
        ]);
    }
    Some(format!(
        "{table}\n\
         gold items: audits that show what an earlier, settled one showed; no other figure counts them. Sensitivity: found wrong of\n\
         what is known to be wrong; specificity: found correct of what is known to be right. The intervals hold together with\n\
         95 % confidence."
    ))
}

fn corrected(lines: &[CorrectedRate]) -> Option<String> {
    if lines.is_empty() {
        return None;
    }
    let mut table = table(["rule", "error rate\nas found", "corrected\n95 % interval"]);
    for line in lines {
        let interval = line.lower.zip(line.upper);
        table.add_row([
            line.rule.as_ref().map_or_else(|| "ALL THAT WAS EXECUTED".into(), |rule| format!("  {rule}")),
            percent(line.plain),
            interval.map_or_else(
                || "unknown".into(),
                |(lower, upper)| {
                    format!("{}\n{} to {}", known(line.rate, percent), percent(lower), percent(upper))
                },
            ),
        ]);
    }
    Some(format!(
        "{table}\n\
         corrected for what auditors miss and mistake, as gold items show (Rogan and Gladen; Lang and Reiczigel). Unknown: gold\n\
         items of both kinds are needed, and auditors who do better than chance."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_gold_items_there_is_no_section() {
        assert_eq!(render(&Gold { auditors: vec![], corrected: vec![] }), "");
    }

    #[test]
    fn a_corrected_rate_stands_beside_the_plain_one_and_what_is_unknown_is_not_printed_as_nothing() {
        let line = |rate: Option<f64>| CorrectedRate {
            rule: None,
            plain: 0.08,
            known_wrong: [50, 40],
            known_right: [50, 50],
            rate,
            lower: rate.map(|_| 0.04),
            upper: rate.map(|_| 0.2),
        };
        let share = Share { items: 50, recognised: 40, share: Some(0.8), lower: 0.6, upper: 0.9 };
        let auditors =
            vec![Auditors { group: "one".into(), auditor: None, sensitivity: share, specificity: share }];
        let text = render(&Gold { auditors, corrected: vec![line(Some(0.1)), line(None)] });
        for part in ["80.00 %", "60.00 % to 90.00 %", "8.00 %", "10.00 %", "4.00 % to 20.00 %", "unknown"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
