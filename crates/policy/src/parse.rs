//! The YAML files as they are written, and the way from each to its checked model.
//!
//! A parser reports every problem that it finds. It returns a model only if it found none.

pub(crate) mod cases;
pub(crate) mod directory;
pub(crate) mod policy;
pub(crate) mod tools;
pub(crate) mod yaml;

mod approval;
mod audit;
mod connector;
mod limit;
mod problems;
mod reader;
mod references;
mod rule;
