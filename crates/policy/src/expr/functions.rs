//! The functions that expressions may call, and the type that each returns.

/// The type of an expression, as far as its syntax determines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StaticType {
    /// A `decimal()`.
    Decimal,
    /// Something that is not a string: a number, a time, a bool.
    NotText,
    /// A string or bytes.
    Text,
    /// Depends on the data.
    Unknown,
}

struct Function {
    name: &'static str,
    /// Whether it is called on a value, `x.f(..)`, rather than alone, `f(x, ..)`.
    member: bool,
    /// The numbers of arguments that it accepts.
    arguments: &'static [usize],
    returns: StaticType,
}

const fn alone(name: &'static str, arguments: &'static [usize], returns: StaticType) -> Function {
    Function { name, member: false, arguments, returns }
}

const fn member(name: &'static str, arguments: &'static [usize], returns: StaticType) -> Function {
    Function { name, member: true, arguments, returns }
}

const FUNCTIONS: &[Function] = &[
    alone("decimal", &[1], StaticType::Decimal),
    alone("decimal_sum", &[1], StaticType::Decimal),
    alone("size", &[1], StaticType::NotText),
    alone("int", &[1], StaticType::NotText),
    alone("double", &[1], StaticType::NotText),
    alone("string", &[1], StaticType::Text),
    alone("bool", &[1], StaticType::NotText),
    alone("timestamp", &[1], StaticType::NotText),
    alone("duration", &[1], StaticType::NotText),
    alone("matches", &[2], StaticType::NotText),
    member("size", &[0], StaticType::NotText),
    member("contains", &[1], StaticType::NotText),
    member("startsWith", &[1], StaticType::NotText),
    member("endsWith", &[1], StaticType::NotText),
    member("matches", &[1], StaticType::NotText),
    member("getFullYear", &[0, 1], StaticType::NotText),
    member("getMonth", &[0, 1], StaticType::NotText),
    member("getDate", &[0, 1], StaticType::NotText),
    member("getDayOfMonth", &[0, 1], StaticType::NotText),
    member("getDayOfWeek", &[0, 1], StaticType::NotText),
    member("getDayOfYear", &[0, 1], StaticType::NotText),
    member("getHours", &[0, 1], StaticType::NotText),
    member("getMinutes", &[0, 1], StaticType::NotText),
    member("getSeconds", &[0, 1], StaticType::NotText),
    member("getMilliseconds", &[0, 1], StaticType::NotText),
];

/// The type that a call returns; `None` if there is no such function.
pub(super) fn return_type(name: &str, is_member: bool, arguments: usize) -> Option<StaticType> {
    FUNCTIONS
        .iter()
        .find(|f| f.name == name && f.member == is_member && f.arguments.contains(&arguments))
        .map(|f| f.returns)
}

/// All functions, for a help text.
pub(super) fn names() -> String {
    let names = FUNCTIONS.iter().map(|f| match (f.member, f.arguments) {
        (false, [2]) => format!("{}(x, y)", f.name),
        (false, _) => format!("{}(x)", f.name),
        (true, [1]) => format!("x.{}(y)", f.name),
        (true, _) => format!("x.{}()", f.name),
    });
    names.collect::<Vec<_>>().join(", ")
}
