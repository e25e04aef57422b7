//! A number from any HTTP server: a field of its JSON answer, or whether it answers well.

use super::ANSWER_LIMIT;
use crate::client::Client;
use bytes::Bytes;
use contract::policy::{Address, Http};
use http::{Request, StatusCode};
use serde_json::Value;
use std::time::Duration;

/// The number that a server gives.
pub(super) async fn ask(http: &Http, patience: Duration) -> Result<f64, String> {
    // Without a field only the status is wanted, and an endless answer does no harm.
    let limit = if http.field.is_some() { ANSWER_LIMIT } else { 0 };
    let (status, body) = get(&http.url, patience, limit).await?;
    match &http.field {
        None => Ok(if status.is_success() { 0.0 } else { 1.0 }),
        Some(_) if !status.is_success() => Err(format!("it answered {status}")),
        Some(field) => number(&body, field),
    }
}

/// GET, without following redirects: a login page is no answer.
pub(super) async fn get(url: &str, patience: Duration, limit: usize) -> Result<(StatusCode, Bytes), String> {
    let address = Address::of(url).map_err(|(reason, _)| format!("its address {reason}"))?;
    let request = Request::get(&address.path).body(Bytes::new());
    let request = request.map_err(|e| format!("its address cannot be asked for: {e}"))?;
    let mut client = Client::new(address.authority, patience).limited(limit);
    client.call(request).await
}

fn number(body: &[u8], field: &str) -> Result<f64, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|e| format!("its answer is no JSON: {e}"))?;
    let found = answer
        .pointer(field)
        .ok_or_else(|| format!("its answer has no {field}"))?;
    found
        .as_f64()
        .ok_or_else(|| format!("{field} of its answer is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_and_nothing_else() {
        assert_eq!(
            number(br#"{"data":{"errorRate":0.02}}"#, "/data/errorRate"),
            Ok(0.02)
        );
        assert_eq!(number(br#"[7, -3]"#, "/1"), Ok(-3.0));
        assert_eq!(number(b"0.5", ""), Ok(0.5));
        for (body, why) in [
            (&b"<html>"[..], "its answer is no JSON"),
            (b"", "its answer is no JSON"),
            (b"\xff", "its answer is no JSON"),
            (b"{}", "its answer has no /rate"),
            (br#"{"rate":"0.5"}"#, "/rate of its answer is no number"),
            (br#"{"rate":null}"#, "/rate of its answer is no number"),
            (br#"{"rate":1e999}"#, "its answer is no JSON"),
        ] {
            let e = number(body, "/rate").unwrap_err();
            assert!(e.starts_with(why), "{e}");
        }
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(number(&deep, "/0").is_err());
    }
}
