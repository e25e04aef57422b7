//! Where a check asks: `http://host:port/path?query`.

use crate::Fault;

/// Port of a URL without one.
const HTTP_PORT: u16 = 80;
/// The same with TLS.
const HTTPS_PORT: u16 = 443;

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub authority: String,
    /// Path and query; begins with a slash.
    pub path: String,
}

impl Address {
    /// Of a URL.
    ///
    /// # Errors
    /// Why it cannot be called, and what to write instead.
    pub fn of(url: &str) -> Result<Address, (&'static str, &'static str)> {
        let remedy = "write for example http://prometheus:9090";
        if url.starts_with("https://") {
            let remedy = "write an http:// address, for example of a TLS client beside Serin";
            return Err(("is https, which checks do not speak yet", remedy));
        }
        let rest = url.strip_prefix("http://").ok_or(("is no http:// URL", remedy))?;
        Address::apart(rest, HTTP_PORT, remedy)
    }

    /// Of a URL that may be https, and whether it is.
    ///
    /// # Errors
    /// The same.
    pub fn secure(url: &str) -> Result<(Address, bool), (&'static str, &'static str)> {
        let remedy = "write for example https://hooks.example.org/services/1";
        match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => Ok((Address::apart(rest, HTTPS_PORT, remedy)?, true)),
            (None, Some(rest)) => Ok((Address::apart(rest, HTTP_PORT, remedy)?, false)),
            (None, None) => Err(("is no http:// or https:// URL", remedy)),
        }
    }

    fn apart(rest: &str, port: u16, remedy: &'static str) -> Result<Address, (&'static str, &'static str)> {
        if !rest.bytes().all(|b| b.is_ascii_graphic()) || rest.contains('#') {
            return Err(("has characters that no request can have", "escape them as %20"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(("holds a password, which would stand in logs", remedy));
        }
        let authority = with_port(authority, port).ok_or(("has no host, or a port that is none", remedy))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Address {
            authority,
            path: format!("{slash}{path}"),
        })
    }
}

/// `host:port`; `None` when either is wrong.
fn with_port(authority: &str, port: u16) -> Option<String> {
    let bracket = authority.rfind(']').map_or(0, |i| i + 1);
    let colon = authority[bracket..].find(':').map(|i| i + bracket);
    let (host, port) = match colon {
        Some(i) => (&authority[..i], authority[i + 1..].parse().ok()?),
        None => (authority, port),
    };
    let is_host = !host.is_empty() && (host.starts_with('[') == host.ends_with(']'));
    (is_host && port > 0).then(|| format!("{host}:{port}"))
}

/// What is wrong with `url` at `key`, if anything.
pub(in crate::policy) fn fault(key: &str, url: &str) -> Option<Fault> {
    let (reason, remedy) = Address::of(url).err()?;
    // What may be a password stands in no log.
    let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    Some(Fault::new(key, shown, reason, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart() {
        for (url, authority, path) in [
            ("http://prometheus:9090", "prometheus:9090", "/"),
            ("http://prometheus:9090/prom/", "prometheus:9090", "/prom/"),
            ("http://stock/health?deep=1", "stock:80", "/health?deep=1"),
            ("http://stock?deep=1", "stock:80", "/?deep=1"),
            ("http://[::1]:8080/x", "[::1]:8080", "/x"),
            ("http://[::1]", "[::1]:80", "/"),
        ] {
            let expected = Address {
                authority: authority.into(),
                path: path.into(),
            };
            assert_eq!(Address::of(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_called() {
        for url in [
            "",
            "prometheus:9090",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://:80",
            "http://a:0",
            "http://a:70000",
            "http://a:b",
            "http://[::1",
            "http://a b/",
            "http://a/#part",
            "http://me:secret@a/",
        ] {
            assert!(Address::of(url).is_err(), "{url}");
        }
        let secret = fault("url", "http://me:secret@a/").unwrap().to_string();
        assert!(
            !secret.contains("secret") && secret.contains("password"),
            "{secret}"
        );
        let fault = fault("checks[0].http.url", "https://a/").unwrap();
        assert!(
            fault.to_string().contains("https, which checks do not speak yet"),
            "{fault}"
        );
        assert!(fault.remedy.contains("write an http:// address"), "{fault}");
    }
}
