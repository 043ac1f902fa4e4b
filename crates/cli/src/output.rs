//! Printing: JSON for programs, tables for people.

mod blocks;
mod fit;

use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use indicatif::ProgressBar;
use serde::Serialize;

pub(crate) use self::{
    blocks::{Block, blocks},
    fit::fit,
};
use crate::Connections;
#[cfg(test)]
pub(crate) use fit::WIDTH;

/// A table with a header.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

/// A spinner, visible only on a terminal.
pub(crate) fn spinner() -> ProgressBar {
    ProgressBar::new_spinner()
}

/// Prints `value` as JSON if requested, otherwise `text`.
pub(crate) fn show<T: Serialize>(
    to: &Connections,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<ExitCode> {
    if to.json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        println!("{}", text());
    }
    Ok(ExitCode::SUCCESS)
}
