//! `serin proxy`: the data plane alone. And what both long-running modes share: the file's place, the token, signals.

use crate::{
    app::local_runtime,
    cli::{ClusterArgs, ProxyArgs},
    fail::Failure,
};
use proxy::{
    Cluster, Options,
    contract::{
        admin::TOKEN_FILE,
        file::{AccessLogEntry, ProxyEntry, ResilienceEntry, TracingEntry},
        names, routes,
    },
    resilience::Resilience,
    source::file::{self, Loaded},
};
use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// Name of the table cache in the state folder.
const CACHE_FILE: &str = "table.json";

/// `serin proxy`
pub fn main(args: &ProxyArgs) -> Result<ExitCode, Failure> {
    let mut options = match &args.cluster.service {
        Some(service) => of_cluster(service, args)?,
        None => of_file(args)?,
    };
    options.workers = args.workers;
    let running = proxy::start(options).map_err(Failure::refused)?;
    let at = running.addresses();
    let tls = at.tls.map(|a| format!(" and https://{a}")).unwrap_or_default();
    println!(
        "proxy on http://{}{tls}, signals on http://{}, admin on http://{}",
        at.listen, at.signals, at.admin
    );
    local_runtime()?.block_on(stop_signal());
    running.wait();
    Ok(ExitCode::SUCCESS)
}

fn of_file(args: &ProxyArgs) -> Result<Options, Failure> {
    let place = Place::of_file(&args.file)?;
    let token = match &args.token_file {
        Some(file) => read_token(file)?,
        None => place.token()?,
    };
    let mut options = Options::new(&args.file, token);
    options.cache = args.cache.clone();
    Ok(options)
}

/// Without a token file the token is random and known to nobody.
fn of_cluster(service: &str, args: &ProxyArgs) -> Result<Options, Failure> {
    let given = &args.cluster;
    let config = local_runtime()?.block_on(kube::Config::infer()).map_err(|e| {
        Failure::refused(format!(
            "no cluster is known: {e}; run in a pod with a ServiceAccount, or set KUBECONFIG"
        ))
    })?;
    let prefix = given.annotation_prefix.clone();
    if !prefix.ends_with('/') {
        return Err(Failure::refused(format!(
            "--annotation-prefix {prefix} does not end in /; write for example {}",
            names::PREFIX
        )));
    }
    let mut options = Options::of(Cluster {
        namespace: given
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone()),
        config,
        service: service.to_owned(),
        port: given.port.clone(),
        local: given.local,
        pod: given.pod_ip,
        cache: args.cache.clone(),
        tls: given.tls.backend(),
        resilience: resilience(given)?,
        proxy: entry(given),
    });
    options.prefix = prefix;
    options.token = match &args.token_file {
        Some(file) => read_token(file)?,
        None => random_token(),
    };
    Ok(options)
}

/// What the file of `--resilience` says; without one, the defaults.
fn resilience(given: &ClusterArgs) -> Result<ResilienceEntry, Failure> {
    let Some(path) = &given.resilience else {
        return Ok(ResilienceEntry::default());
    };
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::refused(format!(
            "--resilience {}: {e}; write keys of [service.resilience], such as tryTimeout = \"5s\"",
            path.display()
        ))
    };
    let text = fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let entry = toml::from_str(&text).map_err(|e| wrong(&e))?;
    Resilience::new(&entry, "resilience").map_err(|faults| wrong(&routes::report("resilience", &faults)))?;
    Ok(entry)
}

fn entry(given: &ClusterArgs) -> ProxyEntry {
    ProxyEntry {
        listen: given.listen.to_string(),
        signals: given.signals.to_string(),
        admin: given.admin.to_string(),
        drain_grace: given.drain_grace,
        drain_deadline: given.drain_deadline,
        debug_headers: given.allow_debug,
        ingress_nginx_metrics: given.ingress_nginx_metrics,
        trusted_proxies: given.trusted_proxies.clone(),
        proxy_protocol: given.tls.proxy_protocol,
        tls: given.tls.front(),
        access_log: AccessLogEntry {
            to: given.access_log.clone(),
            sample: given.access_log_sample,
            ..AccessLogEntry::default()
        },
        tracing: TracingEntry {
            otlp: given.otlp.clone(),
            sample: given.trace_sample,
        },
        ..ProxyEntry::default()
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught; stop the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Where a file, its state folder and its admin listener are.
pub struct Place {
    /// The state folder.
    pub state: PathBuf,
    /// The admin listener's address.
    pub admin: SocketAddr,
}

impl Place {
    /// Reads the file for it.
    pub fn of_file(path: &Path) -> Result<Place, Failure> {
        Ok(Place::of(path, &load(path)?))
    }

    /// Of a file that has been read.
    pub fn of(path: &Path, loaded: &Loaded) -> Place {
        let folder = path.parent().unwrap_or(Path::new(""));
        Place {
            state: folder.join(&loaded.file.controller.state),
            admin: loaded.settings.admin,
        }
    }

    /// Where the token is.
    pub fn token_file(&self) -> PathBuf {
        self.state.join(TOKEN_FILE)
    }

    /// Where the table cache is.
    pub fn cache_file(&self) -> PathBuf {
        self.state.join(CACHE_FILE)
    }

    /// The token: the one in the state folder, or a new one there.
    pub fn token(&self) -> Result<String, Failure> {
        let file = self.token_file();
        match read_token(&file) {
            Err(_) if !file.exists() => make_token(&self.state, &file),
            found => found,
        }
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    file::load(path, names::PREFIX).map_err(|e| match path.exists() {
        true => Failure::refused(e),
        false => Failure::refused(format!(
            "there is no file {0}; `serin run --example > {0}` makes one, `-f FILE` names another",
            path.display()
        )),
    })
}

/// Looks at the certificates and keys that a good file names.
pub fn check_certificates(path: &Path, loaded: &Loaded) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    proxy::tls::check(&loaded.file, folder)
        .map_err(|faults| Failure::refused(routes::report(&path.display().to_string(), &faults)))
}

/// Reads a token file.
pub fn read_token(file: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(file).map_err(|e| {
        Failure::refused(format!("cannot read the admin token {}: {e}; is `serin run` running with this state folder, by the same user?", file.display()))
    })?;
    let token = text.trim();
    if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Failure::refused(format!(
            "{} does not hold a token of at least 16 plain characters; remove it, and the next start makes one",
            file.display()
        )));
    }
    Ok(token.to_owned())
}

/// Makes the state folder and a random token in it that only this user can read.
fn make_token(folder: &Path, file: &Path) -> Result<String, Failure> {
    let token = random_token();
    write_private(folder, file, &token).map_err(|e| {
        Failure::refused(format!(
            "cannot write the admin token {}: {e}; choose a writable controller.state folder",
            file.display()
        ))
    })?;
    Ok(token)
}

/// 256 bits from the system, in hexadecimal digits.
pub fn random_token() -> String {
    (0..4)
        .map(|_| format!("{:016x}", proxy::entropy::bits()))
        .collect()
}

fn write_private(folder: &Path, file: &Path, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    writeln!(out, "{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_and_private() {
        let folder = std::env::temp_dir().join(format!("serin-token-{}", std::process::id()));
        let place = Place {
            state: folder.clone(),
            admin: SocketAddr::from(([127, 0, 0, 1], 1)),
        };
        let token = place.token().unwrap();
        assert_eq!((token.len(), place.token().unwrap()), (64, token));
        assert_eq!(
            fs::metadata(place.token_file()).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(place.token_file(), "short").unwrap();
        assert!(place.token().is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
