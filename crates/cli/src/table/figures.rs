//! How figures are written.

/// A share, 0 to 1, in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A figure that may be unknown.
pub(super) fn known(value: Option<f64>, print: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "unknown".into(), print)
}
