//! The proxy's admin calls as the controller uses them ([`contract::admin`]): which services there are, and their split.

use crate::client::Client;
use bytes::Bytes;
use contract::{
    Split,
    admin::{Refusal, ServiceState},
    names::{
        CANARY_WEIGHT, CANARY_WEIGHT_TOTAL, CHANGE_CAUSE, CHANGED_BY, CONTROLLER, HEADER_ACTOR, HEADER_CAUSE,
        PREFIX,
    },
};
use engine::{Table, Tracks};
use http::{HeaderValue, Method, Request, StatusCode, header};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// Longest wait for an answer: shorter than the time in which a rollback must happen, so that it is tried again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest cause that is sent, in octets.
const LONGEST_CAUSE: usize = 2000;

/// One proxy's admin listener.
#[derive(Debug)]
pub(crate) struct Standalone {
    client: Client,
    token: String,
}

/// A split to put in force.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub service: &'a str,
    pub split: Split,
    /// The hash that must be in force; `None`: whatever stands there.
    pub only_if: Option<&'a str>,
    pub cause: &'a str,
}

impl Standalone {
    pub fn new(address: SocketAddr, token: String) -> Standalone {
        Standalone {
            client: Client::new(address.to_string(), PATIENCE),
            token,
        }
    }

    /// The admin token: it signs webhooks too, where there is no Secret for them.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// All services as they are in force.
    pub async fn services(&mut self) -> Result<Vec<ServiceState>, String> {
        let request = self.request(Method::GET, "/services", Bytes::new())?;
        let (status, body) = self.client.call(request).await?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|e| format!("its answer cannot be read: {e}"))
    }

    /// Puts a split in force.
    pub async fn set(&mut self, change: &Change<'_>) -> Result<(), String> {
        let path = format!("/services/{}/annotations", change.service);
        let mut request = self.request(Method::PATCH, &path, annotations(change.split)?)?;
        let headers = request.headers_mut();
        headers.insert(HEADER_ACTOR, HeaderValue::from_static(CONTROLLER));
        if let Some(cause) = text(change.cause) {
            headers.insert(HEADER_CAUSE, cause);
        }
        if let Some(hash) = change.only_if {
            headers.insert(
                header::IF_MATCH,
                HeaderValue::from_str(hash).map_err(|e| e.to_string())?,
            );
        }
        let (status, body) = self.client.call(request).await?;
        if status.is_success() {
            Ok(())
        } else {
            Err(refusal(status, &body))
        }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Bytes>, String> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body)
            .map_err(|e| e.to_string())
    }
}

fn annotations(split: Split) -> Result<Bytes, String> {
    let keys = BTreeMap::from([
        (format!("{PREFIX}{CANARY_WEIGHT}"), split.weight()),
        (
            format!("{PREFIX}{CANARY_WEIGHT_TOTAL}"),
            split.total().to_string(),
        ),
    ]);
    serde_json::to_vec(&keys)
        .map(Bytes::from)
        .map_err(|e| e.to_string())
}

/// What the proxy has in force, for the engine; `None` when its annotations cannot be read.
pub(crate) fn table(state: &ServiceState) -> Option<Table> {
    let canary = contract::Canary::parse(&state.annotations, PREFIX).ok()?;
    let record = |key: &str| state.annotations.get(&format!("{PREFIX}{key}")).cloned();
    Some(Table {
        split: canary.split,
        hash: state.hash.clone(),
        changed_by: record(CHANGED_BY),
        cause: record(CHANGE_CAUSE),
        tracks: Tracks::Usual,
    })
}

/// A sentence as it may stand in a header.
fn text(cause: &str) -> Option<HeaderValue> {
    let mut end = cause.len().min(LONGEST_CAUSE);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    HeaderValue::from_bytes(&cause.as_bytes()[..end]).ok()
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(r) if r.faults.is_empty() => format!("it answered {status}: {}", r.error),
        Ok(r) => format!(
            "it answered {status}: {}\n{}",
            r.error,
            contract::fault::listing(&r.faults)
        ),
        Err(_) => format!("it answered {status}"),
    }
}
