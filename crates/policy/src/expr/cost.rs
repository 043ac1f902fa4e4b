//! What evaluating an expression can cost, in steps of about a microsecond, for the message that makes it dearest: lists
//! and strings as long as a message can contain. Searching was measured once on an optimised build (280 µs); the other
//! figures are estimates.

use cel::{
    IdedExpr,
    common::ast::{Expr, operators as op},
};

use super::{functions::StaticType, infer::infer, objects::MAX_ITEMS};

/// The most steps of one expression, and of all expressions of a file together: a quarter of a second.
pub(crate) const MAX: u64 = 250_000;

/// Copying the items of a list, which are as large as a message together.
pub(super) const RANGE: u64 = 3_000;
/// Matching a pattern with the longest string.
pub(super) const PATTERN: u64 = 500;
/// Searching the longest string, or reading a time from it.
pub(super) const SEARCH: u64 = 300;
/// Comparing two values that are as large as a message together.
const COMPARISON: u64 = 300;
/// Comparing an item of a list: all items together are as large as a message.
const ITEM: u64 = COMPARISON / MAX_ITEMS as u64 + 1;
/// Reading the longest string once.
pub(super) const TEXT: u64 = 30;

/// How many rounds a loop over `range` takes at most.
pub(super) fn rounds(range: &IdedExpr) -> u64 {
    match &range.expr {
        Expr::List(list) => list.elements.len() as u64,
        _ => MAX_ITEMS as u64,
    }
}

/// `x in list`: a comparison with each item.
pub(super) fn lookup(list: &IdedExpr) -> u64 {
    match &list.expr {
        Expr::List(_) => 0,
        _ => COMPARISON,
    }
}

/// `left == right`, which ends with the smaller one. `variables` are those of the loops around it.
pub(super) fn comparison(left: &IdedExpr, right: &IdedExpr, variables: &[&str]) -> u64 {
    compared(left, variables).min(compared(right, variables))
}

fn compared(node: &IdedExpr, variables: &[&str]) -> u64 {
    match &node.expr {
        Expr::Literal(_) => 0,
        Expr::List(list) => list.elements.iter().map(|item| compared(item, variables)).sum(),
        Expr::Call(_) if matches!(infer(node), StaticType::Decimal | StaticType::NotText) => 0,
        expr if root(expr).is_some_and(|name| variables.contains(&name)) => ITEM,
        _ => COMPARISON,
    }
}

/// The name with which a path such as `a.b[0]` begins.
fn root(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Ident(name) => Some(name),
        Expr::Select(select) => root(&select.operand.expr),
        Expr::Call(call) if call.func_name == op::INDEX => root(&call.args.first()?.expr),
        _ => None,
    }
}

/// `a + b` of texts or lists: what is joined is copied once for each `+` around it.
pub(super) fn joining(left: &IdedExpr, right: &IdedExpr) -> u64 {
    TEXT.saturating_mul(joined(left).saturating_add(joined(right)))
}

fn joined(node: &IdedExpr) -> u64 {
    match &node.expr {
        Expr::Literal(_) => 0,
        Expr::Call(call) if call.func_name == op::ADD => call.args.iter().map(joined).sum(),
        _ => 1,
    }
}
