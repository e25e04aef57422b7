use serde::{Deserialize, Serialize};

/// What one client may ask for, and what all of them together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsEntry {}
