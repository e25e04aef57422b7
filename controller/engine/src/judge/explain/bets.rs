//! What the evidence bets on, in words.

use stats::{
    errors::{Alternative, ErrorProcess},
    latency::{LatencyProcess, Slower},
};

/// What was learned during the run, whatever it is.
const LEARNED: &str = "learned from the canary's own past";

/// Each bet on `what`, with its share in the evidence of its process.
pub(super) fn of_errors(process: &ErrorProcess, what: &str) -> Vec<(String, f64)> {
    let shares = process.shares().into_iter();
    shares.map(|(bet, share)| (error(bet, what), share)).collect()
}

/// The same of latency.
pub(super) fn of_latency(process: &LatencyProcess) -> Vec<(String, f64)> {
    let shares = process.shares().into_iter();
    shares.map(|(bet, share)| (slower(bet), share)).collect()
}

fn error(bet: Alternative, what: &str) -> String {
    match bet {
        Alternative::Times1_5 => format!("{what} near x1.5"),
        Alternative::Times3 => format!("{what} near x3"),
        Alternative::Times10 => format!("{what} near x10"),
        Alternative::Tenth => format!("{what}: near 1 request in 10"),
        Alternative::Half => format!("{what}: near half of all requests"),
        Alternative::NineTenths => format!("{what}: nearly all requests"),
        Alternative::Learned => LEARNED.to_owned(),
    }
}

fn slower(bet: Slower) -> String {
    match bet {
        Slower::Tail { tail, times } => format!(
            "the slowest {} of requests {} as many",
            percent(tail),
            factor(times)
        ),
        Slower::Ranks { .. } | Slower::Scores { .. } => "everything a little slower".to_owned(),
        Slower::Everything { times } => format!("everything {}", slow(times)),
        Slower::Part { share, times } => format!("{} of requests {}", percent(share), slow(times)),
        Slower::Learned => LEARNED.to_owned(),
    }
}

fn slow(times: f64) -> String {
    if times < 2.0 {
        format!("{} slower", percent(times - 1.0))
    } else {
        format!("{} slower", factor(times))
    }
}

fn factor(times: f64) -> String {
    format!("{times} times")
}

fn percent(share: f64) -> String {
    crate::words::percent(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bets_read_as_sentences_do() {
        let part = Slower::Part {
            share: 0.01,
            times: 10.0,
        };
        let tail = Slower::Tail {
            tail: 0.0001,
            times: 600.0,
        };
        let words = [Slower::Everything { times: 1.25 }, part, tail].map(slower);
        assert_eq!(
            words,
            [
                "everything 25 % slower",
                "1 % of requests 10 times slower",
                "the slowest 0.01 % of requests 600 times as many"
            ]
        );
        assert_eq!(error(Alternative::Times10, "errors"), "errors near x10");
    }
}
