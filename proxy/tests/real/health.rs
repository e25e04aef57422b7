//! Active health checks of endpoints that speak HTTP/2, TLS or gRPC: a real question over what they speak.

use crate::{
    tls::town::{Authority, Folder, server},
    world::*,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

const CHECK: &str = "/grpc.health.v1.Health/Check";
/// How calls end that the server does not know.
const UNIMPLEMENTED: u64 = 12;

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speaks {
    H2c,
    TlsH2,
    TlsHttp1,
}

/// An endpoint that tells how it is as it is told to.
struct Patient {
    address: SocketAddr,
    /// A status, or a status of grpc.health.v1.
    health: Arc<AtomicU64>,
    /// The questions: version, method, host and path, and what was asked about.
    asked: Arc<Mutex<Vec<String>>>,
}

type Answer = Response<Either<Full<Bytes>, StreamBody<Frames>>>;
type Frames = futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

impl Patient {
    fn start(name: &'static str, speaks: Speaks, authority: &Authority, well: u64) -> Patient {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let patient = Patient {
            address: listener.local_addr().unwrap(),
            health: Arc::new(AtomicU64::new(well)),
            asked: Arc::default(),
        };
        let mut config = (*server(&authority.sign(&["shop.test"]), None)).clone();
        let alpn: &[u8] = if speaks == Speaks::TlsH2 {
            b"h2"
        } else {
            b"http/1.1"
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (health, asked) = (Arc::clone(&patient.health), Arc::clone(&patient.asked));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, health, asked) =
                        (acceptor.clone(), Arc::clone(&health), Arc::clone(&asked));
                    tokio::spawn(async move {
                        match speaks {
                            Speaks::H2c => serve(stream, true, name, health, asked).await,
                            _ => {
                                let stream = acceptor.accept(stream).await.unwrap();
                                serve(stream, speaks == Speaks::TlsH2, name, health, asked).await;
                            }
                        }
                    });
                }
            });
        });
        patient
    }

    fn tell(&self, health: u64) {
        self.health.store(health, Ordering::SeqCst);
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    h2: bool,
    name: &'static str,
    health: Arc<AtomicU64>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (health, asked) = (health.load(Ordering::SeqCst), Arc::clone(&asked));
        async move { Ok::<_, Infallible>(answer(request, name, health, &asked).await) }
    });
    // Who asked is free to go at any time.
    let _ = if h2 {
        let server = http2::Builder::new(TokioExecutor::new());
        server.serve_connection(TokioIo::new(stream), service).await
    } else {
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
    };
}

