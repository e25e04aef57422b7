//! Endpoints that are host names: a name server of the test's own says where they are.

use crate::world::*;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, RData},
};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// What is said of a name.
#[derive(Clone, Debug)]
enum Answer {
    /// These addresses, with this TTL in seconds.
    At(Vec<IpAddr>, u32),
    /// The same, by TCP only.
    Long(Vec<IpAddr>, u32),
    /// The same, through an alias with a TTL of its own.
    Alias(Vec<IpAddr>, u32),
    /// That there is no such name, or that the server cannot say.
    Code(RCODE),
    /// Nothing.
    Silence,
    /// No DNS.
    Noise,
}

/// A question: the name, whether it is for IPv6 addresses, when it came.
type Asked = (String, bool, Instant);

/// A name server on loopback.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn start(answers: &[(&str, Answer)]) -> Server {
        let open = || {
            let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
            let address = tcp.local_addr().ok()?;
            Some((UdpSocket::bind(address).ok()?, tcp, address))
        };
        let (udp, tcp, address) = (0..100).find_map(|_| open()).expect("a port for UDP and TCP");
        let answers = answers.iter().map(|(n, a)| ((*n).to_owned(), a.clone()));
        let server = Server {
            address,
            answers: Arc::new(Mutex::new(answers.collect())),
            asked: Arc::default(),
        };
        let (by_udp, by_tcp) = (server.clone(), server.clone());
        thread::spawn(move || by_udp.datagrams(&udp));
        thread::spawn(move || tcp.incoming().flatten().for_each(|s| by_tcp.stream(s)));
        server
    }

    fn datagrams(&self, udp: &UdpSocket) {
        let mut room = [0; 512];
        while let Ok((n, from)) = udp.recv_from(&mut room) {
            if let Some(answer) = self.answer(&room[..n], false) {
                udp.send_to(&answer, from).unwrap();
            }
        }
    }

    fn stream(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut room = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut room).unwrap();
        let answer = self.answer(&room, true).unwrap();
        // In parts, as it may come.
        for part in [
            &(answer.len() as u16).to_be_bytes()[..],
            &answer[..7],
            &answer[7..],
        ] {
            stream.write_all(part).unwrap();
        }
    }

    fn answer(&self, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let query = Packet::parse(query).expect("a question");
        let question = &query.questions[0];
        let (name, six) = (
            question.qname.to_string(),
            question.qtype == QTYPE::TYPE(TYPE::AAAA),
        );
        self.asked
            .lock()
            .unwrap()
            .push((name.clone(), six, Instant::now()));
        let answer = self.answers.lock().unwrap().get(&name).cloned();
        let mut reply = Packet::new_reply(query.id());
        reply.questions.push(question.clone());
        match answer.unwrap_or(Answer::Code(RCODE::NameError)) {
            Answer::At(all, ttl) => records(&mut reply, &name, &all, ttl, six),
            Answer::Long(all, ttl) if tcp => records(&mut reply, &name, &all, ttl, six),
            Answer::Long(..) => reply.set_flags(PacketFlag::TRUNCATION),
            Answer::Alias(all, ttl) => {
                let alias = RData::CNAME(CNAME(Name::new("behind.test").unwrap()));
                let name = Name::new(&name).unwrap().into_owned();
                reply
                    .answers
                    .push(ResourceRecord::new(name, CLASS::IN, ttl, alias));
                records(&mut reply, "behind.test", &all, 3600, six);
            }
            Answer::Code(code) => *reply.rcode_mut() = code,
            Answer::Silence => return None,
            Answer::Noise => return Some([&query.id().to_be_bytes()[..], b"\x81\x80nonsense"].concat()),
        }
        Some(reply.build_bytes_vec_compressed().unwrap())
    }

    fn say(&self, name: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(name.to_owned(), answer);
    }

    /// Times between the questions for the IPv4 addresses of a name.
    fn pauses(&self, name: &str) -> Vec<Duration> {
        let asked = self.asked.lock().unwrap();
        let times = asked.iter().filter(|(n, six, _)| n == name && !six);
        let times: Vec<_> = times.map(|(.., at)| *at).collect();
        times.windows(2).map(|w| w[1] - w[0]).collect()
    }

    /// The questions so far: names, and `6` behind those for IPv6.
    fn questions(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let each = asked
            .iter()
            .map(|(n, six, _)| format!("{n}{}", if *six { " 6" } else { "" }));
        each.collect()
    }
}

