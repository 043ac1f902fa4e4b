//! What can be said of a part of an expression from its syntax alone.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators as op};

use super::functions::{self, Known};

/// What can be said of a value before the expression runs.
pub(super) fn known(node: &IdedExpr) -> Known {
    match &node.expr {
        Expr::Literal(LiteralValue::String(_) | LiteralValue::Bytes(_)) => Known::Text,
        Expr::Literal(_) | Expr::Comprehension(_) | Expr::List(_) => Known::NotText,
        Expr::Ident(name) if name == "now" => Known::NotText,
        Expr::Call(call) => known_call(call),
        _ => Known::Nothing,
    }
}

fn known_call(call: &CallExpr) -> Known {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (op::INDEX, _) => Known::Nothing,
        (op::NEGATE, [operand]) if known(operand) == Known::Decimal => Known::Decimal,
        (op::CONDITIONAL, [_, left, right]) if known(left) == known(right) => known(left),
        (op::CONDITIONAL, _) => Known::Nothing,
        (op::ADD | op::SUBSTRACT | op::MULTIPLY, [left, right]) => match (known(left), known(right)) {
            (Known::Decimal, _) | (_, Known::Decimal) => Known::Decimal,
            (Known::Text, _) | (_, Known::Text) => Known::Text,
            (Known::Nothing, Known::Nothing) if call.func_name == op::ADD => Known::Nothing,
            _ => Known::NotText,
        },
        (name, arguments) => {
            let function = functions::gives(name, call.target.is_some(), arguments.len());
            // What is left are operators that give a bool or a number.
            function.unwrap_or(Known::NotText)
        }
    }
}

/// The objects that stay unconverted, see `objects`.
pub(super) fn is_whole_object(expr: &Expr) -> bool {
    matches!(path(expr).as_str(), "action" | "agent" | "tool" | "action.arguments" | "action.task")
}

/// `a.b.c`, also where it is written `a["b"].c`; empty for anything else.
pub(super) fn path(expr: &Expr) -> String {
    match expr {
        Expr::Ident(name) => name.clone(),
        Expr::Select(select) if !select.test => match path(&select.operand.expr) {
            operand if operand.is_empty() => operand,
            operand => format!("{operand}.{}", select.field),
        },
        Expr::Call(call) if call.func_name == op::INDEX => match call.args.as_slice() {
            [object, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] => {
                format!("{}.{}", path(&object.expr), field.inner())
            }
            _ => String::new(),
        },
        _ => String::new(),
    }
}
