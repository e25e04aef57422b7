//! What the server serves, as clients ask for it.
use super::store::Store;
use serde_json::json;

pub(super) fn answer(_store: &Store, path: &str, _accept: &str) -> Option<String> {
    (path == "/version").then(|| {
        json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}).to_string()
    })
}
