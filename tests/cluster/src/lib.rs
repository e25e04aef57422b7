//! A Kubernetes cluster for Serin's tests.
#![forbid(unsafe_code)]

pub mod api;
pub mod harness;
pub mod load;
pub mod loops;
pub mod node;
pub mod teller;
