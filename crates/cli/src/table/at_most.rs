//! The bound that holds at any time, in sentences.

use countersign_app::report::{Rate, Report};

use super::figures::percent;
use crate::output::fit;

/// How many errors nobody has found, at most: all together, then by rule and stratum.
pub fn at_most(report: &Report) -> String {
    let span = format!("{} to {}", report.from.format("%F %T"), report.to.format("%F %T UTC"));
    let Some((all, parts)) = report.rates.split_first() else {
        return fit(&format!(
            "Nothing that was accepted from {span} was executed, so that nothing is wrong."
        ));
    };
    let parts: String = parts.iter().map(part).collect();
    fit(&format!(
        "Of the {} actions accepted from {span} and executed, at most {} ({}) are wrong without anybody having found \
         it, with 95 % confidence: {} were found wrong, and {} audits that are not judged yet count as errors. \
         This holds at every moment at once, however often you look and whatever agents do, for it follows from the \
         draw alone, whose outcome no agent knows beforehand. It is a promise on actions from one beginning on: with \
         another --from it is another promise, so keep --from at a fixed time. It trusts the auditors' findings.\n\
         Each of these holds with 95 % confidence by itself:{parts}",
        all.executed,
        all.at_most.undetected,
        share(all),
        all.wrong,
        all.missing,
    ))
}

fn share(rate: &Rate) -> String {
    percent(rate.at_most.undetected as f64 / rate.executed.max(1) as f64)
}

fn part(rate: &Rate) -> String {
    let name = match (&rate.stratum, &rate.rule) {
        (Some(stratum), _) => format!("    {stratum}"),
        (None, rule) => format!("  {}", rule.as_deref().unwrap_or_default()),
    };
    format!("\n{name}: at most {} of {} ({})", rate.at_most.undetected, rate.executed, share(rate))
}
