//! The story's little application: `GET /` answers `version: v1.0.0`; faults on request.
//!
//! Used by the demo, the examples and the tests. `/healthz` never fails and counts for nothing; `/status/503` answers 503.

use crate::{cli::AppArgs, fail::Failure};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How long requests under way may take after the drain.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// How one version behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// What it calls itself.
    pub version: String,
    /// Share of requests answered with 500.
    pub errors: f64,
    /// Share of requests never answered.
    pub hang: f64,
    /// Extra time before each answer.
    pub latency: Duration,
    /// Faults begin so long after the first request.
    pub late: Duration,
    /// There are faults only while this file exists.
    pub faults_while: Option<PathBuf>,
    /// Seed of the faults.
    pub seed: u64,
}

/// `serin app`
pub fn main(args: &AppArgs) -> Result<ExitCode, Failure> {
    let behaviour = Behaviour {
        version: args.version.clone(),
        errors: args.errors,
        hang: args.hang,
        latency: args.latency.duration(),
        late: args.late.duration(),
        faults_while: args.faults_while.clone(),
        seed: args.seed,
    };
    local_runtime()?.block_on(async {
        let listener = bind(args.listen).await?;
        println!("{} listens on http://{}", behaviour.version, args.listen);
        let shared = Shared::new(behaviour);
        tokio::select! {
            () = accept(&listener, &shared) => {}
            () = crate::plane::stop_signal() => drain(listener, &shared, args.drain.duration()).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts a version on a thread of its own, on a free port of the loopback.
pub fn spawn(behaviour: Behaviour) -> Result<SocketAddr, Failure> {
    let std_listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(Failure::refused)?;
    std_listener.set_nonblocking(true).map_err(Failure::refused)?;
    let address = std_listener.local_addr().map_err(Failure::refused)?;
    on_thread(move || async move {
        if let Ok(listener) = TcpListener::from_std(std_listener) {
            accept(&listener, &Shared::new(behaviour)).await;
        }
    });
    Ok(address)
}

/// Runs something on a thread and a runtime of its own, until the process ends.
pub fn on_thread<F: Future<Output = ()>>(make: impl FnOnce() -> F + Send + 'static) {
    std::thread::spawn(move || match local_runtime() {
        Ok(runtime) => runtime.block_on(make()),
        Err(e) => tracing::error!("{e}"),
    });
}

/// A runtime for one thread.
pub fn local_runtime() -> Result<tokio::runtime::LocalRuntime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .map_err(|e| Failure::refused(format!("cannot start a runtime: {e}")))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| {
        Failure::refused(format!(
            "cannot listen on {address}: {e}; choose another --listen"
        ))
    })
}

struct Shared {
    behaviour: Behaviour,
    random: RefCell<SmallRng>,
    first: Cell<Option<Instant>>,
    /// Answers tell their clients to come no more on this connection.
    leaving: Cell<bool>,
    /// True closes what is idle; each connection holds a receiver.
    closing: watch::Sender<bool>,
}

/// After a stop signal: news of the end needs time to reach all clients, so new connections are served meanwhile; then
/// what is under way ends, unless it hangs.
async fn drain(listener: TcpListener, shared: &Rc<Shared>, time: Duration) {
    shared.leaving.set(true);
    let _ = tokio::time::timeout(time, accept(&listener, shared)).await;
    drop(listener);
    shared.closing.send_replace(true);
    let _ = tokio::time::timeout(LAST_ANSWERS, shared.closing.closed()).await;
}

async fn accept(listener: &TcpListener, shared: &Rc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::task::spawn_local(converse(stream, shared.clone()));
    }
}

async fn converse(stream: TcpStream, shared: Rc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let service = service_fn(move |request| answer(shared.clone(), request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|now| *now) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(shared: Rc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/healthz" {
        return Ok(Response::new(Full::new(Bytes::from_static(b"ok\n"))));
    }
    if let Some(status) = asked_for(request.uri().path()) {
        let text = format!("version: {}\n", shared.behaviour.version);
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        return Ok(response);
    }
    let b = &shared.behaviour;
    let faulty = shared.started() >= b.late && b.faults_while.as_ref().is_none_or(|file| file.exists());
    if faulty && shared.draw(b.hang) {
        future::pending::<()>().await;
    }
    if faulty && !b.latency.is_zero() {
        tokio::time::sleep(b.latency).await;
    }
    let status = if faulty && shared.draw(b.errors) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    let mut response = Response::new(Full::new(Bytes::from(format!("version: {}\n", b.version))));
    *response.status_mut() = status;
    if shared.leaving.get() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// `/status/503` answers 503, whatever the version: so can both be made to fail together.
fn asked_for(path: &str) -> Option<StatusCode> {
    path.strip_prefix("/status/")?.parse().ok()
}

impl Shared {
    fn new(behaviour: Behaviour) -> Rc<Shared> {
        Rc::new(Shared {
            random: RefCell::new(SmallRng::seed_from_u64(behaviour.seed)),
            behaviour,
            first: Cell::new(None),
            leaving: Cell::new(false),
            closing: watch::Sender::new(false),
        })
    }

    /// Time since the first request.
    fn started(&self) -> Duration {
        let first = self.first.get().unwrap_or_else(Instant::now);
        self.first.set(Some(first));
        first.elapsed()
    }

    fn draw(&self, share: f64) -> bool {
        share > 0.0 && self.random.borrow_mut().random::<f64>() < share
    }
}
