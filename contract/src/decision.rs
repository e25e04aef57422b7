//! Where a request would go, and why: the words of `POST /decide` on the admin listener.

use crate::names::Track;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A request that nobody sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Question {
    /// Its method.
    pub method: String,
    /// Path and query, or a whole URL with the host.
    pub url: String,
    /// Its header lines, `name: value`.
    pub headers: Vec<String>,
    /// The address that its connection comes from; whether that is believed about others, the settings decide.
    pub client: Option<IpAddr>,
}

impl Default for Question {
    fn default() -> Question {
        Question {
            method: "GET".into(),
            url: "/".into(),
            headers: Vec::new(),
            client: None,
        }
    }
}

/// Where it would go, with the table that is in force now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Why it would be refused before a track is chosen: then nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// The service that answers to its host.
    pub service: String,
    /// Its host, as it was asked for.
    pub host: String,
    /// The client, as the choice sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// What was looked at, in this order, up to what decided.
    pub steps: Vec<Step>,
    /// The step that decided: `header`, `cookie`, `match`, `cohort` or `weight`.
    pub reason: String,
    /// The track; none where chance decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<Track>,
    /// The chance that it goes to the canary, from 0 to 1.
    pub chance: f64,
    /// The bucket of its user, below 1 000 000, where users are split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// Whether its outcome is evidence.
    pub evidence: bool,
    /// The split in force, in words, and its hash.
    pub split: String,
    /// See `split`.
    pub hash: String,
    /// Endpoints of stable and of the canary.
    pub endpoints: [usize; 2],
    /// Who serves in the end, and what happens when that fails: one sentence each.
    pub outcome: Vec<String>,
}

impl Decision {
    /// The answer in one sentence.
    pub fn headline(&self) -> String {
        if let Some(refused) = &self.refused {
            return format!("it would be refused with {}: {}", refused.status, refused.error);
        }
        // Six digits are those that a weight may have.
        let percent = (self.chance * 1e8).round() / 1e6;
        match self.track {
            Some(track) => format!("it goes to {}, decided by {}", track.name(), self.reason),
            None => format!(
                "it goes to the canary with a chance of {percent} %, decided by {}",
                self.reason
            ),
        }
    }
}

/// A request that would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The status that it would get.
    pub status: u16,
    /// The kind of failure.
    pub kind: String,
    /// The sentence that it would get.
    pub error: String,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `header`, `cookie`, `match`, `cohort` or `weight`.
    pub step: String,
    /// Whether it decided.
    pub decides: bool,
    /// What was found.
    pub why: String,
}
