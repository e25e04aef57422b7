use serde::{Deserialize, Serialize};

/// TLS and the PROXY protocol in front.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsEntry {}
