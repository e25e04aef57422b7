//! A receiver of notifications that can be unwell.

use ring::hmac;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// More than anybody waits.
const LONGER: Duration = Duration::from_secs(30);

/// What a receiver has got and taken.
#[derive(Clone, Debug)]
pub struct Got {
    pub id: String,
    pub sequence: u64,
    pub timestamp: u64,
    pub signature: String,
    pub body: String,
}

/// A receiver that can be unwell.
#[derive(Clone, Default)]
pub struct Receiver {
    taken: Arc<Mutex<Vec<Got>>>,
    pub asked: Arc<AtomicU32>,
    /// 0: well; 1: answers 500; 2: answers after a second; 3: never answers.
    pub ill: Arc<AtomicU32>,
}

impl Receiver {
    pub fn serve(&self, listener: TcpListener) {
        let me = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let me = me.clone();
                std::thread::spawn(move || me.answer(stream));
            }
        });
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            head.push(line.trim_end().to_owned());
            line.clear();
        }
        let header = |name: &str| {
            let found = head.iter().find_map(|l| {
                let (key, value) = l.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            });
            found.unwrap_or_default()
        };
        let mut body = vec![0; header("content-length").parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let status = match self.ill.load(Ordering::SeqCst) {
            1 => "500 Oops",
            2 => {
                std::thread::sleep(Duration::from_secs(1)); // it is slow
                "200 OK"
            }
            3 => {
                std::thread::sleep(LONGER); // longer than anybody waits
                return None;
            }
            _ => "200 OK",
        };
        if status == "200 OK" {
            self.taken.lock().unwrap().push(Got {
                id: header("x-serin-id"),
                sequence: header("x-serin-sequence").parse().ok()?,
                timestamp: header("x-serin-timestamp").parse().ok()?,
                signature: header("x-serin-signature"),
                body: String::from_utf8(body).ok()?,
            });
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        reader.get_mut().write_all(answer.as_bytes()).ok()
    }

    pub fn taken(&self) -> Vec<Got> {
        self.taken.lock().unwrap().clone()
    }
}

/// The signature covers time and body, and the time is now.
pub fn verify(got: &Got, key: &str) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let text = got.signature.strip_prefix("sha256=").unwrap();
    let tag: Vec<u8> = (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let signed = format!("{}.{}", got.timestamp, got.body);
    hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature covers time and body");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(got.timestamp) < 60);
}
