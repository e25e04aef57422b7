//! The control plane: thin adapters round two pure crates.
//!
//! Rule of this room: nothing is decided here. `turn` observes, lets [`engine::step`] decide, acts in the order
//! given, and saves; each adapter does one of these four for one place. Whatever one mode can decide, the other can.
//!
//! How the binary uses it: [`prepare`] takes the state folder and gives the [`Handler`] for `/rollouts…`, which the
//! proxy's admin listener calls; the proxy starts; [`Starter::start`] gets the proxy's addresses and begins.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod admin;
pub mod blocks;
mod client;
mod course;
mod events;
mod gates;
pub mod kubernetes;
mod measure;
mod notify;
pub mod page;
mod probe;
mod running;
mod standalone;
mod store;
mod turn;

pub use admin::Handler;
pub use contract;
pub use engine;
pub use events::Stream;
pub use running::{Addresses, Options, Running, StartError, Starter, prepare, prepare_in_memory};
pub use stats;
