//! What is checked at weight 0, before any user sees the canary.

use crate::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is checked at weight 0, before any user sees the canary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Requests that Serin itself sends to the canary, tagged synthetic; each must succeed once.
    pub smoke: Vec<Smoke>,
}

/// One smoke request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smoke {
    /// Absolute path.
    pub path: String,
    /// Expected status code; 200 when absent.
    #[serde(default = "ok_status")]
    pub status: u16,
}

fn ok_status() -> u16 {
    200
}

impl Verify {
    /// Everything that is wrong here; `key` is where these words stand.
    pub(super) fn faults(&self, key: &str) -> Vec<Fault> {
        let each = self.smoke.iter().enumerate();
        each.flat_map(|(i, s)| s.faults(&format!("{key}.smoke[{i}]")))
            .collect()
    }
}

impl Smoke {
    fn faults(&self, key: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !self.path.starts_with('/') || self.path.bytes().any(|b| b.is_ascii_control() || b == b' ') {
            faults.push(Fault::new(
                format!("{key}.path"),
                &self.path,
                "is not a path",
                "write for example /healthz",
            ));
        }
        if !(100..=599).contains(&self.status) {
            faults.push(Fault::new(
                format!("{key}.status"),
                &self.status.to_string(),
                "is not a status code",
                "write for example 200",
            ));
        }
        faults
    }
}
