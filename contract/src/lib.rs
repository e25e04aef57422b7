//! The vocabulary that both planes share.
//!
//! Rule of this room: types, names and their parsing; no I/O, no clock, no policy. `proxy` and `controller`
//! never name each other, they meet here: the controller writes a [`Split`], the proxy reads it; the proxy
//! exports an [`evidence::Page`], the controller reads it. Depends on serde (and its JSON, and its schemas) alone.

pub mod admin;
pub mod annotations;
pub mod backends;
pub mod decision;
pub mod evidence;
pub mod explanation;
pub mod fault;
pub mod file;
pub mod latency;
pub mod matches;
pub mod metrics;
pub mod names;
pub mod policy;
pub mod reference;
pub mod release;
pub mod rollout;
pub mod routes;
pub mod series;
pub mod span;
pub mod split;

pub use annotations::Canary;
pub use fault::Fault;
pub use span::Span;
pub use split::Split;
