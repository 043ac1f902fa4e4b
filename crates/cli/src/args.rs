//! Addresses of the servers, and errors in the use of the command line.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use countersign_app::AppError;

/// Addresses of broker and database. Each command needs only some of them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connections")]
pub struct Connections {
    /// The database, as the user whose rights the command needs
    #[arg(long, global = true, env = "COUNTERSIGN_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// The broker, as the user who acts: a role, an agent, a reviewer, an administrator
    #[arg(long, global = true, env = "COUNTERSIGN_AMQP_URL", hide_env_values = true, value_name = "URL")]
    pub amqp_url: Option<String>,
    /// RabbitMQ's management API, for broker users and their permissions
    #[arg(
        long,
        global = true,
        env = "COUNTERSIGN_MANAGEMENT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub management_url: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// The call or the configuration is wrong; nothing was attempted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Whether the call or the configuration is wrong.
pub fn is_usage_error(error: &anyhow::Error) -> bool {
    error.is::<UsageError>() || matches!(error.downcast_ref(), Some(AppError::Usage(_)))
}

/// A [`UsageError`] as an error of the command.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

impl Connections {
    /// The same, for the use cases.
    pub(crate) fn app(&self) -> countersign_app::Connections {
        let Self { database_url, amqp_url, management_url, json: _ } = self.clone();
        countersign_app::Connections { database_url, amqp_url, management_url }
    }

    /// The broker's URL.
    pub(crate) fn amqp(&self) -> anyhow::Result<&str> {
        self.amqp_url
            .as_deref()
            .ok_or_else(|| usage("which broker? give --amqp-url or set COUNTERSIGN_AMQP_URL"))
    }

    /// The database's URL.
    pub(crate) fn database(&self) -> anyhow::Result<&str> {
        self.database_url
            .as_deref()
            .ok_or_else(|| usage("which database? give --database-url or set COUNTERSIGN_DATABASE_URL"))
    }
}

/// A time, or how long ago it was.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let ago =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write a time or a duration"))?;
    TimeDelta::from_std(ago)
        .ok()
        .and_then(|ago| Utc::now().checked_sub_signed(ago))
        .ok_or_else(|| "that is before all time".into())
}
