//! The audit log: one JSON line a decision, appended and never rewritten, in the words of a file's `history.jsonl`.

use super::api::Key;
use contract::release::Decision;
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The open file.
pub(super) struct Audit(Mutex<File>);

#[derive(Serialize)]
struct Line<'a> {
    service: String,
    #[serde(flatten)]
    decision: &'a Decision,
}

impl Audit {
    /// Goes on at its end.
    pub fn open(path: &Path) -> Result<Audit, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file =
            file.map_err(|e| format!("{}: {e}; name a writable file with --audit-log", path.display()));
        Ok(Audit(Mutex::new(file?)))
    }

    /// In one write, so that no line is torn by another. A full disk is told and stops nothing.
    pub fn append(&self, key: &Key, decision: &Decision) {
        let service = format!("{}.{}", key.namespace, key.name);
        let line = serde_json::to_string(&Line { service, decision }).map(|text| text + "\n");
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = line
            .map_err(Into::into)
            .and_then(|line| file.write_all(line.as_bytes()));
        if let Err(e) = written {
            tracing::warn!(rollout = %key, "a decision is not in the audit log: {e}");
        }
    }
}
