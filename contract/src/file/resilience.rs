use serde::{Deserialize, Serialize};

/// How the endpoints of one service are chosen, limited, checked and tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResilienceEntry {}
