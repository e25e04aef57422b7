//! Where would this request go, and why: asked of the admin listener, and compared with where it goes.

use crate::world::*;
use proxy::contract::{
    decision::{Decision, Question},
    names::Track,
};

fn ask(world: &World, url: &str, headers: &[&str], client: Option<[u8; 4]>) -> Decision {
    let question = Question {
        url: url.into(),
        headers: headers.iter().map(|h| (*h).to_owned()).collect(),
        client: client.map(Into::into),
        ..Question::default()
    };
    let answer = world.call("POST", "/decide", &[], &serde_json::to_string(&question).unwrap());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn full() -> (World, Backend, Backend) {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let world = Plan::new()
        .set("debugHeaders = true")
        .service(
            "echo",
            &[s.address],
            &[c.address],
            &[
                ("canary-by-header", "X-Canary"),
                ("canary-by-cookie", "canary"),
                ("canary-match", r#"[{"method":"POST"},{"path":{"value":"/beta"},"headers":[{"name":"x-team","value":"red"}]}]"#),
                ("canary-cohort", "header:x-user"),
                ("canary-cohort-salt", "salt"),
                ("canary-weight", "30"),
            ],
        )
        .start();
    (world, s, c)
}

#[test]
fn the_answer_is_where_it_goes() {
    let (world, _s, _c) = full();
    let users: Vec<String> = (0..60).map(|i| format!("x-user: u{i}")).collect();
    let mut cases: Vec<(&str, Vec<&str>)> = vec![
        ("/", vec!["X-Canary: always"]),
        ("/", vec!["x-canary: never", "cookie: canary=always"]),
        ("/", vec!["x-canary: what", "cookie: canary=never"]),
        ("/", vec!["cookie: a=b; canary=always"]),
        ("/beta/x", vec!["x-team: red", "x-user: u1"]),
        ("/beta/x", vec!["x-team: blue", "x-user: u1"]),
        ("/", vec!["x-canary: always", "x-canary: always", "x-user: u2"]),
    ];
    cases.extend(users.iter().map(|u| ("/", vec![u.as_str()])));
    let mut client = world.client();
    let mut seen = [0; 2];
    for (path, headers) in cases {
        let told = ask(
            &world,
            path,
            &[&["host: test"], headers.as_slice()].concat(),
            None,
        );
        let sent = client.get(path, &[headers.as_slice(), &["x-serin-debug: 1"]].concat());
        let track = told.track.unwrap();
        seen[track.index()] += 1;
        assert_eq!(
            sent.header("x-serin-track"),
            Some(track.name()),
            "{path} {headers:?}: {told:?}"
        );
        assert_eq!(
            sent.header("x-serin-reason"),
            Some(told.reason.as_str()),
            "{path} {headers:?}"
        );
        let deciding: Vec<_> = told.steps.iter().filter(|s| s.decides).collect();
        assert_eq!((deciding.len(), &deciding[0].step), (1, &told.reason), "{told:?}");
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

#[test]
fn each_step_says_what_it_found() {
    let (world, _s, _c) = full();
    let told = ask(
        &world,
        "/beta?x",
        &["host: test", "x-canary: maybe", "x-team: blue"],
        None,
    );
    let words: Vec<_> = told
        .steps
        .iter()
        .map(|s| format!("{} {}: {}", s.step, s.decides, s.why))
        .collect();
    assert_eq!(
        words,
        [
            "header false: x-canary: maybe is neither always nor never",
            "cookie false: the cookie canary is not sent",
            "match false: match 0 fails by its method, match 1 fails by its headers",
            "cohort false: x-user names no user, or several: the weight decides",
            "weight true: 30 % of the undecided requests go to the canary",
        ]
    );
    assert_eq!((told.track, told.chance, told.evidence), (None, 0.3, true));
    assert!(
        told.outcome.iter().any(|l| l.contains("shield")),
        "{:?}",
        told.outcome
    );
    let user = ask(&world, "/", &["host: test", "x-user: ann"], None);
    let bucket = user.bucket.unwrap();
    assert_eq!(user.track == Some(Track::Canary), bucket < 300_000, "{user:?}");
    assert!(user.steps[3].why.contains(&bucket.to_string()), "{user:?}");
}

#[test]
fn asking_draws_nothing_and_counts_nothing() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let world = pair(&s, &c, &[("canary-weight", "10")]);
    let mut client = world.client();
    let mut canary = 0;
    for _ in 0..100 {
        for _ in 0..10 {
            canary += u64::from(client.get("/", &[]).text() == "C");
            ask(&world, "/", &[], None);
        }
    }
    assert!(canary.abs_diff(100) <= 1, "{canary}");
    assert_eq!(world.metric(&["serin_decisions_total"]), 1000.0);
}

#[test]
fn empty_tracks_and_the_client_s_address_are_told() {
    let s = Backend::named("S");
    let world = Plan::new()
        .set("trustedProxies = [\"10.0.0.0/8\"]")
        .service(
            "echo",
            &[s.address],
            &[],
            &[
                ("canary-match", r#"[{"sourceIPs":["203.0.113.0/24"]}]"#),
                ("hosts", "shop.example"),
            ],
        )
        .start();
    let forwarded = ["host: shop.example", "x-forwarded-for: 203.0.113.9"];
    let told = ask(&world, "/", &forwarded, Some([10, 0, 0, 1]));
    assert_eq!(
        (told.track, told.client),
        (Some(Track::Canary), Some([203, 0, 113, 9].into()))
    );
    assert!(
        told.outcome[0].contains("canary has no endpoint: stable serves"),
        "{:?}",
        told.outcome
    );
    let stranger = ask(&world, "/", &forwarded, Some([192, 0, 2, 1]));
    assert_eq!((stranger.track, stranger.chance), (Some(Track::Stable), 0.0));
    let by_url = ask(&world, "http://shop.example/x", &[], None);
    assert_eq!(
        (by_url.service.as_str(), by_url.host.as_str()),
        ("echo", "shop.example")
    );
    let lost = ask(&world, "/", &["host: elsewhere"], None).refused.unwrap();
    assert_eq!((lost.status, lost.kind.as_str()), (404, "no_route"));
    assert!(lost.error.contains("elsewhere"), "{}", lost.error);
    let smuggled = ask(&world, "/", &["host: shop.example", "content-length: +1"], None)
        .refused
        .unwrap();
    assert_eq!(smuggled.status, 400);
}

#[test]
fn a_guard_that_has_tripped_is_told() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let world = pair(&s, &c, &[("canary-weight", "50"), ("canary-by-header", "h")]);
    let hash = world.running.evidence(0).services["echo"].hash.clone();
    world
        .running
        .control()
        .trip("echo", &hash, "30 of 40 failed".into());
    let told = ask(&world, "/", &["host: test"], None);
    assert_eq!((told.track, told.chance), (Some(Track::Stable), 0.0));
    assert!(
        told.outcome[0].contains("guard") && told.outcome[0].contains("30 of 40 failed"),
        "{:?}",
        told.outcome
    );
    let forced = ask(&world, "/", &["host: test", "h: always"], None);
    assert_eq!(forced.track, Some(Track::Canary), "who asks still gets it");
    assert!(
        forced.outcome.iter().any(|l| l.contains("sees its failures")),
        "{:?}",
        forced.outcome
    );
}

#[test]
fn what_is_no_question_is_refused_in_words() {
    let (world, ..) = full();
    for (body, word) in [
        ("", "write for example"),
        ("{\"metod\":\"GET\"}", "metod"),
        ("{\"headers\":[\"a: b\\r\\nc: d\"]}", "line break"),
        ("{\"method\":\"GET / HTTP/1.1\\r\\n\"}", "line break"),
        ("{\"method\":\"G ET\"}", "no method"),
        ("{\"headers\":[\"nocolon\"]}", "write `name: value`"),
        ("{\"url\":\"/a b\"}", "%20"),
        ("{\"url\":\"shop.example/x\"}", "begin with /"),
        ("{\"url\":\"ftp://shop.example/x\"}", "begin with /"),
    ] {
        let answer = world.call("POST", "/decide", &[], body);
        assert_eq!(answer.status(), 400, "{body}");
        assert!(answer.text().contains(word), "{body}: {}", answer.text());
    }
    assert_eq!(world.call("GET", "/decide", &[], "").status(), 405);
    for (name, remedy) in [("ecoh", "did you mean echo?"), ("payments", "there are: echo")] {
        let answer = world.call("GET", &format!("/services/{name}"), &[], "");
        assert_eq!(answer.status(), 404);
        assert!(answer.text().contains(remedy), "{}", answer.text());
    }
    let mut stranger = Wire::connect(world.running.addresses().admin);
    let question = "POST /decide HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(stranger.ask(question).status(), 401);
}

#[test]
fn people_have_a_page_for_it() {
    let (world, ..) = full();
    let mut browser = Wire::connect(world.running.addresses().admin);
    let page = browser.ask("GET /where HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(page.status(), 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(
        !page.text().contains("<script") && !page.text().contains("http"),
        "{}",
        page.text()
    );
    assert_eq!(
        browser
            .ask("GET /where.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            .header("content-type"),
        Some("text/css; charset=utf-8")
    );
    // A foreign name that points here (DNS rebinding) gets nothing.
    let foreign = browser.ask("GET /where HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(foreign.status(), 421, "{}", foreign.text());
    let mut post = |body: &str| {
        browser.ask(&format!(
            "POST /where HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let query = "method=GET&url=%2F&headers=host%3A+test%0D%0Ax-canary%3A+always&client=";
    let wrong = post(&format!("token=wrong&{query}"));
    assert_eq!(wrong.status(), 400);
    assert!(wrong.text().contains("token is wrong") && !wrong.text().contains("x-canary: always asks"));
    let right = post(&format!("token={TOKEN}&{query}"));
    assert!(
        right.text().contains("it goes to canary, decided by header"),
        "{}",
        right.text()
    );
}
