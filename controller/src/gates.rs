//! Asking gates: signed POSTs that run beside the turns, so that nothing ever waits for somebody else's server.

use crate::{
    client::Client,
    probe::{send, take},
};
use bytes::Bytes;
use contract::{
    names::HEADER_SIGNATURE,
    policy::{Address, At, Gate, Webhook},
    release::{Decision, Phase},
};
use engine::{Answered, Plan};
use http::{Request, StatusCode, header};
use ring::hmac;
use serde::Serialize;
use std::time::Duration;
use tokio::{sync::oneshot, time::sleep};

/// Tries of a gate that is told and not asked.
const TRIES: u32 = 5;
/// Pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Of an answer only the status counts.
const NOTHING: usize = 0;

/// What signs the requests; `None`: nothing does.
pub(crate) type Key = Option<hmac::Key>;

/// A key from secret octets.
pub(crate) fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

/// Gates of one release.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    release: String,
    open: Vec<Open>,
}

/// One question.
#[derive(Debug)]
struct Open {
    question: String,
    answer: Option<oneshot::Receiver<Result<(), String>>>,
    /// The last answer that was no yes: told again and again, for the sentence must last.
    refusal: Option<String>,
    /// Not before this is it asked again, unix seconds.
    next: f64,
    interval: f64,
}

/// What is posted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    gate: &'a str,
    at: At,
    /// The same until it is answered with yes; empty when it is told and not asked.
    question: &'a str,
    /// What would happen next, or what has happened.
    intent: &'a str,
    version: &'a str,
    stable_version: &'a str,
}

/// One gate that is to be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    pub plan: &'a Plan,
    /// Absent on one machine.
    pub namespace: Option<&'a str>,
    pub gate: usize,
    pub question: &'a str,
    pub intent: &'a str,
}

impl Gates {
    /// Answers about an earlier canary say nothing about this one.
    pub fn turn_to(&mut self, release: &str) {
        if self.release != release {
            *self = Gates {
                release: release.to_owned(),
                ..Gates::default()
            };
        }
    }

    /// Asks, unless asking already, or refused so lately that it is not time yet.
    pub fn ask(&mut self, asking: Asking, now: f64, key: &Key) {
        let Some((gate, hook)) = hook(asking.plan, asking.gate) else {
            return;
        };
        let known = self.open.iter().position(|o| o.question == asking.question);
        let at = known.unwrap_or_else(|| {
            self.open.push(Open::new(asking.question, hook));
            self.open.len() - 1
        });
        let Some(open) = self.open.get_mut(at) else { return };
        if open.answer.is_none() && now >= open.next {
            let post = message(&asking, gate).map(|body| post(hook, body, key));
            open.answer = post.map(|post| send(async move { post.await }));
        }
    }

    /// What has been answered: a yes once, anything else until it is asked again.
    pub fn answered(&mut self, now: f64) -> Vec<Answered> {
        let mut answers = Vec::new();
        self.open.retain_mut(|open| {
            match take(&mut open.answer) {
                Some(Ok(())) => {
                    answers.push(open.with(Ok(())));
                    return false;
                }
                Some(Err(why)) => {
                    open.refusal = Some(why);
                    open.next = now + open.interval;
                }
                None => {}
            }
            answers.extend(open.refusal.clone().map(|why| open.with(Err(why))));
            true
        });
        answers
    }

    /// Tells the gates that wait for an end about it. Nothing waits for them.
    pub fn tell(plan: &Plan, namespace: Option<&str>, decision: &Decision, key: &Key) {
        let at = match decision.to {
            Phase::Succeeded => At::AfterPromotion,
            Phase::RolledBack => At::AfterRollback,
            _ => return,
        };
        for (i, gate) in plan.policy.gates.iter().enumerate().filter(|(_, g)| g.at == at) {
            let asking = Asking {
                plan,
                namespace,
                gate: i,
                question: "",
                intent: &decision.reason,
            };
            if let (Some(hook), Some(body)) = (&gate.webhook, message(&asking, gate)) {
                tokio::spawn(insist(gate.name.clone(), hook.clone(), body, key.clone()));
            }
        }
    }
}

impl Open {
    fn new(question: &str, hook: &Webhook) -> Open {
        Open {
            question: question.to_owned(),
            answer: None,
            refusal: None,
            next: 0.0,
            interval: hook.interval.as_seconds(),
        }
    }

    fn with(&self, outcome: Result<(), String>) -> Answered {
        Answered {
            question: self.question.clone(),
            outcome,
        }
    }
}

fn hook(plan: &Plan, gate: usize) -> Option<(&Gate, &Webhook)> {
    let gate = plan.policy.gates.get(gate)?;
    Some((gate, gate.webhook.as_ref()?))
}

