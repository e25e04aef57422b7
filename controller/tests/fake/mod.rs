//! A scripted proxy over real sockets: the signals and admin listeners of a proxy, with counts instead of traffic.
#![allow(dead_code, reason = "each test file uses its part")]

use bytes::Bytes;
use contract::{
    Canary,
    admin::{Refusal, ServiceState},
    annotations::Annotations,
    evidence::{Bad, Cohort, Page, Served, ServicePage, Tally},
    file::ServiceEntry,
    names::{CHANGED_BY, PREFIX},
    policy::Policy,
    release::{Phase, Status},
    routes::Backends,
};
use controller::{Addresses, Handler, Options, Running};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

pub const TOKEN: &str = "secret";

/// Latency bucket of every answer: about 32 ms.
const QUICK: u16 = 24;

/// How the listeners behave.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Normal,
    /// Takes requests and never answers.
    Hanging,
    /// Another version's pages.
    Newer,
    /// Pages that are no JSON.
    Rubbish,
    /// 500 to everything.
    Failing,
}

pub struct Script {
    pub mood: Mood,
    pub rps: f64,
    pub stable_bad: f64,
    pub canary_bad: f64,
    pub entry: ServiceEntry,
    pub annotations: Annotations,
    /// When the first canary request was bad, and when weight 0 was set after that.
    pub first_bad: Option<Instant>,
    pub home: Option<Instant>,
    /// Weights in the order in which they were set.
    pub weights: Vec<String>,
    pub process: String,
    pub smoke_status: u16,
    pub synthetic: usize,
    born: Instant,
    flown: f64,
    owed: [f64; 4],
    cohorts: Vec<Cohort>,
}

#[derive(Clone)]
pub struct Fake {
    script: Arc<Mutex<Script>>,
    pub signals: SocketAddr,
    pub admin: SocketAddr,
    pub canary: SocketAddr,
}

