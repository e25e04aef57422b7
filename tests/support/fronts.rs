//! What the proxies of a cluster test have in force, by their own word.
#![allow(dead_code)] // each test binary uses its part

use cluster::harness::World;
use kube::ResourceExt;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

/// Port of a proxy's signals.
const SIGNALS: u16 = 9901;
const FRONTS: &str = "serin.dev/proxy=echo";
const PATIENCE: Duration = Duration::from_secs(2);

/// The signals of the proxies that are there now, by pod.
pub fn fronts(world: &World) -> BTreeMap<String, SocketAddr> {
    let pods = world.pods(FRONTS);
    let address = |p: &k8s_openapi::api::core::v1::Pod| -> Option<SocketAddr> {
        let ip: IpAddr = p.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
        Some(SocketAddr::new(ip, SIGNALS))
    };
    pods.iter()
        .filter_map(|p| Some((p.name_any(), address(p)?)))
        .collect()
}

/// The weight that each has in force, in percent.
pub fn weights(fronts: &BTreeMap<String, SocketAddr>) -> BTreeMap<String, f64> {
    let weight = |(name, address): (&String, &SocketAddr)| (name.clone(), in_force(*address));
    fronts.iter().map(weight).collect()
}

/// The weight that one has in force, in percent.
pub fn in_force(signals: SocketAddr) -> f64 {
    let page = metrics(signals).unwrap_or_else(|e| panic!("{signals} tells no metrics: {e}"));
    let mut lines = page.lines().filter(|l| l.starts_with("serin_split_weight"));
    let value = lines.next().and_then(|l| l.rsplit(' ').next());
    value
        .and_then(|v| v.parse().ok())
        .unwrap_or_else(|| panic!("{signals} tells no weight:\n{page}"))
}

fn metrics(signals: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&signals, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}
