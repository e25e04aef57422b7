//! What can be typed to come from elsewhere.

use super::Output;
use clap::Args;
use std::path::PathBuf;

/// `serin migrate`
#[derive(Args)]
#[command(
    after_help = "Reads canary Ingresses of ingress-nginx (with their primary Ingress), Canaries of Flagger and Rollouts of Argo, and prints what \
                  Serin needs instead. What is not carried, or is meant differently, is told on standard error and in comments: key, value, why, \
                  and what to do. Give Services and Deployments too, and the proxies come along.\n\nExit code 0: something was carried, whatever \
                  was lost; 2: nothing could be read.\n\nExamples:\n  serin migrate canary.yaml > serin.yaml\n  kubectl get canary,deployment -n \
                  shop -o yaml | serin migrate - | less\n  serin migrate rollout.yaml --output json | jq .losses"
)]
pub struct MigrateArgs {
    /// Their objects (YAML, several documents or a list); - is standard input
    #[arg(value_name = "FILE", required_unless_present = "fields")]
    pub file: Option<PathBuf>,
    /// How the result is printed: YAML to apply, or {objects, losses}
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// How many proxies
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub proxies: u32,
    /// The image with Serin in it
    #[arg(long, default_value = "serin:dev", env = "SERIN_IMAGE")]
    pub image: String,
    /// The namespace of what names none: `kubectl apply -n` must say the same
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// Print what becomes of each of their fields, as tables, and exit
    #[arg(long)]
    pub fields: bool,
}
