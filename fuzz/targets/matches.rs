//! `canary-match`: any text is a list of matches or of faults; a match never fails on any request.
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

fuzz_target!(|input: (&str, &[u8])| {
    let (text, target) = input;
    let annotations: Annotations = [(format!("{PREFIX}canary-match"), text.to_owned())].into();
    let Ok(canary) = Canary::parse(&annotations, PREFIX) else {
        return;
    };
    let Ok(rules) = Rules::compile(&canary, PREFIX) else {
        return;
    };
    let head = [b"GET /", target, b" HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n"].concat();
    if let Ok(Some((request, _))) = Request::parse(&Bytes::from(head)) {
        let once = choose(&rules, &request, [192, 0, 2, 1].into(), &mut Never);
        assert_eq!(once, choose(&rules, &request, [192, 0, 2, 1].into(), &mut Never));
    }
});
