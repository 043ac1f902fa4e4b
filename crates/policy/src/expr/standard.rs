//! CEL's standard functions, of which some are replaced: those that read numbers from strings accept only the spelling
//! that [`amount::parse`] does, and `matches()` compiles a pattern once.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelBool, CelDouble, CelInt, CelString, DYN_TYPE},
        value::CowVal,
    },
};
use regex::Regex;

use super::decimal;
use crate::amount;

/// A shared environment, or why there is none.
pub(super) type SharedEnv = Result<Arc<Env>, String>;

/// The environment in which expressions are parsed, with the standard macros and functions.
pub(super) static PARSED: LazyLock<SharedEnv> =
    LazyLock::new(|| Ok(Arc::new(Env::stdlib().with_optional_support(false))));

/// The environment in which expressions are evaluated. Of two functions with one name, the one declared first is called.
pub(super) static EVALUATED: LazyLock<SharedEnv> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false);
    replace(&mut env).map_err(|error| error.to_string())?;
    let mut env = env.with_stdlib();
    decimal::declare(&mut env).map_err(|error| error.to_string())?;
    Ok(Arc::new(env))
});

fn replace(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("int", "int_of_any", vec![DYN_TYPE], int)?;
    env.add_overload("double", "double_of_any", vec![DYN_TYPE], double)?;
    env.add_overload("matches", "matches_compiled", vec![DYN_TYPE, DYN_TYPE], matches)?;
    env.add_member_overload("matches", "member_matches_compiled", DYN_TYPE, vec![DYN_TYPE], matches)
}

fn int<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(text) = text(&arguments, 0) else { return standard("int", arguments) };
    let number: Option<i64> = amount::parse(text).and_then(|_| text.parse().ok());
    Ok(CowVal::owned(CelInt::from(number.ok_or_else(|| refused("int"))?)))
}

fn double<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let Some(text) = text(&arguments, 0) else { return standard("double", arguments) };
    let number: Option<f64> = amount::parse(text).and_then(|_| text.parse().ok());
    Ok(CowVal::owned(CelDouble::from(number.ok_or_else(|| refused("double"))?)))
}

fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (Some(subject), Some(pattern)) = (text(&arguments, 0), text(&arguments, 1)) else {
        return standard("matches", arguments);
    };
    let pattern = compiled(pattern).ok_or_else(|| refused("matches"))?;
    Ok(CowVal::owned(CelBool::from(pattern.is_match(subject))))
}

/// The standard function, for what is not a string.
fn standard<'b, 'v>(name: &str, arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let standard = PARSED.as_ref().ok().and_then(|env| env.find_overload(name, &arguments));
    standard.ok_or_else(|| refused(name))?(arguments)
}

fn text<'a>(arguments: &'a [CowVal<'_, '_>], index: usize) -> Option<&'a str> {
    arguments.get(index)?.downcast_ref::<CelString>().map(CelString::inner)
}

fn refused(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "does not accept this value")
}

/// A pattern, compiled once. Patterns are literals of expressions, so there are few; those of policies long gone are
/// dropped now and then, together with the others.
fn compiled(pattern: &str) -> Option<Regex> {
    const MOST: usize = 4_096;
    static COMPILED: LazyLock<RwLock<HashMap<String, Regex>>> = LazyLock::new(RwLock::default);
    if let Some(known) = COMPILED.read().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return Some(known.clone());
    }
    let new = Regex::new(pattern).ok()?;
    let mut known = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST {
        known.clear();
    }
    known.insert(pattern.to_owned(), new.clone());
    Some(new)
}
