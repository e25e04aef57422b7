//! `k8s/crd/crd.yaml` is what the code says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use std::{path::Path, process::Command};

#[test]
fn the_manifest_is_the_one_of_this_code() {
    let made = Command::new(env!("CARGO_BIN_EXE_serin"))
        .arg("crd")
        .output()
        .unwrap();
    assert!(made.status.success());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s/crd/crd.yaml");
    let kept = std::fs::read_to_string(file).unwrap();
    let same = kept == String::from_utf8(made.stdout).unwrap();
    assert!(
        same,
        "k8s/crd/crd.yaml is not what the code says; run `serin crd > k8s/crd/crd.yaml`"
    );
}
