//! Lists for people: actions, approvals, audits.
