//! What chance may do to a simulated share.

/// What a share of `runs` that should be `share` may differ from it by chance: four standard errors, which one in
/// 30,000 exceeds on a side.
pub(super) fn of(share: f64, runs: u32) -> f64 {
    4.0 * (share * (1.0 - share) / f64::from(runs)).sqrt()
}
