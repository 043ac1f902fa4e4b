//! Infers the type of an expression from its syntax.

use cel::{
    IdedExpr,
    common::ast::{CallExpr, Expr, LiteralValue, operators as op},
};

use super::functions::{self, StaticType};

/// The type of a node, as far as its syntax determines it.
pub(super) fn infer(node: &IdedExpr) -> StaticType {
    match &node.expr {
        Expr::Literal(LiteralValue::String(_) | LiteralValue::Bytes(_)) => StaticType::Text,
        Expr::Literal(_) | Expr::Comprehension(_) | Expr::List(_) => StaticType::NotText,
        Expr::Ident(name) if name == "now" => StaticType::NotText,
        Expr::Call(call) => infer_call(call),
        _ => StaticType::Unknown,
    }
}

fn infer_call(call: &CallExpr) -> StaticType {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (op::INDEX, _) => StaticType::Unknown,
        (op::NEGATE, [operand]) if infer(operand) == StaticType::Decimal => StaticType::Decimal,
        (op::CONDITIONAL, [_, left, right]) if infer(left) == infer(right) => infer(left),
        (op::CONDITIONAL, _) => StaticType::Unknown,
        (op::ADD | op::SUBSTRACT | op::MULTIPLY, [left, right]) => match (infer(left), infer(right)) {
            (StaticType::Decimal, _) | (_, StaticType::Decimal) => StaticType::Decimal,
            (StaticType::Text, _) | (_, StaticType::Text) => StaticType::Text,
            (StaticType::Unknown, StaticType::Unknown) if call.func_name == op::ADD => StaticType::Unknown,
            _ => StaticType::NotText,
        },
        (name, arguments) => {
            let function = functions::return_type(name, call.target.is_some(), arguments.len());
            // All that is left are operators that return a bool or a number.
            function.unwrap_or(StaticType::NotText)
        }
    }
}

/// Whether this is one of the objects that stay unconverted, see `objects`.
pub(super) fn is_whole_object(expr: &Expr) -> bool {
    matches!(path(expr).as_str(), "action" | "agent" | "tool" | "action.arguments" | "action.task")
}

/// The path `a.b.c` of a field, also if it is written `a["b"].c`; empty for any other expression.
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
