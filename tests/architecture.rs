//! The arrows between the rooms, as `ARCHITECTURE.md` draws them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use std::{collections::BTreeSet, process::Command};

/// Who may depend on whom, inside the workspace.
const ARROWS: [(&str, &[&str]); 7] = [
    ("serin", &["controller", "proxy"]),
    ("proxy", &["contract"]),
    ("controller", &["contract", "engine", "stats"]),
    ("engine", &["contract", "stats"]),
    ("stats", &[]),
    ("contract", &[]),
    // Of the tests only: it plays the world outside.
    ("cluster", &[]),
];

/// What the pure rooms may never see, at any depth.
const IMPURE: [&str; 8] = [
    "tokio",
    "hyper",
    "kube",
    "mio",
    "socket2",
    "reqwest",
    "notify",
    "hyper-util",
];

fn metadata() -> serde_json::Value {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--filter-platform=x86_64-unknown-linux-gnu",
            "--locked",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

fn normal_dependencies(package: &serde_json::Value) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap();
    all.iter()
        .filter(|d| d["kind"].is_null())
        .map(|d| d["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_rooms_depend_on_each_other_as_drawn() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let members = metadata["workspace_members"].as_array().unwrap();
    assert_eq!(
        members.len(),
        rooms.len(),
        "a room without arrows: add it to ARROWS and to ARCHITECTURE.md"
    );
    for (room, allowed) in ARROWS {
        let package = packages
            .iter()
            .find(|p| p["name"] == room && members.contains(&p["id"]))
            .unwrap_or_else(|| panic!("no crate {room}"));
        let drawn: BTreeSet<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        let real: BTreeSet<String> = normal_dependencies(package)
            .into_iter()
            .filter(|d| rooms.contains(d.as_str()))
            .collect();
        assert_eq!(real, drawn, "arrows of {room}");
    }
}

/// Every crate that a room is built with, at any depth, tests apart.
fn built_with(room: &str) -> BTreeSet<String> {
    let args = [
        "tree",
        "--edges=normal",
        "--prefix=none",
        "--format={p}",
        "--locked",
        "--offline",
        "--package",
        room,
    ];
    let out = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines()
        .filter_map(|l| l.split(' ').next())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_pure_rooms_see_no_clock_no_socket_and_no_chance() {
    for room in ["stats", "engine", "contract"] {
        let names = built_with(room);
        assert!(names.contains("serde"), "{names:?}");
        for banned in IMPURE {
            assert!(!names.contains(banned), "{room} sees {banned}");
        }
    }
}
