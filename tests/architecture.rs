//! The arrows between the rooms, as `ARCHITECTURE.md` draws them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use std::{collections::BTreeSet, process::Command};

/// Who may depend on whom, inside the workspace.
const ARROWS: [(&str, &[&str]); 6] = [
    ("serin", &["controller", "proxy"]),
    ("proxy", &["contract"]),
    ("controller", &["contract", "engine", "stats"]),
    ("engine", &["contract", "stats"]),
    ("stats", &[]),
    ("contract", &[]),
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

#[test]
fn the_pure_rooms_see_no_clock_no_socket_and_no_chance() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let id_of = |room: &str| {
        let packages = metadata["packages"].as_array().unwrap();
        packages
            .iter()
            .find(|p| p["name"] == room && p["source"].is_null())
            .unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for room in ["stats", "engine", "contract"] {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![id_of(room)]);
        while let Some(id) = todo.pop() {
            if !seen.insert(id.clone()) {
                continue;
            }
            let node = nodes.iter().find(|n| n["id"] == id.as_str()).unwrap();
            let normal = |d: &&serde_json::Value| {
                d["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|k| k["kind"].is_null())
            };
            todo.extend(
                node["deps"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(normal)
                    .map(|d| d["pkg"].as_str().unwrap().to_owned()),
            );
        }
        let names: BTreeSet<&str> = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|p| seen.contains(p["id"].as_str().unwrap()))
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        for banned in IMPURE.iter().chain(if room == "contract" {
            &[][..]
        } else {
            &["rand"][..]
        }) {
            assert!(!names.contains(banned), "{room} sees {banned}");
        }
    }
}
