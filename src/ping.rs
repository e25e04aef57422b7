//! Who answers? One line a second, and a summary at the end.

use crate::{
    app::local_runtime,
    cli::{Output, PingArgs},
    fail::Failure,
    load::{self, Answer},
    plane::stop_signal,
};
use http_body_util::Empty;
use hyper::{
    Request, Uri,
    header::{HeaderName, HeaderValue},
};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// `serin ping`
pub fn main(args: &PingArgs) -> Result<ExitCode, Failure> {
    let uri = target(&args.url)?;
    let headers = args
        .headers
        .iter()
        .map(|h| header(h))
        .collect::<Result<Vec<_>, _>>()?;
    let tally = local_runtime()?.block_on(ping(args, &uri, &headers));
    println!("{}", tally.summary(args.output));
    Ok(ExitCode::from(u8::from(tally.answered() == 0)))
}

fn target(url: &str) -> Result<Uri, Failure> {
    let uri: Uri = url.parse().map_err(|e| {
        Failure::usage(format!(
            "`{url}` is not a URL: {e}; write for example http://127.0.0.1:8080/"
        ))
    })?;
    match uri.scheme_str() {
        Some("http") => Ok(uri),
        _ => Err(Failure::usage(format!(
            "`{url}` does not begin with http://; write for example http://127.0.0.1:8080/"
        ))),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "`{text}` is not a header; write for example 'x-canary: always'"
        ))
    };
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    Ok((
        name.trim().parse().map_err(|_| wrong())?,
        value.trim().parse().map_err(|_| wrong())?,
    ))
}

/// Counts by who answered and how.
#[derive(Default)]
struct Tally {
    by: BTreeMap<(String, u16), u64>,
    slowest: Duration,
}

async fn ping(args: &PingArgs, uri: &Uri, headers: &[(HeaderName, HeaderValue)]) -> Tally {
    let client = load::client();
    let (mut all, mut second) = (Tally::default(), Tally::default());
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rps));
    let mut lines = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_secs(1),
        Duration::from_secs(1),
    );
    let mut stop = Box::pin(stop_signal());
    let mut sent = 0;
    while args.count.is_none_or(|n| sent < n) {
        tokio::select! {
            _ = &mut stop => break,
            _ = lines.tick() => second.line(args.output),
            _ = pace.tick() => {
                sent += 1;
                let answer = load::ask(&client, request(uri, headers)).await;
                all.add(answer.as_ref());
                second.add(answer.as_ref());
            }
        }
    }
    second.line(args.output);
    all
}

fn request(uri: &Uri, headers: &[(HeaderName, HeaderValue)]) -> Request<Empty<hyper::body::Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    request
}

impl Tally {
    fn add(&mut self, answer: Option<&Answer>) {
        let key = match answer {
            Some(a) => (a.version.clone().unwrap_or_else(|| "somebody".into()), a.status),
            None => ("nobody".into(), 0),
        };
        *self.by.entry(key).or_default() += 1;
        self.slowest = self.slowest.max(answer.map_or(Duration::ZERO, |a| a.took));
    }

    fn answered(&self) -> u64 {
        self.by
            .iter()
            .filter(|((_, status), _)| *status != 0)
            .map(|(_, n)| n)
            .sum()
    }

    /// Prints the last second, and begins the next.
    fn line(&mut self, output: Output) {
        if output == Output::Text && !self.by.is_empty() {
            println!("{}", self.words());
        }
        *self = Tally::default();
    }

    fn words(&self) -> String {
        let parts: Vec<_> = self
            .by
            .iter()
            .map(|((who, status), n)| format!("{n:>5} x {who} ({status})"))
            .collect();
        format!(
            "{}   slowest {:.1} ms",
            parts.join("  "),
            self.slowest.as_secs_f64() * 1e3
        )
    }

    fn summary(&self, output: Output) -> String {
        let total: u64 = self.by.values().sum();
        match output {
            Output::Text => format!("in all {total} requests:\n{}", self.words()),
            Output::Json => {
                let by: Vec<_> = self.by.iter().map(|((who, status), n)| serde_json::json!({"version": who, "status": status, "count": n})).collect();
                serde_json::json!({"requests": total, "answers": by}).to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_target_or_header_says_what_to_write() {
        for bad in ["", "127.0.0.1:8080", "https://a/", "ftp://a/", "http://"] {
            assert!(
                target(bad).is_err_and(|e| e.to_string().contains("http://127.0.0.1")),
                "{bad}"
            );
        }
        assert!(target("http://127.0.0.1:1/").is_ok());
        assert!(
            header("x-canary always").is_err()
                && header("a b: c").is_err()
                && header("x-canary: always").is_ok()
        );
    }
}
