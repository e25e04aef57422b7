//! Clients of a Service: so many requests a second to its ready pods, each answer noted.
//!
//! Open loop: a request that hangs keeps no other one waiting. Connections are kept, as browsers and pools do. New ones go
//! in turn to the addresses that kube-proxy would choose from; an old one stays until its server ends it.

mod report;
mod target;

pub use report::{Report, Sample};
pub use target::open_addresses;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use kube::Client;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use target::Targets;
use tokio::{net::TcpStream, task::JoinSet, time};

/// A connection is given up after so many requests, so that load finds new pods.
const REQUESTS_PER_CONNECTION: usize = 100;

/// What to send.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// Requests a second.
    pub rate: f64,
    /// Path of each.
    pub path: String,
    /// Headers of each.
    pub headers: Vec<(String, String)>,
    /// An answer that takes longer is lost.
    pub patience: Duration,
}

impl Traffic {
    /// `GET /` at this rate, with five seconds of patience.
    pub fn at(rate: f64) -> Traffic {
        Traffic {
            rate,
            path: "/".into(),
            headers: Vec::new(),
            patience: Duration::from_secs(5),
        }
    }

    /// The same with a header.
    pub fn with(mut self, name: &str, value: &str) -> Traffic {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Running load; it ends when this goes.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    traffic: Traffic,
    targets: Targets,
    idle: Mutex<Vec<Kept>>,
    report: Mutex<Report>,
}

/// A connection that waits for its next request.
struct Kept {
    sender: SendRequest<Empty<Bytes>>,
    peer: SocketAddr,
    used: usize,
}

impl Load {
    /// Begins at once, on the current runtime. While the Service has no ready address, requests are lost.
    pub fn start(client: Client, namespace: &str, service: &str, traffic: Traffic) -> Load {
        let targets = Targets::default();
        let shared = Arc::new(Shared {
            traffic,
            targets: targets.clone(),
            idle: Mutex::default(),
            report: Mutex::new(Report::new()),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(targets.follow(client, namespace.to_owned(), service.to_owned()));
        tasks.spawn(shared.clone().pace());
        Load { shared, tasks }
    }

    /// What was seen so far. Requests under way are not in it.
    pub fn report(&self) -> Report {
        locked(&self.shared.report).clone()
    }

    /// Stops sending, waits for the last answers, and tells everything.
    pub fn stop(mut self) -> Report {
        self.tasks.abort_all();
        let limit = Instant::now() + self.shared.traffic.patience + Duration::from_secs(1);
        while locked(&self.shared.report).under_way > 0 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.report()
    }
}

impl Shared {
    async fn pace(self: Arc<Shared>) {
        self.targets.wait().await;
        let mut ticks = time::interval(Duration::from_secs_f64(1.0 / self.traffic.rate.max(0.001)));
        loop {
            ticks.tick().await;
            locked(&self.report).under_way += 1;
            tokio::spawn(self.clone().one());
        }
    }

    async fn one(self: Arc<Shared>) {
        let begun = Instant::now();
        let (kept, asked) = match time::timeout(self.traffic.patience, self.ask(begun)).await {
            Ok((kept, sample)) => (kept, sample),
            Err(_) => (None, Sample::lost(begun, None, "no answer in time".into())),
        };
        let mut report = locked(&self.report);
        report.under_way -= 1;
        report.samples.push(asked);
        drop(report);
        if let Some(kept) = kept.filter(|k| k.used < REQUESTS_PER_CONNECTION) {
            locked(&self.idle).push(kept);
        }
    }

    /// One request. A kept connection that its server had closed already is no loss: every client then takes another.
    async fn ask(&self, begun: Instant) -> (Option<Kept>, Sample) {
        while let Some(mut kept) = self.kept() {
            match self.exchange(&mut kept, begun).await {
                Ok(sample) => return (Some(kept), sample),
                Err(_) => locked(&self.report).reconnected += 1,
            }
        }
        let Some(peer) = self.targets.next() else {
            return (None, Sample::lost(begun, None, "no ready address".into()));
        };
        let answered = async {
            let mut kept = connect(peer).await?;
            let sample = self.exchange(&mut kept, begun).await.map_err(|e| e.to_string())?;
            Ok::<_, String>((kept, sample))
        };
        match answered.await {
            Ok((kept, sample)) => (Some(kept), sample),
            Err(e) => (None, Sample::lost(begun, Some(peer), e)),
        }
    }

    fn kept(&self) -> Option<Kept> {
        let mut idle = locked(&self.idle);
        idle.retain(|k| k.sender.is_ready());
        idle.pop()
    }

    async fn exchange(&self, kept: &mut Kept, begun: Instant) -> Result<Sample, hyper::Error> {
        kept.used += 1;
        kept.sender.ready().await?;
        let answer = kept.sender.send_request(self.request(kept.peer)).await?;
        let (head, body) = answer.into_parts();
        // Whoever has a head has an answer: from here on a broken one is a loss.
        Ok(match body.collect().await {
            Ok(body) => Sample::answered(begun, kept.peer, &head, &body.to_bytes()),
            Err(e) => Sample::lost(begun, Some(kept.peer), format!("broken body: {e}")),
        })
    }

    fn request(&self, peer: SocketAddr) -> Request<Empty<Bytes>> {
        let mut request = Request::builder()
            .uri(&self.traffic.path)
            .header("host", peer.to_string());
        for (name, value) in &self.traffic.headers {
            request = request.header(name, value);
        }
        request.body(Empty::new()).unwrap_or_default()
    }
}

async fn connect(peer: SocketAddr) -> Result<Kept, String> {
    let stream = TcpStream::connect(peer)
        .await
        .map_err(|e| format!("connect: {e}"))?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    Ok(Kept {
        sender,
        peer,
        used: 0,
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
