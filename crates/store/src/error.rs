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

    /// A data error (SQLSTATE classes 22 and 23): some value can never be stored.
    pub fn is_data(&self) -> bool {
        self.sql_state().is_some_and(|state| matches!(state.code().get(..2), Some("22" | "23")))
    }
}
