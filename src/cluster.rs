//! Commands against a cluster: they read Rollouts, give orders by annotations, and wait for what comes of them.

mod deploy;
mod ending;
mod order;
mod page;
mod rollout;
mod trouble;
mod weight;

pub use deploy::main as deploy;

use crate::{
    app::local_runtime,
    calls::{print_json, print_text},
    cli::{ExplainArgs, Output, StatusArgs, WatchArgs, WeightArgs, Where},
    fail::Failure,
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use proxy::contract::release::Command;
use rollout::Rollout;
use std::{io::IsTerminal, process::ExitCode, time::Duration};
use tokio::time::timeout;
use trouble::Trouble;

/// Field manager of what people write by commands.
const MANAGER: &str = "serin";
/// Longest wait for the API server, and for the controller to take something up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, and the namespace that is meant.
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    /// By kubeconfig and context, or by the account of the pod.
    pub async fn connect(at: &Where) -> Result<Cluster, Failure> {
        let mut config = config(at).await.map_err(Failure::usage)?;
        config.connect_timeout = Some(PATIENCE / 2);
        let namespace = at
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config)
            .map_err(|e| Failure::usage(format!("this kubeconfig cannot be used: {e}")))?;
        Ok(Cluster { client, namespace })
    }

    /// The answer to one question, in time.
    async fn ask<T>(&self, question: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        match timeout(PATIENCE, question).await {
            Ok(answer) => answer.map_err(Trouble::from),
            Err(_) => Err(Trouble::unreachable("no answer within 10 s")),
        }
    }
}

async fn config(at: &Where) -> Result<Config, String> {
    let remedy = "give --kubeconfig FILE, set KUBECONFIG, or name a file of `serin run` with -f";
    let options = KubeConfigOptions {
        context: at.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &at.kubeconfig {
        let named = format!("the kubeconfig {} cannot be used", file.display());
        let read = Kubeconfig::read_from(file).map_err(|e| format!("{named}: {e}; {remedy}"))?;
        let config = Config::from_custom_kubeconfig(read, &options).await;
        return config.map_err(|e| format!("{named}: {e}; `kubectl config get-contexts` lists the contexts"));
    }
    if at.context.is_some() {
        let config = Config::from_kubeconfig(&options).await;
        return config.map_err(|e| format!("no such context: {e}; `kubectl config get-contexts` lists them"));
    }
    Config::infer()
        .await
        .map_err(|e| format!("no cluster is known: {e}; {remedy}"))
}

/// `serin status`
pub fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.at).await?;
        let all = match &args.name {
            Some(name) => vec![cluster.rollout(name).await?],
            None => cluster.rollouts().await?,
        };
        match (args.output, &args.name) {
            (Output::Json, Some(_)) => print_json(&all[0].told())?,
            (Output::Json, None) => print_json(&all.iter().map(Rollout::told).collect::<Vec<_>>())?,
            (Output::Text, Some(_)) => print_text(&page::detail(&all[0])),
            (Output::Text, None) => print_text(&page::table(&all, &cluster.namespace)),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `serin promote`, `abort`, `pause`, `resume`, `retry`, `undo`, `approve`
pub fn command(at: &Where, name: &str, command: Command, cause: Option<&str>) -> Result<ExitCode, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(at).await?;
        let (answer, rollout) = order::give(&cluster, name, command, cause).await?;
        if !answer.is_empty() {
            print_text(&format!("{answer}\n"));
        }
        print_text(&page::table(&[rollout], &cluster.namespace));
        Ok(ExitCode::SUCCESS)
    })
}

/// `serin weight`
pub fn weight(args: &WeightArgs, split: proxy::contract::Split) -> Result<ExitCode, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.at).await?;
        weight::set(&cluster, &args.name, split, args.cause.as_deref()).await
    })
}

/// `serin explain`
pub fn explain(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.at).await?;
        let rollout = cluster.named_or_only(args.name.as_deref()).await?;
        let decision = page::decision(&rollout, args.decision.as_deref())?;
        match args.output {
            Output::Json => print_json(&decision)?,
            Output::Text => print_text(&page::account(&rollout, decision)),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `serin watch`, until it is interrupted or the Rollout is deleted.
pub fn watch(args: &WatchArgs) -> Result<ExitCode, Failure> {
    let is_plain = args.plain || !std::io::stdout().is_terminal();
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.at).await?;
        let first = cluster.rollout(&args.name).await?;
        let mut changes = std::pin::pin!(cluster.changes(&first.name));
        let (mut shown, mut rollout) = (String::new(), first);
        loop {
            shown = if is_plain {
                page::next_line(&rollout, &shown)
            } else {
                page::screen(&rollout)
            };
            rollout = rollout::next(&mut changes, &args.name).await?;
        }
    })
}
