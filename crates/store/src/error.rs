use tokio_postgres::error::SqlState;

/// Errors of the database and its connections.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is malformed.
    #[error("the database URL does not parse: {0}; write postgres://user:password@host:5432/database")]
    Url(tokio_postgres::Error),
    /// No connection within the limit.
    #[error("no database connection: {0}")]
    Unavailable(String),
    /// The statement failed. Only after a commit is it unknown whether it took effect.
    #[error("{}", describe(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// The schema could not be brought up to date.
    #[error("migrating the database: {0}")]
    Migration(#[from] refinery::Error),
    /// A stored value is invalid.
    #[error("{0}")]
    Corrupt(String),
    /// Nothing is active: nobody has applied a configuration yet.
    #[error("no configuration is active; run `countersign apply DIR`")]
    NoGeneration,
    /// The request is not possible in the present state.
    #[error("{0}")]
    Refused(String),
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("the database refused a statement: {} ({})", db.message(), db.code().code()),
        None => format!("the database connection: {error}"),
    }
}

impl StoreError {
    fn sql_state(&self) -> Option<&SqlState> {
        match self {
            Self::Statement(error) => error.code(),
            _ => None,
        }
    }

    /// A deadlock or serialization failure: the same transaction can succeed at once.
    pub fn is_retryable(&self) -> bool {
        self.sql_state().is_some_and(|state| {
            matches!(
                *state,
                SqlState::T_R_DEADLOCK_DETECTED
                    | SqlState::T_R_SERIALIZATION_FAILURE
                    // Of statements sent together, the error of one that follows the culprit may arrive first.
                    | SqlState::IN_FAILED_SQL_TRANSACTION
            )
        })
    }

    /// The server refused a statement because of its values, as far as its SQLSTATE tells: the message that they come from
    /// may be at fault.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Statement(error) => error.code().is_some_and(|state| !class_in(state, NOT_OF_VALUES)),
            Self::Corrupt(_) | Self::Refused(_) => true,
            Self::Url(_) | Self::Unavailable(_) | Self::Migration(_) | Self::NoGeneration => false,
        }
    }

    /// Whether nothing is known of the cause: there was no answer, or the server failed. Where it is neither this nor a
    /// refusal, the database is away, full, busy or not set up, which is no message's fault.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Statement(error) => error.code().is_none_or(|state| class_in(state, UNKNOWN)),
            _ => false,
        }
    }
}

/// SQLSTATE classes (PostgreSQL's appendix A) and single states that say nothing about a statement's values.
const NOT_OF_VALUES: &[&str] = &[
    "08", // connection
    "25", // transaction state, such as read only
    "28", // authorisation
    "3D", // no such database
    "3F", // no such schema
    "40", // rolled back: deadlock, serialization
    "42", // the statement itself: no such table, no right to it
    "53", // disk or memory full, too many connections
    "55", // a lock is held
    "57", // cancelled or shut down
    "58", // the server's system
    "F0", // the server's configuration
    "XX", // internal, data corrupted
];

/// Of these, the ones for which a value may be the cause nevertheless.
const UNKNOWN: &[&str] = &["08", "57014", "58", "XX"];

fn class_in(state: &SqlState, classes: &[&str]) -> bool {
    classes.iter().any(|class| state.code().starts_with(class))
}
