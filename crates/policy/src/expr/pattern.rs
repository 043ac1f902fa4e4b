//! The patterns of `matches()`.

use cel::{
    IdedExpr,
    common::ast::{Expr, LiteralValue},
};

use crate::diagnostic::Diagnostic;

const MAX_PATTERN_CHARS: usize = 256;
const MAX_PATTERN_BYTES: usize = 1 << 18;

/// Checks that a pattern is a literal, so that no agent chooses it, and that it compiles to a bounded size.
pub(super) fn check_pattern(pattern: Option<&IdedExpr>) -> Result<(), Diagnostic> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = pattern.map(|pattern| &pattern.expr) else {
        return Err(Diagnostic::new(
            "the pattern of matches() is not a literal",
            "write the pattern as a quoted string",
        ));
    };
    let pattern = pattern.inner();
    let chars = pattern.chars().count();
    if chars > MAX_PATTERN_CHARS {
        return Err(Diagnostic::new(
            format!("the pattern of matches() has {chars} characters"),
            format!("shorten it to at most {MAX_PATTERN_CHARS}"),
        ));
    }
    match regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = error.to_string().lines().last().unwrap_or_default().to_owned();
            Err(Diagnostic::new(
                format!("the pattern {pattern:?} of matches() is not accepted: {reason}"),
                "write a smaller or correct regular expression (RE2 syntax)",
            ))
        }
    }
}
