//! What can be typed: every command, flag and default, with the words of `--help`.

mod cluster;
mod control;
mod look;
mod migrate;
mod papers;
mod planes;
mod study;
mod tls;

pub use cluster::{ApproveArgs, DeployArgs, HistoryArgs, ManifestArgs, WatchArgs};
pub use control::ControllerArgs;
pub use look::{DecideArgs, ExplainArgs, ReplayArgs};
pub use migrate::MigrateArgs;
pub use papers::{CompletionsArgs, ManArgs, Shell};
pub use planes::{ClusterArgs, ProxyArgs};
pub use study::{PlanArgs, Reference, SimulateArgs};
pub use tls::TlsArgs;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use proxy::contract::Span;
use std::{net::SocketAddr, path::PathBuf};

/// Takes a new version of a service from canary to stable without anyone watching it.
#[derive(Parser)]
#[command(
    name = "serin",
    version,
    disable_help_subcommand = true,
    after_help = "Start here:\n  serin demo                     a good release, from canary to stable, in about a minute\n  serin demo --fault errors      a bad one, rolled back\n  serin run --example > serin.toml && serin run -f serin.toml\n\nExit codes: 0 as it should be (promoted, done), 1 rolled back or refused, 2 undecided or wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How much to log on standard error: error, warn, info, debug or trace [default: info for run and proxy, else warn]
    #[arg(long, global = true, env = "SERIN_LOG", value_name = "LEVEL")]
    pub log: Option<tracing::Level>,
}

impl Cli {
    /// What was typed; as `kubectl serin` its help says so.
    pub fn read() -> Cli {
        let mut command = Cli::command();
        if cluster::is_plugin() {
            command = command.name("kubectl-serin").bin_name("kubectl serin");
        }
        Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|e| e.exit())
    }
}

/// The modes.
#[derive(Subcommand)]
pub enum Command {
    /// Show the whole story on this machine: two versions, proxy, controller, traffic, a live view
    Demo(DemoArgs),
    /// Run both planes for real backends given in a file, without Kubernetes
    Run(RunArgs),
    /// Run the data plane alone, from a watched file or in front of a Service of a cluster
    Proxy(Box<ProxyArgs>),
    /// Run the control plane of a cluster
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinition of `Rollout`, for `kubectl apply -f -`
    Crd,
    /// Run the story's little application: `GET /` answers `version: v1.0.0`
    App(AppArgs),
    /// Ask a URL again and again, and show which version answers
    Ping(PingArgs),
    /// Show what a release can and cannot see at this traffic, and when, before it starts
    Plan(PlanArgs),
    /// Release thousands of canaries in virtual time, under Serin's engine and under models of fixed thresholds
    Simulate(SimulateArgs),
    /// Show where the releases stand
    Status(StatusArgs),
    /// Say in plain words why something was decided, or what it waits for
    Explain(ExplainArgs),
    /// Say where a request would go, and why
    Where(DecideArgs),
    /// Compute every decision of a log of blocks again, and compare bit for bit
    Replay(ReplayArgs),
    /// Set the canary's weight by hand; a release under way pauses
    Weight(WeightArgs),
    /// Promote the canary now, whatever the evidence says
    Promote(TargetArgs),
    /// Send everybody back to stable
    Abort(TargetArgs),
    /// Keep the weight as it is; a canary that turns out worse is still rolled back
    Pause(TargetArgs),
    /// Go on after a pause
    Resume(TargetArgs),
    /// Run a version again that was rolled back, with half the alpha and beta
    Retry(TargetArgs),
    /// Go back to the version before, also after it was promoted
    Undo(TargetArgs),
    /// Say yes at a gate
    Approve(ApproveArgs),
    /// Release an image in a cluster, and, for a pipeline, wait for how it ends
    Deploy(DeployArgs),
    /// Say who changed what, when and why
    History(HistoryArgs),
    /// Follow releases live
    Watch(WatchArgs),
    /// Put proxies in front of the Service of plain manifests
    Front(ManifestArgs),
    /// Put a proxy into each pod of plain manifests, as a sidecar
    Inject(ManifestArgs),
    /// Say in Serin's words what ingress-nginx, Flagger or Argo Rollouts was told
    Migrate(MigrateArgs),
    /// Print what bash, zsh or fish need to complete command lines
    Completions(CompletionsArgs),
    /// Print or write manual pages
    Man(ManArgs),
}

