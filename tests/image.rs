//! The image: one static binary, alone in an empty root that cannot be written, as nobody, with no capability.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{fs, path::PathBuf, process::Command};
use support::*;

/// Largest image, bytes.
const LIMIT: u64 = 20_000_000;

/// Makes its argument a read-only root, goes there, gives up every capability and every right to regain one, becomes
/// uid 65532, and runs the demo.
const JAIL: &str = r#"
import ctypes, os, subprocess, sys
root = sys.argv[1]
subprocess.check_call(["mount", "--bind", root, root])
subprocess.check_call(["mount", "-o", "remount,ro,bind", root])
libc = ctypes.CDLL(None, use_errno=True)
os.chroot(root)
os.chdir("/")
for capability in range(41):
    assert libc.prctl(24, capability, 0, 0, 0) == 0  # PR_CAPBSET_DROP
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
os.setgroups([])
os.setresgid(65532, 65532, 65532)
os.setresuid(65532, 65532, 65532)
try:
    open("/written", "w")
    sys.exit("the root can be written")
except OSError:
    pass
os.execve("/serin", ["/serin", "demo", "--plain"], {})
"#;

/// What the Dockerfile copies.
fn build() -> PathBuf {
    let built = shipped();
    let stripped = built.with_file_name("serin-stripped");
    assert!(
        Command::new("objcopy")
            .arg("--strip-all")
            .args([&built, &stripped])
            .status()
            .unwrap()
            .success()
    );
    stripped
}

#[test]
fn the_dockerfile_ships_what_is_tested() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Dockerfile")).unwrap();
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "the final stage is empty");
    assert_eq!(last.matches("\nCOPY ").count(), 1, "and holds one file");
    assert!(
        last.contains("USER 65532:65532")
            && text.contains("+crt-static")
            && text.contains("objcopy --strip-all")
    );
}

#[test]
fn the_demo_runs_alone_in_an_empty_root() {
    let binary = build();
    let size = fs::metadata(&binary).unwrap().len();
    println!("the image holds one file of {size} bytes");
    assert!(size < LIMIT, "{size}");
    let headers = Command::new("readelf").arg("-l").arg(&binary).output().unwrap();
    assert!(
        headers.status.success() && !stdout(&headers).contains("INTERP"),
        "it asks for a dynamic loader"
    );
    if !is_root() {
        println!("SKIPPED: the jail needs root (chroot, mount); the size was checked");
        return;
    }
    let scratch = Scratch::new();
    let root = scratch.path("root");
    fs::create_dir_all(&root).unwrap();
    fs::copy(&binary, root.join("serin")).unwrap();
    let out = Command::new("unshare")
        .args(["--mount", "python3", "-c", JAIL])
        .arg(&root)
        .output()
        .unwrap();
    println!("{}", stdout(&out));
    assert_eq!(out.status.code(), Some(0), "{}\n{}", stdout(&out), stderr(&out));
    assert!(stdout(&out).contains("PROMOTED"));
}

fn is_root() -> bool {
    stdout(&Command::new("id").arg("-u").output().unwrap()).trim() == "0"
}
