//! A network of one's own for a test: its own loopback, ports, addresses and process ids, and nothing left behind.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Set in the inner process.
const INSIDE: &str = "SERIN_OWN_NETWORK";
/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);
const REMEDY: &str = "cluster tests run in a network of their own; allow unprivileged user namespaces \
    (`sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`) or run as root, \
    and install util-linux (`unshare`) and iproute2 (`ip`)";

/// Runs `body` in a network of its own: the test binary starts itself once more inside new user, network, mount and
/// process namespaces, with this one test.
///
/// `test` is the name of the calling `#[test]`, with its modules. With `SERIN_CLUSTER_KUBECONFIG` set the cluster is
/// elsewhere and the body runs where it is.
///
/// # Panics
/// When the body fails, when the name is not that of a test, when namespaces are refused, or after five minutes.
pub fn own_network(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|t| t == test) || super::foreign().is_some() {
        return body();
    }
    let output = inner(test);
    let passed = output
        .iter()
        .any(|line| line.starts_with("test result: ok. 1 passed"));
    assert!(
        passed,
        "{test} did not pass in its own network; {}",
        if output.iter().any(|line| line.contains("unshare: ")) {
            REMEDY
        } else {
            "its output is above"
        }
    );
}

/// Runs the test inside and passes its output on, line by line.
fn inner(test: &str) -> Vec<String> {
    let (reader, writer) = std::io::pipe().unwrap();
    let both = writer.try_clone().unwrap();
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
        ])
        .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            test,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(both);
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run unshare: {e}; {REMEDY}"));
    // The command holds the pipe's other end: reading would never end.
    drop(command);
    let (done, ended) = mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        let late = ended
            .recv_timeout(LIMIT)
            .is_err_and(|e| e == mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = child.kill();
        }
        let _ = child.wait();
        late
    });
    let lines = BufReader::new(reader).lines().map_while(Result::ok);
    let output: Vec<String> = lines.inspect(|line| println!("{line}")).collect();
    drop(done);
    assert!(!guard.join().unwrap_or(true), "{test} took longer than {LIMIT:?}");
    output
}
