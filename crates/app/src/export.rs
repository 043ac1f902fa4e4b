//! Exports: what is stored, as files, for the programs of others.

pub mod evidence;
pub mod feedback;
