//! Amounts: decimal numbers that can be written in one way only, and the range within which limits add them up.

use rust_decimal::Decimal;

/// The longest string that is parsed. No [`Decimal`] needs more.
const MAX_CHARS: usize = 40;
/// The largest amount that a limit counts: 10^18. Then a sum is exact up to seventy times that, which is far beyond
/// every `max`, and a sum beyond it need not be known exactly.
pub(crate) const MAX: Decimal = Decimal::from_parts(0xa764_0000, 0x0de0_b6b3, 0, false, 0);
/// The most decimal places of an amount that a limit counts.
pub(crate) const MAX_PLACES: u32 = 9;

/// Reads a number such as `12.50` or `-3`: digits, and a point only between digits. No `+`, no exponent, no separators:
/// what a tool reads differently would be another amount than the one that was checked.
pub(crate) fn parse(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if text.len() > MAX_CHARS || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Decimal::from_str_exact(text).ok()
}

/// Checks that a limit can count an amount.
pub(crate) fn countable(amount: Decimal) -> Result<Decimal, String> {
    if amount.is_sign_negative() {
        return Err("the amount is negative".to_owned());
    }
    if amount > MAX {
        return Err("the amount is greater than 10^18".to_owned());
    }
    if amount.normalize().scale() > MAX_PLACES {
        return Err(format!("the amount has more than {MAX_PLACES} decimal places"));
    }
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for text in ["0", "12.50", "-3", "007", "0.000000001"] {
            assert_eq!(parse(text), text.parse().ok(), "{text}");
        }
        for text in
            ["", "-", "+5", "1_000", "1e3", ".5", "5.", "1,5", " 5", "5 ", "--5", "0x10", "٥", "NaN", "inf"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"9".repeat(29)), None, "beyond the range of a decimal");
        assert_eq!(parse(&"0".repeat(41)), None);
    }

    #[test]
    fn only_amounts_that_add_up_exactly_are_counted() {
        assert_eq!(MAX, parse("1000000000000000000").unwrap());
        for text in
            ["0", "-0", "0.00", "1000000000000000000", "999999999999999999.999999999", "1.1000000000000"]
        {
            assert!(countable(parse(text).unwrap()).is_ok(), "{text}");
        }
        for text in ["-1", "1000000000000000000.000000001", "0.0000000001", "79228162514264337593543950335"] {
            assert!(countable(parse(text).unwrap()).is_err(), "{text}");
        }
    }
}
