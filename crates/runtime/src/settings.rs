//! `countersign.toml`: how the processes run. What they decide is governed elsewhere.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

/// The settings file, checked before anything connects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How lanes work.
    pub lanes: Lanes,
    /// What can grow, and how far.
    pub limits: Limits,
    /// When things that nobody asked for are looked after.
    pub sweep: Sweep,
    /// The sampling coin.
    pub sampling: Sampling,
    /// The ledger.
    pub ledger: Ledger,
}

/// How lanes work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lanes {
    /// Lanes on the main queue of a process.
    pub per_process: u16,
    /// Most deliveries in one transaction.
    pub batch_max: u16,
    /// How long to wait for more after a first delivery; for throws of the coin 200 ms at least.
    #[serde(with = "duration")]
    pub linger: Duration,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { per_process: 2, batch_max: 256, linger: Duration::ZERO }
    }
}

/// What can grow, and how far.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest message that is taken in, in bytes.
    pub message_bytes: usize,
    /// Most calls of tools at the same time, per executor.
    pub calls: u32,
    /// How long a permit is valid.
    #[serde(with = "duration")]
    pub permit_lifetime: Duration,
    /// A decision that was signed longer ago is refused.
    #[serde(with = "duration")]
    pub decision_age: Duration,
    /// Proposals with a `time` longer ago than this are denied: duplicates are known for this long at least.
    #[serde(with = "duration")]
    pub duplicate_horizon: Duration,
    /// How long a batch's transaction may take before its lane starts again.
    #[serde(with = "duration")]
    pub transaction: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 256 * 1024,
            calls: 512,
            permit_lifetime: Duration::from_secs(15 * 60),
            decision_age: Duration::from_secs(10 * 60),
            duplicate_horizon: Duration::from_secs(30 * 86_400),
            transaction: Duration::from_secs(45),
        }
    }
}

/// When things that nobody asked for are looked after.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// How often.
    #[serde(with = "duration")]
    pub every: Duration,
    /// A permit that nobody claimed for this long is judged again.
    #[serde(with = "duration")]
    pub unclaimed_after: Duration,
    /// An outcome that is not known to have been sent for this long is sent again.
    #[serde(with = "duration")]
    pub unanswered_after: Duration,
    /// An open approval request or audit is published again after this long.
    #[serde(with = "duration")]
    pub republish_after: Duration,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            unclaimed_after: Duration::from_secs(30),
            unanswered_after: Duration::from_secs(30),
            republish_after: Duration::from_secs(300),
        }
    }
}

/// The sampling coin.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// How long one key is used.
    #[serde(with = "duration")]
    pub epoch: Duration,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { epoch: Duration::from_secs(86_400) }
    }
}

/// The ledger.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// The log's unique name, as a URL without its scheme. Its key signs under it.
    pub origin: String,
    /// Where checkpoint and tiles are written. Relative to where the recorder is started.
    pub folder: PathBuf,
    /// Which system the evidence is about.
    pub system: String,
    /// A reference to the document that says what the system is for; may be empty.
    pub purpose: String,
    /// Most rows in one batch, but that rows written by one statement, up to 500, come together.
    pub batch_max: u16,
    /// How long evidence waits for its batch at most.
    #[serde(with = "duration")]
    pub every: Duration,
    /// When a recorder has not been heard of for this long, another takes over.
    #[serde(with = "duration")]
    pub lease: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            origin: "countersign.invalid/ledger".into(),
            folder: "ledger".into(),
            system: "countersign".into(),
            purpose: String::new(),
            batch_max: 750,
            every: Duration::from_secs(1),
            lease: Duration::from_secs(5),
        }
    }
}

/// The settings file is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {message}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct SettingsError {
    file: String,
    line: Option<usize>,
    message: String,
}

impl Settings {
    /// Reads `countersign.toml` in `dir`; a folder without one has the defaults.
    pub fn read(dir: &Path) -> Result<Self, SettingsError> {
        let path = dir.join("countersign.toml");
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(SettingsError { file, line: None, message: error.to_string() }),
        }
    }

    /// Parses and checks the text of `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text).map_err(|error| SettingsError {
            file: file.into(),
            line: error.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1)),
            message: error.message().to_owned(),
        })?;
        settings.check().map_err(|message| SettingsError { file: file.into(), line: None, message })?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        let in_range = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(format!("{name} is {value}; write a value from {min} to {max}"))
        };
        in_range("lanes.per_process", self.lanes.per_process.into(), 1, 64)?;
        in_range("lanes.batch_max", self.lanes.batch_max.into(), 1, 4_096)?;
        in_range("limits.message_bytes", self.limits.message_bytes as u64, 1_024, 8 << 20)?;
        in_range("limits.calls", self.limits.calls.into(), 64, 65_536)?;
        in_range("limits.permit_lifetime (in seconds)", self.limits.permit_lifetime.as_secs(), 1, 86_400)?;
        in_range("limits.decision_age (in seconds)", self.limits.decision_age.as_secs(), 1, 86_400)?;
        in_range("limits.transaction (in seconds)", self.limits.transaction.as_secs(), 5, 600)?;
        in_range("sweep.every (in milliseconds)", self.sweep.every.as_millis() as u64, 100, 3_600_000)?;
        in_range("ledger.batch_max", self.ledger.batch_max.into(), 1, 10_000)?;
        in_range("ledger.every (in milliseconds)", self.ledger.every.as_millis() as u64, 10, 60_000)?;
        in_range("ledger.lease (in seconds)", self.ledger.lease.as_secs(), 2, 60)?;
        let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '+');
        if !plain(&self.ledger.origin) {
            return Err("ledger.origin is the log's name: write one without spaces and +".into());
        }
        in_range("sampling.epoch (in seconds)", self.sampling.epoch.as_secs(), 1, 366 * 86_400)
    }
}

mod duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, de::Error as _};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("{text:?}: {error}; write a duration such as \"30s\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_line_and_what_to_write() {
        let error =
            Settings::parse("countersign.toml", "[sweep]\nevery = \"soon\"\n").unwrap_err().to_string();
        assert!(error.starts_with("countersign.toml:2: "), "{error}");
        assert!(error.contains("such as \"30s\""), "{error}");
        let error = Settings::parse("countersign.toml", "[lanes]\nbatch_max = 0\n").unwrap_err().to_string();
        assert!(error.contains("from 1 to 4096"), "{error}");
        assert!(Settings::parse("countersign.toml", "[lane]\n").is_err());
    }

    #[test]
    fn an_empty_file_has_the_defaults() {
        assert_eq!(Settings::parse("countersign.toml", "").unwrap().lanes.batch_max, 256);
    }
}
