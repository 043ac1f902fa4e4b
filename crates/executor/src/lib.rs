//! The executor: an action from permit to outcome.