/// `serin demo`
#[derive(Args)]
#[command(
    after_help = "Exit code 0 when the story ended as it should: promoted without a fault, rolled back with one.\n\nExamples:\n  serin demo\n  serin demo --fault late --rps 400\n  serin demo --plain --seed 7 | tee demo.log"
)]
pub struct DemoArgs {
    /// What is wrong with the new version
    #[arg(long, value_enum, default_value_t = Fault::None)]
    pub fault: Fault,
    /// Requests a second from the load generator
    #[arg(long, default_value_t = 500.0, value_parser = rps)]
    pub rps: f64,
    /// Seed of traffic and faults (threads and clocks still differ from run to run)
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write everything that the decisions rest on to this file, for `serin replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// One line a change instead of the live view; the default when the output is no terminal
    #[arg(long)]
    pub plain: bool,
    /// Go on serving after the end, for whoever looks at the page, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
}

/// What is wrong with the demo's new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Nothing: it should be promoted
    None,
    /// One request in five is answered with 500
    Errors,
    /// Every answer takes 150 ms longer
    Latency,
    /// One request in five is never answered
    Hang,
    /// Good at first; after 15 s of traffic, half of the requests are answered with 500
    Late,
}

fn rps(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "write a number of requests a second, such as 500".to_owned())?;
    if (1.0..=20_000.0).contains(&value) {
        Ok(value)
    } else {
        Err("write 1 to 20000 requests a second".into())
    }
}

/// `serin run`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin run --example > serin.toml\n  serin run -f serin.toml --check\n  serin run -f serin.toml\n  serin status -f serin.toml"
)]
pub struct RunArgs {
    /// The file (TOML); it is watched, and a bad edit leaves the last good state in force
    #[arg(short, long, default_value = "serin.toml", value_name = "FILE")]
    pub file: PathBuf,
    /// Print a commented file to start from, and exit
    #[arg(long)]
    pub example: bool,
    /// Say everything that is wrong with the file, and exit
    #[arg(long)]
    pub check: bool,
}

/// `serin app`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin app --listen 127.0.0.1:8081 --version v1.0.0\n  serin app --listen 127.0.0.1:8082 --version v2.0.0 --errors 0.5 --late 30s"
)]
pub struct AppArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,
    /// What it calls itself
    #[arg(long, default_value = "v1.0.0")]
    pub version: String,
    /// Share of requests answered with 500
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub errors: f64,
    /// Share of requests that are never answered
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub hang: f64,
    /// Extra time before each answer
    #[arg(long, default_value = "0s")]
    pub latency: Span,
    /// Faults begin only so long after the first request
    #[arg(long, default_value = "0s")]
    pub late: Span,
    /// Faults only while this file exists
    #[arg(long, value_name = "FILE")]
    pub faults_while: Option<PathBuf>,
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long it still serves after SIGTERM, so that its clients learn of its end before it is gone
    #[arg(long, default_value = "1s")]
    pub drain: Span,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "write a share from 0 to 1, such as 0.05".to_owned())?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err("write a share from 0 to 1".into())
    }
}

/// `serin ping`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin ping http://127.0.0.1:8080/\n  serin ping http://127.0.0.1:8080/ --header 'x-canary: always' --count 20"
)]
pub struct PingArgs {
    /// What to ask, such as http://127.0.0.1:8080/
    pub url: String,
    /// Requests a second
    #[arg(long, default_value_t = 10.0, value_parser = rps)]
    pub rps: f64,
    /// Stop after so many requests; without it, go on until interrupted
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// A header to send, `name: value`; may be given several times
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For scripts
    Json,
}

/// Which running Serin is meant: one in a cluster, or one on this machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Which Serin")]
pub struct Where {
    /// In a cluster: the namespace [default: that of the context]
    #[arg(short, long, value_name = "NS", conflicts_with = "file")]
    pub namespace: Option<String>,
    /// In a cluster: the context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "CONTEXT", conflicts_with = "file")]
    pub context: Option<String>,
    /// In a cluster: the kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub kubeconfig: Option<PathBuf>,
    /// On this machine: the file that `serin run` was started with; its admin address and token are used [default: serin.toml]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Admin address, instead of the file's
    #[arg(long, env = "SERIN_ADMIN", value_name = "ADDRESS", requires = "token_file")]
    pub admin: Option<SocketAddr>,
    /// File with the admin token, instead of the one in the state folder
    #[arg(long, env = "SERIN_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// `serin status`
#[derive(Args)]
pub struct StatusArgs {
    /// One service; without it, all
    pub name: Option<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin weight`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin weight echo 10\n  serin weight echo 1 --total 3\n  serin weight echo 0 --cause 'looking into ticket 12'"
)]
pub struct WeightArgs {
    /// The service
    pub name: String,
    /// The weight: a plain decimal number from 0 to the total
    #[arg(allow_hyphen_values = true)]
    pub weight: String,
    /// What the weight is a share of
    #[arg(long, allow_hyphen_values = true)]
    pub total: Option<String>,
    /// Why, for the record
    #[arg(long)]
    pub cause: Option<String>,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// A command on one service.
#[derive(Args)]
pub struct TargetArgs {
    /// The service
    pub name: String,
    /// Why, for the record
    #[arg(long)]
    pub cause: Option<String>,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for bad in [
            ["serin", "demo", "--rps=0"],
            ["serin", "demo", "--rps=NaN"],
            ["serin", "app", "--errors=1.5"],
            ["serin", "app", "--late=5"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}
