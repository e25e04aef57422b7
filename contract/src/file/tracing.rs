use serde::{Deserialize, Serialize};

/// Export of spans by OTLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TracingEntry {
    /// The collector, such as `http://127.0.0.1:4318`; spans go to `/v1/traces` there, as JSON. Empty: no export, and
    /// `traceparent` is passed on untouched.
    pub otlp: String,
    /// Share of the traces begun here that are exported, from 0 to 1. A trace that came with the request is exported
    /// when its `traceparent` says that it is sampled.
    pub sample: f64,
}

impl Default for TracingEntry {
    fn default() -> TracingEntry {
        TracingEntry {
            otlp: String::new(),
            sample: 0.01,
        }
    }
}
