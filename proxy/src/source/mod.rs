//! Where the table comes from.

pub mod file;
pub mod overlay;
pub mod watch;
