//! `serin proxy --service` with the flags that stand in for a file: `--resilience`, TLS on both sides, the PROXY protocol.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use cluster::harness::{Options, StoryOptions, World, own_network};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use support::{Process, SERIN, get, loopback, raw, until};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};

const LIMIT: Duration = Duration::from_secs(20);
/// Where the backend that speaks TLS is: slices may hold no loopback address.
const PODS: &str = "198.18.200.1";
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n";

/// `serin proxy` for the Service `echo`: clients at 127.0.0.1:8080, signals at 9901.
fn proxy(world: &World, flags: &[&str]) -> Command {
    let mut command = world.command(
        SERIN,
        &[
            "proxy",
            "--service=echo",
            "--listen=127.0.0.1:8080",
            "--signals=127.0.0.1:9901",
            "--admin=127.0.0.1:9902",
            "--workers=1",
        ],
    );
    command.args(["--namespace", world.namespace()]).args(flags);
    command
}

/// A proxy that has its table.
fn ready(world: &World, flags: &[&str]) -> Process {
    let process = Process::start(&mut proxy(world, flags));
    until("it is ready", LIMIT, || {
        get(loopback(9901), "/readyz").filter(|a| a.status == 200)
    });
    process
}

/// What a proxy says that does not start with these flags.
fn refused(world: &World, flags: &[&str]) -> String {
    let output = proxy(world, flags).output().unwrap();
    assert!(!output.status.success(), "{flags:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_file_of_resilience_is_obeyed_and_a_bad_one_is_named() {
    own_network("the_file_of_resilience_is_obeyed_and_a_bad_one_is_named", || {
        let world = World::start(Options::new(SERIN));
        world.story(&StoryOptions {
            stable: 1,
            proxies: 0,
            controllers: 0,
            args: vec!["--latency=3s".into()],
            ..StoryOptions::default()
        });
        let file = world.folder().join("resilience.toml");
        let flag = format!("--resilience={}", file.display());
        for (text, words) in [
            ("tryTimeout = \"0s\"", ["resilience.tryTimeout", "leaves no time"]),
            ("tryTimeuot = \"1s\"", ["tryTimeuot", "unknown field"]),
            ("healthCheck = { path = \"x\" }", ["healthCheck.path", "/healthz"]),
            ("[x", ["--resilience", "resilience.toml"]),
        ] {
            fs::write(&file, text).unwrap();
            let told = refused(&world, &[&flag]);
            assert!(words.iter().all(|w| told.contains(w)), "{text}: {told}");
        }
        fs::remove_file(&file).unwrap();
        assert!(refused(&world, &[&flag]).contains("No such file"));
        fs::write(&file, "requestTimeout = \"400ms\"\nhealthCheck = { path = \"/status/503\", interval = \"100ms\", unhealthy = 1 }\n").unwrap();
        let process = ready(&world, &[&flag]);
        let start = Instant::now();
        let answer = until("an answer of the pod", LIMIT, || get(loopback(8080), "/"));
        assert_eq!(answer.status, 504, "{}", answer.head);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        until("the health check has asked", LIMIT, || {
            process
                .printed()
                .contains("unwell: it answered 503")
                .then_some(())
        });
        drop(process);
        let _process = ready(&world, &[]);
        let answer = get(loopback(8080), "/").unwrap();
        assert_eq!(answer.status, 200, "the default is longer than three seconds");
    });
}

/// Who signs everything here.
struct Authority(Issuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair(String, String);

impl Authority {
    fn new(folder: &Path) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority(Issuer::new(params, key))
    }

    /// A pair for a name, also as `NAME.crt` and `NAME.key`.
    fn sign(&self, folder: &Path, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let pair = Pair(
            params.signed_by(&key, &self.0).unwrap().pem(),
            key.serialize_pem(),
        );
        fs::write(folder.join(format!("{name}.crt")), &pair.0).unwrap();
        fs::write(folder.join(format!("{name}.key")), &pair.1).unwrap();
        pair
    }
}

impl Pair {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.0.as_bytes()).unwrap()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.1.as_bytes()).unwrap()
    }
}

fn roots(folder: &Path) -> RootCertStore {
    let pem = fs::read(folder.join("ca.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    roots
}

/// A pod that speaks TLS with those who show a certificate, and says by which name it was asked.
fn pod(folder: &Path, pair: &Pair) -> SocketAddr {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(folder)))
        .build()
        .unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain(), pair.key())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((PODS, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || serve(StreamOwned::new(session, stream)));
        }
    });
    address
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
    let (mut head, mut octet) = (Vec::new(), [0]);
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut octet)?;
            head.extend(octet);
        }
        head.clear();
        let name = stream.conn.server_name().unwrap_or("-").to_owned();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        )?;
        stream.flush()?;
    }
}

