//! Questions to people's own programs: signed POSTs, each asked until it is answered with yes.

use crate::{
    client::Client,
    probe::{send, take},
};
use bytes::Bytes;
use contract::{
    policy::{Address, At, Gate, Webhook},
    release::{Decision, Phase},
};
use engine::{Answered, Plan};
use http::{Request, StatusCode, header};
use ring::hmac;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::oneshot, time::Instant};

/// Header with the signature of the body.
const SIGNATURE: &str = "x-serin-signature";
/// Attempts to tell what nobody waits for, and the time between two.
const TELLINGS: u32 = 5;
const BETWEEN: Duration = Duration::from_secs(2);
/// Octets of an answer that are read: only its status counts.
const LIMIT: usize = 0;

/// What a webhook is told.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Question {
    /// The Rollout, or the service of a file.
    pub rollout: String,
    /// Its namespace; empty without Kubernetes.
    pub namespace: String,
    /// The gate's name.
    pub gate: String,
    /// When it is asked.
    pub at: String,
    /// Identity of the question: the same until it is answered.
    pub question: String,
    /// What would happen next.
    pub intent: String,
    /// The version on trial.
    pub version: String,
    /// The weight in force.
    pub weight: String,
    /// The phase.
    pub phase: String,
    /// What happened last.
    pub reason: String,
}

/// Questions under way for one service.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    release: String,
    open: BTreeMap<String, Asked>,
}

#[derive(Debug)]
struct Asked {
    next: Instant,
    answer: Option<oneshot::Receiver<Result<(), String>>>,
}

impl Question {
    /// What is always said; where, what and why follow.
    pub fn of(gate: &Gate, plan: &Plan) -> Question {
        Question {
            rollout: plan.service.clone(),
            namespace: String::new(),
            gate: gate.name.clone(),
            at: gate.at.to_string(),
            question: String::new(),
            intent: String::new(),
            version: plan.canary.name.clone(),
            weight: String::new(),
            phase: String::new(),
            reason: String::new(),
        }
    }

    /// News of a decision.
    pub fn after(gate: &Gate, plan: &Plan, decision: &Decision) -> Question {
        Question {
            question: format!("{}/{}", gate.name, decision.number),
            version: decision.version.clone(),
            weight: decision.weight.to_string(),
            phase: decision.to.to_string(),
            reason: decision.reason.clone(),
            ..Question::of(gate, plan)
        }
    }
}

/// The gates that are told of the end of a release.
pub(crate) fn told(plan: &Plan, phase: Phase) -> impl Iterator<Item = (&Gate, &Webhook)> {
    let at = match phase {
        Phase::Succeeded => Some(At::AfterPromotion),
        Phase::RolledBack => Some(At::AfterRollback),
        _ => None,
    };
    let gates = plan.policy.gates.iter().filter(move |g| Some(g.at) == at);
    gates.filter_map(|g| Some((g, g.webhook.as_ref()?)))
}

impl Gates {
    /// Answers about an earlier release say nothing about this one.
    pub fn turn_to(&mut self, release: &str) {
        if self.release != release {
            release.clone_into(&mut self.release);
            self.open.clear();
        }
    }

    /// Asks, unless it is being asked, or was a moment ago.
    pub fn ask(&mut self, hook: &Webhook, question: Question, key: &str) {
        let now = Instant::now();
        let asked = self.open.get(&question.question);
        if asked.is_some_and(|a| a.answer.is_some() || now < a.next) {
            return;
        }
        let (hook, key) = (hook.clone(), key.to_owned());
        let asked = Asked {
            next: now + hook.interval.duration(),
            answer: Some(send({
                let question = question.clone();
                async move { post(&hook, &question, &key).await }
            })),
        };
        self.open.insert(question.question, asked);
    }

    /// What has been answered, once.
    pub fn answered(&mut self) -> Vec<Answered> {
        let answers = self.open.iter_mut().filter_map(|(question, asked)| {
            let outcome = take(&mut asked.answer)?;
            Some(Answered {
                question: question.clone(),
                outcome,
            })
        });
        answers.collect()
    }
}

/// Tells what has happened; nothing waits for it.
pub(crate) fn tell(hook: &Webhook, news: Question, key: &str) {
    let (hook, key) = (hook.clone(), key.to_owned());
    tokio::spawn(async move {
        for attempt in 1..=TELLINGS {
            match post(&hook, &news, &key).await {
                Ok(()) => return,
                Err(why) if attempt == TELLINGS => {
                    tracing::warn!(gate = news.gate, "{} was not told: {why}", hook.url);
                }
                Err(_) => tokio::time::sleep(BETWEEN).await,
            }
        }
    });
}

async fn post(hook: &Webhook, question: &Question, key: &str) -> Result<(), String> {
    let body = serde_json::to_vec(question).map_err(|e| e.to_string())?;
    let address = Address::of(&hook.url).map_err(|(reason, _)| format!("its address {reason}"))?;
    let request = Request::post(&address.path)
        .header(header::CONTENT_TYPE, "application/json")
        .header(SIGNATURE, signature(key, &body))
        .body(Bytes::from(body))
        .map_err(|e| format!("its address cannot be asked: {e}"))?;
    let mut client = Client::new(address.authority, hook.timeout.duration()).limited(LIMIT);
    match client.call(request).await? {
        (status, _) if status.is_success() => Ok(()),
        (StatusCode::FORBIDDEN, _) => Err("it said no (403)".to_owned()),
        (status, _) => Err(format!("it answered {status}")),
    }
}

/// The body signed with a key that both sides know.
pub(crate) fn signature(key: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, body);
    let digits: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_usual_hmac() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }
}
