//! `countersign.toml`: how the processes run. What they decide is in the governed configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_core::quota::Quotas;
use serde::Deserialize;

/// The settings file, checked before anything connects.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How lanes work.
    pub lanes: Lanes,
    /// Upper limits.
    pub limits: Limits,
    /// How much of one agent may be under way, unless the directory gives it other quotas.
    pub quotas: Quotas,
    /// When the sweeps look for overdue work.
    pub sweep: Sweep,
    /// Sampling for audits.
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
    /// The most deliveries in one transaction.
    pub batch_max: u16,
    /// How long a lane waits for further deliveries after the first; the sampler waits at least 200 ms for settled actions.
    #[serde(with = "duration")]
    pub linger: Duration,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { per_process: 2, batch_max: 256, linger: Duration::ZERO }
    }
}

/// Upper limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The largest message that is accepted, in bytes.
    pub message_bytes: usize,
    /// The most tool calls at the same time, per executor.
    pub calls: u32,
    /// How long a permit is valid.
    #[serde(with = "duration")]
    pub permit_lifetime: Duration,
    /// A decision or finding that was signed longer ago is refused.
    #[serde(with = "duration")]
    pub decision_age: Duration,
    /// Proposals whose `time` is longer ago are denied. Duplicates are recognised for at least this long.
    #[serde(with = "duration")]
    pub duplicate_horizon: Duration,
    /// How long a batch's transaction may take before its lane restarts.
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

/// When the sweeps look for overdue work.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    /// The interval between two sweeps of a process, with jitter.
    #[serde(with = "duration")]
    pub every: Duration,
    /// A permit that is not claimed within this time is evaluated again. The sampler also repeats whatever was lost between
    /// processes after this time.
    #[serde(with = "duration")]
    pub unclaimed_after: Duration,
    /// An outcome that the broker has not confirmed within this time is published again.
    #[serde(with = "duration")]
    pub unanswered_after: Duration,
    /// Open approval requests and audits are published again after this time.
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

/// Sampling for audits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// How long one sampling key is used.
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
    /// The log's unique name, as a URL without its scheme. Checkpoints are signed under this name.
    pub origin: String,
    /// Where the checkpoint and the tiles are written, relative to the recorder's working directory.
    pub folder: PathBuf,
    /// The name of the system that the evidence is about.
    pub system: String,
    /// A reference to the document that states the system's purpose; may be empty.
    pub purpose: String,
    /// The most rows in one batch. Rows written by one statement, up to 500, stay together even if they exceed it.
    pub batch_max: u16,
    /// The longest time that evidence waits for its batch.
    #[serde(with = "duration")]
    pub every: Duration,
    /// Another recorder takes over when the active one has not renewed its lease for this long.
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

/// The settings file cannot be read or does not check.
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
            Err(format!("{name} is {value}; it must be from {min} to {max}"))
        };
        in_range("lanes.per_process", self.lanes.per_process.into(), 1, 64)?;
        in_range("lanes.batch_max", self.lanes.batch_max.into(), 1, 4_096)?;
        in_range("limits.message_bytes", self.limits.message_bytes as u64, 1_024, 8 << 20)?;
        in_range("limits.calls", self.limits.calls.into(), 64, 65_536)?;
        in_range("limits.permit_lifetime (in seconds)", self.limits.permit_lifetime.as_secs(), 1, 86_400)?;
        in_range("limits.decision_age (in seconds)", self.limits.decision_age.as_secs(), 1, 86_400)?;
        in_range("limits.transaction (in seconds)", self.limits.transaction.as_secs(), 5, 600)?;
        in_range("quotas.rate", self.quotas.rate.into(), 1, 1_000_000)?;
        in_range("quotas.open_requests", self.quotas.open_requests.into(), 1, 1_000_000)?;
        in_range("quotas.waiting", self.quotas.waiting.into(), 0, 1_000_000)?;
        in_range("quotas.in_flight", self.quotas.in_flight.into(), 1, 1_000_000)?;
        in_range("sweep.every (in milliseconds)", self.sweep.every.as_millis() as u64, 100, 3_600_000)?;
        in_range("ledger.batch_max", self.ledger.batch_max.into(), 1, 10_000)?;
        in_range("ledger.every (in milliseconds)", self.ledger.every.as_millis() as u64, 10, 60_000)?;
        in_range("ledger.lease (in seconds)", self.ledger.lease.as_secs(), 2, 60)?;
        let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '+');
        if !plain(&self.ledger.origin) {
            return Err("ledger.origin must not be empty or contain white space or `+`".into());
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
