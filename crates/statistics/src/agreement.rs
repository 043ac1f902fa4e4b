//! Agreement between auditors who judge independently.

/// The first two opinions on each action that two have judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Both found it wrong.
    pub both_wrong: u64,
    /// The first alone did.
    pub first_wrong: u64,
    /// The second alone did.
    pub second_wrong: u64,
    /// Both found it correct.
    pub both_correct: u64,
}

impl Pairs {
    /// How many there are.
    pub fn all(&self) -> u64 {
        self.both_wrong + self.first_wrong + self.second_wrong + self.both_correct
    }

    /// The share on which they agreed; `None` without pairs.
    pub fn raw(&self) -> Option<f64> {
        let all = self.all();
        (all > 0).then(|| (self.both_wrong + self.both_correct) as f64 / all as f64)
    }

    /// Agreement on what is wrong, 2a / (2a + b + c) (Cicchetti and Feinstein, J Clin Epidemiol 43, 1990): where errors
    /// are rare, raw agreement is high whatever the auditors do. `None` where nobody found anything wrong.
    pub fn positive(&self) -> Option<f64> {
        let either = 2 * self.both_wrong + self.first_wrong + self.second_wrong;
        (either > 0).then(|| 2.0 * self.both_wrong as f64 / either as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_errors_are_rare_raw_agreement_flatters() {
        let pairs = Pairs { both_wrong: 1, first_wrong: 2, second_wrong: 1, both_correct: 96 };
        assert_eq!((pairs.all(), pairs.raw(), pairs.positive()), (100, Some(0.97), Some(0.4)));
        assert_eq!((Pairs::default().raw(), Pairs::default().positive()), (None, None));
        assert_eq!(Pairs { both_correct: 3, ..Pairs::default() }.positive(), None);
    }
}
