//! Which addresses new connections may go to.

use super::locked;
use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time;

/// Addresses of a Service, as its EndpointSlices have them now; the last ones while the API server is away.
#[derive(Clone, Default)]
pub struct Targets {
    slices: Arc<Mutex<BTreeMap<String, EndpointSlice>>>,
    turn: Arc<AtomicUsize>,
}

impl Targets {
    /// Keeps them fresh for ever.
    pub async fn follow(self, client: Client, namespace: String, service: String) {
        let api = Api::<EndpointSlice>::namespaced(client, &namespace);
        let own = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
        let mut events = pin!(watcher(api, own));
        let mut listed = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(slice)) => drop(listed.insert(slice.name_any(), slice)),
                Ok(Event::InitDone) => *locked(&self.slices) = listed.clone(),
                Ok(Event::Apply(slice)) => drop(locked(&self.slices).insert(slice.name_any(), slice)),
                Ok(Event::Delete(slice)) => drop(locked(&self.slices).remove(&slice.name_any())),
                Err(_) => time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until the first list is there.
    pub async fn wait(&self) {
        while locked(&self.slices).is_empty() {
            time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The address whose turn it is.
    pub fn next(&self) -> Option<SocketAddr> {
        let open: Vec<_> = locked(&self.slices).values().flat_map(open_addresses).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        open.get(turn % open.len().max(1)).copied()
    }
}

/// The ready addresses of a slice; where none is ready those that still serve, as kube-proxy has it.
pub fn open_addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let port = slice.ports.iter().flatten().find_map(|p| p.port);
    let Some(port) = port.and_then(|p| u16::try_from(p).ok()) else {
        return Vec::new();
    };
    let that = |open: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let endpoints = slice.endpoints.iter().filter(|e| open(e));
        let addresses = endpoints.flat_map(|e| &e.addresses);
        addresses
            .filter_map(|a| Some(SocketAddr::new(a.parse().ok()?, port)))
            .collect()
    };
    let ready = that(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    if ready.is_empty() {
        that(serves_to_the_end)
    } else {
        ready
    }
}

fn serves_to_the_end(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4", "metadata": {"name": "a"}, "ports": [{"port": 80}], "endpoints": endpoints,
        }))
        .unwrap()
    }

    #[test]
    fn who_terminates_is_chosen_only_when_nobody_else_is_there() {
        let leaving = json!({"addresses": ["198.18.1.1"], "conditions": {"ready": false, "serving": true, "terminating": true}});
        let ready = json!({"addresses": ["198.18.1.2"], "conditions": {"ready": true}});
        let both = open_addresses(&slice(json!([leaving, ready])));
        assert_eq!(both, ["198.18.1.2:80".parse().unwrap()]);
        assert_eq!(
            open_addresses(&slice(json!([leaving]))),
            ["198.18.1.1:80".parse().unwrap()]
        );
    }
}
