//! Limits on the text of an expression, checked before the recursive parser sees it, and a stack on
//! which every text within them can be parsed.

use std::thread;

use super::Complaint;

const MAX_CHARS: usize = 4096;
const MAX_BRACKETS: usize = 24;
const MAX_OPERATORS: usize = 400;
/// Without optimisation the parser takes about 100 kB per bracket. Untouched pages cost nothing.
const PARSER_STACK: usize = 64 << 20;

/// Refuses texts that could exhaust the parser's stack.
pub(super) fn check_text(text: &str) -> Result<(), Complaint> {
    let chars = text.chars().count();
    if chars > MAX_CHARS {
        return Err(Complaint::new(
            format!("the expression has {chars} characters"),
            format!("keep it within {MAX_CHARS}; split the rule in two"),
        ));
    }
    let (mut open, mut deepest, mut operators) = (0_usize, 0_usize, 0_usize);
    for c in code(text) {
        match c {
            '(' | '[' | '{' => {
                open += 1;
                operators += 1;
            }
            ')' | ']' | '}' => open = open.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '!' | '?' | '<' | '>' | '=' | '&' | '|' | '.' => operators += 1,
            _ => {}
        }
        deepest = deepest.max(open);
    }
    if deepest > MAX_BRACKETS {
        return Err(Complaint::new(
            format!("the expression has {deepest} brackets open at once"),
            format!("keep it within {MAX_BRACKETS}"),
        ));
    }
    if operators > MAX_OPERATORS {
        return Err(Complaint::new(
            format!("the expression has {operators} operators, dots and brackets"),
            format!("keep it within {MAX_OPERATORS}; name alternatives in a list: x in [\"a\", \"b\"]"),
        ));
    }
    Ok(())
}

/// The characters outside of quotes. It errs on the side of counting too much: a text that breaks
/// CEL's quoting is counted from where it breaks, and the parser refuses it anyway.
fn code(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut quote = None;
    let mut escaped = false;
    text.chars().filter(move |&c| {
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            None => return true,
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
        }
        false
    })
}

/// Runs the parser where it cannot exhaust the caller's stack. `None` if it panicked or no thread
/// could be started.
pub(super) fn on_large_stack<T: Send>(parse: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let parser = thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, parse);
        parser.ok()?.join().ok()
    })
}
