use crate::Span;
use serde::{Deserialize, Serialize};

/// How endpoints that are host names are looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DnsEntry {
    /// Name servers, `address` or `address:port`, asked in this order. Empty: those of `resolvConf`.
    pub servers: Vec<String>,
    /// Where name servers, search domains and options (`ndots`, `timeout`, `attempts`) are read, at each lookup.
    pub resolv_conf: String,
    /// Names that are known without asking; they win.
    pub hosts: String,
    /// A name is not looked up more often, whatever the TTL of its records.
    pub min_ttl: Span,
    /// A name is looked up at least so often.
    pub max_ttl: Span,
}

impl Default for DnsEntry {
    fn default() -> DnsEntry {
        DnsEntry {
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            min_ttl: Span::seconds(1),
            max_ttl: Span::seconds(60),
        }
    }
}
