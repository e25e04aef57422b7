//! A line a change: for pipes and the logs of pipelines, or for scripts as JSON.

use super::{
    Sight, all_ended,
    feed::{Feed, News},
};
use crate::{
    calls::{is_printed, print_text},
    ci::Pipeline,
    cli::{Output, WatchArgs},
    cluster::now,
    fail::Failure,
    view,
};
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// The longest sleep; news ends it.
const TICK: Duration = Duration::from_secs(1);

/// Prints until the end that was asked for, or until nothing can be seen.
pub fn tell(args: &WatchArgs, feed: &Feed) -> Result<ExitCode, Failure> {
    let mut shown = BTreeMap::new();
    loop {
        match feed.next(TICK) {
            Some(News::Sights(all)) => {
                let mut is_read = true;
                for sight in &all {
                    is_read &= news(sight, args, &mut shown)?;
                }
                if !is_read && !args.wait {
                    return Ok(ExitCode::SUCCESS);
                }
                if let Some(code) = all_ended(&all).filter(|_| args.wait) {
                    finish(&all, args);
                    return Ok(ExitCode::from(code));
                }
            }
            Some(News::Lost(why)) => tracing::info!("{why}"),
            Some(News::End(failure)) => return Err(failure),
            Some(News::Answer(_) | News::Stop(_)) | None => {}
        }
    }
}

/// Whether anybody reads.
fn news(sight: &Sight, args: &WatchArgs, shown: &mut BTreeMap<String, String>) -> Result<bool, Failure> {
    let key = essence(sight);
    if shown.get(&sight.name) == Some(&key) {
        return Ok(true);
    }
    shown.insert(sight.name.clone(), key);
    let text = match args.output {
        Output::Text => format!("{} {}\n", view::clock(now()), line(sight)),
        Output::Json => json(sight)?,
    };
    Ok(is_printed(&text))
}

/// What makes a change: counts alone would be a line a second.
pub fn essence(sight: &Sight) -> String {
    let s = &sight.status;
    let words: String = s
        .reason
        .chars()
        .filter(|c| !c.is_ascii_digit() && *c != '.')
        .collect();
    let last = s.decisions.last().map_or(0, |d| d.number);
    format!(
        "{} {} {:?} {last} {words} {:?}",
        s.phase,
        s.weight_column(),
        s.verdict,
        sight.needs_you
    )
}

/// Name, phase, weight, counts and reason.
pub fn line(sight: &Sight) -> String {
    let (s, f) = (&sight.status, &sight.status.figures);
    let ill = sight
        .needs_you
        .as_ref()
        .map_or(String::new(), |ill| format!(" [{ill}]"));
    format!(
        "{} {:<11} weight {:<7} canary {} bad, stable {} bad: {}{ill}",
        sight.name,
        s.phase,
        s.weight_column(),
        f.canary,
        f.stable,
        s.reason
    )
}

fn json(sight: &Sight) -> Result<String, Failure> {
    let mut value = serde_json::to_value(sight).map_err(Failure::refused)?;
    value["at"] = now().into();
    Ok(format!("{value}\n"))
}

/// Details first, where a log can fold them; the reason stands on the last line.
fn finish(all: &[Sight], args: &WatchArgs) {
    if args.output == Output::Json {
        return;
    }
    for sight in all {
        if let Some(pipeline) = Pipeline::here() {
            let title = format!("{}: counts, evidence and decisions", sight.name);
            let key = format!("serin_{}", sight.name);
            print_text(&pipeline.section(&key, &title, &view::detail(&sight.status), now()));
        }
    }
    for sight in all {
        print_text(&format!(
            "{}: {}: {}\n",
            sight.name,
            sight.status.phase,
            view::why(&sight.status)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::sight::tests::sight;

    #[test]
    fn counts_alone_are_no_change_and_a_weight_is() {
        let (mut a, b) = (sight("echo"), sight("echo"));
        a.status.figures.canary.requests += 7;
        a.status.reason = "waiting for evidence".into();
        assert_eq!(essence(&a), essence(&b));
        a.status.taken = None;
        assert_ne!(essence(&a), essence(&b));
        assert_eq!(
            line(&b),
            "echo Shifting    weight 10/10   canary 3 of 812 bad, stable 9 of 9000 bad: waiting for evidence"
        );
    }

    #[test]
    fn a_line_of_json_is_one_line_with_name_time_and_status() {
        let text = json(&sight("echo")).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["name"], "echo");
        assert_eq!(value["status"]["phase"], "Shifting");
        assert!(value["at"].as_f64().unwrap() > 0.0);
    }
}
