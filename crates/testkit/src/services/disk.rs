//! A disk that can be filled: a file system in memory that holds only the database.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use nix::unistd::geteuid;

/// Large enough for a database under torture, and quick to fill.
const MEGABYTES: usize = 2_048;

/// A mounted file system. It is unmounted when dropped, and when this process ends in any way.
pub struct SmallDisk {
    ballast: PathBuf,
    /// A shell that unmounts when our end of its pipe closes.
    keeper: Child,
}

impl SmallDisk {
    /// Creates `dir` and mounts a disk on it. `None` without root.
    pub(super) fn mount(dir: &Path) -> anyhow::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        fs::create_dir_all(dir)?;
        let size = format!("size={MEGABYTES}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "countersign"])
            .arg(dir)
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let keeper = Command::new("sh")
            .args(["-c", r#"read -r word; umount -l "$1""#, "keeper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .spawn()
            .context("starting the disk's keeper")?;
        Ok(Some(Self { ballast: dir.join("ballast"), keeper }))
    }

    /// Fills the disk.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = fs::File::create(&self.ballast)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..=MEGABYTES {
            match file.write(&zeros) {
                Ok(written) if written == zeros.len() => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
        ensure!(false, "the disk did not fill up");
        Ok(())
    }

    /// Frees the space again.
    pub fn free(&self) -> anyhow::Result<()> {
        fs::remove_file(&self.ballast).context("freeing the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
