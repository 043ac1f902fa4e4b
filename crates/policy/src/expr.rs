//! CEL expressions: compiled once, within limits, and evaluated over borrowed JSON.
//!
//! Mistakes that would otherwise stay unnoticed are refused when the policy is checked: unknown names, orderings
//! that may compare plain strings, decimals compared with other values. Anything else that goes wrong is an
//! evaluation error, on which the caller fails closed.

mod check;
mod comparison;
pub(crate) mod cost;
mod decimal;
mod functions;
mod infer;
mod limits;
mod objects;
mod pattern;
mod scope;
mod standard;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use cel::{
    Context, ExecutionError, Program, Value as CelValue,
    common::{
        types::{CelBool, CelTimestamp},
        value::Val,
    },
};
use chrono::{DateTime, Utc};
pub(crate) use limits::canonical;
pub(crate) use scope::{COMPENSATION, CONDITION, EXCLUSION, SCORE, Scope};
use serde_json::Value;

use self::standard::{EVALUATED, PARSED};

use crate::diagnostic::Diagnostic;

/// A compiled and checked expression.
#[derive(Debug)]
pub(crate) struct Expression {
    program: Program,
    roots: Vec<&'static str>,
    tools: Vec<String>,
    paths: BTreeSet<String>,
    cost: u64,
}

/// The values of the names that an expression uses.
pub(crate) type Bindings<'v> = Context<'v, 'v>;

impl Expression {
    /// Compiles and checks a text.
    pub(crate) fn compile(text: &str, scope: &'static Scope) -> Result<Self, Vec<Diagnostic>> {
        limits::check_text(text).map_err(|diagnostic| vec![diagnostic])?;
        let gave_up = || {
            vec![Diagnostic::new(
                "the CEL parser could not process the expression",
                "simplify the expression",
            )]
        };
        // A panic of the parser ends only its thread, and becomes an error here.
        limits::on_large_stack(|| Self::parse(text, scope)).unwrap_or_else(|| Err(gave_up()))
    }

    fn parse(text: &str, scope: &'static Scope) -> Result<Self, Vec<Diagnostic>> {
        let env = PARSED.clone().map_err(|error| {
            vec![Diagnostic::new(error, "this is a bug in Countersign: please report it")]
        })?;
        let program = env.compile(text);
        let program = program.map_err(|errors| errors.errors.iter().map(syntax).collect::<Vec<_>>())?;
        let checked = check::check(program.expression(), scope)?;
        let check::Checked { roots, tools, paths, cost } = checked;
        Ok(Self { program, roots, tools, paths, cost })
    }

    /// The names that the expression uses.
    pub(crate) fn roots(&self) -> &[&'static str] {
        &self.roots
    }

    /// Tools that the expression compares `tool.name` or `action.tool` with.
    pub(crate) fn tools(&self) -> &[String] {
        &self.tools
    }

    /// The fields that the expression reads, such as `action.arguments.amount`, and the paths that lead to them.
    pub(crate) fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }

    /// Steps of about a microsecond that an evaluation can take.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether the condition is true.
    pub(crate) fn holds(&self, bindings: &Bindings<'_>) -> Result<bool, String> {
        self.run(bindings, |value| {
            let answer = value.downcast_ref::<CelBool>().map(|answer| *answer.inner());
            answer.ok_or_else(|| format!("the condition returned {}, not a bool", value.get_type().name()))
        })
    }

    /// The value of the expression as JSON.
    pub(crate) fn to_json(&self, bindings: &Bindings<'_>) -> Result<Value, String> {
        self.run(bindings, objects::to_json)
    }

    fn run<T>(
        &self,
        bindings: &Bindings<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, String>,
    ) -> Result<T, String> {
        // A panic in the interpreter must fail this one action, not the lane that evaluates it.
        catch_unwind(AssertUnwindSafe(|| {
            let value = CelValue::resolve_val(self.program.expression(), bindings);
            read(value.map_err(|error| describe(&error))?.as_ref())
        }))
        .unwrap_or_else(|_| Err("the expression could not be evaluated".to_owned()))
    }
}

/// Bindings without names.
pub(crate) fn bindings<'v>() -> Result<Bindings<'v>, String> {
    Ok(Context::with_env(EVALUATED.clone()?))
}

/// Binds an object. Its fields are converted only when an expression reads them.
pub(crate) fn bind_fields<'v>(bindings: &mut Bindings<'v>, name: &str, value: &'v Value) {
    bindings.add_variable_as_val(name, objects::fields_of(value));
}

/// Binds a value, converted as a whole, however long its lists are.
pub(crate) fn bind_whole<'v>(
    bindings: &mut Bindings<'v>,
    name: &str,
    value: &'v Value,
) -> Result<(), String> {
    let value = objects::to_val(value, objects::ANY_ITEMS).map_err(|error| describe(&error))?;
    bindings.add_variable_as_val(name, value);
    Ok(())
}

/// Binds a point in time.
pub(crate) fn bind_time(bindings: &mut Bindings<'_>, name: &str, time: DateTime<Utc>) {
    bindings.add_variable_as_val(name, Box::new(CelTimestamp::from(time.fixed_offset())));
}

fn syntax(error: &cel::ParseError) -> Diagnostic {
    let (line, column) = error.pos;
    Diagnostic::new(
        format!("invalid CEL at {line}:{column} of the expression: {}", error.msg),
        "write a CEL expression such as tool.name == \"calculate\"",
    )
}

/// Describes the error without the values involved: the text is kept as evidence, and the values may be
/// personal data.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no field {name:?}"),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UnexpectedType { got, want } => format!("expected {want}, found {got}"),
        ExecutionError::UndeclaredReference(name) => format!("unknown name {name:?}"),
        ExecutionError::FunctionError { function, message } if function.starts_with("decimal") => {
            format!("{function}(): {message}")
        }
        ExecutionError::FunctionError { function, .. } => format!("{function}() does not accept this value"),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
            format!("{operator} cannot be applied to these values")
        }
        ExecutionError::Overflow(operator, ..) => format!("{operator} overflows"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::IndexOutOfBounds(_) => "the index is beyond the end of the list".to_owned(),
        _ => "a value does not have the type that the expression needs".to_owned(),
    }
}

#[cfg(test)]
mod tests;
