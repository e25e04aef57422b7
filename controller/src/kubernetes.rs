//! The adapter for a cluster.
#![allow(dead_code)]

mod lease;