/// What a client gets by TLS at the proxy, if it gets anything.
fn by_tls(folder: &Path, shows: Option<&Pair>) -> io::Result<String> {
    let builder = ClientConfig::builder().with_root_certificates(roots(folder));
    let config = match shows {
        Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("front.test").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect("127.0.0.1:8443")?);
    stream.write_all(ASK)?;
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    Ok(all)
}

/// The Service of which the proxy is told that its pods speak TLS, and the slice of its one pod.
fn services(world: &World, pod: SocketAddr) {
    let port = pod.port();
    world.apply(&format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: echo, annotations: {{serin.dev/stable-service: echo-stable}}}}
spec: {{selector: {{app: proxy}}, ports: [{{name: https, port: 443, appProtocol: https}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo-stable}}
spec: {{ports: [{{name: https, port: 443}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: echo-stable-1, labels: {{kubernetes.io/service-name: echo-stable}}}}
addressType: IPv4
endpoints: [{{addresses: [{PODS}], conditions: {{ready: true, serving: true, terminating: false}}}}]
ports: [{{name: https, port: {port}}}]
"
    ));
}

#[test]
fn pods_that_speak_tls_are_trusted_as_the_flags_say() {
    own_network("pods_that_speak_tls_are_trusted_as_the_flags_say", || {
        let world = World::start(Options::new(SERIN));
        if world.is_real() {
            println!("SKIPPED: the pod is in this process, where a real cluster does not see it");
            return;
        }
        let address = format!("{PODS}/32");
        let added = Command::new("ip")
            .args(["addr", "add", &address, "dev", "lo"])
            .status();
        assert!(added.unwrap().success());
        let folder = world.folder().to_owned();
        let authority = Authority::new(&folder);
        let usual = format!("echo.{}.svc", world.namespace());
        let own = authority.sign(&folder, "own.test");
        authority.sign(&folder, "front.test");
        services(&world, pod(&folder, &authority.sign(&folder, &usual)));
        let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
        let trust = [
            file("backend-ca", "ca.pem"),
            file("backend-cert", "own.test.crt"),
            file("backend-key", "own.test.key"),
        ];
        let trust: Vec<&str> = trust.iter().map(String::as_str).collect();
        let with = |more: &[&'static str]| -> Vec<&str> { trust.iter().chain(more).copied().collect() };
        let asked = || raw(loopback(8080), ASK).unwrap();

        let front = [
            "--tls-listen=127.0.0.1:8443".to_owned(),
            file("tls-cert", "front.test.crt"),
            file("tls-key", "front.test.key"),
            file("tls-client-ca", "ca.pem"),
        ];
        let front: Vec<&str> = front.iter().map(String::as_str).collect();
        let process = ready(&world, &[&trust[..], &front].concat());
        let answer = asked();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, usual.as_str()),
            "the Service's own name is asked for"
        );
        let answer = by_tls(&folder, Some(&own)).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(&usual),
            "{answer}"
        );
        assert!(by_tls(&folder, None).is_err(), "who shows nothing is not let in");
        drop(process);

        for (flags, why) in [
            (with(&["--backend-name=other.test"]), "another name"),
            (trust[1..].to_vec(), "an authority that the system does not know"),
            (vec![trust[0]], "no certificate of ours"),
        ] {
            let process = ready(&world, &flags);
            assert_eq!(asked().status, 502, "{why}");
            until("it is told", LIMIT, || {
                let told = process.printed();
                // What is wrong with our own certificate is told by the pod, after the handshake.
                (why == "no certificate of ours" || told.contains("the TLS handshake failed")).then_some(())
            });
        }

        let process = ready(&world, &with(&["--proxy-protocol=v1"]));
        assert!(raw(loopback(8080), ASK).is_none(), "the header is mandatory");
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
        let answer = raw(loopback(8080), &[header, ASK].concat()).unwrap();
        assert_eq!((answer.status, answer.body), (200, usual));
        drop(process);

        for (flags, words) in [
            (vec!["--tls-listen=127.0.0.1:8443"], "--tls-cert"),
            (vec![trust[1]], "--backend-key"),
            (vec!["--proxy-protocol=v3"], "off, v1, v2 or any"),
            (
                vec![
                    "--tls-listen=127.0.0.1:8443",
                    "--tls-cert=/nowhere",
                    "--tls-key=/nowhere",
                ],
                "/nowhere",
            ),
        ] {
            let told = refused(&world, &flags);
            assert!(told.contains(words), "{flags:?}: {told}");
        }
    });
}
