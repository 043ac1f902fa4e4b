//! The formulas of the report's figures.

use serde::Serialize;

/// How a figure is computed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Formula {
    /// The figure, or what goes into others.
    pub figure: &'static str,
    /// The formula, in the words and letters of the cells: N executed, n judged, w wrong, π.
    pub formula: &'static str,
    /// Where it comes from.
    pub source: &'static str,
}

const fn formula(figure: &'static str, formula: &'static str, source: &'static str) -> Formula {
    Formula { figure, formula, source }
}

/// The formulas of all figures, in the order in which the report has them.
pub const FORMULAS: &[Formula] = &[
    formula(
        "errors",
        "Σ N·w/n over the cells. Cells with N·π < 5 are one: ΣN · Σ(w/π) / Σ(n/π). Unknown where something was drawn \
         and nothing of it is judged; what is never drawn adds nothing.",
        "Horvitz and Thompson, JASA 47 (1952); the ratio: Hájek (1971)",
    ),
    formula("rate", "errors / ΣN, both over the cells with a judgement", "as errors"),
    formula("undetected", "errors - Σw, at least 0", "as errors"),
    formula(
        "effective audits",
        "with r = Σ(w/π) / Σ(n/π) and v = n/(n-1) · Σ[(w(1-r)² + (n-w)r²)/π²] / (Σ n/π)²: n* = r(1-r)/v, at most n. If \
         none or all are wrong, n* = n. An audit that is not judged yet counts as wrong for the upper end and as right for \
         the lower; for the lower, w is what was found right. Where all that was executed is judged, all π are 1.",
        "Korn and Graubard, Survey Methodology 24 (1998), without strata",
    ),
    formula("effective wrong", "w* = r·n*; if none or all are wrong, w* = w", "as effective audits"),
    formula(
        "korn-graubard",
        "N times the quantile 1-α/2 of the beta distribution with parameters w*+1 and n*-w*, where α = 1 - confidence. \
         N itself if w* = n*.",
        "Clopper and Pearson, Biometrika 26 (1934)",
    ),
    formula(
        "with unseen",
        "Σw + Σu, with several cells: in order of π, each u is as large as N-n and what is left of a budget of ln(2/α) \
         allow, at a cost of -ln(1-π) for each",
        "the draw misses all of them with the probability Π(1-π)^u",
    ),
    formula(
        "alone",
        "with several cells: errors + the largest difference between a cell's korn-graubard, at most N less what was \
         judged right, and its errors. What has π = 0 counts as wrong.",
        "for Korn and Graubard's v is too small where the few audits of a small π find nothing",
    ),
    formula("possible", "N less what was judged right", "counted"),
    formula(
        "upper",
        "the largest of korn-graubard, with unseen and alone, at most possible, divided by N; not below the rate",
        "the three above",
    ),
    formula("lower", "1 less the same of what is right; not above the rate", "as upper"),
    formula(
        "confidence",
        "0.95^(1/k) for each of k lines that are compared with each other, so that all hold together with 95 %",
        "Šidák, JASA 62 (1967)",
    ),
    formula(
        "at most undetected",
        "not judged yet + the most unseen errors, in order of π, for which ln of the average of e^x(s) over s = 0.1, 0.25, \
         0.6, 1.5, 4, 20 is below ln 20: x(s) = Σ c(s) over found, not judged and unseen errors, less s for each found or not \
         judged; c(s) = -ln(1-π(1-e^-s)). Errors at most: found besides.",
        "Ville (1939); Waudby-Smith and others, arXiv 2210.10768",
    ),
    formula(
        "sensitivity",
        "recognised / items, of gold items known to be wrong",
        "the interval: Clopper and Pearson, Biometrika 26 (1934), with the confidence of k = 2 · auditors lines",
    ),
    formula("specificity", "recognised / items, of gold items known to be right", "as sensitivity"),
    formula(
        "corrected rate",
        "(plain + specificity - 1) / (sensitivity + specificity - 1), within 0 and 1",
        "Rogan and Gladen, American Journal of Epidemiology 107 (1978)",
    ),
    formula(
        "corrected interval",
        "with z = 1.96, A audits and a = (plain·A + z²/2)/(A + z²); s and q are sensitivity and specificity with one more of \
         each outcome, V and W their variances s(1-s)/(items+2) and q(1-q)/(items+2), c = (a+q-1)/(s+q-1): \
         c + 2z²(cV-(1-c)W) ± z·√(a(1-a)/(A+z²) + c²V + (1-c)²W) / (s+q-1). A = (ΣN)² / Σ(N²/n), Kish's number of \
         audits.",
        "Lang and Reiczigel, Preventive Veterinary Medicine 113 (2014); Kish, Survey Sampling (1965)",
    ),
    formula(
        "corrected share",
        "corrected / errors, at most 1. Its interval: corrected / (N · upper) to corrected / (N · lower).",
        "corrected errors are counted, so that all the uncertainty is in their number",
    ),
    formula("agreement", "(both wrong + both correct) / pairs", "counted"),
    formula(
        "agreement on what is wrong",
        "2 · both wrong / (2 · both wrong + one wrong)",
        "Cicchetti and Feinstein, Journal of Clinical Epidemiology 43 (1990)",
    ),
];