fn records(reply: &mut Packet<'_>, name: &str, all: &[IpAddr], ttl: u32, six: bool) {
    for address in all.iter().filter(|a| a.is_ipv6() == six) {
        let data = match address {
            IpAddr::V4(a) => RData::A(A { address: (*a).into() }),
            IpAddr::V6(a) => RData::AAAA(AAAA { address: (*a).into() }),
        };
        let name = Name::new(name).unwrap().into_owned();
        reply
            .answers
            .push(ResourceRecord::new(name, CLASS::IN, ttl, data));
    }
}

/// Loopback addresses by their last numbers.
fn at(last: &[u8], ttl: u32) -> Answer {
    Answer::At(last.iter().map(|n| [127, 0, 0, *n].into()).collect(), ttl)
}

/// A world whose services are named like their hosts; stable is at these endpoints.
fn world(dns: &str, services: &[(&str, String)]) -> World {
    let mut plan = Plan::new().set(&format!("[proxy.dns]\n{dns}"));
    for (host, endpoint) in services {
        plan.services += &format!(
            "[[service]]\nname = \"{host}\"\nhosts = [\"{host}.front\"]\nstable.endpoints = [\"{endpoint}\"]\n"
        );
    }
    plan.start()
}

fn ask(client: &mut Wire, host: &str, path: &str) -> Message {
    client.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}.front\r\n\r\n"))
}

