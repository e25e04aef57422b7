//! `history.jsonl`: one decision a line, appended and synced, never rewritten.

use contract::release::Decision;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Its name.
const FILE: &str = "history.jsonl";
/// Decisions of one service that are kept in memory after reading: enough to know how releases ended.
const REMEMBERED: usize = 500;

/// The open file, and what was in it.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    /// Whether the last line lacks its end.
    torn: bool,
    read: BTreeMap<String, Vec<Decision>>,
    /// The last number on record, by service.
    last: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    service: String,
    #[serde(flatten)]
    decision: Decision,
}

/// Where the history of a folder is.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The decisions of one service, oldest first, as far as they can be read.
pub(super) fn decisions(path: &Path, service: &str) -> io::Result<impl Iterator<Item = Decision>> {
    let lines = BufReader::new(File::open(path)?).lines().map_while(Result::ok);
    let service = service.to_owned();
    Ok(lines
        .filter_map(|line| serde_json::from_str::<Line>(&line).ok())
        .filter(move |line| line.service == service)
        .map(|line| line.decision))
}

impl History {
    pub fn open(folder: &Path) -> io::Result<History> {
        let path = path(folder);
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        let torn = bytes.last().is_some_and(|b| *b != b'\n');
        let mut history = History {
            file,
            torn,
            read: BTreeMap::new(),
            last: BTreeMap::new(),
        };
        for (i, line) in bytes
            .split(|b| *b == b'\n')
            .enumerate()
            .filter(|(_, l)| !l.is_empty())
        {
            match serde_json::from_slice::<Line>(line) {
                Ok(line) => history.note(line),
                Err(e) => tracing::warn!(
                    "{}: line {} is torn or foreign and is skipped: {e}",
                    path.display(),
                    i + 1
                ),
            }
        }
        Ok(history)
    }

    fn note(&mut self, mut line: Line) {
        line.decision.explanation = None;
        let last = self.last.entry(line.service.clone()).or_default();
        *last = (*last).max(line.decision.number);
        let known = self.read.entry(line.service).or_default();
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push(line.decision);
    }

    /// The decisions that were on record at the start, once.
    pub fn of(&mut self, service: &str) -> Vec<Decision> {
        self.read.remove(service).unwrap_or_default()
    }

    /// Appends a decision with its explanation, unless its number is on record: then a turn is being repeated.
    pub fn append(&mut self, service: &str, decision: &Decision) -> io::Result<()> {
        if self
            .last
            .get(service)
            .is_some_and(|last| decision.number <= *last)
        {
            return Ok(());
        }
        let line = Line {
            service: service.to_owned(),
            decision: decision.clone(),
        };
        // A torn line is ended first, or this one would be lost with it.
        let mut text = if self.torn { "\n".to_owned() } else { String::new() };
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.torn = false;
        self.last.insert(line.service, decision.number);
        Ok(())
    }
}
