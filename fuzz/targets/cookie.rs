//! Cookies: whatever stands in them, a request is decided, and every time alike.
#![no_main]

use bytes::Bytes;
use contract::{
    Split,
    annotations::{Annotations, Canary},
};
use libfuzzer_sys::fuzz_target;
use proxy::{
    choose::{Dice, choose},
    table::Rules,
    wire::request::Request,
};
use std::sync::LazyLock;

const PREFIX: &str = "serin.dev/";

/// Never the canary by chance.
struct Never;

impl Dice for Never {
    fn draw(&mut self, _: Split) -> bool {
        false
    }
    fn identity(&mut self) -> u64 {
        7
    }
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let annotations: Annotations = [
        ("canary-by-cookie", "c"),
        ("canary-cohort", "cookie"),
        ("canary-weight", "50"),
    ]
    .map(|(k, v)| (format!("{PREFIX}{k}"), v.to_owned()))
    .into();
    let canary = Canary::parse(&annotations, PREFIX).expect("good annotations");
    Rules::compile(&canary, PREFIX).expect("good rules")
});

fuzz_target!(|cookies: Vec<&[u8]>| {
    let mut head = b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec();
    for cookie in cookies {
        head.extend([b"cookie: ", cookie, b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    if let Ok(Some((request, _))) = Request::parse(&Bytes::from(head)) {
        let once = choose(&RULES, &request, [192, 0, 2, 1].into(), &mut Never);
        assert_eq!(once, choose(&RULES, &request, [192, 0, 2, 1].into(), &mut Never));
    }
});
