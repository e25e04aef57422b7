//! `serin plan`: what a rollout can and cannot see, and when, before it starts (statistics 2f).

mod forecast;
mod latency;
mod page;

use crate::{
    calls::print_text,
    cli::{Output, PlanArgs},
    fail::Failure,
};
use forecast::Forecast;
use std::{
    io::{IsTerminal, stdout},
    process::ExitCode,
};

/// `serin plan`
pub fn main(args: &PlanArgs) -> Result<ExitCode, Failure> {
    let forecast = Forecast::of(args)?;
    match args.output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&forecast).map_err(Failure::refused)?
        ),
        Output::Text => print_text(&page::text(&forecast, stdout().is_terminal())),
    }
    Ok(ExitCode::SUCCESS)
}
