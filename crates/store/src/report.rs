//! The trade-off between approval and audit, measured.
