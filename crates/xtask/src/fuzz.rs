//! Fuzzing every decoder for a minute, as a part of `cargo xtask test --extended`.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use crate::program::{finish, has};
use countersign_testkit::build;

/// How long each target runs, in seconds.
const SECONDS: u32 = 60;

/// libFuzzer's own coverage needs stable flags of the compiler alone; the sanitizers would need a nightly one, and find
/// nothing in code without `unsafe`.
const STABLE: [&str; 2] = ["--sanitizer", "none"];

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(build::workspace());
    command
}

/// The names of all targets.
fn targets(fuzz: &Path) -> anyhow::Result<Vec<String>> {
    let mut targets = Vec::new();
    for file in fs::read_dir(fuzz.join("fuzz_targets")).context("reading the fuzz targets")? {
        let path = file?.path();
        targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    targets.sort();
    ensure!(!targets.is_empty(), "there are no fuzz targets");
    Ok(targets)
}

/// Runs every target, even after one has found something. Returns whether none has.
pub(crate) async fn every_target() -> anyhow::Result<bool> {
    if !has("cargo", &["fuzz", "--version"]) {
        eprintln!("installing cargo-fuzz ...");
        let installed = finish(cargo(&["install", "cargo-fuzz", "--locked"])).await?;
        ensure!(installed, "cargo-fuzz cannot be installed; run: cargo install cargo-fuzz --locked");
    }
    let fuzz = build::workspace().join("fuzz");
    let targets = targets(&fuzz)?;
    let mut command = cargo(&["fuzz", "build"]);
    command.args(STABLE);
    ensure!(finish(command).await?, "the fuzz targets do not build");
    let mut found = Vec::new();
    for target in &targets {
        eprintln!("\n== fuzzing {target} for {SECONDS} s");
        // New corpus entries are kept apart from the seeds, which are changed only by hand.
        let (corpus, seeds) = (fuzz.join("corpus").join(target), fuzz.join("seeds").join(target));
        fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
        let mut command = cargo(&["fuzz", "run"]);
        command.args(STABLE).arg(target).args([corpus, seeds]).arg("--");
        command.arg(format!("-max_total_time={SECONDS}"));
        command.args(["-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=0"]);
        if !finish(command).await? {
            found.push(target.as_str());
        }
    }
    println!("{} fuzz targets, {} of them found something {}", targets.len(), found.len(), found.join(", "));
    if !found.is_empty() {
        println!(
            "the inputs are in fuzz/artifacts; run one again with: cargo fuzz run --sanitizer none NAME FILE"
        );
    }
    Ok(found.is_empty())
}
