//! The routing table: which Services a proxy fronts, where their two tracks live, and how they are split.

use crate::{Canary, Fault, annotations::Annotations, fault, names::Track};

pub use crate::backends::{AppProtocol, BackendTls, Backends};

use serde::{Deserialize, Serialize};

/// One fronted Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Name of the Service: the `service` label of every metric.
    pub service: String,
    /// Hosts that it answers to, lower case, without port; empty: every host that no other route names.
    pub hosts: Vec<String>,
    /// The two tracks, by [`Track::index`].
    pub tracks: [Backends; 2],
    /// What its annotations say.
    pub canary: Canary,
    /// The annotations as written, with who changed them.
    pub annotations: Annotations,
}

impl Route {
    /// A route from its parts.
    ///
    /// # Errors
    /// Every fault of names, hosts, endpoints and annotations; `key` is where the entry stands (`service[0]`).
    pub fn build(
        key: &str,
        entry: &crate::file::ServiceEntry,
        annotations: &Annotations,
        prefix: &str,
    ) -> Result<Route, Vec<Fault>> {
        let mut faults = Vec::new();
        if entry.name.is_empty()
            || entry.name.len() > 63
            || !entry
                .name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            faults.push(Fault::new(
                format!("{key}.name"),
                &entry.name,
                "is not a name",
                "use 1 to 63 letters, digits, - _ and .",
            ));
        }
        for host in entry.hosts.iter().filter(|h| !is_host(h)) {
            faults.push(Fault::new(
                format!("{key}.hosts"),
                host,
                "is not a host name",
                "write for example shop.example.org, without port or path",
            ));
        }
        for (track, backends) in [("stable", &entry.stable), ("canary", &entry.canary)] {
            backends.check(&format!("{key}.{track}"), &mut faults);
        }
        let canary = Canary::parse(annotations, prefix).map_err(|f| faults.extend(f));
        let (Ok(canary), true) = (canary, faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Route {
            service: entry.name.clone(),
            hosts: entry.hosts.iter().map(|h| h.to_ascii_lowercase()).collect(),
            tracks: [entry.stable.clone(), entry.canary.clone()],
            canary,
            annotations: annotations.clone(),
        })
    }

    /// Where a track lives.
    pub fn backends(&self, track: Track) -> &Backends {
        &self.tracks[track.index()]
    }
}

/// All routes must have distinct names and hosts, and at most one may answer to every host.
///
/// # Errors
/// The faults, with all of them in one list.
pub fn check_together(routes: &[Route]) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    for (i, r) in routes.iter().enumerate() {
        let earlier = &routes[..i];
        if earlier.iter().any(|e| e.service == r.service) {
            faults.push(Fault::new(
                format!("service[{i}].name"),
                &r.service,
                "is taken by an earlier service",
                "give each service its own name",
            ));
        }
        for host in r
            .hosts
            .iter()
            .filter(|h| earlier.iter().any(|e| e.hosts.contains(h)))
        {
            faults.push(Fault::new(
                format!("service[{i}].hosts"),
                host,
                "is taken by an earlier service",
                "list each host once",
            ));
        }
        if r.hosts.is_empty() && earlier.iter().any(|e| e.hosts.is_empty()) {
            faults.push(Fault::new(
                format!("service[{i}].hosts"),
                "",
                "is empty, and an earlier service already answers to every host",
                "list the hosts of one of them",
            ));
        }
    }
    if routes.is_empty() {
        faults.push(Fault::new(
            "service",
            "",
            "lists no service",
            "add a [[service]] section",
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Whether it may be the name of a host.
pub(crate) fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
}

/// The faults as one error text with a heading.
pub fn report(source: &str, faults: &[Fault]) -> String {
    let noun = if faults.len() == 1 { "fault" } else { "faults" };
    format!("{source}: {} {noun}\n{}", faults.len(), fault::listing(faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{file::ServiceEntry, names::PREFIX};

    fn entry(name: &str, endpoint: &str) -> ServiceEntry {
        let backends = Backends {
            version: "v1".into(),
            endpoints: vec![endpoint.into()],
            ..Backends::default()
        };
        ServiceEntry {
            name: name.into(),
            stable: backends.clone(),
            canary: backends,
            ..ServiceEntry::default()
        }
    }

    #[test]
    fn builds_from_an_entry() {
        let r = Route::build(
            "service[0]",
            &entry("echo", "127.0.0.1:80"),
            &Annotations::new(),
            PREFIX,
        )
        .unwrap();
        assert_eq!(r.backends(Track::Canary).endpoints, ["127.0.0.1:80"]);
    }

    #[test]
    fn refuses_bad_endpoints_and_names_the_place() {
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:0",
            "127.0.0.1:99999",
            "http://a:80",
            "a b:80",
            "::1:80",
            "[::g]:80",
            ":80",
            "a:+80x",
        ] {
            let faults =
                Route::build("service[0]", &entry("echo", bad), &Annotations::new(), PREFIX).unwrap_err();
            assert_eq!(faults[0].key, "service[0].stable.endpoints[0]", "{bad}");
        }
        assert!(Route::build("service[0]", &entry("", "a:1"), &Annotations::new(), PREFIX).is_err());
    }

    #[test]
    fn services_may_not_overlap() {
        let build = |n: &str| Route::build("s", &entry(n, "a:1"), &Annotations::new(), PREFIX).unwrap();
        assert!(check_together(&[]).is_err());
        assert_eq!(check_together(&[build("a"), build("a")]).unwrap_err().len(), 2);
        assert!(check_together(&[build("a")]).is_ok());
    }
}
