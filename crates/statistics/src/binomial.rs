//! Exact intervals of a proportion.

use statrs::function::beta::beta_reg;

/// A two-sided interval within [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
}

impl Interval {
    /// The interval before any observation.
    pub const UNKNOWN: Interval = Interval { lower: 0.0, upper: 1.0 };

    /// Whether a value lies within it.
    pub fn contains(&self, value: f64) -> bool {
        (self.lower..=self.upper).contains(&value)
    }
}

/// The interval of Clopper and Pearson (Biometrika 26, 1934) for `x` in `n` trials; `alpha` is the probability outside
/// it, half on each side. Counts need not be whole, as effective sample sizes are not.
///
/// Without trials, or for invalid arguments: [0, 1].
pub fn clopper_pearson(x: f64, n: f64, alpha: f64) -> Interval {
    let sensible = n > 0.0 && (0.0..=n).contains(&x) && alpha > 0.0 && alpha < 1.0;
    if !sensible {
        return Interval::UNKNOWN;
    }
    let lower = if x > 0.0 { beta_quantile(alpha / 2.0, x, n - x + 1.0) } else { 0.0 };
    let upper = if x < n { beta_quantile(1.0 - alpha / 2.0, x + 1.0, n - x) } else { 1.0 };
    Interval { lower, upper }
}

/// The quantile of a beta distribution: bisection of its distribution function, to the last bit of a double. Its
/// parameters are positive.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    // Doubles become finer towards zero: 200 halvings are more than enough.
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if beta_reg(a, b, middle) < p { low = middle } else { high = middle }
    }
    low + (high - low) / 2.0
}

/// How many audits without an error show that the rate is below `rate`, with `alpha` on that one side: the smallest n
/// with (1 − rate)^n ≤ alpha.
pub fn clean_audits_needed(rate: f64, alpha: f64) -> u64 {
    (alpha.ln() / (-rate).ln_1p()).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x, n, confidence, lower, upper by scipy 1.17.1:
    /// `beta.ppf(a/2, x, n-x+1), beta.ppf(1-a/2, x+1, n-x)` with `a = 1 - confidence`; 0 where x = 0, 1 where x = n.
    const SCIPY: &[(f64, f64, f64, f64, f64)] = &[
        (0.0, 59.0, 0.9, 0.0, 0.049_507_609_888_226_93),
        (0.0, 299.0, 0.9, 0.0, 0.009_969_146_792_899_269),
        (0.0, 10.0, 0.95, 0.0, 0.308_497_107_818_760_8),
        (1.0, 10.0, 0.95, 0.002_528_578_544_461_786_5, 0.445_016_117_028_195_4),
        (5.0, 10.0, 0.95, 0.187_086_028_447_398_55, 0.812_913_971_552_601_5),
        (10.0, 10.0, 0.95, 0.691_502_892_181_239_2, 1.0),
        (3.0, 200.0, 0.95, 0.003_104_107_621_553_51, 0.043_208_281_917_712_6),
        (17.0, 1_000.0, 0.95, 0.009_933_512_592_716_534, 0.027_079_496_864_851_366),
        (162.0, 250.0, 0.95, 0.585_313_735_344_293_3, 0.707_129_634_121_866_6),
        (1.0, 100_000.0, 0.99, 5.012_541_697_916_41e-8, 7.429_890_621_390_486e-5),
        (2_500.0, 5_000.0, 0.99, 0.481_693_182_321_580_3, 0.518_306_817_678_419_7),
        (2.5, 37.25, 0.95, 0.011_323_948_664_463_679, 0.199_583_738_302_371_33),
        (0.3, 12.75, 0.95, 2.431_279_040_542_443_6e-7, 0.288_907_470_536_169_3),
        (11.125, 80.5, 0.95, 0.071_378_718_567_421_99, 0.233_187_264_600_080_16),
    ];

    #[test]
    fn clopper_pearson_agrees_with_scipy_to_nine_digits() {
        for &(x, n, confidence, lower, upper) in SCIPY {
            let got = clopper_pearson(x, n, 1.0 - confidence);
            assert!((got.lower - lower).abs() < 1e-9, "{x} of {n}: {got:?}, not {lower}");
            assert!((got.upper - upper).abs() < 1e-9, "{x} of {n}: {got:?}, not {upper}");
        }
    }

    #[test]
    fn the_number_of_clean_audits_needed_is_the_smallest_that_suffices() {
        assert_eq!(clean_audits_needed(0.05, 0.05), 59);
        assert_eq!(clean_audits_needed(0.01, 0.05), 299);
        // The same by the interval, with 5 % on the upper side.
        for (n, rate) in [(59.0, 0.05), (299.0, 0.01)] {
            assert!(clopper_pearson(0.0, n, 0.1).upper < rate);
            assert!(clopper_pearson(0.0, n - 1.0, 0.1).upper > rate);
        }
    }

    #[test]
    fn without_trials_nothing_is_known() {
        for (x, n) in [(0.0, 0.0), (1.0, 0.0), (3.0, 2.0), (f64::NAN, 5.0)] {
            assert_eq!(clopper_pearson(x, n, 0.05), Interval::UNKNOWN);
        }
    }
}
