//! Figures that `fixtures/make.py` had made by scipy, statsmodels and `docs/recompute.py`.

/// The rows of a file: numbers between tabs, and comments after `#`.
pub(crate) fn rows(text: &str) -> Vec<Vec<f64>> {
    let numbers = |line: &str| line.split('\t').map(|number| number.parse().unwrap()).collect();
    text.lines().filter(|line| !line.starts_with('#')).map(numbers).collect()
}
