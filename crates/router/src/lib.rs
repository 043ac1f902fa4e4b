//! The router: an action from proposal to permit.
