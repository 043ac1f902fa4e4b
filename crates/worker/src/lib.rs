//! What every Countersign process shares: settings, telemetry, shutdown, health.
