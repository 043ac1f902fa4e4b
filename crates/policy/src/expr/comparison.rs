//! Comparisons whose operands may have types that do not compare as their author expects.

use cel::IdedExpr;

use super::{functions::StaticType, infer::infer};
use crate::diagnostic::Diagnostic;

/// Checks `<`, `<=`, `>` and `>=`: at least one side must be known not to be a string.
pub(super) fn check_ordering(left: &IdedExpr, right: &IdedExpr) -> Result<(), Diagnostic> {
    match (infer(left), infer(right)) {
        (StaticType::Text, _) | (_, StaticType::Text) | (StaticType::Unknown, StaticType::Unknown) => {
            Err(Diagnostic::new(
                "< or > may compare plain strings here, and as a string \"9\" is greater than \"10\"",
                "write decimal(..) around both sides, or int(..), timestamp(..) or size(..) to match the values",
            ))
        }
        _ => check_decimals(left, right),
    }
}

/// Checks that a `decimal()` is compared only with another one.
pub(super) fn check_decimals(left: &IdedExpr, right: &IdedExpr) -> Result<(), Diagnostic> {
    if (infer(left) == StaticType::Decimal) == (infer(right) == StaticType::Decimal) {
        return Ok(());
    }
    Err(Diagnostic::new(
        "a decimal() is compared with a value that is not one",
        "write decimal(..) around both sides: decimal(action.arguments.amount) > decimal(\"200\")",
    ))
}
