//! Builds in which something is broken on purpose, which the checker must find.

use clap::ValueEnum;

use super::check::{ISOLATED, KEPT};

/// A build in which something is broken on purpose.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Broken {
    /// Lanes ack before they commit
    AckFirst,
    /// A message that the database refuses is not isolated
    NoIsolation,
}

impl Broken {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Broken::AckFirst => "ack-first",
            Broken::NoIsolation => "no-isolation",
        }
    }

    /// The feature of the build.
    pub(crate) fn feature(self) -> &'static str {
        match self {
            Broken::AckFirst => "broken-ack-first",
            Broken::NoIsolation => "broken-no-isolation",
        }
    }

    /// The promise that such a build breaks. Others are hardly late: each agent has a queue of its own.
    pub(crate) fn breaks(self) -> &'static str {
        match self {
            Broken::AckFirst => KEPT,
            Broken::NoIsolation => ISOLATED,
        }
    }
}
