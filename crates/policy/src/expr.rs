//! CEL expressions: compiled once, within limits, and evaluated over borrowed JSON.
//!
//! What could go wrong silently is refused when the policy is checked: unknown names, orderings that
//! might compare plain strings, decimals compared with something else. What is left goes wrong
//! loudly, as an evaluation error, and the caller fails closed.

mod check;
mod decimal;
mod functions;
mod known;
mod limits;
mod objects;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelTimestamp};
use cel::common::value::Val;
use cel::{Context, Env, ExecutionError, Program, Value as CelValue};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// A name that an expression may use, and its known fields (none given: any field).
pub(super) struct Root {
    name: &'static str,
    fields: &'static [&'static str],
}

/// The names that an expression may use.
pub(super) struct Scope {
    roots: &'static [Root],
    /// Whether whole objects may be used as values, and not only their fields.
    whole_objects: bool,
}

/// Conditions of policy rules.
pub(super) static CONDITION: Scope = Scope {
    roots: &[
        Root {
            name: "action",
            fields: &[
                "source",
                "id",
                "tool",
                "arguments",
                "reason",
                "task",
                "context",
                "expires_at",
                "compensates",
            ],
        },
        Root { name: "agent", fields: &["id", "version", "model", "on_behalf_of"] },
        Root {
            name: "tool",
            fields: &["name", "description", "connector", "idempotent", "reversible", "risk"],
        },
        Root { name: "now", fields: &[] },
    ],
    whole_objects: false,
};

/// Who may not decide.
pub(super) static EXCLUSION: Scope = Scope {
    roots: &[
        Root { name: "action", fields: CONDITION.roots[0].fields },
        Root { name: "agent", fields: CONDITION.roots[1].fields },
        Root { name: "tool", fields: CONDITION.roots[2].fields },
        Root { name: "now", fields: &[] },
        Root { name: "reviewer", fields: &["id", "groups"] },
    ],
    whole_objects: false,
};

/// Arguments of a compensating action.
pub(super) static COMPENSATION: Scope = Scope {
    roots: &[
        Root { name: "action", fields: CONDITION.roots[0].fields },
        Root { name: "result", fields: &[] },
    ],
    whole_objects: true,
};

/// Something that an expression must not say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) help: String,
}

impl Complaint {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// A compiled and checked expression.
#[derive(Debug)]
pub(super) struct Expression {
    program: Program,
    roots: Vec<&'static str>,
    tools: Vec<String>,
}

/// The values of an expression's names.
pub(super) type Bindings<'v> = Context<'v, 'v>;

type SharedEnv = Result<Arc<Env>, String>;

static ENV: LazyLock<SharedEnv> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    decimal::declare(&mut env).map_err(|error| error.to_string())?;
    Ok(Arc::new(env))
});

impl Expression {
    /// Compiles and checks a text.
    pub(super) fn compile(text: &str, scope: &'static Scope) -> Result<Self, Vec<Complaint>> {
        limits::check_text(text).map_err(|complaint| vec![complaint])?;
        let gave_up = || vec![Complaint::new("the CEL parser gave up", "write the expression more simply")];
        // A panic of the parser comes back from its thread as an error as well.
        limits::on_large_stack(|| Self::parse(text, scope)).unwrap_or_else(|| Err(gave_up()))
    }

    fn parse(text: &str, scope: &'static Scope) -> Result<Self, Vec<Complaint>> {
        let env = env().map_err(|error| vec![Complaint::new(error, "report this: it is a defect")])?;
        let program = env.compile(text);
        let program = program.map_err(|errors| errors.errors.iter().map(syntax).collect::<Vec<_>>())?;
        let checked = check::check(program.expression(), scope)?;
        Ok(Self { program, roots: checked.roots, tools: checked.tools })
    }

    /// The names that the expression uses.
    pub(super) fn roots(&self) -> &[&'static str] {
        &self.roots
    }

    /// Tools that the expression compares `tool.name` or `action.tool` with.
    pub(super) fn tools(&self) -> &[String] {
        &self.tools
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, bindings: &Bindings<'_>) -> Result<bool, String> {
        self.run(bindings, |value| {
            let answer = value.downcast_ref::<CelBool>().map(|answer| *answer.inner());
            answer.ok_or_else(|| format!("the condition gave {}, not a bool", value.get_type().name()))
        })
    }

    /// The expression's value as JSON.
    pub(super) fn to_json(&self, bindings: &Bindings<'_>) -> Result<Value, String> {
        self.run(bindings, objects::to_json)
    }

    fn run<T>(
        &self,
        bindings: &Bindings<'_>,
        read: impl FnOnce(&dyn Val) -> Result<T, String>,
    ) -> Result<T, String> {
        // A panic inside the interpreter must fail this one action, not the lane that judges it.
        catch_unwind(AssertUnwindSafe(|| {
            let value = CelValue::resolve_val(self.program.expression(), bindings);
            read(value.map_err(|error| describe(&error))?.as_ref())
        }))
        .unwrap_or_else(|_| Err("the expression could not be evaluated".to_owned()))
    }
}

/// Bindings without any name yet.
pub(super) fn bindings<'v>() -> Result<Bindings<'v>, String> {
    Ok(Context::with_env(env()?))
}

/// Binds an object whose fields are converted only when an expression reads them.
pub(super) fn bind_fields<'v>(bindings: &mut Bindings<'v>, name: &str, value: &'v Value) {
    bindings.add_variable_as_val(name, objects::fields_of(value));
}

/// Binds a value, converted as a whole.
pub(super) fn bind_whole<'v>(
    bindings: &mut Bindings<'v>,
    name: &str,
    value: &'v Value,
) -> Result<(), String> {
    let value = objects::to_val(value).map_err(|error| describe(&error))?;
    bindings.add_variable_as_val(name, value);
    Ok(())
}

/// Binds a point in time.
pub(super) fn bind_time(bindings: &mut Bindings<'_>, name: &str, time: DateTime<Utc>) {
    bindings.add_variable_as_val(name, Box::new(CelTimestamp::from(time.fixed_offset())));
}

fn env() -> SharedEnv {
    ENV.clone()
}

fn syntax(error: &cel::ParseError) -> Complaint {
    let (line, column) = error.pos;
    Complaint::new(
        format!("not CEL at {line}:{column} of the expression: {}", error.msg),
        "write a CEL expression such as tool.name == \"calculate\"",
    )
}

/// Says what went wrong without the values involved: the text is kept as evidence, and the values
/// may be about a person.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no field {name:?}"),
        ExecutionError::NoSuchOverload(overload) => overload.to_string(),
        ExecutionError::UnexpectedType { got, want } => format!("found {got} where {want} is needed"),
        ExecutionError::UndeclaredReference(name) => format!("{name:?} is not known"),
        ExecutionError::FunctionError { function, message } if function.starts_with("decimal") => {
            format!("{function}(): {message}")
        }
        ExecutionError::FunctionError { function, .. } => format!("{function}() cannot take this value"),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
            format!("{operator} cannot take these two values")
        }
        ExecutionError::Overflow(operator, ..) => format!("{operator} overflows"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter than the index".to_owned(),
        _ => "a value has another type than the expression needs".to_owned(),
    }
}

#[cfg(test)]
mod tests;
