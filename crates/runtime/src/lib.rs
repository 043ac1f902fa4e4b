//! What every Countersign process shares: settings, keys, the governed configuration, messages that more than
//! one of them sends, sweeps, telemetry, health and shutdown.

pub mod author;
pub mod batch_handler;
pub mod governed;
pub mod independence;
pub mod keys;
pub mod messages;
mod plans;
pub mod process;
pub mod quarantine;
pub mod remediation;
pub mod settings;
pub mod submission;
pub mod sweep;
pub mod telemetry;
