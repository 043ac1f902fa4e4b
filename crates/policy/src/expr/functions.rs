//! The functions that expressions may call, and what each returns.

/// What is known about the value of an expression before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A `decimal()`.
    Decimal,
    /// Something that is not a string: a number, a time, a bool.
    NotText,
    /// A string or bytes.
    Text,
    /// Only the data will tell.
    Nothing,
}

struct Function {
    name: &'static str,
    /// Called on a value, `x.f(..)`, or alone, `f(x, ..)`.
    member: bool,
    /// How many arguments it may take.
    arguments: &'static [usize],
    gives: Known,
}

const fn alone(name: &'static str, arguments: &'static [usize], gives: Known) -> Function {
    Function { name, member: false, arguments, gives }
}

const fn member(name: &'static str, arguments: &'static [usize], gives: Known) -> Function {
    Function { name, member: true, arguments, gives }
}

const FUNCTIONS: &[Function] = &[
    alone("decimal", &[1], Known::Decimal),
    alone("decimal_sum", &[1], Known::Decimal),
    alone("size", &[1], Known::NotText),
    alone("int", &[1], Known::NotText),
    alone("double", &[1], Known::NotText),
    alone("string", &[1], Known::Text),
    alone("bool", &[1], Known::NotText),
    alone("timestamp", &[1], Known::NotText),
    alone("duration", &[1], Known::NotText),
    alone("matches", &[2], Known::NotText),
    member("size", &[0], Known::NotText),
    member("contains", &[1], Known::NotText),
    member("startsWith", &[1], Known::NotText),
    member("endsWith", &[1], Known::NotText),
    member("matches", &[1], Known::NotText),
    member("getFullYear", &[0, 1], Known::NotText),
    member("getMonth", &[0, 1], Known::NotText),
    member("getDate", &[0, 1], Known::NotText),
    member("getDayOfMonth", &[0, 1], Known::NotText),
    member("getDayOfWeek", &[0, 1], Known::NotText),
    member("getDayOfYear", &[0, 1], Known::NotText),
    member("getHours", &[0, 1], Known::NotText),
    member("getMinutes", &[0, 1], Known::NotText),
    member("getSeconds", &[0, 1], Known::NotText),
    member("getMilliseconds", &[0, 1], Known::NotText),
];

/// What a call gives, or `None` where there is no such function.
pub(super) fn gives(name: &str, is_member: bool, arguments: usize) -> Option<Known> {
    FUNCTIONS
        .iter()
        .find(|f| f.name == name && f.member == is_member && f.arguments.contains(&arguments))
        .map(|f| f.gives)
}

/// All functions, for a message.
pub(super) fn names() -> String {
    let names = FUNCTIONS.iter().map(|f| match (f.member, f.arguments) {
        (false, [2]) => format!("{}(x, y)", f.name),
        (false, _) => format!("{}(x)", f.name),
        (true, [1]) => format!("x.{}(y)", f.name),
        (true, _) => format!("x.{}()", f.name),
    });
    names.collect::<Vec<_>>().join(", ")
}
