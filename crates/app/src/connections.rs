//! Addresses of the servers. Each use case asks only for those that it needs.

use countersign_store::Store;

use crate::AppError;

/// Addresses of the database, the broker and its management API.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// The database, as the user whose rights the use case needs.
    pub database_url: Option<String>,
    /// The broker, as the user who acts: a role, an agent, a reviewer, an administrator.
    pub amqp_url: Option<String>,
    /// RabbitMQ's management API, for broker users and their permissions.
    pub management_url: Option<String>,
}

impl Connections {
    /// The database.
    ///
    /// # Errors
    /// Where no database is named, or its URL is malformed.
    pub fn store(&self) -> Result<Store, AppError> {
        Ok(Store::new(self.database()?, "countersign-app", 2)?)
    }

    /// The database's URL.
    ///
    /// # Errors
    /// Where none is named.
    pub fn database(&self) -> Result<&str, AppError> {
        named(
            self.database_url.as_deref(),
            "which database? give --database-url or set COUNTERSIGN_DATABASE_URL",
        )
    }

    /// The broker's URL.
    ///
    /// # Errors
    /// Where none is named.
    pub fn amqp(&self) -> Result<&str, AppError> {
        named(self.amqp_url.as_deref(), "which broker? give --amqp-url or set COUNTERSIGN_AMQP_URL")
    }

    /// The management API's URL.
    ///
    /// # Errors
    /// Where none is named.
    pub fn management(&self) -> Result<&str, AppError> {
        named(
            self.management_url.as_deref(),
            "which management API? give --management-url or set COUNTERSIGN_MANAGEMENT_URL",
        )
    }
}

fn named<'a>(url: Option<&'a str>, question: &str) -> Result<&'a str, AppError> {
    url.ok_or_else(|| AppError::Usage(question.into()))
}
