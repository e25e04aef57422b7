//! The file of a machine without Kubernetes: read, checked whole, every fault at once.

use super::overlay::Overlay;
use crate::{config::Settings, resilience::Resilience, table};
use contract::{
    Fault,
    backends::AppProtocol,
    fault,
    file::{File, ServiceEntry},
    routes,
};
use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Largest file that is read.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// A file that passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its text.
    pub text: String,
    /// What it says.
    pub file: File,
    /// Its data plane part, with addresses and durations.
    pub settings: Settings,
}

/// Why a file was refused.
#[derive(Debug)]
pub enum LoadError {
    /// It could not be read.
    Read(PathBuf, io::Error),
    /// It was read, and these are its faults.
    Faults(PathBuf, Vec<Fault>),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Read(path, e) => write!(
                f,
                "{}: {e}; name a file that exists and that this user may read",
                path.display()
            ),
            LoadError::Faults(path, faults) => {
                f.write_str(&routes::report(&path.display().to_string(), faults))
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// The faults, if it could be read.
    pub fn faults(&self) -> &[Fault] {
        match self {
            LoadError::Read(..) => &[],
            LoadError::Faults(_, faults) => faults,
        }
    }
}

/// Reads and checks a file.
///
/// # Errors
/// The reason why it cannot be read, or every fault.
pub fn load(path: &Path, prefix: &str) -> Result<Loaded, LoadError> {
    let text = read(path).map_err(|e| LoadError::Read(path.to_owned(), e))?;
    parse(text, prefix).map_err(|f| LoadError::Faults(path.to_owned(), f))
}

/// The text of a file.
///
/// # Errors
/// Those of the file system; a file that is too large.
pub fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_FILE {
        return Err(io::Error::other("it is larger than 8 MiB"));
    }
    fs::read_to_string(path)
}

/// Checks the text of a file.
///
/// # Errors
/// Every fault.
pub fn parse(text: String, prefix: &str) -> Result<Loaded, Vec<Fault>> {
    let file: File = toml::from_str(&text).map_err(|e| vec![syntax(&text, &e)])?;
    let settings = Settings::from_entry(&file.proxy);
    let routes = routes(&file, &Overlay::default(), prefix);
    let mut faults = Vec::new();
    let settings = settings.map_err(|f| faults.extend(f));
    if let Err(more) = routes {
        faults.extend(more);
    }
    match settings {
        Ok(settings) if faults.is_empty() => Ok(Loaded { text, file, settings }),
        _ => Err(faults),
    }
}

/// A fault of the syntax or the shape, with the line that it stands on.
fn syntax(text: &str, error: &toml::de::Error) -> Fault {
    let at = error.span().map_or(0, |s| s.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let remedy = match meant(error.message()) {
        Some(near) => format!("did you mean {near}? (line {number})"),
        None => format!("mend line {number}"),
    };
    let key = if key.trim().is_empty() { "file" } else { key.trim() };
    Fault::new(key, value.trim(), error.message().trim(), remedy)
}

/// Of "unknown field `x`, expected one of `a`, `b`" the nearest of the expected ones; of a variant too.
fn meant(message: &str) -> Option<&str> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = message.starts_with("unknown ").then(|| quoted.next())??;
    fault::meant(wrong, quoted)
}

/// The routes of a file under an overlay, checked one by one and together.
///
/// # Errors
/// Every fault.
pub fn routes(file: &File, overlay: &Overlay, prefix: &str) -> Result<Vec<routes::Route>, Vec<Fault>> {
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for (i, entry) in file.service.iter().enumerate() {
        let key = format!("service[{i}]");
        faults.extend(entry.rollout.faults(&format!("{key}.rollout")));
        if let Err(more) = Resilience::new(&entry.resilience, &format!("{key}.resilience")) {
            faults.extend(more);
        }
        faults.extend(calls(&key, entry));
        let annotations = overlay.over(&entry.name, &entry.annotations);
        let built = routes::Route::build(&key, entry, &annotations, prefix)
            .and_then(|r| table::Rules::compile(&r.canary, prefix).map(|_| r));
        match built {
            Ok(route) => good.push(route),
            Err(more) => faults.extend(more),
        }
    }
    // Routes that did not pass are missing here, and their absence would be a second fault.
    if faults.is_empty()
        && let Err(more) = routes::check_together(&good)
    {
        faults.extend(more);
    }
    if faults.is_empty() { Ok(good) } else { Err(faults) }
}

