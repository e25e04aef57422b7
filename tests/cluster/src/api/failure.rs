//! What the API answers when it refuses: a `Status`, worded as the real server words it.

use super::kinds::Kind;
use serde_json::{Value, json};

/// A refusal with everything that its `Status` shows.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) details: Value,
    /// Seconds for `Retry-After`.
    pub(super) retry_after: Option<u32>,
}

/// One field that is wrong, as `details.causes` lists it.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) field: String,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            retry_after: None,
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    pub(super) fn unknown_path() -> Failure {
        Failure::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Failure {
        Failure::new(404, "NotFound", format!("{} {name:?} not found", kind.resource())).about(kind, name)
    }

    pub(super) fn exists(kind: &Kind, name: &str) -> Failure {
        Failure::new(
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", kind.resource()),
        )
        .about(kind, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Failure {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.resource()
        );
        Failure::new(409, "Conflict", message).about(kind, name)
    }

    pub(super) fn gone(wanted: u64, kept: u64) -> Failure {
        Failure::new(
            410,
            "Expired",
            format!("too old resource version: {wanted} ({kept})"),
        )
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Failure {
        Failure::new(403, "Forbidden", message)
    }

    /// 422 with its causes, worded like `Kind.group "name" is invalid: ...`.
    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Failure {
        let lines: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let text = if lines.len() == 1 {
            lines.concat()
        } else {
            format!("[{}]", lines.join(", "))
        };
        let message = format!("{} {name:?} is invalid: {text}", kind.qualified());
        let mut failure = Failure::new(422, "Invalid", message).about(kind, name);
        failure.details["kind"] = kind.kind.clone().into();
        failure.details["causes"] = causes.iter().map(Cause::shown).collect();
        failure
    }

    pub(super) fn about(mut self, kind: &Kind, name: &str) -> Failure {
        self.details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            self.details["group"] = kind.group.clone().into();
        }
        self
    }

    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        if let Some(seconds) = self.retry_after {
            status["details"]["retryAfterSeconds"] = seconds.into();
        }
        status
    }
}

impl Cause {
    pub(super) fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause {
            reason,
            field: field.into(),
            message: message.into(),
        }
    }

    pub(super) fn required(field: impl Into<String>, message: &str) -> Cause {
        let message = if message.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {message}")
        };
        Cause::new("FieldValueRequired", field, message)
    }

    pub(super) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
        Cause::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {}: {why}", shown(value)),
        )
    }

    fn shown(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// A value as the server's messages show it.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "\"object\"".into(),
        Value::Array(_) => "\"array\"".into(),
        other => other.to_string(),
    }
}
