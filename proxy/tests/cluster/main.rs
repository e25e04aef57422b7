//! The data plane beside a stand-in API server, with real backends, clients and connections.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod changes;
mod evidence;
mod failing;
mod outages;
mod town;
#[allow(dead_code)] // a part of it is for other tests
#[path = "../real/world.rs"]
mod world;
