//! Where numbers come from: the proxies' pages, and the checks that a policy names.

mod http;
mod promql;
pub(crate) mod scrape;

use crate::probe::{send, take};
use contract::policy::Check;
use engine::{Checked, Plan};
use tokio::sync::oneshot;

/// Most of an answer that a check reads, in octets: it is to be one number.
const ANSWER_LIMIT: usize = 1024 * 1024;
/// Most characters of a foreign reason that are repeated: it goes into the saved state.
const LONGEST_REASON: usize = 160;

/// Checks under way for one service. They run beside the turns: no rollback ever waits for somebody else's server.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    release: String,
    open: Vec<Question>,
}

/// One check under way.
#[derive(Debug)]
struct Question {
    check: Check,
    answer: Option<oneshot::Receiver<Result<f64, String>>>,
}

impl Measures {
    /// Answers about an earlier canary, or to a question that has been edited, are not waited for.
    pub fn turn_to(&mut self, plan: &Plan) {
        if self.release != plan.canary.hash {
            self.release.clone_from(&plan.canary.hash);
            self.open.clear();
        }
        self.open
            .retain(|q| plan.policy.judgement.checks.contains(&q.check));
    }

    /// Asks for these checks, unless asking already.
    pub fn ask(&mut self, plan: &Plan, due: &[usize]) {
        for check in due.iter().filter_map(|i| plan.policy.judgement.checks.get(*i)) {
            if !self.open.iter().any(|q| q.check == *check) {
                self.open.push(Question {
                    answer: Some(question(check, plan)),
                    check: check.clone(),
                });
            }
        }
    }

    /// What has been answered, once; `now` is unix seconds.
    pub fn checked(&mut self, now: f64) -> Vec<Checked> {
        let mut checked = Vec::new();
        self.open.retain_mut(|q| {
            if let Some(outcome) = take(&mut q.answer) {
                checked.push(Checked {
                    name: q.check.name.clone(),
                    at: now,
                    outcome: outcome.map_err(|why| short(&why)),
                });
            }
            q.answer.is_some()
        });
        checked
    }
}

/// Asks, within the check's timeout.
fn question(check: &Check, plan: &Plan) -> oneshot::Receiver<Result<f64, String>> {
    let timeout = check.timeout.duration();
    match (&check.promql, &check.http) {
        (Some(promql), _) => {
            let (address, query) = (promql.address.clone(), promql::filled(&promql.query, plan));
            send(async move { promql::ask(&address, &query, timeout).await })
        }
        (None, Some(http)) => {
            let http = http.clone();
            send(async move { http::ask(&http, timeout).await })
        }
        (None, None) => send(async { Err("it asks nobody".to_owned()) }),
    }
}

/// A reason as it may stand in one line.
fn short(why: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = why.chars().take(LONGEST_REASON).map(plain).collect();
    if why.chars().nth(LONGEST_REASON).is_some() {
        text.push('…');
    }
    text
}
