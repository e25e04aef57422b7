//! The last good table on disk: what a proxy starts from while there is no API server.

use super::front::{Front, Terms};
use crate::source::sealed;
use contract::file::ServiceEntry;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often the table is written at most.
const PAUSE: Duration = Duration::from_secs(1);

/// A table as it was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    namespace: String,
    service: String,
    local: Option<SocketAddr>,
    /// Seconds since 1970 at which it was written.
    at: u64,
    /// What the Service said.
    pub front: Front,
    /// What was made of it, with the endpoints.
    pub entry: ServiceEntry,
}

/// Writes tables to a file, and reads one at the start.
#[derive(Debug)]
pub struct Cache {
    path: Option<PathBuf>,
    namespace: String,
    pending: Option<Kept>,
    written: Option<Instant>,
}

impl Cache {
    /// A cache at this path; without one, nothing is kept.
    pub fn new(path: Option<PathBuf>, namespace: &str) -> Cache {
        Cache {
            path,
            namespace: namespace.to_owned(),
            pending: None,
            written: None,
        }
    }

    /// A table that took force.
    pub fn note(&mut self, front: &Front, entry: &ServiceEntry, terms: &Terms) {
        self.pending = self.path.is_some().then(|| Kept {
            namespace: self.namespace.clone(),
            service: terms.service.clone(),
            local: terms.local,
            at: now(),
            front: front.clone(),
            entry: entry.clone(),
        });
    }

    /// Writes what is to be written, unless something was a moment ago.
    pub fn write(&mut self) {
        if self.written.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let (Some(path), Some(kept)) = (&self.path, self.pending.take()) else {
            return;
        };
        self.written = Some(Instant::now());
        if let Err(e) = sealed::keep(path, &kept) {
            tracing::error!(
                "{}: {e}; a restart without an API server would serve nothing; make the folder writable",
                path.display()
            );
        }
    }

    /// The table that was in force, if it was this Service's. One that is damaged is told and left alone.
    pub fn read(&self, terms: &Terms) -> Option<Kept> {
        let path = self.path.as_ref()?;
        let told = |why: &dyn std::fmt::Display| {
            tracing::error!("the cache {} is not used: {why}", path.display());
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                told(&e);
                return None;
            }
        };
        let Some(kept) = sealed::decode::<Kept>(&text) else {
            told(&"it is damaged; the next good table replaces it");
            return None;
        };
        let same =
            kept.namespace == self.namespace && kept.service == terms.service && kept.local == terms.local;
        if !same {
            told(&format!("it is of Service {}/{}", kept.namespace, kept.service));
        }
        same.then_some(kept)
    }
}

impl Kept {
    /// How old it is, in seconds.
    pub fn age(&self) -> u64 {
        now().saturating_sub(self.at)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::{
        super::front::{Family, Port},
        *,
    };
    use std::os::unix::fs::PermissionsExt;

    fn terms(service: &str) -> Terms {
        Terms {
            service: service.into(),
            port: None,
            local: None,
            pod: None,
            prefix: contract::names::PREFIX.into(),
        }
    }

    fn front() -> Front {
        Front {
            tracks: [Some("echo-stable".into()), None],
            port: Port {
                name: "http".into(),
                number: 80,
                protocol: contract::routes::AppProtocol::H2c,
            },
            family: Family::V4,
            annotations: [("serin.dev/canary-weight".to_owned(), "5".to_owned())].into(),
        }
    }

    #[test]
    fn a_table_comes_back_whole_and_only_for_its_service() {
        let folder = std::env::temp_dir().join(format!("serin-cache-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("table.json");
        let mut cache = Cache::new(Some(path.clone()), "shop");
        assert_eq!(cache.read(&terms("echo")), None, "there is none yet");
        let mut entry = ServiceEntry {
            name: "echo".into(),
            ..ServiceEntry::default()
        };
        entry.stable.endpoints.push("10.0.0.1:80".into());
        cache.note(&front(), &entry, &terms("echo"));
        cache.write();
        let kept = cache.read(&terms("echo")).unwrap();
        assert_eq!((&kept.front, &kept.entry), (&front(), &entry));
        assert!(kept.age() < 60);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cache.read(&terms("other")), None);
        assert_eq!(Cache::new(Some(path.clone()), "else").read(&terms("echo")), None);

        entry.stable.endpoints.clear();
        cache.note(&front(), &entry, &terms("echo"));
        cache.write();
        assert_eq!(cache.read(&terms("echo")), Some(kept), "a second has not passed");
        cache.written = None;
        cache.write();
        assert!(
            cache
                .read(&terms("echo"))
                .unwrap()
                .entry
                .stable
                .endpoints
                .is_empty()
        );

        let text = fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "x",
            &text[..text.len() - 1],
            &text.replace("10", "11").replace('5', "6"),
        ] {
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.read(&terms("echo")), None, "{bad}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
