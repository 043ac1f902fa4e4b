//! A clock that jumps: shifts one process's wall clock with libfaketime.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::services::packages;

/// The wall clock of one process. Its monotonic clock is unaffected, as when an operator sets the time.
pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// A clock whose offset is stored in a file of `folder`, initially zero.
    pub fn new(folder: &Path, process: &str) -> anyhow::Result<Self> {
        let clock = Self { offset: folder.join(format!("{process}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// The environment of the process.
    pub fn variables(&self) -> anyhow::Result<Vec<(String, String)>> {
        let library = library()?.display().to_string();
        let file = self.offset.display().to_string();
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Ok(vec![
            variable("LD_PRELOAD", &library),
            variable("FAKETIME_TIMESTAMP_FILE", &file),
            // How long an offset is cached, in seconds.
            variable("FAKETIME_CACHE_DURATION", "1"),
            variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ])
    }

    /// Sets the clock ahead by `seconds`, or behind if negative. Takes effect within a second.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let unfinished = self.offset.with_extension("unfinished");
        fs::write(&unfinished, format!("{seconds:+}\n")).context("writing a clock's offset")?;
        Ok(fs::rename(unfinished, &self.offset)?)
    }
}

fn find() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?.flatten();
    architectures
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}

/// libfaketime, installed from the system's packages where it is missing.
fn library() -> anyhow::Result<PathBuf> {
    if find().is_none() {
        eprintln!("installing libfaketime from the system's packages ...");
        packages(&["libfaketime"])?;
    }
    find().context("libfaketime is not at Debian's path")
}
