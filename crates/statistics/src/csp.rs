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

#[cfg(test)]
mod tests {
    use super::*;

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
