//! Startup, readiness and liveness probes: httpGet and tcpSocket.

use super::container::Board;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

/// The period of fast probes.
const FAST: Duration = Duration::from_millis(100);
/// Until its first success a container is asked so often, when probes are fast.
const EAGER: Duration = Duration::from_millis(20);

/// The probes of one run of a container.
pub struct Probes {
    /// Whose.
    pub container: Container,
    /// Where.
    pub address: Ipv4Addr,
    /// Whether periods are [`FAST`].
    pub fast: bool,
}

impl Probes {
    /// Keeps the board's `started` and `ready` true; ends, with the reason, when the container has to be killed.
    pub async fn watch(self, board: Arc<Board>, index: usize) -> String {
        if let Some(probe) = &self.container.startup_probe
            && !self.until(probe, true, |_| {}).await
        {
            return format!("Container {} failed startup probe", self.container.name);
        }
        let ready = self.container.readiness_probe.is_none();
        board.change(index, |s| (s.started, s.ready) = (true, ready));
        tokio::join!(self.readiness(&board, index), self.liveness()).1
    }

    async fn readiness(&self, board: &Board, index: usize) {
        if let Some(probe) = &self.container.readiness_probe {
            let tell = |ready| board.change(index, |s| s.ready = ready);
            self.follow(probe, tell).await;
        }
    }

    async fn liveness(&self) -> String {
        match &self.container.liveness_probe {
            Some(probe) => drop(self.until(probe, false, |_| {}).await),
            None => std::future::pending().await,
        }
        format!(
            "Container {} failed liveness probe, will be restarted",
            self.container.name
        )
    }

    /// Probes until it has failed for good (false), or, if success ends it, succeeded (true).
    async fn until(&self, probe: &Probe, success_ends: bool, tell: impl Fn(bool)) -> bool {
        let mut round = Round::new(self, probe);
        loop {
            match round.next(self, probe).await {
                Some(true) if success_ends => return true,
                Some(false) => return false,
                Some(true) => tell(true),
                None => {}
            }
        }
    }

    /// Probes for ever and tells each change.
    async fn follow(&self, probe: &Probe, tell: impl Fn(bool)) {
        let mut round = Round::new(self, probe);
        let mut before = false;
        loop {
            if let Some(now) = round.next(self, probe).await
                && now != before
            {
                tell(now);
                before = now;
            }
        }
    }

    async fn ask(&self, probe: &Probe) -> bool {
        let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
        let asked = async {
            if let Some(get) = &probe.http_get {
                return self::get(get, &self.container, self.address).await;
            }
            let Some(socket) = &probe.tcp_socket else {
                return None;
            };
            let port = port(&socket.port, &self.container)?;
            let stream = TcpStream::connect((self.address, port)).await;
            stream.is_ok().then_some(200)
        };
        let status = time::timeout(limit, asked).await.ok().flatten();
        status.is_some_and(|s| (200..400).contains(&s))
    }
}

/// Successes and failures in a row.
struct Round {
    pause: Duration,
    failures: i32,
    successes: i32,
}

impl Round {
    fn new(probes: &Probes, probe: &Probe) -> Round {
        let delay = Duration::from_secs(probe.initial_delay_seconds.unwrap_or(0).max(0) as u64);
        Round {
            pause: if probes.fast { delay / 10 } else { delay },
            failures: 0,
            successes: 0,
        }
    }

    /// Asks once, after the pause; a verdict when a threshold is reached.
    async fn next(&mut self, probes: &Probes, probe: &Probe) -> Option<bool> {
        time::sleep(self.pause).await;
        let good = probes.ask(probe).await;
        (self.successes, self.failures) = if good {
            (self.successes + 1, 0)
        } else {
            (0, self.failures + 1)
        };
        let eager = probes.fast && !good && self.failures < probe.failure_threshold.unwrap_or(3) * 5;
        let period = Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1) as u64);
        self.pause = match (probes.fast, eager) {
            (false, _) => period,
            (true, true) => EAGER,
            (true, false) => FAST,
        };
        self.verdict(probes, probe)
    }

    fn verdict(&self, probes: &Probes, probe: &Probe) -> Option<bool> {
        // Eager asking must not use up the patience that the manifest gives a slow start.
        let patience = probe.failure_threshold.unwrap_or(3) * if probes.fast { 5 } else { 1 };
        if self.successes >= probe.success_threshold.unwrap_or(1) {
            Some(true)
        } else {
            (self.failures >= patience).then_some(false)
        }
    }
}

/// Asks by HTTP; the status of the answer.
pub async fn get(get: &HTTPGetAction, container: &Container, address: Ipv4Addr) -> Option<u16> {
    let port = port(&get.port, container)?;
    let host = get.host.clone().unwrap_or_else(|| address.to_string());
    let mut stream = TcpStream::connect((host.as_str(), port)).await.ok()?;
    let path = get.path.as_deref().unwrap_or("/");
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nuser-agent: kube-probe/1\r\n");
    for header in get.http_headers.iter().flatten() {
        head += &format!("{}: {}\r\n", header.name, header.value);
    }
    head += "connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.ok()?;
    // "HTTP/1.1 200"
    std::str::from_utf8(answer.get(9..)?).ok()?.parse().ok()
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|p| p.name.as_ref() == Some(name))?.container_port
        }
    };
    number.try_into().ok()
}
