//! Exports: stored evidence and feedback as files for other programs.

pub mod evidence;
pub mod feedback;
