//! The page for people: a few files without any data. What they show they ask for by the calls of [`contract::admin`],
//! with the token that a person has given them.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

/// Nothing is loaded but our own style and script, nothing is asked but our own calls, nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page itself.
const PAGE: &str = include_str!("page/page.html");

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Of `serin run`: everything needs the token.
    Machine,
    /// Of a cluster's controller: only orders do, and names have a namespace.
    Cluster,
}

/// [`at`] for `serin run`.
pub fn of_machine(path: &str) -> Option<Response<Bytes>> {
    at(path, Plane::Machine)
}

/// The file at a path: `/` and `/ui/NAME` are one page, which looks at its own address.
pub fn at(path: &str, plane: Plane) -> Option<Response<Bytes>> {
    let (kind, text) = match path {
        "/" | "/ui" | "/ui/" => (HTML, PAGE),
        "/page.css" => (CSS, include_str!("page/page.css")),
        "/page.js" => (SCRIPT, include_str!("page/page.js")),
        "/charts.js" => (SCRIPT, include_str!("page/charts.js")),
        "/plots.js" => (SCRIPT, include_str!("page/plots.js")),
        _ if is_release(path, plane) => (HTML, PAGE),
        _ => return None,
    };
    let bytes = match (kind, plane) {
        (HTML, Plane::Cluster) => Bytes::from(text.replacen("<html ", "<html data-plane=\"cluster\" ", 1)),
        _ => Bytes::from_static(text.as_bytes()),
    };
    let mut response = Response::new(bytes);
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A page of the version before would speak to this one.
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

fn is_release(path: &str, plane: Plane) -> bool {
    let parts = path.strip_prefix("/ui/").map(|name| name.split('/').count());
    parts == Some(if plane == Plane::Cluster { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_inline_and_names_no_other_host() {
        for path in [
            "/",
            "/ui/echo",
            "/page.css",
            "/page.js",
            "/charts.js",
            "/plots.js",
        ] {
            let found = of_machine(path).unwrap();
            assert!(
                found.headers()[header::CONTENT_SECURITY_POLICY]
                    .to_str()
                    .unwrap()
                    .starts_with("default-src 'none'")
            );
            let text = String::from_utf8(found.body().to_vec()).unwrap();
            let hosts: Vec<&str> = text.matches("://").collect();
            let drawn = text.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(
                hosts.len(),
                drawn,
                "{path}: the name of SVG is no host, and there is no other"
            );
            for word in [
                " style=",
                "onclick=",
                "innerHTML",
                "eval(",
                "insertAdjacentHTML",
                "document.write",
            ] {
                assert!(!text.contains(word), "{path}: {word}");
            }
        }
        assert!(of_machine("/ui/a/b").is_none() && of_machine("/metrics").is_none());
        let theirs = at("/ui/shop/echo", Plane::Cluster).unwrap();
        let text = String::from_utf8_lossy(theirs.body()).into_owned();
        assert!(text.contains("<html data-plane=\"cluster\" lang"), "{text}");
    }
}
