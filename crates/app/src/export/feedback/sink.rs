//! Destinations of exported lines.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::split::Split;
use crate::AppError;

/// A file that gets its name once it is complete.
struct Half {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl Half {
    fn create(dir: &Path, name: &str) -> Result<Self, AppError> {
        let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.unfinished")));
        // It contains customers' texts, so only the owner may read it.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let file = file.map_err(AppError::file("writing", &unfinished))?;
        Ok(Self { file: BufWriter::new(file), unfinished, path })
    }

    fn finish(self) -> Result<(), AppError> {
        let Self { file, unfinished, path } = self;
        let written =
            file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        written.and_then(|()| fs::rename(&unfinished, &path)).map_err(AppError::file("writing", path))
    }
}

/// The destination of an export.
pub enum Destination {
    /// All into one stream.
    Stream(Box<dyn Write + Send>),
    /// Into `train.jsonl` and `test.jsonl` of this folder, which is created if missing.
    Folder(PathBuf),
}

/// One stream, or a file for each side.
pub(super) enum Sink {
    Stream(BufWriter<Box<dyn Write + Send>>),
    Files(Box<Sides>),
}

/// The two files.
pub(super) struct Sides {
    train: Half,
    test: Half,
}

impl Sink {
    pub(super) fn open(to: Destination) -> Result<Self, AppError> {
        let dir = match to {
            Destination::Stream(stream) => return Ok(Self::Stream(BufWriter::new(stream))),
            Destination::Folder(dir) => dir,
        };
        fs::create_dir_all(&dir).map_err(AppError::file("creating", &dir))?;
        let (train, test) = (Half::create(&dir, "train.jsonl")?, Half::create(&dir, "test.jsonl")?);
        Ok(Self::Files(Box::new(Sides { train, test })))
    }

    /// Writes one line.
    pub(super) fn write<T: Serialize>(&mut self, side: Split, line: &T) -> io::Result<()> {
        let to: &mut dyn Write = match (self, side) {
            (Self::Stream(stream), _) => stream,
            (Self::Files(files), Split::Train) => &mut files.train.file,
            (Self::Files(files), Split::Test) => &mut files.test.file,
        };
        serde_json::to_writer(&mut *to, line)?;
        to.write_all(b"\n")
    }

    /// Finishes the output and renames the files to their final names.
    pub(super) fn close(self) -> Result<(), AppError> {
        match self {
            Self::Stream(mut stream) => Ok(stream.flush()?),
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
    fn files_have_their_names_only_when_they_are_whole() -> Result<(), AppError> {
        let dir = std::env::temp_dir().join(format!("countersign-sink-{}", uuid::Uuid::new_v4()));
        let mut sink = Sink::open(Destination::Folder(dir.clone()))?;
        sink.write(Split::Test, &1)?;
        assert!(!dir.join("test.jsonl").exists());
        sink.close()?;
        assert_eq!(fs::read_to_string(dir.join("test.jsonl"))?, "1\n");
        assert_eq!(fs::read_to_string(dir.join("train.jsonl"))?, "");
        assert_eq!(fs::read_dir(&dir)?.count(), 2);
        Ok(fs::remove_dir_all(&dir)?)
    }
}
