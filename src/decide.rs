//! `serin where`: asks a running proxy where a request would go, and why.

use crate::{
    calls::{Admin, print_json, print_text, segment},
    cli::{DecideArgs, Output},
    fail::Failure,
};
use proxy::contract::{
    admin::ServiceState,
    decision::{Decision, Question},
};
use std::{fmt::Write, process::ExitCode};

/// `serin where`
pub fn main(args: &DecideArgs) -> Result<ExitCode, Failure> {
    if args.at.is_cluster() {
        return Err(Failure::usage(
            "a proxy of a cluster listens for this in its own pod only: start it with --token-file, then \
             `kubectl port-forward POD 9902` and add --admin 127.0.0.1:9902 --token-file FILE",
        ));
    }
    let admin = Admin::find(&args.at)?;
    let state: ServiceState = admin.get(&format!("/services/{}", segment(&args.name)?))?;
    let decision: Decision = admin.post("/decide", &question(args, &state))?;
    match args.output {
        Output::Json => print_json(&decision)?,
        Output::Text => print_text(&text(&args.name, &decision)),
    }
    Ok(ExitCode::SUCCESS)
}

/// A whole URL names its host; else `--host` does, else a header, else the service's first host is meant.
fn question(args: &DecideArgs, state: &ServiceState) -> Question {
    let mut headers = args.headers.clone();
    let first = state.entry.hosts.first().unwrap_or(&state.entry.name);
    let names_host = |line: &String| line.to_ascii_lowercase().starts_with("host:");
    if let Some(host) = &args.host {
        headers.retain(|line| !names_host(line));
        headers.insert(0, format!("host: {host}"));
    } else if !args.url.contains("://") && !headers.iter().any(names_host) {
        headers.insert(0, format!("host: {first}"));
    }
    Question {
        method: args.method.clone(),
        url: args.url.clone(),
        headers,
        client: args.client,
    }
}

fn text(name: &str, told: &Decision) -> String {
    let mut out = format!("{}\n", told.headline());
    if told.refused.is_some() {
        return out;
    }
    // A text takes everything that is written to it.
    if told.service != name {
        let _ = writeln!(
            out,
            "the host {} belongs to the service {}, not to {name}",
            told.host, told.service
        );
    }
    let _ = writeln!(
        out,
        "\n  service    {}, {} to the canary, hash {}",
        told.service, told.split, told.hash
    );
    for step in &told.steps {
        let mark = if step.decides { '>' } else { ' ' };
        let _ = writeln!(out, "{mark} {:<10} {}", step.step, step.why);
    }
    let evidence = if told.evidence {
        "its outcome is evidence"
    } else {
        "its outcome is no evidence"
    };
    out.push('\n');
    for line in told.outcome.iter().map(String::as_str).chain([evidence]) {
        let _ = writeln!(out, "  {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy::contract::{decision::Step, names::Track};

    #[test]
    fn the_step_that_decides_is_marked() {
        let step = |step: &str, decides| Step {
            step: step.into(),
            decides,
            why: "because".into(),
        };
        let told = Decision {
            service: "echo".into(),
            steps: vec![step("header", false), step("weight", true)],
            reason: "weight".into(),
            chance: 0.1,
            split: "10 %".into(),
            ..Decision::default()
        };
        let text = text("echo", &told);
        assert!(
            text.starts_with("it goes to the canary with a chance of 10 %, decided by weight\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  header     because\n> weight     because\n"),
            "{text}"
        );
        let certain = Decision {
            track: Some(Track::Stable),
            ..told
        };
        assert!(certain.headline().contains("goes to stable"));
    }
}