#[test]
fn a_name_is_looked_up_when_its_ttl_has_ended_and_not_before() {
    let backends: [Backend; 2] = Backend::on_one_port();
    let port = backends[0].address.port();
    let alias = Answer::Alias(vec![[127, 0, 0, 2].into()], 2);
    let names = [
        ("two", at(&[2], 2)),
        ("none", at(&[2], 0)),
        ("day", at(&[2], 86_400)),
        ("alias", alias),
    ];
    let named: Vec<_> = names.iter().map(|(n, _)| format!("{n}.test")).collect();
    let answers = named
        .iter()
        .zip(&names)
        .map(|(n, (_, a))| (n.as_str(), a.clone()));
    let server = Server::start(&answers.collect::<Vec<_>>());
    let services: Vec<_> = names
        .iter()
        .map(|(n, _)| (*n, format!("{n}.test:{port}")))
        .collect();
    let world = world(
        &format!("servers = [\"{}\"]\nmaxTtl = \"3s\"", server.address),
        &services,
    );
    let mut client = world.client();
    assert_eq!(ask(&mut client, "two", "/").text(), "2");
    server.say("two.test", at(&[3], 2));
    let start = Instant::now();
    while ask(&mut client, "two", "/").text() == "2" {
        assert!(
            server.pauses("two.test").len() < 2,
            "the change was seen and not taken"
        );
        thread::sleep(Duration::from_millis(1));
    }
    assert!(
        start.elapsed() > Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    eventually("two rounds of each", || {
        named.iter().all(|n| server.pauses(n).len() >= 2)
    });
    for (name, seconds) in [
        ("two.test", 2.0),
        ("none.test", 1.0),
        ("day.test", 3.0),
        ("alias.test", 2.0),
    ] {
        let pauses = server.pauses(name);
        println!("{name}: {pauses:?}");
        for pause in pauses.iter().map(Duration::as_secs_f64) {
            assert!(
                pause > seconds - 0.05 && pause < seconds + 0.9,
                "{name}: {pauses:?}"
            );
        }
    }
    assert!(
        server.questions().iter().all(|q| !q.ends_with('6')),
        "IPv4 was enough"
    );
    assert!(world.metric(&["serin_dns_lookups_total", "found"]) >= 9.0);
    assert_eq!(world.metric(&["serin_dns_lookups_total", "failed"]), 0.0);
}

#[test]
fn a_failed_lookup_keeps_the_last_addresses_and_is_counted() {
    let backends: [Backend; 2] = Backend::on_one_port();
    let port = backends[0].address.port();
    let bad = [
        ("nxdomain", Answer::Code(RCODE::NameError)),
        ("servfail", Answer::Code(RCODE::ServerFailure)),
        ("refused", Answer::Code(RCODE::Refused)),
        ("empty", at(&[], 1)),
        ("silence", Answer::Silence),
        ("noise", Answer::Noise),
    ];
    let full = |n: &str| format!("{n}.test");
    let server = Server::start(&[]);
    bad.iter().for_each(|(n, _)| server.say(&full(n), at(&[2], 1)));
    let folder = std::env::temp_dir().join(format!("serin-resolv-{}", std::process::id()));
    fs::write(&folder, "options timeout:1 attempts:1\n").unwrap();
    let services: Vec<_> = bad
        .iter()
        .map(|(n, _)| (*n, format!("{n}.test:{port}")))
        .collect();
    let dns = format!("servers = [\"{}\"]\nresolvConf = {folder:?}", server.address);
    let world = world(&dns, &services);
    let mut client = world.client();
    bad.iter()
        .for_each(|(n, answer)| server.say(&full(n), answer.clone()));
    let stale = |n: usize| world.metric(&["serin_dns_stale_names"]) == n as f64;
    eventually("all have failed", || stale(bad.len()));
    assert!(world.metric(&["serin_dns_lookups_total", "failed"]) >= bad.len() as f64);
    for (name, _) in &bad {
        let answer = ask(&mut client, name, "/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "2"), "{name}");
    }
    bad.iter().for_each(|(n, _)| server.say(&full(n), at(&[3], 1)));
    eventually("all are found again", || stale(0));
    for (name, _) in &bad {
        assert_eq!(ask(&mut client, name, "/").text(), "3", "{name}");
    }
    fs::remove_file(folder).unwrap();
}

#[test]
fn a_server_that_is_silent_at_the_start_holds_up_nobody_else() {
    let backends: [Backend; 1] = Backend::on_one_port();
    let port = backends[0].address.port();
    let server = Server::start(&[("late.test", Answer::Silence)]);
    let start = Instant::now();
    let world = world(
        &format!("servers = [\"{}\"]", server.address),
        &[
            ("late", format!("late.test:{port}")),
            ("plain", format!("127.0.0.2:{port}")),
        ],
    );
    let mut client = world.client();
    assert_eq!(ask(&mut client, "plain", "/").text(), "2");
    assert_eq!(ask(&mut client, "late", "/").status(), 503);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    server.say("late.test", at(&[2], 1));
    let found = || ask(&mut world.client(), "late", "/").status() == 200;
    eventually("it is found", found);
}

#[test]
fn addresses_change_under_load_and_nobody_notices() {
    let backends: [Backend; 3] = Backend::on_one_port();
    let port = backends[0].address.port();
    let server = Server::start(&[("db.test", at(&[2], 0))]);
    let dns = format!("servers = [\"{}\"]\nminTtl = \"100ms\"", server.address);
    let world = world(&dns, &[("db", format!("db.test:{port}"))]);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let failed = thread::scope(|scope| {
        let load = |path: &'static str| {
            let (world, stop, sent) = (&world, &stop, &sent);
            scope.spawn(move || {
                let (mut client, mut failed) = (world.client(), 0);
                while !stop.load(Ordering::SeqCst) {
                    failed += u64::from(ask(&mut client, "db", path).status() != 200);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                failed
            })
        };
        let clients = [load("/"), load("/"), load("/slow"), load("/slow")];
        for (i, set) in [
            &[3][..],
            &[2],
            &[2, 3, 4],
            &[4],
            &[3, 4],
            &[2],
            &[3],
            &[4],
            &[2, 4],
            &[3],
        ]
        .iter()
        .enumerate()
        {
            let before = backends.each_ref().map(Backend::hits);
            server.say("db.test", at(set, 0));
            eventually("all of the new ones serve", || {
                set.iter()
                    .all(|n| backends[usize::from(*n) - 2].hits() > before[usize::from(*n) - 2] + 5)
            });
            println!("{i}: {set:?}");
        }
        stop.store(true, Ordering::SeqCst);
        clients.map(|c| c.join().unwrap()).iter().sum::<u64>()
    });
    println!("{} requests", sent.load(Ordering::SeqCst));
    assert_eq!(failed, 0, "of {}", sent.load(Ordering::SeqCst));
    let quiet = || {
        let before = backends[0].hits() + backends[2].hits();
        (0..20).all(|_| ask(&mut world.client(), "db", "/").text() == "3")
            && backends[0].hits() + backends[2].hits() == before
    };
    eventually("those that have gone get nothing new", quiet);
    assert_eq!(world.metric(&["serin_failures_total", "backend"]), 0.0);
}

#[test]
fn names_are_found_as_users_expect() {
    let backends: [Backend; 2] = Backend::on_one_port();
    let port = backends[0].address.port();
    let six = TcpListener::bind(SocketAddr::new("::1".parse().unwrap(), port)).expect("IPv6 on loopback");
    thread::spawn(move || {
        for stream in six.incoming().flatten() {
            let mut wire = Wire::new(stream);
            if wire.message(false).is_some() {
                wire.send(ok("six"));
            }
        }
    });
    let v6: IpAddr = "::1".parse().unwrap();
    let server = Server::start(&[
        ("db.shop.test", at(&[2], 60)),
        ("db.other.test", at(&[3], 60)),
        ("many.dots.test", at(&[3], 60)),
        ("long.test", Answer::Long(vec![[127, 0, 0, 3].into()], 60)),
        ("six.test", Answer::At(vec![v6], 60)),
        ("both.test", Answer::At(vec![v6, [127, 0, 0, 2].into()], 60)),
        ("hosted.test", at(&[2], 60)),
    ]);
    let folder = std::env::temp_dir().join(format!("serin-names-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (resolv, hosts) = (folder.join("resolv.conf"), folder.join("hosts"));
    fs::write(
        &resolv,
        "search none.test shop.test other.test\noptions ndots:2 timeout:1\n",
    )
    .unwrap();
    fs::write(&hosts, "127.0.0.3 Hosted.test # it wins\n").unwrap();
    // The first server is dead; the second one answers.
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dns = format!(
        "servers = [\"{dead}\", \"{}\"]\nresolvConf = {resolv:?}\nhosts = {hosts:?}",
        server.address
    );
    let expected = [
        ("db", "db", "2"),
        ("dots", "many.dots.test", "3"),
        ("full", "db.other.test.", "3"),
        ("long", "long.test", "3"),
        ("six", "six.test", "six"),
        ("both", "both.test", "2"),
        ("hosted", "hosted.test", "3"),
    ];
    let services: Vec<_> = expected
        .iter()
        .map(|(s, n, _)| (*s, format!("{n}:{port}")))
        .collect();
    let world = world(&dns, &services);
    for (service, name, text) in expected {
        assert_eq!(ask(&mut world.client(), service, "/").text(), text, "{name}");
    }
    let asked = server.questions();
    for never in ["hosted.test", "db", "both.test 6", "db.other.test.shop.test"] {
        assert!(!asked.iter().any(|q| q == never), "{never} in {asked:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}
