//! Overload: a worker that gets no time sheds what is new, and takes everybody again when it has time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};
use support::{Process, SERIN, Scratch, app, free_ports, get, loopback, until};

/// Stops a process for most of the time: of 610 ms it has about ten.
const STARVE: &str = "while kill -STOP $0; do sleep 0.6; kill -CONT $0; sleep 0.01; done 2>/dev/null; exit 0";
const CLIENTS: usize = 8;

/// A worker that refuses from 100 ms on, with a backend.
struct Scene {
    proxy: Process,
    _app: Process,
    _scratch: Scratch,
    listen: SocketAddr,
    signals: SocketAddr,
}

impl Scene {
    fn start() -> Scene {
        let scratch = Scratch::new();
        let [listen, signals, admin, backend] = free_ports();
        let app = app(backend, "v1.0.0", &[]);
        let file = scratch.path("serin.toml");
        let text = format!(
            "[proxy]\nlisten = \"127.0.0.1:{listen}\"\nsignals = \"127.0.0.1:{signals}\"\nadmin = \"127.0.0.1:{admin}\"\nworkers = 1\n\
             limits.shedLateness = \"100ms\"\n[[service]]\nname = \"echo\"\nstable.endpoints = [\"127.0.0.1:{backend}\"]\n"
        );
        fs::write(&file, text).unwrap();
        let proxy = Process::start(
            Command::new(SERIN)
                .args(["proxy", "-f"])
                .arg(&file)
                .current_dir(&scratch.0),
        );
        let scene = Scene {
            proxy,
            _app: app,
            _scratch: scratch,
            listen: loopback(listen),
            signals: loopback(signals),
        };
        until("it serves", Duration::from_secs(10), || {
            get(scene.listen, "/").filter(|a| a.status == 200)
        });
        scene
    }

    fn metric(&self, part: &str) -> f64 {
        let page = get(self.signals, "/metrics").unwrap().body;
        let lines = page.lines().filter(|l| !l.starts_with('#') && l.contains(part));
        lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// What clients got.
#[derive(Default)]
struct Tally {
    served: AtomicU64,
    shed: AtomicU64,
}

/// Asks on one connection until it is told to stop; a refusal closes no connection, and says what it is.
fn ask(to: SocketAddr, tally: &Tally, stop: &AtomicBool) {
    let mut reader = BufReader::new(TcpStream::connect(to).unwrap());
    while !stop.load(SeqCst) {
        let stream = reader.get_mut();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let (status, head) = answer(&mut reader);
        match status {
            200 => tally.served.fetch_add(1, SeqCst),
            503 => {
                assert_eq!(head["x-serin-error"], "shed");
                assert_eq!(head["retry-after"], "1");
                tally.shed.fetch_add(1, SeqCst)
            }
            other => panic!("{other}: {head:?}"),
        };
    }
}

fn answer(reader: &mut BufReader<TcpStream>) -> (u16, BTreeMap<String, String>) {
    let mut lines = reader.by_ref().lines().map(Result::unwrap);
    let status = lines
        .next()
        .expect("an answer")
        .split(' ')
        .nth(1)
        .unwrap()
        .parse();
    let fields = lines.take_while(|l| !l.is_empty());
    let fields = fields.map(|l| {
        l.split_once(": ")
            .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
            .unwrap()
    });
    let head: BTreeMap<_, _> = fields.collect();
    let mut body = vec![0; head["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (status.unwrap(), head)
}

#[test]
fn a_worker_without_time_sheds_and_recovers() {
    let scene = Scene::start();
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let shed = |scene: &Scene| scene.metric("kind=\"shed\"");
    assert_eq!(shed(&scene), 0.0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(scene.listen, &tally, &stop));
        }
        let calm = Duration::from_millis(1500);
        thread::sleep(calm);
        let before = tally.shed.load(SeqCst);
        let pid = scene.proxy.pid().to_string();
        let starving = Process::start(Command::new("sh").args(["-c", STARVE, &pid]));
        until("requests are shed", Duration::from_secs(60), || {
            (tally.shed.load(SeqCst) >= 10).then_some(())
        });
        drop(starving);
        scene.proxy.signal("CONT");
        println!(
            "{} served, {} shed",
            tally.served.load(SeqCst),
            tally.shed.load(SeqCst)
        );
        assert_eq!(before, 0, "load alone is no reason");
        // Down by a tenth each second from what it has become.
        until("nobody is refused for a second", Duration::from_secs(20), || {
            let shed = tally.shed.load(SeqCst);
            thread::sleep(Duration::from_secs(1));
            (tally.shed.load(SeqCst) == shed).then_some(())
        });
        stop.store(true, SeqCst);
    });
    assert_eq!(shed(&scene), tally.shed.load(SeqCst) as f64);
    let served = tally.served.load(SeqCst) as f64;
    let counted = scene.metric("serin_requests_total{");
    assert_eq!(counted, served + 1.0, "what is shed belongs to no track");
}
