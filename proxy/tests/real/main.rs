//! The data plane over real sockets, against scripted backends.

// A test that cannot go on may panic; the lint's exception covers only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admin;
mod bodies;
mod change;
mod deadlines;
mod decide;
mod dns;
mod endpoints;
mod evidence;
mod failures;
mod faults;
mod health;
mod mirror;
mod multiplexed;
mod shared;
mod shield;
mod split;
mod telling;
mod tls;
mod trust;
mod upgrades;
mod websocket;
mod world;
