//! Dodge's continuous sampling plan CSP-1 (Annals of Mathematical Statistics 14, 1943): inspect everything until `i` in
//! a row are clean, then only a share `f`, and everything again after an error.

/// The average outgoing quality at the incoming rate `p`: AOQ(p) = p(1−f)q^i / (f + (1−f)q^i), with q = 1 − p.
pub fn average_outgoing_quality(p: f64, f: f64, i: u32) -> f64 {
    let clear = (f64::from(i) * (-p).ln_1p()).exp();
    p * (1.0 - f) * clear / (f + (1.0 - f) * clear)
}

/// Its maximum over p, the average outgoing quality limit, by golden section: AOQ has one maximum.
pub fn average_outgoing_quality_limit(f: f64, i: u32) -> f64 {
    let ratio = (5_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..100 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if average_outgoing_quality(left, f, i) < average_outgoing_quality(right, f, i) {
            low = left;
        } else {
            high = right;
        }
    }
    average_outgoing_quality(low, f, i)
}

/// The shortest clean run that keeps the limit, for a share `f`.
pub fn clearance(f: f64, limit: f64) -> u32 {
    let keeps = |i: u32| average_outgoing_quality_limit(f, i) <= limit;
    let mut high = 1;
    while !keeps(high) && high < 1 << 20 {
        high *= 2;
    }
    let (mut low, mut high) = (high / 2, high);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if keeps(middle) { high = middle } else { low = middle }
    }
    high
}

/// The share of all actions that an agent can get through wrong and undetected if it knows the state and errs only, but
/// always, where a share `f` is inspected: (k − 1)/(i + k) with k = 1/f, the limit of CSP-1 without the assumption of a
/// constant rate (Derman, Johns and Lieberman, Annals of Mathematical Statistics 30, 1959). The error that is found ends
/// that stretch `lag` actions later.
pub fn worst_case(f: f64, i: u32, lag: u32) -> f64 {
    let (k, lag) = (1.0 / f, f64::from(lag));
    (k - 1.0 + lag * (1.0 - f)) / (f64::from(i) + k + lag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::Dice;

    #[test]
    fn an_agent_that_errs_only_when_cleared_gets_as_much_through_as_the_formula_says() {
        assert!((worst_case(0.1, 110, 0) - 0.075).abs() < 1e-12);
        let (mut dice, f, i, lag) = (Dice::new(3), 0.1, 110, 50);
        let (mut actions, mut undetected) = (0_u32, 0_u32);
        for _ in 0..5_000 {
            let mut seen = None;
            actions += i;
            for now in 0_u32.. {
                if seen.is_some_and(|first| now > first + lag) {
                    break;
                }
                actions += 1;
                match dice.below(f) {
                    true => seen = seen.or(Some(now)),
                    false => undetected += 1,
                }
            }
        }
        let share = f64::from(undetected) / f64::from(actions);
        assert!((share / worst_case(f, i, lag) - 1.0).abs() < 0.02, "{share}");
    }

    #[test]
    fn the_clearances_of_the_published_tables_are_reproduced() {
        for (f, limit, i) in [(0.10, 0.01, 110), (0.05, 0.01, 152), (0.20, 0.02, 36)] {
            let got = clearance(f, limit);
            let nearest = (got.saturating_sub(1)..=got)
                .min_by(|a, b| {
                    let off = |i: &u32| (average_outgoing_quality_limit(f, *i) - limit).abs();
                    off(a).total_cmp(&off(b))
                })
                .unwrap();
            println!("{f} {limit}: {got} {nearest} {}", average_outgoing_quality_limit(f, i));
            assert!(got == i || nearest == i, "{f}, {limit}: {got}, nearest {nearest}, not {i}");
        }
    }
}
