//! What becomes of each field of the three sources: one table for the program, its messages and docs/migrate.md.

use super::{argo, flagger, ingress};
use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// Longest part of a value that is shown.
const SHOWN: usize = 60;

/// A field of theirs.
pub struct Field {
    /// Where it stands; `[]` for the items of a list. What is deeper and not named is meant too.
    pub path: &'static str,
    /// Where it goes; empty: nowhere.
    pub ours: &'static str,
    /// What is different, and what to do instead; empty: nothing.
    pub note: &'static str,
}

/// A field that means the same here.
pub const fn same(path: &'static str, ours: &'static str) -> Field {
    Field { path, ours, note: "" }
}

/// A field that goes somewhere, with a difference.
pub const fn differs(path: &'static str, ours: &'static str, note: &'static str) -> Field {
    Field { path, ours, note }
}

/// A field that goes nowhere.
pub const fn gone(path: &'static str, note: &'static str) -> Field {
    Field { path, ours: "", note }
}

/// Something that was not carried, or is meant differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What was read.
    pub object: String,
    /// Which field.
    pub key: String,
    /// What it says, shortened.
    pub value: String,
    /// Why, and what to do instead.
    pub why: String,
}

impl Loss {
    /// Of a field.
    pub fn new(object: &str, key: impl Into<String>, value: &Value, why: impl Into<String>) -> Loss {
        Loss {
            object: object.to_owned(),
            key: key.into(),
            value: shown(value),
            why: why.into(),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = format!("{} {}: {}: {}", self.object, self.key, self.value, self.why);
        f.write_str(&line(&all))
    }
}

/// One line of it, whatever it holds: nothing may end a comment early.
pub fn line(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() || c == '\u{2028}' || c == '\u{2029}' || c == '\u{85}' {
            ' '
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => line(text),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Goes through everything that an object says: a field with a note is told, one that is not in the table too.
pub fn losses(fields: &[Field], object: &str, path: &str, value: &Value) -> Vec<Loss> {
    let mut walk = Walk {
        fields,
        object,
        losses: Vec::new(),
    };
    walk.at(path.to_owned(), path.to_owned(), value);
    walk.losses
}

struct Walk<'a> {
    fields: &'a [Field],
    object: &'a str,
    losses: Vec<Loss>,
}

impl Walk<'_> {
    /// `path` as in the table, `key` with the places in lists.
    fn at(&mut self, path: String, key: String, value: &Value) {
        let field = self.fields.iter().find(|f| f.path == path);
        let is_below = |f: &&Field| {
            f.path
                .strip_prefix(&path)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let has_more = self.fields.iter().any(|f| is_below(&f));
        // What is switched off is what it is here, but for what is on by itself there.
        if value.is_null() || *value == false && !path.ends_with("Enabled") {
            return;
        }
        if let Some(field) = field.filter(|f| !f.note.is_empty()) {
            self.losses.push(Loss::new(self.object, &key, value, field.note));
        }
        match value {
            Value::Object(map) if has_more => map
                .iter()
                .for_each(|(name, v)| self.at(format!("{path}.{name}"), format!("{key}.{name}"), v)),
            Value::Array(items) if has_more => items
                .iter()
                .enumerate()
                .for_each(|(i, v)| self.at(format!("{path}[]"), format!("{key}[{i}]"), v)),
            _ if field.is_none() => {
                let why = "is not known here, so it was left out; look it up in the source's documentation, and see `serin crd`";
                self.losses.push(Loss::new(self.object, key, value, why));
            }
            _ => {}
        }
    }
}

/// The three tables, as docs/migrate.md has them.
pub fn page() -> String {
    let tables: [(&str, &[Field]); 3] = [
        ("ingress-nginx: annotations of Ingresses", ingress::FIELDS),
        ("Flagger: Canary (flagger.app/v1beta1)", flagger::FIELDS),
        ("Argo Rollouts: Rollout (argoproj.io/v1alpha1)", argo::FIELDS),
    ];
    tables.map(|(title, fields)| table(title, fields)).join("\n")
}

fn table(title: &str, fields: &[Field]) -> String {
    let mut out =
        format!("### {title}\n\n| theirs | ours | what is different, and what to do |\n|---|---|---|\n");
    for field in fields {
        let ours = if field.ours.is_empty() {
            "not carried".to_owned()
        } else {
            format!("`{}`", field.ours)
        };
        let note = if field.note.is_empty() {
            "the same"
        } else {
            field.note
        };
        let cell = |text: &str| text.replace('|', "\\|");
        out.push_str(&format!(
            "| `{}` | {} | {} |\n",
            cell(field.path),
            cell(&ours),
            cell(note)
        ));
    }
    out
}
