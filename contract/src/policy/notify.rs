//! Notifications: who is told what about a release. Nothing ever waits for them.

use super::check::Address;
use crate::{Fault, Span, release::Phase};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a text may speak of, in `{}`.
pub const WORDS: [&str; 10] = [
    "rollout",
    "namespace",
    "stable",
    "version",
    "from",
    "phase",
    "weight",
    "reason",
    "by",
    "number",
];
/// What is told when nothing else is asked for.
pub const TEXT: &str = "{rollout} {version}: {from} -> {phase}, weight {weight}: {reason} (by {by})";
/// What the names of environment variables with a URL begin with: a spec must not send the others away.
pub const VARIABLE: &str = "SERIN_NOTIFY_";
/// Most characters of a receiver's name: it stands in file names and in metrics.
const LONGEST_NAME: usize = 40;
/// Most characters of a text: chat services cut longer ones.
const LONGEST_TEXT: usize = 2000;

/// A receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Notify {
    /// Its name in logs and files: small letters, digits and `-`; each has its own.
    pub name: String,
    /// What is sent.
    #[serde(default)]
    pub format: Format,
    /// Where, such as `https://hooks.slack.com/services/…`; empty: as `urlFrom` says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Environment variable of the controller that holds the URL, for one that is a secret; begins with `SERIN_NOTIFY_`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url_from: String,
    /// Phases whose beginning is told; empty: every change of phase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Whether decisions within a phase are told too, such as a larger weight.
    #[serde(default)]
    pub weights: bool,
    /// The message, with `{rollout}`, `{phase}` and the like; `{{` is one brace.
    #[serde(default = "text")]
    pub text: String,
    /// Longest wait for an answer.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How old a message may become before it is given up.
    #[serde(default = "max_age")]
    pub max_age: Span,
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Everything that is known of the decision, as JSON.
    #[default]
    Json,
    /// `{"text": …}`, as Slack, Mattermost, Rocket.Chat and others take it.
    Slack,
}

fn text() -> String {
    TEXT.to_owned()
}

fn timeout() -> Span {
    Span::seconds(5)
}

fn max_age() -> Span {
    Span::seconds(3600)
}

impl Notify {
    /// Whether a decision from one phase to another is told.
    pub fn wants(&self, from: Phase, to: Phase) -> bool {
        let is_chosen = self.phases.is_empty() || self.phases.contains(&to);
        is_chosen && (from != to || self.weights)
    }

    /// The message; `word` says what a word stands for.
    pub fn fill(&self, word: impl Fn(&str) -> String) -> String {
        let parts = parts(&self.text).unwrap_or_default();
        parts
            .into_iter()
            .map(|part| match part {
                Part::Plain(text) => text.to_owned(),
                Part::Word(name) => word(name),
            })
            .collect()
    }

    fn faults(&self, key: &str) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |name: &str, value: &str, reason: &str, remedy: &str| {
            faults.push(Fault::new(format!("{key}.{name}"), value, reason, remedy));
        };
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.bytes().all(is_name) {
            fault(
                "name",
                &self.name,
                "is not a name",
                "write 1 to 40 small letters, digits or -, such as chat",
            );
        }
        match (self.url.is_empty(), self.url_from.is_empty()) {
            (true, true) => fault(
                "url",
                "",
                "is missing",
                "write the receiver's http:// or https:// address, or urlFrom",
            ),
            (false, false) => fault("urlFrom", &self.url_from, "stands beside url", "keep one of both"),
            (true, false) if !is_variable(&self.url_from) => fault(
                "urlFrom",
                &self.url_from,
                "is no variable that may hold a receiver",
                "write a name such as SERIN_NOTIFY_CHAT, and set it where the controller runs",
            ),
            (false, true) => {
                if let Err((reason, remedy)) = Address::secure(&self.url) {
                    // The path of such a URL is often its password.
                    let shown: String = self.url.chars().take_while(|c| *c != '@').take(24).collect();
                    fault("url", &format!("{shown}…"), reason, remedy);
                }
            }
            (true, false) => {}
        }
        if let Err(wrong) = parts(&self.text) {
            let near = format!("write one of {{{}}}; {{{{ is one brace", WORDS.join("}, {"));
            fault("text", &wrong, "is no word that a text may speak of", &near);
        }
        if self.text.trim().is_empty() || self.text.chars().count() > LONGEST_TEXT {
            fault(
                "text",
                "",
                "is empty or longer than 2000 characters",
                "leave it out, or write a sentence",
            );
        }
        for (name, span, least, most) in [
            ("timeout", self.timeout, 0.1, 60.0),
            ("maxAge", self.max_age, 1.0, 86_400.0),
        ] {
            if !(least..=most).contains(&span.as_seconds()) {
                let reason = format!("is not between {least} s and {most} s");
                fault(
                    name,
                    &span.to_string(),
                    &reason,
                    "write for example 5s, and 1h for maxAge",
                );
            }
        }
        faults
    }
}

