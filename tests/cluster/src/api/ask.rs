//! One request, understood: which kind, which object, which verb.

use super::failure::Failure;
use super::kinds::{Kind, Kinds};
use bytes::Bytes;
use http::{Method, request::Parts};
use serde_json::Value;
use std::sync::Arc;

/// Who asks, as authentication found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// A request for a resource.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) user: User,
    pub(super) agent: String,
    pub(super) verb: &'static str,
    pub(super) kind: Arc<Kind>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// `status`, `scale`, `log`..., or empty.
    pub(super) sub: String,
    pub(super) query: Query,
    pub(super) content: String,
    pub(super) accept: String,
    pub(super) body: Bytes,
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// What a path says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) plural: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) sub: &'a str,
}

impl Query {
    pub(super) fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decoded(key), decoded(value)))
                .collect(),
        )
    }

    /// The parameter, or nothing where it is absent.
    pub(super) fn get(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map_or("", |(_, value)| value)
    }

    pub(super) fn is(&self, key: &str) -> bool {
        matches!(self.get(key), "true" | "1")
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let text = self.get(key);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse()
            .map(Some)
            .map_err(|_| Failure::bad(format!("{key}: {text:?} is not a number")))
    }
}

impl<'a> Path<'a> {
    /// `/api/v1/...` and `/apis/GROUP/VERSION/...`, or nothing where a path names no resource.
    pub(super) fn parse(path: &'a str) -> Option<Path<'a>> {
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", _, "status" | "finalize"] => (None, rest.as_slice()),
            ["namespaces", namespace, more @ ..] if !more.is_empty() => (Some(*namespace), more),
            all => (None, all),
        };
        let (&plural, rest) = rest.split_first()?;
        let name = rest.first().copied();
        let sub = rest.get(1).copied().unwrap_or_default();
        Some(Path {
            group,
            version,
            plural,
            namespace,
            name,
            sub,
        })
    }
}

impl Ask {
    pub(super) fn parse(head: &Parts, body: Bytes, user: User, kinds: &Kinds) -> Result<Ask, Failure> {
        let path = Path::parse(head.uri.path()).ok_or_else(Failure::unknown_path)?;
        let kind = kinds
            .get(path.group, path.version, path.plural)
            .ok_or_else(Failure::unknown_path)?;
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let header = |name: &str| {
            head.headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        Ok(Ask {
            user,
            agent: header("user-agent").into(),
            verb: verb(&head.method, path.name.is_some(), query.is("watch"))?,
            kind,
            namespace: path.namespace.map(decoded),
            name: path.name.map(decoded),
            sub: path.sub.into(),
            query,
            content: header("content-type")
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .into(),
            accept: header("accept").into(),
            body,
        })
    }

    /// The name of the object, which a verb on one object cannot do without.
    pub(super) fn name(&self) -> Result<&str, Failure> {
        self.name
            .as_deref()
            .ok_or_else(|| Failure::bad("name is required"))
    }

    pub(super) fn key(&self) -> Result<(String, String), Failure> {
        Ok((
            self.namespace.clone().unwrap_or_default(),
            self.name()?.to_owned(),
        ))
    }

    /// The field manager: by parameter, else the user agent's first word, as the real server has it.
    pub(super) fn manager(&self) -> String {
        let named = self.query.get("fieldManager");
        let manager = if named.is_empty() {
            self.agent.split('/').next().unwrap_or_default()
        } else {
            named
        };
        manager.to_owned()
    }

    /// Whether this is a server-side apply.
    pub(super) fn applies(&self) -> bool {
        self.content == "application/apply-patch+yaml"
    }

    pub(super) fn dry(&self) -> bool {
        !self.query.get("dryRun").is_empty()
    }

    /// The body as JSON or YAML.
    pub(super) fn json(&self) -> Result<Value, Failure> {
        if self.content.contains("yaml") {
            let text = String::from_utf8_lossy(&self.body);
            return serde_saphyr::from_str(&text).map_err(|fault| unreadable(&fault.to_string()));
        }
        serde_json::from_slice(&self.body).map_err(|fault| unreadable(&fault.to_string()))
    }
}

fn unreadable(fault: &str) -> Failure {
    Failure::bad(format!(
        "the object provided is unrecognized: couldn't parse the body: {fault}"
    ))
}

fn verb(method: &Method, named: bool, watch: bool) -> Result<&'static str, Failure> {
    Ok(match (method.as_str(), named) {
        ("GET", _) if watch => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => {
            let message = "the server does not allow this method on the requested resource";
            return Err(Failure::new(405, "MethodNotAllowed", message));
        }
    })
}

/// Percent-decoding; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, escape.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> (&str, &str, Option<&str>, Option<&str>, &str) {
        let path = Path::parse(text).unwrap();
        (path.group, path.plural, path.namespace, path.name, path.sub)
    }

    #[test]
    fn paths_name_resources() {
        assert_eq!(
            path("/api/v1/namespaces/a/pods/b/log"),
            ("", "pods", Some("a"), Some("b"), "log")
        );
        assert_eq!(
            path("/api/v1/namespaces/a/status"),
            ("", "namespaces", None, Some("a"), "status")
        );
        assert_eq!(
            path("/api/v1/namespaces/a"),
            ("", "namespaces", None, Some("a"), "")
        );
        assert_eq!(
            path("/apis/apps/v1/deployments"),
            ("apps", "deployments", None, None, "")
        );
        for none in ["/version", "/api", "/api/v1", "/apis/apps/v1", "/"] {
            assert_eq!(Path::parse(none), None, "{none}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ca+in+(b)&watch=1&limit=x&odd=%zz");
        assert_eq!(query.get("labelSelector"), "app=web,a in (b)");
        assert_eq!(query.get("odd"), "%zz");
        assert!(query.is("watch") && query.number("limit").is_err());
    }
}
