//! Error rates of rules with a score.

use countersign_app::report::ScoredRate;

use super::{
    figures::{known, percent},
    rates::interval,
};
use crate::output::{Block, blocks};

/// A table with a line per rule. Empty where no rule has a score.
pub(super) fn render(scored: &[ScoredRate]) -> String {
    if scored.is_empty() {
        return String::new();
    }
    let row = |rate: &ScoredRate| {
        let columns = [
            rate.audits.to_string(),
            format!("{:.1}", rate.predicted),
            known(rate.errors, |errors| format!("{errors:.1}")),
            known(rate.rate, percent),
            interval(rate.lower, rate.upper, rate.confidence),
            known(rate.saved, |saved| format!("{saved:.0}")),
        ];
        Block::new(format!("  {}", rate.rule), columns)
    };
    let rows: Vec<Block<6>> = scored.iter().map(row).collect();
    let header = [
        "audits",
        "errors\npredicted",
        "errors\nestimated",
        "error\nrate",
        "interval (its confidence)",
        "audits\nsaved",
    ];
    format!(
        "\n\nRULES WITH A SCORE\n{}\n\
         estimated: what the scores predict, put right by what audits found otherwise. The intervals trust no score, and hold \
         together with 95 % confidence. saved: how many more audits drawn at one rate, without scores, would have led to an \
         estimate of the same variance; unknown with fewer than ten errors found.",
        blocks(header, &rows)
    )
}
