//! Private RabbitMQ and PostgreSQL, fault injection and builders for tests.
