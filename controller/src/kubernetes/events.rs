//! Events on the Rollout: what `kubectl describe` tells.

use contract::{
    names::CONTROLLER,
    release::{Decision, Phase},
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Most octets of a note.
const LONGEST: usize = 1000;

/// Where events go.
#[derive(Clone)]
pub(super) struct Events {
    recorder: Recorder,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub reason: &'static str,
    pub text: String,
    pub warning: bool,
    /// What tells two notes with one reason apart: else the second is counted as a repetition of the first.
    pub action: String,
}

impl Events {
    /// As this controller.
    pub fn new(client: Client, identity: &str) -> Events {
        let reporter = Reporter {
            controller: CONTROLLER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        Events {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Posts a note; nothing waits for it.
    pub fn post(&self, about: ObjectReference, note: Note) {
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            let event = Event {
                type_: if note.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: note.reason.to_owned(),
                note: Some(short(&note.text)),
                action: note.action,
                secondary: None,
            };
            if let Err(e) = recorder.publish(&event, &about).await {
                tracing::warn!("an Event is not posted: {e}");
            }
        });
    }
}

impl Note {
    /// Of a decision.
    pub fn of(decision: &Decision) -> Note {
        Note {
            reason: reason(decision.from, decision.to),
            text: decision.reason.clone(),
            warning: matches!(
                decision.to,
                Phase::RollingBack | Phase::RolledBack | Phase::Undecided
            ),
            action: format!("Decision{}", decision.number),
        }
    }

    /// Something that somebody should mend.
    pub fn warning(reason: &'static str, text: impl Into<String>) -> Note {
        let text = text.into();
        Note {
            reason,
            action: format!(
                "{reason}{:08x}",
                contract::annotations::fnv1a(text.as_bytes()) as u32
            ),
            text,
            warning: true,
        }
    }
}

/// A decision in one word.
pub(super) fn reason(from: Phase, to: Phase) -> &'static str {
    match (from, to) {
        (_, Phase::Idle) => "ReleaseEnded",
        (_, Phase::Starting) => "ReleaseStarted",
        (_, Phase::Verifying) => "Verifying",
        (Phase::Paused, Phase::Shifting) => "Resumed",
        (Phase::Holding, Phase::Shifting) => "GoingOn",
        (Phase::Shifting, Phase::Shifting) => "WeightRaised",
        (_, Phase::Shifting) => "Shifting",
        (_, Phase::Holding) => "Holding",
        (_, Phase::Paused) => "Paused",
        (_, Phase::Promoting) => "Promoting",
        (_, Phase::Watching) => "Watching",
        (_, Phase::Succeeded) => "Promoted",
        (_, Phase::RollingBack) => "RollingBack",
        (_, Phase::RolledBack) => "RolledBack",
        (_, Phase::Undecided) => "Undecided",
    }
}

fn short(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::reference::{EVENTS, is_event};

    #[test]
    fn every_reason_is_in_the_table_as_what_it_is() {
        let mut reasons = vec!["NeedsMending", "ConfigRejected", "DeployRefused", "StateDamaged"];
        for (from, to) in Phase::ALL.iter().flat_map(|f| Phase::ALL.map(|t| (*f, t))) {
            reasons.push(reason(from, to));
        }
        assert!(reasons.iter().all(|r| is_event(r)), "{reasons:?}");
        assert!(EVENTS.iter().all(|e| reasons.contains(&e.reason)));
        for to in Phase::ALL {
            let decision = Decision {
                number: 1,
                at: 0.0,
                version: String::new(),
                release: String::new(),
                from: Phase::Idle,
                to,
                weight: contract::Split::NONE,
                reason: String::new(),
                by: String::new(),
                figures: contract::release::Figures::default(),
                explanation: None,
            };
            let note = Note::of(&decision);
            let told = EVENTS.iter().find(|e| e.reason == note.reason);
            assert_eq!(told.map(|e| e.warning), Some(note.warning), "{to}");
        }
    }
}
