//! What a data plane is started with, and why one is not.

use crate::{
    admin,
    config::Settings,
    source::{
        file::{self, LoadError},
        kubernetes::Cluster,
    },
};
use contract::{Fault, routes};
use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What a data plane is started with.
#[derive(Clone)]
pub struct Options {
    /// The watched file.
    pub file: PathBuf,
    /// Instead of a file: its text. Nothing is read or watched; [`crate::Running::reload`] changes it.
    pub text: Option<String>,
    /// Instead of a file: a Service of a cluster, watched.
    pub cluster: Option<Cluster>,
    /// Prefix of the annotation keys.
    pub prefix: String,
    /// Token of the admin listener; an empty one lets nobody in.
    pub token: String,
    /// Where annotations set by admin calls are kept across restarts.
    pub cache: Option<PathBuf>,
    /// Answers admin calls that are not the proxy's; the token has been checked.
    pub extra_admin: Option<admin::Extra>,
    /// Pages of the admin listener that tell nothing by themselves, and so need no token.
    pub pages: Option<admin::Pages>,
    /// Instead of the file's `proxy.listen`.
    pub listen: Option<SocketAddr>,
    /// Instead of the file's `proxy.signals`.
    pub signals: Option<SocketAddr>,
    /// Instead of the file's `proxy.admin`.
    pub admin: Option<SocketAddr>,
    /// Instead of the file's `proxy.workers`.
    pub workers: Option<usize>,
}

impl Options {
    /// A file, and nothing else said.
    pub fn new(file: impl Into<PathBuf>, token: impl Into<String>) -> Options {
        Options {
            file: file.into(),
            text: None,
            cluster: None,
            prefix: contract::names::PREFIX.to_owned(),
            token: token.into(),
            cache: None,
            extra_admin: None,
            pages: None,
            listen: None,
            signals: None,
            admin: None,
            workers: None,
        }
    }

    /// A Service of a cluster, and nothing else said. Without a token nobody may make admin calls.
    pub fn of(cluster: Cluster) -> Options {
        Options {
            cluster: Some(cluster),
            ..Options::new("", "")
        }
    }

    /// What relative names of files count from.
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Where it was said, for messages.
    pub(crate) fn source(&self) -> String {
        match self.cluster {
            Some(_) => "options".to_owned(),
            None => self.file.display().to_string(),
        }
    }

    /// What the listeners and limits are to be, and the loaded file if there is one.
    pub(crate) fn settings(&self) -> Result<(Settings, Option<file::Loaded>), StartError> {
        let Some(cluster) = &self.cluster else {
            let loaded = self.load()?;
            return Ok((self.over(loaded.settings.clone())?, Some(loaded)));
        };
        let settings = Settings::from_entry(&cluster.proxy);
        let mut settings = settings.map_err(|f| StartError::Faults("options".to_owned(), f))?;
        if let Some(namespace) = &mut settings.ingress_nginx {
            namespace.clone_from(&cluster.namespace);
        }
        Ok((self.over(settings)?, None))
    }

    /// The file, read and checked; or the text in its place.
    fn load(&self) -> Result<file::Loaded, StartError> {
        match &self.text {
            None => file::load(&self.file, &self.prefix).map_err(StartError::Load),
            Some(text) => file::parse(text.clone(), &self.prefix)
                .map_err(|faults| StartError::Load(LoadError::Faults(self.file.clone(), faults))),
        }
    }

    /// The file's settings, and what is said instead.
    fn over(&self, mut settings: Settings) -> Result<Settings, StartError> {
        settings.listen = self.listen.unwrap_or(settings.listen);
        settings.signals = self.signals.unwrap_or(settings.signals);
        settings.admin = self.admin.unwrap_or(settings.admin);
        settings.workers = self.workers.filter(|w| *w > 0).unwrap_or(settings.workers);
        if settings.admin.ip().is_loopback() {
            return Ok(settings);
        }
        let remedy = "use a loopback address such as 127.0.0.1:9902";
        let address = settings.admin.to_string();
        let fault = Fault::new("admin", &address, "can be reached from other machines", remedy);
        Err(StartError::Faults("options".to_owned(), vec![fault]))
    }
}

/// Why a data plane did not start.
#[derive(Debug)]
pub enum StartError {
    /// The file is not good.
    Load(LoadError),
    /// Something else that was given is not good.
    Faults(String, Vec<Fault>),
    /// A listener could not be opened.
    Listen(&'static str, SocketAddr, io::Error),
    /// The access log cannot be opened.
    AccessLog(io::Error),
    /// The cluster cannot be spoken to as it was given.
    Cluster(String),
    /// A thread or a runtime could not be made.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Load(e) => e.fmt(f),
            StartError::Faults(source, faults) => f.write_str(&routes::report(source, faults)),
            StartError::Listen(key, address, e) => write!(
                f,
                "proxy.{key} = \"{address}\": {e}; stop what uses the address, or choose another one"
            ),
            StartError::AccessLog(e) => write!(
                f,
                "proxy.accessLog.to cannot be opened: {e}; name a file in a folder that can be written, or stdout"
            ),
            StartError::Cluster(e) => {
                write!(
                    f,
                    "the cluster cannot be spoken to: {e}; check the kubeconfig or the ServiceAccount"
                )
            }
            StartError::Thread(e) => {
                write!(f, "a thread cannot be started: {e}; raise the limit of processes")
            }
        }
    }
}

impl std::error::Error for StartError {}
