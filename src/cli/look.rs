//! Commands that look back at decisions.

use super::{Output, Where};
use clap::Args;
use std::{net::IpAddr, path::PathBuf};

/// `serin explain`
#[derive(Args)]
#[command(
    after_help = "Without --decision it explains the evidence as it stands now, or, when nothing is under way, the last decision that rests on evidence.\n\nExamples:\n  serin explain echo\n  serin explain echo --decision last\n  serin explain echo --decision 5 --output json"
)]
pub struct ExplainArgs {
    /// The service; not needed when there is but one
    pub name: Option<String>,
    /// A decision by its number, or `last`: the last one that rests on evidence
    #[arg(long, value_name = "N", value_parser = decision)]
    pub decision: Option<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

/// `serin replay`
#[derive(Args)]
#[command(
    after_help = "Exit code 0 when every decision comes out the same, bit for bit; 1 when one does not; 2 when there is nothing to compute.\n\nExamples:\n  serin replay serin-state/echo.blocks.jsonl\n  serin demo --fault errors --record demo.blocks.jsonl && serin replay demo.blocks.jsonl"
)]
pub struct ReplayArgs {
    /// The log of blocks: `NAME.blocks.jsonl` in the state folder, or what `serin demo --record` has written
    pub file: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `serin where`
#[derive(Args)]
#[command(
    after_help = "Nothing is sent, drawn or counted: the proxy is asked what it would do now.\n\nExamples:\n  serin where echo /\n  serin where echo '/beta?x=1' --method POST --header 'x-canary: always' --header 'cookie: canary=never'\n  serin where echo / --client 203.0.113.9 --output json"
)]
pub struct DecideArgs {
    /// The service
    pub name: String,
    /// Path and query
    #[arg(default_value = "/")]
    pub url: String,
    /// Method
    #[arg(long, short = 'X', default_value = "GET")]
    pub method: String,
    /// A header, `name: value`; may be given several times
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Host [default: the service's first]
    #[arg(long)]
    pub host: Option<String>,
    /// Address that the connection comes from [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub client: Option<IpAddr>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Which Serin.
    #[command(flatten)]
    pub at: Where,
}

fn decision(text: &str) -> Result<String, String> {
    let known = text == "last" || text.parse::<u64>().is_ok();
    let wrong =
        || "write a decision's number, or `last`; `serin status NAME --output json` has the numbers".into();
    known.then(|| text.to_owned()).ok_or_else(wrong)
}
