//! Where the lines go.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Stdout, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;

use super::Split;

/// A file that has its name once it is whole.
struct Half {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl Half {
    fn create(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.unfinished")));
        // What customers wrote is in it: for nobody else's eyes.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let file = file.with_context(|| format!("{} cannot be written", unfinished.display()))?;
        Ok(Self { file: BufWriter::new(file), unfinished, path })
    }

    fn finish(self) -> anyhow::Result<()> {
        let Self { file, unfinished, path } = self;
        let written =
            file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        written
            .and_then(|()| fs::rename(&unfinished, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// One stream, or a file for each side.
pub(super) enum Sink {
    Stream(BufWriter<Stdout>),
    Files(Box<Sides>),
}

/// The two files.
pub(super) struct Sides {
    train: Half,
    test: Half,
}

impl Sink {
    /// Standard output, or files in a folder, which is made where there is none.
    pub(super) fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = dir else { return Ok(Self::Stream(BufWriter::new(io::stdout()))) };
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let (train, test) = (Half::create(dir, "train.jsonl")?, Half::create(dir, "test.jsonl")?);
        Ok(Self::Files(Box::new(Sides { train, test })))
    }

    /// Writes one line.
    pub(super) fn write<T: Serialize>(&mut self, side: Split, line: &T) -> anyhow::Result<()> {
        let to: &mut dyn Write = match (self, side) {
            (Self::Stream(stream), _) => stream,
            (Self::Files(files), Split::Train) => &mut files.train.file,
            (Self::Files(files), Split::Test) => &mut files.test.file,
        };
        serde_json::to_writer(&mut *to, line)?;
        to.write_all(b"\n").context("the line cannot be written")
    }

    /// Everything is written: files get their names.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush().context("standard output cannot be written"),
            Self::Files(files) => {
                files.train.finish()?;
                files.test.finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_names_only_when_they_are_whole() -> anyhow::Result<()> {
        let dir = std::env::temp_dir().join(format!("countersign-sink-{}", uuid::Uuid::new_v4()));
        let mut sink = Sink::open(Some(&dir))?;
        sink.write(Split::Test, &1)?;
        assert!(!dir.join("test.jsonl").exists());
        sink.close()?;
        assert_eq!(fs::read_to_string(dir.join("test.jsonl"))?, "1\n");
        assert_eq!(fs::read_to_string(dir.join("train.jsonl"))?, "");
        assert_eq!(fs::read_dir(&dir)?.count(), 2);
        Ok(fs::remove_dir_all(&dir)?)
    }
}
