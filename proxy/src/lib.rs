//! The data plane of Serin: splits HTTP traffic between a stable and a canary backend, exactly, and counts what
//! happens.
//!
//! Rule of this room: it knows [`contract`] and nothing of the controller. It reads a split and tells counts. The way
//! of one request is in [`handle`]; the life of the whole in [`start`].
//!
//! Invariants: a request takes one table and keeps it; everything on its way belongs to one thread; every failure has
//! a side, and only a backend's failure is charged to a track; only first attempts are evidence.

pub mod addresses;
pub mod admin;
pub mod again;
pub mod ask;
pub mod attempt;
pub mod balance;
pub mod budget;
pub mod choose;
pub mod clock;
pub mod config;
pub mod control;
pub mod deadline;
pub mod decide;
pub mod dial;
pub mod dns;
pub mod door;
pub mod entropy;
pub mod error;
pub mod evidence;
pub mod exposition;
pub mod forwarding;
pub mod front;
pub mod grpc;
pub mod guard;
pub mod handle;
pub mod headers;
pub mod health;
pub mod line;
pub mod listen;
pub mod meter;
pub mod mirror;
pub mod multiplex;
pub mod options;
pub mod overload;
pub mod page;
pub mod place;
pub mod pool;
pub mod queue;
pub mod record;
pub mod resilience;
pub mod running;
pub mod server;
pub mod service;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod source;
pub mod strata;
pub mod stream;
pub mod table;
pub mod telemetry;
pub mod threads;
mod ticker;
pub mod tls;
pub mod transport;
pub mod upstream;
pub mod websocket;
pub mod wire;
pub mod worker;

pub use contract;
pub use options::{Options, StartError};
pub use running::{Addresses, Running, start};
pub use source::kubernetes::Cluster;