fn is_variable(name: &str) -> bool {
    let rest = name.strip_prefix(VARIABLE).unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

enum Part<'a> {
    Plain(&'a str),
    Word(&'a str),
}

/// A text in its parts, or what in it is no word.
fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (plain, from) = rest.split_at(at);
        parts.push(Part::Plain(plain));
        if from.starts_with("{{") || from.starts_with("}}") {
            let (brace, after) = from.split_at(1);
            parts.push(Part::Plain(brace));
            rest = after.get(1..).unwrap_or_default();
            continue;
        }
        let end = from.find('}').filter(|_| from.starts_with('{'));
        let end = end.ok_or_else(|| from.chars().take(20).collect::<String>())?;
        let word = from.get(1..end).unwrap_or_default();
        if !WORDS.contains(&word) {
            return Err(format!("{{{word}}}"));
        }
        parts.push(Part::Word(word));
        rest = from.get(end + 1..).unwrap_or_default();
    }
    parts.push(Part::Plain(rest));
    Ok(parts)
}

/// Everything that is wrong with these receivers; `key` is where the list stands.
pub(super) fn faults(all: &[Notify], key: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, notify) in all.iter().enumerate() {
        let place = format!("{key}[{i}]");
        faults.extend(notify.faults(&place));
        if all.iter().take(i).any(|n| n.name == notify.name) {
            let remedy = "give each receiver its own name";
            faults.push(Fault::new(
                format!("{place}.name"),
                &notify.name,
                "is taken by an earlier receiver",
                remedy,
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Notify {
        serde_json::from_str(json).unwrap()
    }

    fn keys(json: &str) -> Vec<String> {
        faults(&[of(json)], "n").into_iter().map(|f| f.key).collect()
    }

    #[test]
    fn two_words_are_enough() {
        let n = of(r#"{"name":"chat","url":"https://hooks.example.org/x"}"#);
        assert_eq!(faults(std::slice::from_ref(&n), "n"), []);
        assert!(n.wants(Phase::Shifting, Phase::RollingBack) && !n.wants(Phase::Shifting, Phase::Shifting));
        let text = n.fill(|word| format!("<{word}>"));
        assert_eq!(
            text,
            "<rollout> <version>: <from> -> <phase>, weight <weight>: <reason> (by <by>)"
        );
    }

    #[test]
    fn chosen_phases_alone_are_told() {
        let n = of(r#"{"name":"chat","url":"http://a/","phases":["RollingBack"],"weights":true}"#);
        assert!(n.wants(Phase::Shifting, Phase::RollingBack) && !n.wants(Phase::Idle, Phase::Starting));
        assert!(
            serde_json::from_str::<Notify>(r#"{"name":"a","url":"http://a","phases":["Rollback"]}"#).is_err()
        );
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(keys(r#"{"name":"A b","url":"http://a/"}"#), ["n[0].name"]);
        assert_eq!(keys(r#"{"name":"a"}"#), ["n[0].url"]);
        assert_eq!(keys(r#"{"name":"a","url":"ftp://a"}"#), ["n[0].url"]);
        assert_eq!(
            keys(r#"{"name":"a","url":"http://a","urlFrom":"SERIN_NOTIFY_A"}"#),
            ["n[0].urlFrom"]
        );
        assert_eq!(keys(r#"{"name":"a","urlFrom":"AWS_SECRET"}"#), ["n[0].urlFrom"]);
        assert_eq!(
            keys(r#"{"name":"a","url":"http://a","timeout":"0s"}"#),
            ["n[0].timeout"]
        );
        assert_eq!(keys(r#"{"name":"a","url":"http://a","text":" "}"#), ["n[0].text"]);
        for bad in ["{phse}", "{", "a } b", "{phase", "{}"] {
            let json = serde_json::json!({"name": "a", "url": "http://a", "text": bad}).to_string();
            assert_eq!(keys(&json), ["n[0].text"], "{bad}");
        }
        let two = [
            of(r#"{"name":"a","url":"http://a"}"#),
            of(r#"{"name":"a","url":"http://b"}"#),
        ];
        assert_eq!(faults(&two, "n")[0].key, "n[1].name");
        let secret = of(r#"{"name":"a","url":"https://hooks.example.org:99999/T000/secret"}"#);
        let shown = faults(&[secret], "n")[0].to_string();
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn braces_can_be_written() {
        let n = of(r#"{"name":"a","url":"http://a","text":"{{{phase}}} {{x}}"}"#);
        assert_eq!(n.fill(|_| "P".into()), "{P} {x}");
    }
}
