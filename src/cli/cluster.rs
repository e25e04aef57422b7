//! Commands for a cluster, and which Serin a command means.

use super::{Output, Where};
use clap::Args;
use proxy::contract::Span;
use std::{
    env,
    path::{Path, PathBuf},
};

/// The file that is meant when none is named.
const FILE: &str = "serin.toml";

/// `serin deploy`
#[derive(Args)]
#[command(
    after_help = "Exit code 0: promoted, or stable runs the image already; 1: rolled back or refused; 2: undecided, or the timeout has passed. Without --wait: 0 when it is written down.\n\nExamples:\n  serin deploy echo --image registry.example.org/echo:v2.0.0 --wait\n  serin deploy echo --image server=registry.example.org/echo:v2.0.0 --cause 'ticket 12'\n  serin deploy echo --wait                   the release that is under way, such as one of `kubectl apply -f canary.yml`"
)]
pub struct DeployArgs {
    /// The rollout
    pub name: String,
    /// The image to release; not needed to wait for a release that is under way
    #[arg(long, required_unless_present = "wait")]
    pub image: Option<String>,
    /// Which container gets it [default: the only one]
    #[arg(long, requires = "image")]
    pub container: Option<String>,
    /// Why, for the record
    #[arg(long)]
    pub cause: Option<String>,
    /// Follow the release, and end as it ends
    #[arg(long)]
    pub wait: bool,
    /// Longest wait; the release goes on after it
    #[arg(long, default_value = "2h", value_name = "TIME", requires = "wait")]
    pub timeout: Span,
    /// How the end is printed; with json, the lines on the way go to standard error
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin watch`
#[derive(Args)]
#[command(
    after_help = "In a terminal: ? explains the keys. In a pipe: one line a change; in GitLab and GitHub, details fold.\n\nExamples:\n  serin watch                     all releases of this machine, or of the namespace\n  serin watch echo\n  serin watch echo --wait         end as the release ends: 0 promoted, 1 rolled back, 2 undecided\n  serin watch --output json | jq -r '.name + \" \" + .status.phase'"
)]
pub struct WatchArgs {
    /// The rollouts; without a name, all
    pub names: Vec<String>,
    /// One line a change instead of the live view; the default when the output is no terminal
    #[arg(long)]
    pub plain: bool,
    /// With json: one line of JSON a change
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// End when the releases have ended: 0 promoted or none under way, 1 rolled back, 2 undecided
    #[arg(long)]
    pub wait: bool,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin history`
#[derive(Args)]
#[command(
    after_help = "On a machine: all of state/history.jsonl. In a cluster: what the status keeps, or with --audit-log everything.\n\nExamples:\n  serin history echo\n  serin history echo --output json | jq -r '.[] | select(.by != \"serin-controller\") | .reason'"
)]
pub struct HistoryArgs {
    /// The service
    pub name: String,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Read this audit log of a controller, instead of the state folder or the status
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin approve`
#[derive(Args)]
#[command(after_help = "Example:\n  serin approve echo change-board --cause 'ticket 12'")]
pub struct ApproveArgs {
    /// The service
    pub name: String,
    /// The gate
    pub gate: String,
    /// Why, for the record
    #[arg(long)]
    pub cause: Option<String>,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin front` and `serin inject`
#[derive(Args)]
#[command(
    after_help = "Reads Deployments and Services, prints all documents of the file with what it takes to release behind Serin. A document that needs no change is printed as it stands. What is changed and can be changed no further stays: running it twice gives the same.\n\nExamples:\n  serin front -f app.yaml | kubectl apply -f -\n  serin inject -f app.yaml --service echo | kubectl apply -f -\n  serin front -f fronted.yaml --undo"
)]
pub struct ManifestArgs {
    /// The manifests (YAML); - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// The Service that clients call [default: the only one with a selector]
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// How many proxies, where they are pods of their own
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub proxies: u32,
    /// The image with Serin in it
    #[arg(long, default_value = "serin:dev", env = "SERIN_IMAGE")]
    pub image: String,
    /// The namespace of what names none: `kubectl apply -n` must say the same
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// Give the plain manifests back
    #[arg(long)]
    pub undo: bool,
}

impl Where {
    /// The file that is meant.
    pub fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| FILE.into())
    }

    /// Whether a cluster is meant: it is named, or nothing else is there to be meant.
    pub fn is_cluster(&self) -> bool {
        let named = self.namespace.is_some() || self.context.is_some() || self.kubeconfig.is_some();
        let local = self.file.is_some() || self.admin.is_some();
        named || !local && (is_plugin() || !Path::new(FILE).exists() && knows_a_cluster())
    }
}

/// Whether the program was called as `kubectl serin`.
pub fn is_plugin() -> bool {
    let called = env::args_os().next().map(PathBuf::from);
    called.is_some_and(|path| path.file_stem().is_some_and(|name| name == "kubectl-serin"))
}

fn knows_a_cluster() -> bool {
    let home = env::home_dir().map(|home| home.join(".kube/config"));
    env::var_os("KUBECONFIG").is_some_and(|v| !v.is_empty())
        || env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || home.is_some_and(|file| file.exists())
}