impl Fake {
    /// Serves until the test ends.
    pub fn start(policy: Policy) -> Fake {
        let sockets: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let at: Vec<SocketAddr> = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        let backends = |version: &str, at: &SocketAddr| Backends {
            version: version.into(),
            endpoints: vec![at.to_string()],
            ..Backends::default()
        };
        let entry = ServiceEntry {
            name: "echo".into(),
            stable: backends("v1", &SocketAddr::from(([127, 0, 0, 1], 9))),
            canary: backends("v2", &at[2]),
            rollout: policy,
            ..ServiceEntry::default()
        };
        let script = Script {
            mood: Mood::Normal,
            rps: 200.0,
            stable_bad: 0.0,
            canary_bad: 0.0,
            entry,
            annotations: Annotations::new(),
            first_bad: None,
            home: None,
            weights: Vec::new(),
            process: "fake-1".into(),
            smoke_status: 200,
            synthetic: 0,
            born: Instant::now(),
            flown: 0.0,
            owed: [0.0; 4],
            cohorts: Vec::new(),
        };
        let fake = Fake {
            script: Arc::new(Mutex::new(script)),
            signals: at[0],
            admin: at[1],
            canary: at[2],
        };
        fake.serve(sockets);
        fake
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn serve(&self, sockets: Vec<TcpListener>) {
        let fake = self.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                for (role, socket) in sockets.into_iter().enumerate() {
                    tokio::spawn(fake.clone().accept(role, socket));
                }
                loop {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    fake.script().flow();
                }
            });
        });
    }

    async fn accept(self, role: usize, socket: TcpListener) {
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::TcpListener::from_std(socket).unwrap();
        while let Ok((stream, _)) = socket.accept().await {
            let fake = self.clone();
            let service = service_fn(move |request| {
                let fake = fake.clone();
                async move { Ok::<_, Infallible>(fake.answer(role, request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(self, role: usize, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mood = self.script().mood;
        match (role, mood) {
            (2, _) => {
                let mut script = self.script();
                script.synthetic += usize::from(request.headers().contains_key("x-serin-synthetic"));
                return reply(script.smoke_status, Bytes::new());
            }
            (_, Mood::Hanging) => std::future::pending().await,
            (_, Mood::Failing) => return reply(500, Bytes::from_static(b"no")),
            _ => {}
        }
        if role == 0 {
            return self.script().evidence(request.uri().query().unwrap_or_default());
        }
        let authorized = request
            .headers()
            .get("authorization")
            .is_some_and(|t| t == &format!("Bearer {TOKEN}"));
        if !authorized {
            return reply(401, Bytes::new());
        }
        if request.method() == Method::GET {
            return json(&[self.script().state()]);
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        let who = text("x-serin-actor").unwrap_or_default();
        self.script().patch(&body, &who, text("if-match"))
    }
}

impl Script {
    /// What a person does with the admin call of the proxy.
    pub fn set(&mut self, weight: &str, who: &str) {
        self.put("canary-weight", weight);
        self.put(CHANGED_BY, who);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.annotations
            .insert(format!("{PREFIX}{key}"), value.to_owned());
    }

    pub fn canary(&self) -> Canary {
        Canary::parse(&self.annotations, PREFIX).unwrap()
    }

    fn state(&self) -> ServiceState {
        ServiceState {
            entry: self.entry.clone(),
            annotations: self.annotations.clone(),
            hash: self.canary().hash(),
        }
    }

    fn patch(&mut self, body: &[u8], who: &str, only_if: Option<String>) -> Response<Full<Bytes>> {
        if only_if.is_some_and(|hash| hash != self.canary().hash()) {
            let mut refused = json(&Refusal::because("changed"));
            *refused.status_mut() = StatusCode::PRECONDITION_FAILED;
            return refused;
        }
        let keys: BTreeMap<String, Option<String>> = serde_json::from_slice(body).unwrap();
        for (key, value) in keys {
            match value {
                Some(value) => self.annotations.insert(key, value),
                None => self.annotations.remove(&key),
            };
        }
        self.put(CHANGED_BY, who);
        let split = self.canary().split;
        self.weights.push(split.weight());
        if split.is_none() && self.first_bad.is_some() {
            self.home.get_or_insert_with(Instant::now);
        }
        json(&self.state())
    }

    fn evidence(&self, query: &str) -> Response<Full<Bytes>> {
        if self.mood == Mood::Rubbish {
            return reply(200, Bytes::from_static(b"{\"schema\":1,\"process\":"));
        }
        let since: u64 = query.strip_prefix("since=").unwrap().parse().unwrap();
        let canary = self.canary();
        let page = ServicePage {
            hash: canary.hash(),
            share: canary.split.share(),
            inflight: [0, 0],
            endpoints: [1, 1],
            guard: None,
            pods: Vec::new(),
            cohorts: self
                .cohorts
                .iter()
                .filter(|c| c.second >= since)
                .cloned()
                .collect(),
            history: vec![contract::evidence::Minute {
                noise: Default::default(),
                minute: 0,
                started: (self.flown * self.rps) as u64,
                bad: 0,
            }],
            latency: vec![(QUICK, (self.flown * self.rps) as u64)],
            local: false,
            rejected: Vec::new(),
        };
        let page = Page {
            schema: if self.mood == Mood::Newer { 2 } else { 1 },
            process: self.process.clone(),
            now_ms: (self.flown * 1000.0) as u64,
            services: BTreeMap::from([("echo".to_owned(), page)]),
        };
        json(&page)
    }

    /// Requests of the time since the last call, evenly, each ended at once.
    fn flow(&mut self) {
        let now = self.born.elapsed().as_secs_f64();
        let requests = (now - self.flown) * self.rps;
        self.flown = now;
        let canary = self.canary();
        let share = canary.split.share();
        let stable = self.owe(0, requests * (1.0 - share));
        let tried = self.owe(1, requests * share);
        let bad = [
            self.owe(2, stable as f64 * self.stable_bad),
            self.owe(3, tried as f64 * self.canary_bad),
        ];
        if bad[1] > 0 {
            self.first_bad.get_or_insert_with(Instant::now);
        }
        let (second, hash) = (now as u64, canary.hash());
        if self
            .cohorts
            .last()
            .is_none_or(|c| c.second != second || c.hash != hash)
        {
            let tracks = [Tally::default(), Tally::default()];
            self.cohorts.push(Cohort {
                second,
                hash,
                share,
                tracks,
                slices: Vec::new(),
            });
        }
        if let Some(last) = self.cohorts.last_mut() {
            for (tally, (n, x)) in last.tracks.iter_mut().zip([(stable, bad[0]), (tried, bad[1])]) {
                tally.started += n;
                tally.finished += n;
                let b = tally.bad.ever + x;
                tally.bad = Bad {
                    by_1s: b,
                    by_5s: b,
                    by_30s: b,
                    ever: b,
                };
                let good = tally.finished - b;
                tally.served = Served {
                    by_500ms: good,
                    by_1s: good,
                };
                tally.latency = vec![(QUICK, tally.finished)];
            }
        }
    }

    fn owe(&mut self, what: usize, more: f64) -> u64 {
        self.owed[what] += more;
        let whole = self.owed[what].floor();
        self.owed[what] -= whole;
        whole as u64
    }
}

fn reply(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> Response<Full<Bytes>> {
    reply(200, Bytes::from(serde_json::to_vec(value).unwrap()))
}

/// A folder of its own for each test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("serin-controller-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A controller of the fake proxy.
pub struct Plane {
    pub handler: Handler,
    pub running: Running,
}

impl Plane {
    pub fn start(fake: &Fake, folder: &Path) -> Plane {
        let (handler, starter) = controller::prepare(Options {
            state: folder.to_owned(),
        })
        .unwrap();
        let addresses = Addresses {
            signals: fake.signals,
            admin: fake.admin,
            token: TOKEN.into(),
        };
        Plane {
            handler,
            running: starter.start(addresses).unwrap(),
        }
    }

    pub fn status(&self) -> Option<Status> {
        self.running.statuses().borrow().first().cloned()
    }

    /// Waits until a status fits; the test fails with the last one otherwise.
    pub fn until(&self, seconds: f64, fits: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let status = self.status();
            if let Some(s) = status.as_ref().filter(|s| fits(s)) {
                return s.clone();
            }
            assert!(
                Instant::now() < deadline,
                "not within {seconds} s; now {status:#?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn reaches(&self, phase: Phase, seconds: f64) -> Status {
        self.until(seconds, |s| s.phase == phase)
    }

    /// An admin call; status and body.
    pub fn call(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-serin-actor", "anna")
            .header("x-serin-cause", "on call")
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let response = runtime.block_on(self.handler.handle(request)).unwrap();
        (
            response.status().as_u16(),
            String::from_utf8(response.body().to_vec()).unwrap(),
        )
    }
}
