//! Collects the problems of one file, and checks values that all files have.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_saphyr::Spanned;

use super::yaml::{is_id, line};
use crate::{
    diagnostic::Diagnostic,
    expr::{Expression, Scope, cost},
    problem::Problem,
};

/// How many of the most costly expressions a problem names.
const COSTLY: usize = 3;

/// The problems of one file.
pub(super) struct Problems {
    file: &'static str,
    found: Vec<Problem>,
    /// What each expression can cost, with its context and line.
    costs: Vec<(u64, String, u64)>,
}

impl Problems {
    pub(super) fn new(file: &'static str) -> Self {
        Self { file, found: Vec::new(), costs: Vec::new() }
    }

    pub(super) fn add(&mut self, line: u64, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(Problem::new(self.file, line, message, help));
    }

    /// Checks an id.
    pub(super) fn id(&mut self, what: &str, id: &Spanned<String>) {
        if !is_id(&id.value) {
            let help = "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
            self.add(line(id), format!("{:?} is not a valid id of {what}", id.value), help);
        }
    }

    /// Compiles an expression. `context` precedes each message.
    pub(super) fn expression(
        &mut self,
        context: &str,
        text: &Spanned<String>,
        scope: &'static Scope,
    ) -> Option<Expression> {
        let diagnostics = match Expression::compile(&text.value, scope) {
            Ok(expression) => {
                self.costs.push((expression.cost(), context.to_owned(), line(text)));
                return Some(expression);
            }
            Err(diagnostics) => diagnostics,
        };
        for Diagnostic { message, help } in diagnostics {
            self.add(line(text), format!("{context}: {message}"), help);
        }
        None
    }

    /// Checks that all expressions of the file together cost no more than one may: in the worst case all of them are
    /// evaluated for one message, and whoever waits behind it waits that long.
    pub(super) fn within_cost(&mut self) {
        let all = self.costs.iter().fold(0_u64, |all, (cost, ..)| all.saturating_add(*cost));
        self.costs.sort_by_key(|(cost, ..)| std::cmp::Reverse(*cost));
        let Some((_, _, at)) = self.costs.first().filter(|_| all > cost::MAX) else { return };
        let (at, most) = (*at, self.costs.iter().take(COSTLY));
        let most = most.map(|(cost, context, at)| format!("{context} on line {at} ({cost} steps)"));
        let message = format!(
            "evaluating all expressions of the file can take {all} steps; the most costly are {}",
            most.collect::<Vec<_>>().join(", ")
        );
        let help = format!(
            "keep them within {} steps together: simplify these, and avoid loops, matches() and contains() on lists \
             and strings that agents send",
            cost::MAX
        );
        self.add(at, message, help);
    }

    /// Reads an RFC 3339 time.
    pub(super) fn time(&mut self, field: &str, at: u64, text: &str) -> Option<DateTime<Utc>> {
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Some(time.to_utc()),
            Err(error) => {
                let message = format!("{field} {text:?} is not a time: {error}");
                self.add(at, message, "write RFC 3339, such as 2026-12-31T23:59:59Z");
                None
            }
        }
    }

    /// Reads a duration such as `30m`, within bounds.
    pub(super) fn duration(
        &mut self,
        field: &str,
        text: &Spanned<String>,
        least: Duration,
        most: Duration,
    ) -> Duration {
        let bounds = || {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            format!("write a duration from {least} to {most}, such as 500ms, 5s, 30m or 24h")
        };
        match humantime::parse_duration(&text.value) {
            Ok(time) if time >= least && time <= most => return time,
            Ok(_) => self.add(line(text), format!("{field} {:?} is out of range", text.value), bounds()),
            Err(error) => {
                self.add(
                    line(text),
                    format!("{field} {:?} is not a duration: {error}", text.value),
                    bounds(),
                );
            }
        }
        least
    }

    /// Returns `value` if no problem was found.
    pub(super) fn unless_found<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.found.is_empty() { Ok(value) } else { Err(self.found) }
    }

    /// Returns the problems that prevented the value.
    pub(super) fn into_error<T>(self) -> Result<T, Vec<Problem>> {
        Err(self.found)
    }
}