fn message(asking: &Asking, gate: &Gate) -> Option<Bytes> {
    let message = Message {
        service: &asking.plan.service,
        namespace: asking.namespace,
        gate: &gate.name,
        at: gate.at,
        question: asking.question,
        intent: asking.intent,
        version: &asking.plan.canary.name,
        stable_version: &asking.plan.stable.name,
    };
    serde_json::to_vec(&message).ok().map(Bytes::from)
}

/// The signature of a body, as the header has it.
fn signature(key: &hmac::Key, body: &[u8]) -> String {
    let tag = hmac::sign(key, body);
    let digits: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={digits}")
}

fn post(hook: &Webhook, body: Bytes, key: &Key) -> impl Future<Output = Result<(), String>> + Send + use<> {
    let (url, patience) = (hook.url.clone(), hook.timeout.duration());
    let signature = key.as_ref().map(|k| signature(k, &body));
    async move {
        let address = Address::of(&url).map_err(|(reason, _)| format!("its address {reason}"))?;
        let mut request = Request::post(&address.path).header(header::CONTENT_TYPE, "application/json");
        if let Some(signature) = signature {
            request = request.header(HEADER_SIGNATURE, signature);
        }
        let request = request
            .body(body)
            .map_err(|e| format!("its address cannot be asked: {e}"))?;
        let mut client = Client::new(address.authority, patience).limited(NOTHING);
        match client.call(request).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, _) => Err(refused(status)),
        }
    }
}

fn refused(status: StatusCode) -> String {
    format!("it answered {status}")
}

async fn insist(name: String, hook: Webhook, body: Bytes, key: Key) {
    let mut pause = PAUSE;
    for left in (0..TRIES).rev() {
        match post(&hook, body.clone(), &key).await {
            Ok(()) => return,
            Err(why) if left == 0 => {
                tracing::warn!(gate = name, "it was not told how the release ended: {why}")
            }
            Err(_) => sleep(pause).await,
        }
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_that_others_compute() {
        // RFC 4231, test case 2.
        let signed = signature(&key(b"Jefe"), b"what do ya want for nothing?");
        assert_eq!(
            signed,
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    fn plan(url: &str) -> Plan {
        let gate = |name: &str, at| Gate {
            name: name.into(),
            at,
            webhook: Some(Webhook {
                url: url.into(),
                timeout: contract::Span::seconds(1),
                interval: contract::Span::seconds(1),
            }),
        };
        let mut entry = contract::file::ServiceEntry {
            name: "echo".into(),
            ..Default::default()
        };
        entry.rollout.gates = vec![gate("board", At::BeforeStart)];
        Plan::of(&entry).unwrap()
    }

    /// Answers one connection with this status; what was asked.
    async fn answer(listener: &tokio::net::TcpListener, status: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"}") {
            let mut some = [0; 4096];
            let n = stream.read(&mut some).await.unwrap();
            read.extend_from_slice(&some[..n]);
        }
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        String::from_utf8(read).unwrap()
    }

    async fn settled(gates: &mut Gates, now: f64) -> Vec<Answered> {
        for _ in 0..200 {
            let answers = gates.answered(now);
            if !answers.is_empty() {
                return answers;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("no answer within 2 s");
    }

    #[tokio::test]
    async fn no_is_asked_again_after_its_interval_and_yes_is_told_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = plan(&format!("http://{}/serin", listener.local_addr().unwrap()));
        let signs = Some(key(b"secret"));
        let asking = Asking {
            plan: &plan,
            namespace: Some("shop"),
            gate: 0,
            question: "board@before-start",
            intent: "v2 gets its first request",
        };
        let mut gates = Gates::default();
        gates.ask(asking, 100.0, &signs);
        let asked = answer(&listener, "403 Forbidden").await;
        let body = asked.split("\r\n\r\n").nth(1).unwrap();
        assert!(asked.starts_with("POST /serin HTTP/1.1"), "{asked}");
        assert!(
            asked.contains(&signature(&key(b"secret"), body.as_bytes())),
            "{asked}"
        );
        assert!(body.contains(r#""question":"board@before-start""#), "{body}");
        let refused = settled(&mut gates, 100.0).await;
        assert_eq!(refused[0].outcome, Err("it answered 403 Forbidden".to_owned()));
        gates.ask(asking, 100.5, &signs);
        assert_eq!(
            gates.answered(100.5),
            refused,
            "the refusal lasts, and it is not time yet"
        );
        gates.ask(asking, 101.5, &signs);
        answer(&listener, "204 No Content").await;
        gates.open[0].refusal = None;
        assert_eq!(settled(&mut gates, 101.5).await[0].outcome, Ok(()));
        assert!(gates.answered(101.5).is_empty());
    }
}