/// Calls of gRPC need HTTP/2.
fn calls(key: &str, entry: &ServiceEntry) -> Option<Fault> {
    let service = entry.resilience.health_check.as_ref()?.grpc.as_ref()?;
    let tracks = [&entry.stable, &entry.canary].into_iter();
    let mut used = tracks.filter(|b| !b.endpoints.is_empty());
    let plain = used.any(|b| b.protocol == AppProtocol::Http);
    plain.then(|| {
        let remedy = "write protocol = \"h2c\" for the endpoints of stable and canary, or leave it out";
        let reason = "is asked of endpoints that do not speak HTTP/2";
        Fault::new(
            format!("{key}.resilience.healthCheck.grpc"),
            service,
            reason,
            remedy,
        )
    })
}

/// The host names among the endpoints of a file.
pub fn names(file: &File) -> impl Iterator<Item = &str> {
    file.service
        .iter()
        .flat_map(|s| s.stable.endpoints.iter().chain(&s.canary.endpoints))
        .map(String::as_str)
        .filter(|e| e.parse::<SocketAddr>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::names::PREFIX;

    const GOOD: &str = r#"
[[service]]
name = "echo"
stable.endpoints = ["127.0.0.1:1"]
"#;

    fn faults(text: &str) -> Vec<Fault> {
        parse(text.to_owned(), PREFIX).unwrap_err()
    }

    #[test]
    fn a_small_file_is_enough() {
        let loaded = parse(GOOD.to_owned(), PREFIX).unwrap();
        assert_eq!(loaded.file.service[0].name, "echo");
    }

    #[test]
    fn every_fault_names_key_value_and_remedy() {
        for (text, key) in [
            ("", "service"),
            ("[[service]", "[[service]"),
            ("x = 1", "x"),
            ("[proxy]\nlisten = 5", "listen"),
            ("[proxy]\nlisen = \":1\"", "lisen"),
            ("[proxy]\nworkers = -1", "workers"),
            ("[proxy]\nconnectTimeout = \"5 parsecs\"", "connectTimeout"),
            ("[[service]]\nname = \"a b\"", "service[0].name"),
            ("[[service]]\nname = \"a\"\nhosts = [\"x/y\"]", "service[0].hosts"),
            (
                "[[service]]\nname = \"a\"\nstable.endpoints = [\"x\"]",
                "service[0].stable.endpoints[0]",
            ),
            (
                "[[service]]\nname = \"a\"\ncanary.endpoints = [\"http://x:1\"]",
                "service[0].canary.endpoints[0]",
            ),
            (
                "[[service]]\nname = \"a\"\nannotations.\"serin.dev/canary-weight\" = \"abc\"",
                "serin.dev/canary-weight",
            ),
            (
                "[[service]]\nname = \"a\"\nannotations.\"serin.dev/canary-wieght\" = \"1\"",
                "serin.dev/canary-wieght",
            ),
            (
                "[[service]]\nname = \"a\"\n[service.rollout.judgement]\nalpha = 2.0",
                "service[0].rollout.judgement.alpha",
            ),
            (
                "[[service]]\nname = \"a\"\nstable.endpoints = [\"x:1\"]\nresilience.healthCheck.grpc = \"\"",
                "service[0].resilience.healthCheck.grpc",
            ),
            (
                "[[service]]\nname = \"a\"\n[[service]]\nname = \"a\"",
                "service[1].name",
            ),
            (
                "[proxy]\nadmin = \"0.0.0.0:1\"\n[[service]]\nname = \"a\"",
                "proxy.admin",
            ),
        ] {
            let f = faults(text);
            assert!(
                f.iter().any(|f| f.key == key && !f.remedy.is_empty()),
                "{text}: {f:?}"
            );
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let text = "[proxy]\nadmin = \"x\"\n[[service]]\nname = \"a b\"\nstable.endpoints = [\"x\"]\n[[service]]\nname = \"\"";
        assert!(faults(text).len() >= 4);
    }

    #[test]
    fn a_typing_error_is_answered_with_what_was_meant() {
        assert!(
            faults("[proxy]\nlisen = \"x\"")[0]
                .remedy
                .contains("did you mean listen?")
        );
        let text = "[[service]]\nname = \"a\"\nstable = { protocol = \"htp\", endpoints = [] }";
        assert!(
            faults(text)[0].remedy.contains("did you mean http?"),
            "{:?}",
            faults(text)
        );
    }
}
