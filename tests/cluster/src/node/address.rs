//! Addresses of pods on the loopback, from 198.18.1.1 on: a range that the API server takes for endpoints.

use std::{
    net::Ipv4Addr,
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
};
use tokio::process::Command;

/// Never given twice in one process: whoever still speaks to an old pod's address must not reach a new pod.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address that no pod had before.
pub fn next() -> Ipv4Addr {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let [block, host] = [n / 250 + 1, n % 250 + 1];
    Ipv4Addr::new(198, 18, block as u8, host as u8)
}

/// Puts it on the loopback.
pub async fn add(address: Ipv4Addr) -> Result<(), String> {
    change("add", address).await
}

/// Takes it off.
pub async fn remove(address: Ipv4Addr) -> Result<(), String> {
    change("del", address).await
}

async fn change(verb: &str, address: Ipv4Addr) -> Result<(), String> {
    let mut command = Command::new("ip");
    command.args(["addr", verb, &format!("{address}/32"), "dev", "lo"]);
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.map_err(|e| format!("cannot run `ip`: {e}; install iproute2"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "cannot {verb} {address} on lo: {}; run the test in a network of its own",
        reason.trim()
    ))
}
