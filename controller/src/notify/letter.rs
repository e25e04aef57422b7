//! One message, as it is kept and sent.

use contract::{
    policy::{Format, Notify},
    release::Decision,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Whom and what a decision is about.
pub(crate) struct Words<'a> {
    pub rollout: &'a str,
    /// Empty without Kubernetes.
    pub namespace: &'a str,
    pub stable: &'a str,
    pub decision: &'a Decision,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Letter {
    /// Of the decision: the same however often it is sent.
    pub id: String,
    /// The decision's number: grows from message to message.
    pub sequence: u64,
    /// When it was decided: unix seconds.
    pub at: f64,
    pub body: String,
}

impl Words<'_> {
    /// The release's place: `echo`, or `shop.echo` in a cluster.
    pub fn identity(&self) -> String {
        match self.namespace {
            "" => self.rollout.to_owned(),
            space => format!("{space}.{}", self.rollout),
        }
    }

    fn word(&self, name: &str) -> String {
        let d = self.decision;
        match name {
            "rollout" => self.rollout.to_owned(),
            "namespace" => self.namespace.to_owned(),
            "stable" => self.stable.to_owned(),
            "version" => d.version.clone(),
            "from" => d.from.to_string(),
            "phase" => d.to.to_string(),
            "weight" => d.weight.to_string(),
            "reason" => d.reason.clone(),
            "by" => d.by.clone(),
            "number" => d.number.to_string(),
            // Others are refused where the text is read.
            _ => String::new(),
        }
    }
}

impl Letter {
    /// As this receiver wants it.
    pub fn new(receiver: &Notify, words: &Words<'_>) -> Letter {
        let d = words.decision;
        let id = format!("{}/{}", words.identity(), d.number);
        let text = receiver.fill(|word| words.word(word));
        let body = match receiver.format {
            Format::Slack => json!({ "text": text }),
            Format::Json => json!({
                "id": id,
                "sequence": d.number,
                "at": d.at,
                "rollout": words.rollout,
                "namespace": words.namespace,
                "stable": words.stable,
                "version": d.version,
                "release": d.release,
                "from": d.from,
                "phase": d.to,
                "weight": d.weight,
                "reason": d.reason,
                "by": d.by,
                "figures": d.figures,
                "text": text,
            }),
        };
        Letter {
            id,
            sequence: d.number,
            at: d.at,
            body: body.to_string(),
        }
    }
}