async fn answer(request: Request<Incoming>, name: &str, health: u64, asked: &Mutex<Vec<String>>) -> Answer {
    let (head, body) = request.into_parts();
    let text = |text: &str| Either::Left(Full::from(text.to_owned()));
    if ![CHECK, "/health"].contains(&head.uri.path()) {
        // A hiccup of the machine is little beside it.
        tokio::time::sleep(Duration::from_millis(10)).await;
        return Response::new(text(name));
    }
    assert_eq!(head.headers["x-serin-synthetic"], "1");
    let host = head.uri.host().map(str::to_owned);
    let host = host.unwrap_or_else(|| head.headers["host"].to_str().unwrap().to_owned());
    let body = body.collect().await.unwrap().to_bytes();
    let about = String::from_utf8_lossy(body.get(7..).unwrap_or_default()).into_owned();
    let told = format!(
        "{:?} {} {host} {} {about}",
        head.version,
        head.method,
        head.uri.path()
    );
    asked.lock().unwrap().push(told.trim().to_owned());
    if head.uri.path() == "/health" {
        return Response::builder().status(health as u16).body(text("")).unwrap();
    }
    assert_eq!(
        (&head.headers["content-type"], &head.headers["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let mut answer = Response::builder().header("content-type", "application/grpc");
    if health == UNIMPLEMENTED {
        answer = answer.header("grpc-status", health);
        return answer.body(text("")).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    // In two parts, as it may come.
    let frames = [
        Frame::data(Bytes::from_static(&[0, 0, 0])),
        Frame::data(Bytes::from(vec![0, 2, 8, health as u8])),
        Frame::trailers(trailers),
    ];
    let frames: Vec<_> = frames.into_iter().map(Ok).collect();
    let body = StreamBody::new(futures_util::stream::iter(frames));
    answer.body(Either::Right(body)).unwrap()
}

/// Two endpoints, and a proxy that asks them so.
fn town(speaks: Speaks, check: &str, well: u64) -> (World, [Patient; 2], Folder) {
    let (folder, authority) = (Folder::new(), Authority::new());
    std::fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
    let patients = ["A", "B"].map(|name| Patient::start(name, speaks, &authority, well));
    let protocol = match speaks {
        Speaks::H2c => "protocol = \"h2c\"".to_owned(),
        _ => format!(
            "protocol = \"https\", tls = {{ ca = {:?}, serverName = \"shop.test\" }}",
            folder.path("ca.pem")
        ),
    };
    let mut plan = Plan::new();
    plan.services = format!(
        "[[service]]\nname = \"echo\"\nstable = {{ endpoints = [\"{}\", \"{}\"], {protocol} }}\n",
        patients[0].address, patients[1].address
    );
    let check = format!("healthCheck = {{ interval = \"50ms\", {check} }}");
    (plan.resilience(&check).start(), patients, folder)
}

/// How many of forty requests A answered; several at once, because of one at a time the endpoint that was ever a bit
/// slower gets none.
fn of_a(world: &World) -> usize {
    let one = || {
        let mut client = world.client();
        (0..5).filter(|_| client.get("/", &[]).text() == "A").count()
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|a| a.join().unwrap()).sum()
    })
}

/// A is unwell for each of these, and well again.
fn follows(world: &World, a: &Patient, well: u64, unwell: &[u64]) {
    eventually("both", || (1..40).contains(&of_a(world)));
    for bad in unwell {
        a.tell(*bad);
        eventually("only B", || of_a(world) == 0);
        a.tell(well);
        eventually("A again", || of_a(world) > 0);
    }
    assert_eq!(world.tally("echo", 0)[2], 0, "nobody was harmed");
}

#[test]
fn a_get_goes_over_what_the_endpoint_speaks() {
    for (speaks, question) in [
        (Speaks::H2c, "HTTP/2.0 GET 127.0.0.1 /health"),
        (Speaks::TlsH2, "HTTP/2.0 GET shop.test /health"),
        (Speaks::TlsHttp1, "HTTP/1.1 GET shop.test /health"),
    ] {
        let (world, [a, b], _folder) = town(speaks, "path = \"/health\"", 200);
        follows(&world, &a, 204, &[503, 404]);
        for patient in [a, b] {
            let asked = patient.asked.lock().unwrap();
            assert!(
                asked.len() > 5 && asked.iter().all(|q| q == question),
                "{speaks:?}: {asked:?}"
            );
        }
    }
}

#[test]
fn the_expected_status_can_be_said() {
    let (world, [a, _b], _folder) = town(Speaks::H2c, "path = \"/health\", status = \"200\"", 200);
    follows(&world, &a, 200, &[204, 302]);
}

#[test]
fn a_server_of_grpc_is_asked_whether_it_serves() {
    for speaks in [Speaks::H2c, Speaks::TlsH2] {
        for service in ["", "shop.v1.Orders"] {
            let (world, [a, b], _folder) = town(speaks, &format!("grpc = \"{service}\""), 1);
            // Unknown, not serving, no such service, no health service.
            follows(&world, &a, 1, &[0, 2, 3, UNIMPLEMENTED]);
            let end = format!("{CHECK} {service}");
            let asked = b.asked.lock().unwrap();
            let good = asked
                .iter()
                .all(|q| q.starts_with("HTTP/2.0 POST") && q.ends_with(end.trim()));
            assert!(good && asked.len() > 5, "{asked:?}");
        }
    }
}

#[test]
fn an_endpoint_that_takes_connections_and_says_nothing_is_unwell() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let well = Patient::start("B", Speaks::H2c, &authority, 200);
    let mute = Backend::raw(|mut wire| while !wire.is_closed() {});
    let mut plan = Plan::new();
    plan.services = format!(
        "[[service]]\nname = \"echo\"\nstable = {{ endpoints = [\"{}\", \"{}\"], protocol = \"h2c\" }}\n",
        well.address, mute.address
    );
    let world = plan
        .resilience("tryTimeout = \"500ms\"\nhealthCheck = { path = \"/health\", interval = \"50ms\", timeout = \"100ms\" }")
        .start();
    eventually("only B", || {
        let before = world.tally("echo", 0)[2];
        (0..20).all(|_| world.client().get("/", &[]).text() == "B") && world.tally("echo", 0)[2] == before
    });
    drop(folder);
}
