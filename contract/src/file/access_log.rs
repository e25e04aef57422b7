use serde::{Deserialize, Serialize};

/// The log of requests: one line for each that is told, written beside the traffic and dropped before it slows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessLogEntry {
    /// `stdout`, or a file, which is appended to and opened anew when it was moved away; empty: no log.
    pub to: String,
    /// How a line is written.
    pub format: LogFormat,
    /// Share of requests that are told, from 0 to 1.
    pub sample: f64,
    /// Whether requests that fail, or that a status from 500 on answers, are told whatever the share.
    pub failures_always: bool,
    /// Whether the query stands behind the path: it may hold what nobody should keep.
    pub query: bool,
    /// Whether the client's `user-agent` is told.
    pub user_agent: bool,
}

impl Default for AccessLogEntry {
    fn default() -> AccessLogEntry {
        AccessLogEntry {
            to: String::new(),
            format: LogFormat::Json,
            sample: 0.01,
            failures_always: true,
            query: false,
            user_agent: false,
        }
    }
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// `key=value` pairs; a value that needs it is quoted as in JSON.
    Text,
}
