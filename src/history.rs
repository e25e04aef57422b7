//! `serin history`: who, what, when and why.

use crate::{
    calls::{print_json, print_text, segment},
    cli::{HistoryArgs, Output},
    cluster,
    fail::Failure,
    guess, plane, view,
};
use proxy::contract::release::Decision;
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::ExitCode,
};

/// The record of a state folder.
const FILE: &str = "history.jsonl";

/// One line of a record.
#[derive(Deserialize)]
struct Line {
    service: String,
    #[serde(flatten)]
    decision: Decision,
}

/// `serin history`
pub fn main(args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let name = segment(&args.name)?;
    let decisions = match (&args.audit_log, args.at.is_cluster()) {
        (Some(file), _) => recorded(file, name)?,
        (None, true) => cluster::decisions(&args.at, name)?,
        (None, false) => {
            let place = plane::Place::of_file(&args.at.file())?;
            recorded(&place.state.join(FILE), name)?
        }
    };
    match args.output {
        Output::Json => print_json(&decisions)?,
        Output::Text => print_text(&page(&decisions)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The decisions of one service, oldest first, each number once. Lines that are torn are none.
fn recorded(file: &Path, name: &str) -> Result<Vec<Decision>, Failure> {
    let open = File::open(file).map_err(|e| {
        Failure::refused(format!(
            "cannot read the record {}: {e}; has `serin run` run with this file, or the controller with --audit-log?",
            file.display()
        ))
    })?;
    let (mut known, mut found) = (BTreeSet::new(), Vec::<Decision>::new());
    for text in BufReader::new(open).lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Line>(&text) else {
            continue;
        };
        // In a cluster the namespace stands before the name.
        let is_meant = line.service == name || line.service.rsplit('.').next() == Some(name);
        known.insert(line.service);
        if is_meant && found.iter().all(|d| d.number != line.decision.number) {
            found.push(line.decision);
        }
    }
    if found.is_empty() {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(Failure::refused(guess::absent("record of", name, &known)));
    }
    Ok(found)
}

/// One line a decision, newest last; the reason goes on as long as it is.
fn page(decisions: &[Decision]) -> String {
    let rows: Vec<[String; 7]> = decisions
        .iter()
        .map(|d| {
            [
                d.number.to_string(),
                view::moment(d.at),
                d.version.clone(),
                format!("{} -> {}", d.from, d.to),
                d.weight.to_string(),
                d.by.clone(),
                d.reason.clone(),
            ]
        })
        .collect();
    view::columns(["NO", "WHEN", "VERSION", "WHAT", "WEIGHT", "WHO", "WHY"], &rows)
}
