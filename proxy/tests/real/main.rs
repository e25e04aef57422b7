//! The data plane over real sockets, against scripted backends.

mod admin;
mod bodies;
mod change;
mod faults;
mod split;
mod world;
