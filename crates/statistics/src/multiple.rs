//! Many tests at once: which of them to believe.

/// Which of several e-values to flag so that at most a share of `level` of the flags is wrong on average, however the
/// e-values depend on each other (e-BH: Wang and Ramdas, Journal of the Royal Statistical Society B 84, 2022): the k
/// largest, for the largest k of which the k-th is at least count / (k · level). Takes and returns them in the same
/// order; given as natural logarithms.
pub fn e_bh(ln_values: &[f64], level: f64) -> Vec<bool> {
    let mut sorted = ln_values.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    let needed = |k: usize| (ln_values.len() as f64 / (k as f64 * level)).ln();
    let least = (1..).zip(&sorted).filter(|(k, value)| **value >= needed(*k)).map(|(_, value)| *value).last();
    ln_values.iter().map(|value| least.is_some_and(|least| *value >= least)).collect()
}

/// p-values adjusted so that at most one in 1/α families has any that is wrongly at most α, however they depend on each
/// other (Holm, Scandinavian Journal of Statistics 6, 1979). Takes and returns them in the same order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|one, other| p_values[*one].total_cmp(&p_values[*other]));
    let mut adjusted = vec![1.0; count];
    let mut largest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(p_values[index] * (count - rank) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::rows;

    #[test]
    fn holms_adjustment_agrees_with_statsmodels() {
        for row in rows(include_str!("../fixtures/holm.tsv")) {
            let (p_values, expected) = row.split_at(row.len() / 2);
            for (got, expected) in holm(p_values).iter().zip(expected) {
                assert!((got - expected).abs() < 1e-12, "{row:?}");
            }
        }
    }

    #[test]
    fn e_values_are_flagged_as_the_reciprocals_are_by_benjamini_and_hochberg() {
        // e-BH is Benjamini and Hochberg's procedure on 1/e.
        for row in rows(include_str!("../fixtures/e_bh.tsv")) {
            let (ln_values, expected) = row.split_at(row.len() / 2);
            let expected: Vec<bool> = expected.iter().map(|flag| *flag == 1.0).collect();
            assert_eq!(e_bh(ln_values, 0.05), expected, "{row:?}");
        }
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(e_bh(&[], 0.05).is_empty() && holm(&[]).is_empty());
    }
}
