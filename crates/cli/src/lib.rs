//! The one binary, countersign: a subcommand per role and per task.
