//! Everything malformed gets an error that names key, value and remedy, and the last good table stays in force.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::time::Duration;
use support::*;

/// Annotation patches: (key, value, a word of the remedy).
const ANNOTATIONS: [(&str, &str, &str); 26] = [
    ("canary-weight", "abc", "number"),
    ("canary-weight", "-1", "from 0"),
    ("canary-weight", "101", "raise"),
    ("canary-weight", "1e1", "number"),
    ("canary-weight", "NaN", "number"),
    ("canary-weight", "5%", "number"),
    ("canary-weight", "", "number"),
    ("canary-weight", "0.1234567", "six digits"),
    ("canary-weight-total", "0", "100"),
    ("canary-weight-total", "1000001", "100"),
    ("canary-weight-total", "ten", "100"),
    ("canary-by-header", "x canary", "letters"),
    ("canary-by-header", "", "letters"),
    ("canary-by-header-value", "v", "canary-by-header"),
    ("canary-by-header-pattern", "^v", "canary-by-header"),
    ("canary-by-cookie", "a;b", "letters"),
    ("canary-by-cookie", "a=b", "letters"),
    ("canary-match", "{", "JSON"),
    ("canary-match", "[{}]", "condition"),
    ("canary-match", r#"[{\"path\":{\"value\":\"beta\"}}]"#, "absolute"),
    (
        "canary-match",
        r#"[{\"sourceIPs\":[\"10.0.0.0/99\"]}]"#,
        "10.0.0.0/8",
    ),
    ("canary-cohort", "users", "source-ip"),
    ("canary-shield", "yes", "on or off"),
    ("canary-guard", "true", "on or off"),
    ("canary-mirror", "200", "0 to 100"),
    ("canary-wieght", "10", "canary-weight"),
];

fn run_at_ten_percent() -> (Run, [Process; 2]) {
    let [s, c, p0, p1, p2] = free_ports();
    let apps = [app(s, "v1", &[]), app(c, "v2", &[])];
    let annotations = [("canary-weight", "10"), ("canary-by-header", "x-canary")];
    let text = file([p0, p1, p2], 1, &[s], &[c], &annotations, "");
    (Run::start([p0, p1, p2], &text), apps)
}

/// 10 %, opt-in obeyed, and it serves: the table from before.
fn last_good_is_in_force(run: &Run, what: &str) {
    assert_eq!(run.evidence()["share"].as_f64(), Some(0.1), "{what}");
    let forced = http(run.listen, "GET", "/", &[("x-canary", "always")], "").unwrap();
    assert_eq!(
        (forced.status, forced.body.trim()),
        (200, "version: v2"),
        "{what}"
    );
}

#[test]
fn annotations_by_admin_call() {
    let (run, _apps) = run_at_ten_percent();
    for (key, value, remedy) in ANNOTATIONS {
        // A value or pattern without a header needs the header gone, in the same call.
        let gone = if key.starts_with("canary-by-header-") {
            ",\"serin.dev/canary-by-header\":null"
        } else {
            ""
        };
        let answer = run.patch(&format!("{{\"serin.dev/{key}\":\"{value}\"{gone}}}"));
        assert_eq!(answer.status, 422, "{key} = {value}: {}", answer.body);
        let refusal: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let faults = refusal["faults"].as_array().unwrap();
        let fault = faults
            .iter()
            .find(|f| {
                f["key"]
                    .as_str()
                    .unwrap()
                    .starts_with(&format!("serin.dev/{key}"))
            })
            .unwrap_or_else(|| panic!("{key}: {refusal}"));
        assert!(fault.to_string().contains(remedy), "{key} = {value}: {fault}");
        last_good_is_in_force(&run, key);
    }
    // A regular expression that does not compile, and one that would be too large.
    for pattern in ["(", "(a{1000}){1000}"] {
        let answer = run.patch(&format!(
            "{{\"serin.dev/canary-by-header-pattern\":\"{pattern}\"}}"
        ));
        assert_eq!(answer.status, 422, "{pattern}: {}", answer.body);
        assert!(
            answer.body.contains("canary-by-header-pattern"),
            "{}",
            answer.body
        );
    }
    last_good_is_in_force(&run, "patterns");
}

/// Method, path, headers, body; the status, and a word that the answer must have.
type Call<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);

