//! The ledger: verify it, prove an action, check what was proved.

pub mod check;
pub mod key;
pub mod prove;
mod tiles;
pub mod verify;
