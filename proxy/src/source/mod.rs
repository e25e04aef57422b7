//! Where the table comes from.

pub mod file;
pub mod kubernetes;
pub mod overlay;
pub mod sealed;
pub mod watch;
