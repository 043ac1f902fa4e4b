//! Finds the servers' programs, and installs them from the system's package manager where they are missing.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// The script that starts RabbitMQ without changing the user.
pub(super) fn rabbitmq_server() -> Option<PathBuf> {
    let unversioned = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    if unversioned.exists() {
        return Some(unversioned);
    }
    newest("/usr/lib/rabbitmq/lib", "rabbitmq_server-", "sbin/rabbitmq-server")
}

/// The folder with `initdb` and `postgres`.
pub(super) fn postgres_bin() -> Option<PathBuf> {
    let found = newest("/usr/lib/postgresql", "", "bin/postgres")?;
    found.parent().map(Path::to_path_buf)
}

/// Erlang's port mapper, which RabbitMQ needs.
pub(super) fn epmd() -> PathBuf {
    newest("/usr/lib/erlang", "erts-", "bin/epmd").unwrap_or_else(|| "epmd".into())
}

/// `parent/<prefix><highest version>/rest`, if it exists.
fn newest(parent: &str, prefix: &str, rest: &str) -> Option<PathBuf> {
    let version = |name: &str| -> Option<Vec<u32>> {
        name.strip_prefix(prefix)?.split('.').map(|part| part.parse().ok()).collect()
    };
    fs::read_dir(parent)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((version(&entry.file_name().to_string_lossy())?, entry.path().join(rest))))
        .filter(|(_, path)| path.exists())
        .max()
        .map(|(_, path)| path)
}

/// Installs the missing ones of the servers needed.
pub(super) fn everything(rabbitmq: bool, postgres: bool) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if rabbitmq && rabbitmq_server().is_none() {
        missing.push("rabbitmq-server");
    }
    if postgres && postgres_bin().is_none() {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {} from the system's packages ...", missing.join(" and "));
    packages(&missing)
}

/// Installs Debian packages, as root or with passwordless sudo.
pub fn packages(names: &[&str]) -> anyhow::Result<()> {
    let by_hand = format!("sudo apt-get install --no-install-recommends {}", names.join(" "));
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!(
            "{} missing, and there is no apt-get here; install it, or set the COUNTERSIGN_*_URL variables",
            names.join(" and ")
        );
    }
    let sudo = !nix::unistd::geteuid().is_root();
    if sudo && !Command::new("sudo").args(["-n", "true"]).status().is_ok_and(|status| status.success()) {
        bail!("{} missing, and installing needs root; run: {by_hand}", names.join(" and "));
    }
    let _quiet = NoServices::new(sudo)?;
    let apt = |arguments: &[&str]| -> anyhow::Result<bool> {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        if sudo {
            command.args(["-n", "env"]);
        }
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq", "-y"])
            // Another run may be installing the same.
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(arguments);
        let output = command.output().context("running apt-get")?;
        if !output.status.success() {
            std::io::stderr().write_all(&output.stderr)?;
        }
        Ok(output.status.success())
    };
    let install = [&["install", "--no-install-recommends"], names].concat();
    // The package lists may be old or empty; fetch them only if the install fails.
    let installed = apt(&install)? || (apt(&["update"])? && apt(&install)?);
    if !installed {
        bail!("installing {} failed; run: {by_hand}", names.join(" and "));
    }
    Ok(())
}

/// While it exists, packages that are installed start no services of their own.
struct NoServices {
    sudo: bool,
    made: bool,
}

impl NoServices {
    fn new(sudo: bool) -> anyhow::Result<Self> {
        let make = "test -e /usr/sbin/policy-rc.d && exit 3
                    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d";
        let status = Self::shell(sudo, make).context("keeping packages from starting services")?;
        Ok(Self { sudo, made: status.success() })
    }

    fn shell(sudo: bool, script: &str) -> std::io::Result<std::process::ExitStatus> {
        let mut command = Command::new(if sudo { "sudo" } else { "sh" });
        if sudo {
            command.args(["-n", "sh"]);
        }
        command.args(["-c", script]).status()
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.made {
            let _ = Self::shell(self.sudo, "rm -f /usr/sbin/policy-rc.d");
        }
    }
}
