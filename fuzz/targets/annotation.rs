//! Annotations: any text is a rule that can be compiled, or a list of faults.
#![no_main]

use contract::annotations::{Annotations, Canary};
use libfuzzer_sys::fuzz_target;
use proxy::table::Rules;

const PREFIX: &str = "serin.dev/";

fuzz_target!(|text: &str| {
    // One annotation a line, without the prefix.
    let pairs = text.lines().filter_map(|l| l.split_once('='));
    let annotations: Annotations = pairs
        .map(|(k, v)| (format!("{PREFIX}{k}"), v.to_owned()))
        .collect();
    match Canary::parse(&annotations, PREFIX) {
        Ok(canary) => {
            assert_eq!(canary.hash(), canary.clone().hash());
            assert!((0.0..=1.0).contains(&canary.split.share()));
            let _ = Rules::compile(&canary, PREFIX);
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
});
