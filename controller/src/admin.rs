//! The controller's part of the admin calls: `/rollouts…` ([`contract::admin`]).

use bytes::Bytes;
use contract::release::Status;
use http::{Request, Response};
use tokio::sync::watch;

/// Answers `/rollouts…`; whoever serves the admin listener has checked the token. Cheap to clone, usable from any
/// thread and runtime.
#[derive(Clone, Debug)]
pub struct Handler {
    statuses: watch::Receiver<Vec<Status>>,
}

impl Handler {
    pub(crate) fn new(statuses: watch::Receiver<Vec<Status>>) -> Handler {
        Handler { statuses }
    }

    /// The answer, or `None` when the path is none of the controller's.
    pub async fn handle(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let path = request.uri().path();
        if path != "/rollouts" && !path.starts_with("/rollouts/") {
            return None;
        }
        let body = serde_json::to_vec(&*self.statuses.borrow()).unwrap_or_default();
        Some(Response::new(Bytes::from(body)))
    }
}
