//! Commands against a cluster: they read Rollouts, give orders by annotations, and wait for what comes of them.

mod deploy;
mod ending;
mod follow;
mod order;
mod page;
mod rollout;
mod trouble;
mod weight;

pub use deploy::main as deploy;
pub use page::now;

use crate::{
    app::local_runtime,
    calls::{print_json, print_text},
    cli::{ExplainArgs, Output, StatusArgs, WeightArgs, Where},
    fail::Failure,
    watch::Sight,
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use proxy::contract::release::{Command, Decision};
use rollout::Rollout;
use std::{process::ExitCode, time::Duration};
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

/// Tells how the Rollouts stand, all or those of these names, whenever one changes; until nobody listens any more.
pub fn follow(at: &Where, names: &[String], tell: impl FnMut(Vec<Sight>) -> bool) -> Result<(), Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(at).await?;
        for name in names {
            cluster.rollout(name).await?;
        }
        cluster.rollouts().await?;
        follow::follow(&cluster, names, tell).await
    })
}

/// The decisions that a status keeps, oldest first.
pub fn decisions(at: &Where, name: &str) -> Result<Vec<Decision>, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(at).await?;
        Ok(cluster.rollout(name).await?.status.decisions)
    })
}

/// One order, and the controller's answer.
pub fn order(at: &Where, name: &str, command: Command, cause: Option<&str>) -> Result<String, Failure> {
    local_runtime()?.block_on(async {
        let cluster = Cluster::connect(at).await?;
        Ok(order::give(&cluster, name, command, cause).await?.0)
    })
}
