//! Limits on the text of an expression, checked before the recursive parser reads it, and a thread with a stack
//! that is large enough for every text within them.

use std::thread;

use crate::diagnostic::Diagnostic;

const MAX_CHARS: usize = 4096;
const MAX_BRACKETS: usize = 24;
const MAX_OPERATORS: usize = 400;
/// Without optimisation the parser takes about 100 kB per bracket. Untouched pages cost nothing.
const PARSER_STACK: usize = 64 << 20;

/// Refuses texts that could exhaust the parser's stack.
pub(super) fn check_text(text: &str) -> Result<(), Diagnostic> {
    let chars = text.chars().count();
    if chars > MAX_CHARS {
        return Err(Diagnostic::new(
            format!("the expression has {chars} characters"),
            format!("shorten it to at most {MAX_CHARS}, or split the rule into two"),
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
        return Err(Diagnostic::new(
            format!("the expression nests {deepest} brackets"),
            format!("nest at most {MAX_BRACKETS}"),
        ));
    }
    if operators > MAX_OPERATORS {
        return Err(Diagnostic::new(
            format!("the expression has {operators} operators, dots and brackets"),
            format!("use at most {MAX_OPERATORS}; list alternatives: x in [\"a\", \"b\"]"),
        ));
    }
    Ok(())
}

/// The characters outside of quotes. For a text that violates CEL's quoting it may return too many, but the parser
/// refuses such a text anyway.
fn code(text: &str) -> impl Iterator<Item = char> + '_ {
    quoted(text).filter(|(_, quoted)| !quoted).map(|(c, _)| c)
}

/// The characters, and whether each is in quotes; a quote that opens or closes is.
fn quoted(text: &str) -> impl Iterator<Item = (char, bool)> + '_ {
    let mut quote = None;
    let mut escaped = false;
    text.chars().map(move |c| {
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            None => return (c, false),
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
        }
        (c, true)
    })
}

/// The text of an expression without white space that means nothing.
pub(crate) fn canonical(text: &str) -> String {
    let mut canonical = String::with_capacity(text.len());
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut space = false;
    for (c, quoted) in quoted(text.trim()) {
        if !quoted && c.is_whitespace() {
            space = true;
            continue;
        }
        if space && is_word(c) && canonical.ends_with(is_word) {
            canonical.push(' ');
        }
        space = false;
        canonical.push(c);
    }
    canonical
}

/// Runs the parser on a thread of its own, so that it cannot exhaust the caller's stack. Returns `None` if it panicked
/// or no thread could be started.
pub(super) fn on_large_stack<T: Send>(parse: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let parser = thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, parse);
        parser.ok()?.join().ok()
    })
}