#[test]
fn admin_calls() {
    let (run, _apps) = run_at_ten_percent();
    let token = format!("Bearer {}", run.token());
    let auth = ("authorization", token.as_str());
    let calls: [Call; 16] = [
        ("GET", "/services", vec![], "", 401, "token"),
        (
            "GET",
            "/services",
            vec![("authorization", "Bearer wrong")],
            "",
            401,
            "token",
        ),
        (
            "GET",
            "/services",
            vec![("authorization", "Basic abc")],
            "",
            401,
            "token",
        ),
        ("PATCH", "/services/echo/annotations", vec![], "{}", 401, "token"),
        ("GET", "/nothing", vec![auth], "", 404, "/services"),
        ("GET", "/services/other", vec![auth], "", 404, "GET /services"),
        ("DELETE", "/services/echo", vec![auth], "", 405, "GET"),
        (
            "PATCH",
            "/services/other/annotations",
            vec![auth],
            "{}",
            404,
            "GET /services",
        ),
        ("PATCH", "/services/echo/annotations", vec![auth], "", 400, "JSON"),
        (
            "PATCH",
            "/services/echo/annotations",
            vec![auth],
            "[1]",
            400,
            "JSON",
        ),
        (
            "PATCH",
            "/services/echo/annotations",
            vec![auth],
            "{\"serin.dev/canary-weight\": 5}",
            400,
            "string",
        ),
        (
            "PATCH",
            "/services/echo/annotations",
            vec![auth, ("if-match", "\"0000000000000000\"")],
            "{\"serin.dev/canary-weight\": \"5\"}",
            412,
            "hash",
        ),
        (
            "POST",
            "/rollouts/other/command",
            vec![auth],
            "\"pause\"",
            404,
            "other",
        ),
        (
            "POST",
            "/rollouts/echo/command",
            vec![auth],
            "\"dance\"",
            400,
            "pause",
        ),
        (
            "POST",
            "/rollouts/echo/command",
            vec![auth],
            "{\"weight\":{\"weight\":\"500\",\"total\":100}}",
            400,
            "total",
        ),
        ("GET", "/rollouts/other", vec![auth], "", 404, "other"),
    ];
    for (method, path, headers, body, status, word) in calls {
        let answer = http(run.admin, method, path, &headers, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        let refusal: serde_json::Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}: {}", answer.body));
        assert!(
            refusal["error"].as_str().unwrap().len() > 10 && answer.body.contains(word),
            "{method} {path} {body}: {}",
            answer.body
        );
    }
    let huge = format!(
        "{{\"serin.dev/canary-cohort-salt\":\"{}\"}}",
        "x".repeat(400 * 1024)
    );
    let answer = http(run.admin, "PATCH", "/services/echo/annotations", &[auth], &huge);
    assert!(answer.is_none_or(|a| a.status == 413));
    last_good_is_in_force(&run, "after all admin calls");
}

/// Edits of the file: (from, to, what the log must name).
const EDITS: [(&str, &str, &str); 18] = [
    ("name = \"echo\"", "name = ", "line"),
    ("name = \"echo\"", "name = \"\"", "service[0].name"),
    ("name = \"echo\"", "name = \"e c h o\"", "service[0].name"),
    ("version = \"v1\"", "vrsion = \"v1\"", "vrsion"),
    ("[[service]]", "[[servce]]", "servce"),
    (
        "endpoints = [\"127.0.0.1:",
        "endpoints = [\"http://127.0.0.1:",
        "endpoints[0]",
    ),
    (
        "endpoints = [\"127.0.0.1:",
        "endpoints = [\"127.0.0.1:0\", \"127.0.0.1:",
        "endpoints[0]",
    ),
    (
        "canary-weight\" = '10'",
        "canary-weight\" = 'ten'",
        "canary-weight",
    ),
    ("canary-weight\" = '10'", "canary-weight\" = 10", "line"),
    (
        "canary-weight\" = '10'",
        "canary-weigth\" = '10'",
        "canary-weight",
    ),
    (
        "[service.annotations]",
        "hosts = [\"a b\"]\n[service.annotations]",
        "service[0].hosts",
    ),
    (
        "[service.annotations]",
        "rollout.deadline = \"soon\"\n[service.annotations]",
        "soon",
    ),
    (
        "[service.annotations]",
        "rollout.judgement.alpha = 2.0\n[service.annotations]",
        "judgement.alpha",
    ),
    (
        "[service.annotations]",
        "rollout.pacing.maxWeight = 0.01\n[service.annotations]",
        "pacing.maxWeight",
    ),
    (
        "[service.annotations]",
        "rollout.pacing.steps = [{ weight = 50 }, { weight = 5 }]\n[service.annotations]",
        "steps[1]",
    ),
    (
        "[service.annotations]",
        "rollout.undecided = \"maybe\"\n[service.annotations]",
        "maybe",
    ),
    (
        "[service.annotations]",
        "rollout.verify.smoke = [{ path = \"healthz\" }]\n[service.annotations]",
        "verify.smoke[0].path",
    ),
    (
        "[[service]]",
        "[[service]]\nname = \"twin\"\n[[service]]",
        "hosts",
    ),
];

