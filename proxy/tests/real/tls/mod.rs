//! TLS in front and to backends, and the PROXY protocol.

mod backends;
mod introduced;
mod reload;
pub mod town;

use crate::world::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::SupportedProtocolVersion;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use town::*;

fn one_pair() -> (Folder, Authority) {
    let (folder, authority) = (Folder::new(), Authority::new());
    authority
        .sign(&["shop.test", "localhost"])
        .write(&folder.0, "shop");
    (folder, authority)
}

fn fronted(folder: &Folder, backend: &Backend, more: &str) -> World {
    secure(folder, &["shop"], more)
        .service("echo", &[backend.address], &[], &[])
        .start()
}

/// One version alone.
fn only(version: &'static SupportedProtocolVersion) -> &'static [&'static SupportedProtocolVersion] {
    Box::leak(Box::new([version]))
}

fn failures(world: &World, kind: &str) -> f64 {
    world.metric(&[
        "serin_failures_total",
        "side=\"client\"",
        &format!("kind=\"{kind}\""),
    ])
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let pairs = [
        ("first", authority.sign(&["first.test"])),
        ("wild", authority.sign(&["*.shop.test", "shop.example"])),
        ("exact", authority.sign(&["api.shop.test"])),
    ];
    for (name, pair) in &pairs {
        pair.write(&folder.0, name);
    }
    let backend = Backend::named("S");
    let world = secure(&folder, &["first", "wild", "exact"], "")
        .service("echo", &[backend.address], &[], &[])
        .start();
    let config = Client::default().config();
    for (asked, shown) in [
        ("first.test", 0),
        ("www.shop.test", 1),
        ("WWW.Shop.Test", 1),
        ("shop.example", 1),
        ("api.shop.test", 2),
        ("shop.test", 0),
        ("a.b.shop.test", 0),
        ("other.test", 0),
        ("127.0.0.1", 0),
    ] {
        let mut line = Line::connect(&world, &config, asked).unwrap();
        assert!(line.shown() == pairs[shown].1.der, "{asked}");
        assert_eq!(line.get("/").unwrap().0, 200, "{asked}");
    }
    let expiry = world.metric(&[
        "serin_tls_certificate_expiry_seconds",
        "name=\"*.shop.test\"",
        "wild.crt",
    ]);
    assert_eq!(expiry, 2_208_988_800.0, "2040-01-01");
}

#[test]
fn both_versions_are_spoken_and_resumed() {
    let (folder, _) = one_pair();
    let backend = Backend::named("S");
    let world = fronted(&folder, &backend, "");
    for (version, protocol) in [("1.2", &rustls::version::TLS12), ("1.3", &rustls::version::TLS13)] {
        let client = Client {
            versions: only(protocol),
            ..Client::default()
        };
        let config = client.config();
        for resumed in ["false", "true"] {
            let mut line = Line::connect(&world, &config, "shop.test").unwrap();
            assert_eq!(line.get("/").unwrap().2, b"S");
            let labels = [
                "serin_tls_handshakes_total",
                &format!("version=\"{version}\""),
                &format!("resumed=\"{resumed}\""),
            ];
            assert_eq!(world.metric(&labels), 1.0, "{labels:?}");
        }
    }
    assert_eq!(backend.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn older_versions_are_refused_when_that_is_asked_for() {
    let (folder, _) = one_pair();
    let world = fronted(&folder, &Backend::named("S"), "minVersion = \"1.3\"");
    let old = Client {
        versions: only(&rustls::version::TLS12),
        ..Client::default()
    };
    assert!(Line::connect(&world, &old.config(), "shop.test").is_err());
    eventually("it is counted", || failures(&world, "tls") == 1.0);
    assert!(Line::connect(&world, &Client::default().config(), "shop.test").is_ok());
}

#[test]
fn the_handshake_agrees_on_the_protocol() {
    let (folder, _) = one_pair();
    let backend = Backend::named("S");
    let world = fronted(&folder, &backend, "");
    let agreed = |alpn: &'static [&'static str]| {
        let client = Client {
            alpn,
            ..Client::default()
        };
        let line = Line::connect(&world, &client.config(), "shop.test")?;
        let agreed = line.reader.get_ref().conn.alpn_protocol().map(<[u8]>::to_vec);
        Ok::<_, std::io::Error>(agreed)
    };
    assert_eq!(agreed(&["http/1.1", "h2"]).unwrap(), Some(b"h2".to_vec()));
    assert_eq!(agreed(&["http/1.1"]).unwrap(), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[]).unwrap(), None);
    assert!(agreed(&["spdy/3"]).is_err());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(over_h2(&world));
    assert_eq!(world.metric(&["serin_requests_total", "protocol=\"h2\""]), 20.0);
    assert_eq!(backend.last().header("x-forwarded-proto"), Some("https"));
}

async fn over_h2(world: &World) {
    let client = Client {
        alpn: &["h2"],
        ..Client::default()
    };
    let tcp = tokio::net::TcpStream::connect(tls_of(world)).await.unwrap();
    let name = "shop.test".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(client.config())
        .connect(name, tcp)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    for _ in 0..20 {
        let request = hyper::Request::get("https://shop.test/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "S");
    }
}

#[test]
fn clients_show_certificates_when_they_are_asked() {
    let (folder, known) = one_pair();
    std::fs::write(folder.0.join("ca.pem"), &known.pem).unwrap();
    let stranger = Authority::new();
    let backend = Backend::named("S");
    for (mode, without, good, foreign) in [
        ("none", true, true, true),
        ("optional", true, true, false),
        ("required", false, true, false),
    ] {
        let ca = match mode {
            "none" => String::new(),
            _ => format!("clientCa = {:?}", folder.path("ca.pem")),
        };
        let world = fronted(&folder, &backend, &format!("clientAuth = \"{mode}\"\n{ca}"));
        for (shows, served) in [
            (None, without),
            (Some(known.sign(&["client"])), good),
            (Some(stranger.sign(&["client"])), foreign),
        ] {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let client = Client {
                    versions: only(version),
                    shows: shows.clone(),
                    ..Client::default()
                };
                // In TLS 1.3 a client learns of its refusal only when it reads.
                let asked = Line::connect(&world, &client.config(), "shop.test").and_then(|mut l| l.get("/"));
                assert_eq!(asked.is_ok(), served, "{mode} {} {asked:?}", shows.is_some());
            }
        }
    }
}

#[test]
fn who_speaks_no_tls_is_told_so() {
    let (folder, _) = one_pair();
    let world = fronted(&folder, &Backend::named("S"), "");
    let mut client = Wire::connect(tls_of(&world));
    let answer = client.get("/", &[]);
    assert_eq!(
        (answer.status(), answer.header("x-serin-error")),
        (400, Some("tls"))
    );
    assert!(answer.text().contains("use https"), "{}", answer.text());
    assert!(client.is_closed());
    let mut noise = Wire::connect(tls_of(&world));
    noise.send([22, 3, 1, 0xff, 0xff, 9, 9, 9, 9, 9]);
    let mut alert = [0; 2];
    noise.read(&mut alert).unwrap();
    assert_eq!(alert, [21, 3], "an alert says why");
    eventually("both are counted", || failures(&world, "tls") == 2.0);
}

#[test]
fn a_handshake_has_a_deadline() {
    let (folder, _) = one_pair();
    let mut plan = secure(&folder, &["shop"], "");
    plan.proxy = format!("headerTimeout = \"300ms\"\n{}", plan.proxy);
    let world = plan
        .service("echo", &[Backend::named("S").address], &[], &[])
        .start();
    for sent in [&b""[..], b"\x16\x03\x01\x01\x00\x01"] {
        let begun = Instant::now();
        let mut client = Wire::connect(tls_of(&world));
        client.send(sent);
        assert!(client.is_closed());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    eventually("who has begun is counted", || failures(&world, "tls") == 1.0);
}

/// Large bodies in both directions at once, in records that do not fit ours, past a reader that is slow at first.
#[test]
fn large_bodies_flow_both_ways() {
    let (folder, authority) = one_pair();
    std::fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
    let echo = Fortress::new(server(&authority.sign(&["localhost"]), None));
    let mut plan = secure(&folder, &["shop"], "");
    plan.services = format!(
        "[[service]]\nname = \"echo\"\nstable = {{ endpoints = [\"{}\"], protocol = \"https\", tls = {{ ca = {:?}, serverName = \"localhost\" }} }}\n",
        echo.address,
        folder.path("ca.pem")
    );
    let world = plan.start();
    let mut line = Line::connect(&world, &Client::default().config(), "shop.test").unwrap();
    let body: Vec<u8> = (0..20_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for n in [0, 1, 16_384, 16_385, 65_535, body.len()] {
        line.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n"
        ))
        .unwrap();
        line.send(&body[..n]).unwrap();
        if n == body.len() {
            thread::sleep(Duration::from_millis(300));
        }
        let (status, _, answer) = line.answer().unwrap();
        assert_eq!(status, 200);
        assert!(n == 0 || answer == body[..n], "{n}");
    }
}

#[test]
fn an_end_is_told_from_a_cut() {
    let (folder, _) = one_pair();
    let world = fronted(&folder, &Backend::named("S"), "");
    let mut line = Line::connect(&world, &Client::default().config(), "shop.test").unwrap();
    line.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(line.answer().unwrap().0, 200);
    let end = line.reader.read(&mut [0]).expect("close_notify before the end");
    assert_eq!(end, 0);
}

fn program(name: &str, arguments: &[&str], input: &str) -> String {
    let started = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.unwrap_or_else(|e| panic!("{name}: {e}; install the Debian package {name}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn curl_and_openssl_are_served() {
    let (folder, authority) = one_pair();
    std::fs::write(folder.0.join("ca.pem"), &authority.pem).unwrap();
    let world = fronted(&folder, &Backend::named("S"), "");
    let (ca, at) = (folder.path("ca.pem"), tls_of(&world));
    let (url, to) = (
        format!("https://shop.test:{}/", at.port()),
        format!("shop.test:{}:127.0.0.1", at.port()),
    );
    for (flags, told) in [
        (&["--http1.1", "--tls-max", "1.2"][..], "S 200 1.1"),
        (&["--http1.1"], "S 200 1.1"),
        (&["--http2"], "S 200 2"),
    ] {
        let common = [
            "-sS",
            "--cacert",
            &ca,
            "--resolve",
            &to,
            "-w",
            " %{http_code} %{http_version}",
            &url,
        ];
        assert_eq!(program("curl", &[flags, &common].concat(), ""), told, "{flags:?}");
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let session = folder.path(version);
        for (flag, told) in [("-sess_out", "New, TLSv1."), ("-sess_in", "Reused, TLSv1.")] {
            let at = at.to_string();
            let arguments = [
                "s_client",
                "-connect",
                &at,
                "-servername",
                "shop.test",
                "-CAfile",
                &ca,
                version,
                "-ign_eof",
                flag,
                &session,
            ];
            let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let out = program("openssl", &arguments, request);
            assert!(
                out.contains(told) && out.contains("200 OK"),
                "{version} {flag}: {out}"
            );
            assert!(out.contains("Verify return code: 0 (ok)"), "{out}");
        }
    }
}

#[test]
fn bad_files_are_faults_with_key_and_remedy() {
    let (folder, authority) = one_pair();
    authority.sign(&["other.test"]).write(&folder.0, "other");
    std::fs::copy(folder.0.join("other.key"), folder.0.join("mixed.key")).unwrap();
    std::fs::copy(folder.0.join("shop.crt"), folder.0.join("mixed.crt")).unwrap();
    std::fs::write(folder.0.join("empty.crt"), "").unwrap();
    std::fs::copy(folder.0.join("shop.key"), folder.0.join("empty.key")).unwrap();
    for (pair, key) in [
        ("missing", "proxy.tls.certificates[1].cert"),
        ("mixed", "proxy.tls.certificates[1].key"),
        ("empty", "proxy.tls.certificates[1].cert"),
    ] {
        let plan = secure(&folder, &["shop", pair], "").service("echo", &[nobody()], &[], &[]);
        let file = folder.0.join("serin.toml");
        std::fs::write(&file, plan.text()).unwrap();
        let refused = proxy::start(proxy::Options::new(&file, TOKEN))
            .err()
            .unwrap()
            .to_string();
        assert!(refused.contains(key), "{refused}");
        assert!(!refused.contains("PRIVATE KEY-----"), "{refused}");
    }
}

/// Names of files count from the folder of the file that names them.
#[test]
fn relative_names_count_from_the_files_folder() {
    let (folder, _) = one_pair();
    let text = secure(&folder, &["shop"], "")
        .service("echo", &[nobody()], &[], &[])
        .text();
    let text = text.replace(&format!("{}/", folder.0.display()), "");
    let file = folder.0.join("serin.toml");
    std::fs::write(&file, text).unwrap();
    let running = proxy::start(proxy::Options::new(&file, TOKEN)).unwrap();
    let tcp = TcpStream::connect(running.addresses().tls.unwrap()).unwrap();
    assert!(Line::over(tcp, &Client::default().config(), "shop.test").is_ok());
    drop(Arc::new(running));
}
