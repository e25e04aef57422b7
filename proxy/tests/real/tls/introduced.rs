//! The PROXY protocol in front: a load balancer says whose connection it passes on.

use super::{failures, one_pair, town::*};
use crate::world::*;
use std::{io::Write, net::TcpStream};

const FROM: &str = "PROXY TCP4 192.0.2.77 10.0.0.1 4000 443\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The same in the binary form, with a TLV behind the addresses.
fn binary(command: u8) -> Vec<u8> {
    let mut octets = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    octets.extend([
        command, 0x11, 0, 17, 192, 0, 2, 77, 10, 0, 0, 1, 15, 160, 1, 187, 4, 0, 2, 1, 2,
    ]);
    octets
}

fn world(lines: &str, backend: &Backend, canary: &[std::net::SocketAddr], more: &[(&str, &str)]) -> World {
    Plan::new()
        .set(lines)
        .service("echo", &[backend.address], canary, more)
        .start()
}

#[test]
fn the_inner_address_is_the_clients() {
    let backend = Backend::named("S");
    let world = world("proxyProtocol = \"any\"", &backend, &[], &[]);
    for (header, client) in [
        (FROM.as_bytes().to_vec(), "192.0.2.77"),
        (binary(0x21), "192.0.2.77"),
        (binary(0x20), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY TCP6 2001:db8::5 ::1 4000 443\r\n".to_vec(), "2001:db8::5"),
    ] {
        let mut wire = world.client();
        // In pieces, and then with the request in one.
        let (last, but_last) = header.split_last().unwrap();
        for octet in but_last {
            wire.send([*octet]);
        }
        wire.send([&[*last], GET.as_bytes()].concat());
        assert_eq!(wire.message(false).unwrap().text(), "S");
        assert_eq!(backend.last().header("x-forwarded-for"), Some(client));
        assert_eq!(wire.ask(GET).text(), "S", "once a connection");
    }
    assert_eq!(failures(&world, "proxy_protocol"), 0.0);
}

#[test]
fn matches_see_the_inner_address() {
    let (stable, canary) = (Backend::named("S"), Backend::named("C"));
    let rule = r#"[{"sourceIPs":["192.0.2.0/24"]}]"#;
    let world = world(
        "proxyProtocol = \"v1\"",
        &stable,
        &[canary.address],
        &[("canary-match", rule)],
    );
    for (header, served) in [(FROM, "C"), ("PROXY UNKNOWN\r\n", "S")] {
        assert_eq!(world.client().ask(&format!("{header}{GET}")).text(), served);
    }
}

#[test]
fn without_a_good_header_there_is_no_http() {
    let backend = Backend::named("S");
    for (wanted, bad) in [
        (
            "v1",
            vec![
                GET.as_bytes().to_vec(),
                binary(0x21),
                b"PROXY TCP4 x y 1 2\r\n".to_vec(),
            ],
        ),
        (
            "v2",
            vec![GET.as_bytes().to_vec(), FROM.as_bytes().to_vec(), binary(0x33)],
        ),
    ] {
        let world = world(&format!("proxyProtocol = \"{wanted}\""), &backend, &[], &[]);
        for (i, header) in bad.iter().enumerate() {
            let mut wire = world.client();
            wire.send(header);
            wire.send(GET);
            assert!(wire.is_closed(), "{wanted} {i}");
            eventually("counted", || failures(&world, "proxy_protocol") == i as f64 + 1.0);
        }
        // Who only looks whether the port is open does nothing wrong.
        drop(world.client());
    }
    assert_eq!(backend.hits(), 0);
}

#[test]
fn a_header_has_a_deadline() {
    let backend = Backend::named("S");
    let world = world(
        "proxyProtocol = \"any\"\nheaderTimeout = \"300ms\"",
        &backend,
        &[],
        &[],
    );
    let mut wire = world.client();
    wire.send("PROXY TCP4 192.0");
    assert!(wire.is_closed());
    eventually("counted", || failures(&world, "proxy_protocol") == 1.0);
}

#[test]
fn only_trusted_proxies_may_introduce() {
    let backend = Backend::named("S");
    let lines = "proxyProtocol = \"v1\"\ntrustedProxies = [\"10.0.0.0/8\"]";
    let stranger = world(lines, &backend, &[], &[]);
    let mut wire = stranger.client();
    wire.send(FROM);
    assert!(wire.is_closed());
    eventually("counted", || failures(&stranger, "proxy_protocol") == 1.0);
    let friend = world(&lines.replace("10.0.0.0/8", "127.0.0.1"), &backend, &[], &[]);
    assert_eq!(friend.client().ask(&format!("{FROM}{GET}")).text(), "S");
    assert_eq!(backend.last().header("x-forwarded-for"), Some("192.0.2.77"));
}

#[test]
fn the_header_comes_before_the_handshake() {
    let (folder, _) = one_pair();
    let backend = Backend::named("S");
    let mut plan = secure(&folder, &["shop"], "");
    plan.proxy = format!("proxyProtocol = \"any\"\n{}", plan.proxy);
    let world = plan.service("echo", &[backend.address], &[], &[]).start();
    let config = Client::default().config();
    let mut tcp = TcpStream::connect(tls_of(&world)).unwrap();
    tcp.write_all(&binary(0x21)).unwrap();
    let mut line = Line::over(tcp, &config, "shop.test").unwrap();
    assert_eq!(line.get("/").unwrap().2, b"S");
    assert_eq!(backend.last().header("x-forwarded-for"), Some("192.0.2.77"));
    assert!(Line::connect(&world, &config, "shop.test").is_err());
}
