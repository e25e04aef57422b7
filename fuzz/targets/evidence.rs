//! Pages of evidence, which the controller reads: any octets are a page or a fault; a page that was read is written
//! and read again as the same.
#![no_main]

use contract::evidence::Page;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Ok(page) = serde_json::from_slice::<Page>(octets) else {
        return;
    };
    let text = serde_json::to_vec(&page).expect("a page is JSON");
    let again: Page = serde_json::from_slice(&text).expect("our own words are understood");
    assert_eq!(serde_json::to_vec(&again).expect("a page is JSON"), text);
});
