//! A Kubernetes cluster for Serin's tests.
#![forbid(unsafe_code)]

pub mod api;
