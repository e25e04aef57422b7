//! Reads `/evidence` of one proxy.

use crate::{client::Client, kubernetes::Credentials};
use bytes::Bytes;
use contract::{
    evidence::{Page, SCHEMA},
    names::EVIDENCE_NAME,
};
use engine::{Proxy, Told};
use http::{Request, StatusCode, header};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use std::{net::SocketAddr, time::Duration};

/// Longest wait for a page: two of them fit into the time in which a rollback must happen.
const PATIENCE: Duration = Duration::from_millis(500);
/// Asked for when nobody needs cohorts: the state of things, without counts.
const NO_COHORTS: u64 = u32::MAX as u64;

/// One proxy's signals listener.
#[derive(Debug)]
pub(crate) struct Scrape {
    name: String,
    client: Client,
    /// Sent as bearer; `None`: none is wanted.
    token: Option<String>,
    missing_since: Option<f64>,
}

/// What one reading brought, for all services.
#[derive(Debug)]
pub(crate) struct Reading {
    name: String,
    now: f64,
    since: u64,
    page: Result<Page, (f64, String)>,
}

/// The part of a page that every version has.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

impl Scrape {
    pub fn new(address: SocketAddr) -> Scrape {
        let address = address.to_string();
        Scrape {
            client: Client::new(&address, PATIENCE),
            name: address,
            token: None,
            missing_since: None,
        }
    }

    /// A pod that tells evidence to whoever has the Secret of its namespace.
    pub fn of_pod(name: &str, address: SocketAddr, credentials: &Credentials) -> Scrape {
        let mut client = Client::new(address.to_string(), PATIENCE);
        if let Ok(proven) = ServerName::try_from(EVIDENCE_NAME) {
            client = client.secured(credentials.tls.clone(), proven);
        }
        Scrape {
            name: name.to_owned(),
            client,
            token: Some(credentials.token.clone()),
            missing_since: None,
        }
    }

    /// Reads the cohorts from second `since` on. A failure is remembered with its beginning.
    pub async fn read(&mut self, since: Option<u64>, now: f64) -> Reading {
        let since = since.unwrap_or(NO_COHORTS);
        let page = match self.page(since).await {
            Ok(page) => {
                self.missing_since = None;
                Ok(page)
            }
            Err(reason) => Err((*self.missing_since.get_or_insert(now), reason)),
        };
        Reading {
            name: self.name.clone(),
            now,
            since,
            page,
        }
    }

    async fn page(&mut self, since: u64) -> Result<Page, String> {
        let mut request = Request::get(format!("/evidence?since={since}"));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Bytes::new());
        let (status, body) = self.client.call(request.map_err(|e| e.to_string())?).await?;
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        parse(&body)
    }
}

fn parse(body: &[u8]) -> Result<Page, String> {
    let read = |e: serde_json::Error| format!("its page cannot be read: {e}");
    let Versioned { schema } = serde_json::from_slice(body).map_err(read)?;
    if schema != SCHEMA {
        return Err(format!(
            "its page has schema {schema}, and this controller reads {SCHEMA}; run one version of both"
        ));
    }
    serde_json::from_slice(body).map_err(read)
}

impl Reading {
    /// Why there is no page.
    pub fn failure(&self) -> Option<&str> {
        self.page.as_ref().err().map(|(_, reason)| reason.as_str())
    }

    /// What the proxy told of one service.
    pub fn of(&self, service: &str) -> Proxy {
        let told = match &self.page {
            Ok(page) => match page.services.get(service) {
                Some(counts) => Told::Page {
                    process: page.process.clone(),
                    now_ms: page.now_ms,
                    since: self.since,
                    page: counts.clone(),
                },
                None => Told::Missing {
                    since: self.now,
                    reason: format!("its page has no {service}"),
                },
            },
            Err((since, reason)) => Told::Missing {
                since: *since,
                reason: reason.clone(),
            },
        };
        Proxy {
            name: self.name.clone(),
            told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_is_named_and_rubbish_is_refused() {
        let page = br#"{"schema":1,"process":"p","now_ms":5,"services":{}}"#;
        assert_eq!(parse(page).unwrap().process, "p");
        let newer = parse(br#"{"schema":2,"sums":{}}"#).unwrap_err();
        assert!(newer.contains("schema 2"), "{newer}");
        for rubbish in [
            &b""[..],
            b"[]",
            b"<html>",
            br#"{"schema":1}"#,
            br#"{"schema":-1}"#,
        ] {
            assert!(parse(rubbish).is_err());
        }
    }
}
