//! A real browser (Chromium by playwright-core) that looks at the page: `tests/page/browse.mjs` has the tours.

use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

/// The package that drives the browser, installed beside what is built.
const PACKAGE: &str = "playwright-core@1.65.1";

/// A browser on a tour.
pub struct Tour {
    child: Child,
    lines: BufReader<ChildStdout>,
    name: String,
}

/// Where screenshots go.
pub fn target() -> PathBuf {
    let root = env!("CARGO_MANIFEST_DIR");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    PathBuf::from(target).join("page")
}

/// The folder with the browser's driver.
pub fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = target().join(PACKAGE);
        if !folder.join("node_modules/playwright-core/package.json").exists() {
            std::fs::create_dir_all(&folder).unwrap();
            let installed = Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder)
                .arg(PACKAGE)
                .output()
                .expect("npm is needed (Debian: npm)");
            assert!(
                installed.status.success(),
                "npm cannot install {PACKAGE}: {}",
                String::from_utf8_lossy(&installed.stderr)
            );
        }
        folder
    })
}

fn browser() -> String {
    let found = Command::new("sh")
        .args(["-c", "command -v chromium"])
        .output()
        .unwrap();
    assert!(found.status.success(), "chromium is needed (Debian: chromium)");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
}

impl Tour {
    /// Of the name in `given`, which has what the tour must know.
    pub fn start(mut given: Value) -> Tour {
        let name = given["tour"].as_str().unwrap().to_owned();
        given["packages"] = packages().display().to_string().into();
        given["browser"] = browser().into();
        given["out"] = target().display().to_string().into();
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/browse.mjs"))
            .arg(given.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed (Debian: nodejs)");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Tour { child, lines, name }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then(|| serde_json::from_str(&line).expect(&line))
    }

    /// Waits until it tells this.
    pub fn until(&mut self, key: &str, value: &str) {
        while let Some(told) = self.next() {
            println!("{}: {told}", self.name);
            if told[key] == value {
                return;
            }
        }
        panic!("{}: the tour ended before {key} {value}", self.name);
    }

    /// What it has found.
    pub fn end(mut self) -> Value {
        let mut last = Value::Null;
        while let Some(told) = self.next() {
            println!("{}: {told}", self.name);
            last = told;
        }
        assert!(self.child.wait().unwrap().success(), "{}: {last:#}", self.name);
        let text = std::fs::read_to_string(target().join(format!("{}.json", self.name))).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
