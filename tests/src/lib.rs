//! Countersign's end-to-end suites.
