//! `serin explain`: why, for people who were not there.

mod call;
mod numbers;
mod page;
mod parts;

pub use call::answer;

use crate::{
    calls::{Admin, print_json, print_text, segment},
    cli::{ExplainArgs, Output},
    cluster,
    fail::Failure,
};
use proxy::contract::{
    explanation::Explanation,
    release::{Decision, Status},
};
use serde::Serialize;
use std::{io::IsTerminal, process::ExitCode};

/// Everything that is known of one decision, or of where a release stands now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Where the release stands.
    #[serde(skip)]
    pub status: Status,
    /// The service.
    pub service: String,
    /// `None`: nothing is decided, this is how it stands.
    pub decision: Option<Decision>,
    /// `None`: it rests on no evidence.
    pub explanation: Option<Explanation>,
}

/// `serin explain`
pub fn main(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    if args.at.is_cluster() {
        return cluster::explain(args);
    }
    let admin = Admin::find(&args.at)?;
    let status = release(&admin, args.name.as_deref())?;
    let account = account(&admin, status, args.decision.as_deref())?;
    match args.output {
        Output::Json => print_json(&account)?,
        Output::Text => print_text(&dressed(page::page(&account))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Headings stand out in a terminal; a pipe gets plain text.
fn dressed(page: String) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return page;
    }
    let line = |line: &str| match line {
        text if text.is_empty() || text.starts_with(' ') => format!("{text}\n"),
        heading => format!("\x1b[1m{heading}\x1b[0m\n"),
    };
    page.lines().map(line).collect()
}

/// The one that is named, or the only one.
fn release(admin: &Admin, name: Option<&str>) -> Result<Status, Failure> {
    if let Some(name) = name {
        return admin.release(name);
    }
    let mut all: Vec<Status> = admin.get("/rollouts")?;
    let names: Vec<String> = all.iter().map(|s| s.service.clone()).collect();
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Failure::refused(
            "no service is known yet; `serin status` lists them",
        )),
        (Some(_), false) => Err(Failure::usage(format!("say which service: {}", names.join(", ")))),
    }
}

fn account(admin: &Admin, status: Status, decision: Option<&str>) -> Result<Account, Failure> {
    let path = format!("/rollouts/{}", segment(&status.service)?);
    let recorded = |which: &str| admin.get(&format!("{path}/decisions/{which}"));
    if let Some(which) = decision {
        return Ok(of_decision(status, recorded(which)?));
    }
    let now: Option<Explanation> = admin.get(&format!("{path}/explanation"))?;
    match now {
        None if !status.decisions.is_empty() => Ok(of_decision(status, recorded("last")?)),
        explanation => Ok(Account {
            service: status.service.clone(),
            status,
            decision: None,
            explanation,
        }),
    }
}

fn of_decision(status: Status, mut decision: Decision) -> Account {
    let explanation = decision.explanation.take().map(|e| *e);
    Account {
        service: status.service.clone(),
        status,
        decision: Some(decision),
        explanation,
    }
}
