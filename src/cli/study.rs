//! What can be typed to study a release before it happens: `serin plan` and `serin simulate`.

use super::Output;
use crate::simulate::{Threshold, World};
use clap::{Args, ValueEnum};
use proxy::contract::Span;
use std::path::PathBuf;

/// `serin plan`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin plan --rps 100 --baseline 0.001 --weight 10\n  serin plan --rps 100 --baseline 0.001 --weight 10 --p99 200ms\n  serin plan --rps 5 --baseline 0 --weight 50 --alpha 0.001\n  serin plan --rps 100 --baseline 0.001 --weight 10 --output json"
)]
pub struct PlanArgs {
    /// Requests a second, to both versions together
    #[arg(long, value_parser = traffic)]
    pub rps: f64,
    /// Share of bad answers that stable gives: 0.001 is 0.1 %
    #[arg(long, value_name = "SHARE", value_parser = baseline)]
    pub baseline: f64,
    /// Weight of the canary, percent
    #[arg(long, value_name = "PERCENT", value_parser = weight)]
    pub weight: f64,
    /// Chance of rolling back a healthy canary
    #[arg(long, value_name = "CHANCE", default_value_t = 0.01, value_parser = chance)]
    pub alpha: f64,
    /// Chance of promoting a canary beyond the promotion margin
    #[arg(long, value_name = "CHANCE", default_value_t = 0.05, value_parser = chance)]
    pub beta: f64,
    /// How much noisier errors are than independent ones: 1 for independent, more when they come in bursts
    #[arg(long, value_name = "RATIO", default_value_t = 1.0, value_parser = phi)]
    pub phi: f64,
    /// Stable's p99, such as 200ms: tells what latency can show. Latencies are taken for log-normal
    #[arg(long, value_name = "TIME")]
    pub p99: Option<Span>,
    /// Stable's p50 [default: a quarter of p99, a spread of 0.6]
    #[arg(long, value_name = "TIME", requires = "p99")]
    pub p50: Option<Span>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Which reference figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reference {
    /// Settings of the table of the statistics' reference
    Plain,
    /// The prototype with the defaults of a policy
    Defaults,
}

/// `serin simulate`
#[derive(Args)]
#[command(
    after_help = "The same arguments give the same figures, whatever the number of threads. FOUND are\nrollbacks of a canary that is worse than stable, others are false ones. BAD are the canary's bad\nanswers until the decision is in force, SLOW those beyond a healthy p99. MISCALIBRATED are releases\nthat the engine's watch over itself has held.\n\nExit code 1 with --aa when a lower bound is above alpha.\n\nExamples:\n  serin simulate\n  serin simulate policy.toml --rps 10,100,1000 --world healthy,5%,late\n  serin simulate --rival flagger --rival interval=30s,success=98,failures=2,first=10,step=10,max=50\n  serin simulate --world latency,tail,hang --weight 10 --alone\n  serin simulate --reference defaults\n  serin simulate --aa --reference --runs 2000"
)]
pub struct SimulateArgs {
    /// A TOML file with the words of [service.rollout]; without it, the defaults
    pub policy: Option<PathBuf>,
    /// Beside reference figures. Plain: as most of them were measured, errors alone, margin 1 + 0, a rise each second,
    /// soak 60 s, no watch. With `defaults`: a table of the engine with its defaults beside the statistics' prototype
    #[arg(long, value_enum, value_name = "WHICH", num_args = 0..=1, default_missing_value = "plain")]
    pub reference: Option<Reference>,
    /// Without what stable shows of its noise: neither dispersion nor the spread of pods is allowed for
    #[arg(long)]
    pub uncalibrated: bool,
    /// Requests a second, to both versions together [default: 100; with --aa: 10,100,1000]
    #[arg(long, value_delimiter = ',', value_parser = simulated)]
    pub rps: Vec<f64>,
    /// Share of bad answers that stable gives [default: 0.001; with --aa: 0.001,0.01,0.05]
    #[arg(long, value_name = "SHARE", value_delimiter = ',', value_parser = baseline)]
    pub baseline: Vec<f64>,
    /// Which worlds [default: all]
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "aa")]
    pub world: Vec<World>,
    /// A controller with fixed thresholds to compare with; several may be given [default: flagger and argo]
    ///
    /// `flagger`, `argo`, or words that change flagger's: `interval=1m` between checks, `success=99` percent below which
    /// a check fails, `p99=500ms` above which it fails (or `none`), `failures=5` that make it roll back, weights `first=5`, `step=5` and `max=50` percent, `checks=1`
    /// for each weight, `late=1` checks from decision to rollback; with commas between.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["aa", "alone", "weight"])]
    pub rival: Vec<Threshold>,
    /// Serin only
    #[arg(long)]
    pub alone: bool,
    /// Releases of each kind
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    /// Seed of everything
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long a release may take, hours
    #[arg(long, default_value_t = 1.0, value_parser = hours)]
    pub hours: f64,
    /// Seconds from the counts that prove a canary worse until weight 0 is in force
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub reaction: u64,
    /// A/A instead: false rollbacks of a healthy canary at fixed weights, by errors alone
    #[arg(long)]
    pub aa: bool,
    /// A/A with every metric of the policy: twice as long
    #[arg(long, requires = "aa")]
    pub all_metrics: bool,
    /// Fixed weights of Serin alone, percent, of a canary that is warm: nothing is promoted then [default: growing ones; with --aa: 1,5,10,50]
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', value_parser = weight)]
    pub weight: Vec<f64>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Less than a person may plan for: a second's counts must stay cheap to draw.