#[test]
fn edits_of_the_watched_file() {
    let (run, _apps) = run_at_ten_percent();
    let good = std::fs::read_to_string(run.scratch.path("serin.toml")).unwrap();
    for (from, to, word) in EDITS {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let before = run.process.printed().len();
        run.scratch.replace("serin.toml", &bad);
        until(
            &format!("the log names {word} for {to}"),
            Duration::from_secs(3),
            || run.process.printed()[before..].contains(word).then_some(()),
        );
        last_good_is_in_force(&run, to);
        let check = run.scratch.path("serin.toml");
        let out = serin(&["run", "--check", "-f", check.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(1), "{to}");
        assert!(stderr(&out).contains(word), "{to}: {}", stderr(&out));
    }
    std::fs::remove_file(run.scratch.path("serin.toml")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    last_good_is_in_force(&run, "the file is gone");
    run.scratch.replace("serin.toml", &good.replace("'10'", "'20'"));
    until("a good file is obeyed again", Duration::from_secs(3), || {
        (run.evidence()["share"].as_f64() == Some(0.2)).then_some(())
    });
}

/// Raw requests that must be refused: (bytes, status).
const REQUESTS: [(&str, u16); 14] = [
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n continued: x\r\n\r\n", 400),
    ("G\u{0}T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 505),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        400,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: three\r\n\r\n", 400),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        400,
    ),
    (
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("\u{16}\u{3}\u{1}\u{0}hello\r\n\r\n", 400),
];

#[test]
fn requests_headers_and_cookies() {
    let (run, _apps) = run_at_ten_percent();
    for (bytes, status) in REQUESTS {
        let answer = raw(run.listen, bytes.as_bytes()).unwrap_or_else(|| panic!("{bytes:?}: no answer"));
        assert_eq!(answer.status, status, "{bytes:?}: {}", answer.head);
    }
    let many: String = (0..150).map(|i| format!("x-{i}: y\r\n")).collect();
    let answer = raw(
        run.listen,
        format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes(),
    )
    .unwrap();
    assert_eq!(answer.status, 431, "{}", answer.head);
    assert_eq!(
        run.patch("{\"serin.dev/canary-by-cookie\":\"canary\",\"serin.dev/canary-weight\":\"0\"}")
            .status,
        200
    );
    for cookie in [
        "garbage",
        "=always",
        "canary",
        "canary=",
        "canary=ALWAYS",
        ";;;",
        "canary=al\u{7f}ways",
        "xcanary=always",
        "canary=never; canary=always",
    ] {
        let answer = http(run.listen, "GET", "/", &[("cookie", cookie)], "");
        assert!(
            answer.is_some_and(|a| a.status == 400 || a.body.trim() == "version: v1"),
            "{cookie}"
        );
    }
    let answer = http(run.listen, "GET", "/", &[("cookie", "a=b; canary=always")], "").unwrap();
    assert_eq!(answer.body.trim(), "version: v2");
}

#[test]
fn command_lines() {
    let scratch = Scratch::new();
    let none = scratch.path("none.toml");
    let none = none.to_str().unwrap();
    let lines: [(&[&str], i32, &str); 8] = [
        (&["run", "-f", none], 1, "serin run --example"),
        (&["proxy", "-f", none], 1, "serin run --example"),
        (&["status", "-f", none], 1, "serin run --example"),
        (&["weight", "echo", "1000", "-f", none], 2, "raise"),
        (&["weight", "echo", "-1", "-f", none], 2, "negative"),
        (&["ping", "127.0.0.1:1"], 2, "http://"),
        (&["demo", "--rps", "zero"], 2, "500"),
        (&["dmeo"], 2, "demo"),
    ];
    for (line, code, word) in lines {
        let out = serin(line);
        assert_eq!(out.status.code(), Some(code), "{line:?}: {}", stderr(&out));
        assert!(stderr(&out).contains(word), "{line:?}: {}", stderr(&out));
    }
}