fn simulated(text: &str) -> Result<f64, String> {
    within(text, (0.001, 1e6), "requests a second, such as 100")
}

fn hours(text: &str) -> Result<f64, String> {
    within(text, (0.01, 1000.0), "hours, such as 1")
}

/// Requests a second.
fn traffic(text: &str) -> Result<f64, String> {
    within(text, (0.001, 1e7), "requests a second, such as 100")
}

/// A share of bad answers below which there is room for a worse canary.
fn baseline(text: &str) -> Result<f64, String> {
    within(
        text,
        (0.0, 0.9),
        "the share of bad answers, such as 0.001 for 0.1 %",
    )
}

/// Percent of the requests.
fn weight(text: &str) -> Result<f64, String> {
    within(
        text,
        (0.0001, 99.9),
        "the canary's percent of the requests, such as 10",
    )
}

/// The same bounds that a policy has.
fn chance(text: &str) -> Result<f64, String> {
    within(text, (1e-9, 0.5), "a chance, such as 0.01")
}

fn phi(text: &str) -> Result<f64, String> {
    within(
        text,
        (1.0, 1e4),
        "how many times noisier than independent errors, such as 2",
    )
}

/// A number between two bounds; NaN is in no range.
fn within(text: &str, (low, high): (f64, f64), what: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value
        .filter(|v| (low..=high).contains(v))
        .ok_or_else(|| format!("write {what}; from {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;
    use clap::Parser;

    fn plan(rest: &[&str]) -> Result<Cli, clap::Error> {
        let needed = ["serin", "plan", "--rps=10", "--baseline=0.001", "--weight=10"];
        Cli::try_parse_from(needed.iter().chain(rest))
    }

    #[test]
    fn a_wrong_number_gets_a_remedy() {
        assert!(plan(&[]).is_ok());
        for (bad, remedy) in [
            (
                "--alpha=0",
                "write a chance, such as 0.01; from 0.000000001 to 0.5",
            ),
            ("--beta=NaN", "write a chance"),
            ("--phi=0.5", "independent errors"),
        ] {
            let told = plan(&[bad]).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(told.contains(remedy), "{bad}: {told}");
        }
        for bad in [
            ["serin", "plan", "--rps=0", "--baseline=0", "--weight=10"],
            ["serin", "plan", "--rps=10", "--baseline=0.95", "--weight=10"],
            ["serin", "plan", "--rps=10", "--baseline=0", "--weight=100"],
        ] {
            let told = Cli::try_parse_from(bad)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default();
            assert!(told.contains("write "), "{told}");
        }
    }
}
