//! The state folder: one `<service>.state.json`, one log of blocks and the courses of the last releases a service, the
//! `history.jsonl` of all decisions, and a lock.
//!
//! A state file is written beside its place, synced, and renamed, so it is whole or the one before. What cannot be
//! trusted is set aside and never obeyed; the history then tells which releases have ended already.

mod history;
mod records;
mod shelf;

pub(crate) use records::{Recent, Records, Which};
pub(crate) use shelf::{Shelf, read as read_series};

use crate::blocks::Blocks;
use contract::{annotations::fnv1a, release::Decision};
use engine::{Entry, SCHEMA, State};
use history::History;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Held while a controller lives.
const LOCK: &str = "controller.lock";
/// What the names of state files end with.
const ENDING: &str = ".state.json";

/// Where states and decisions are kept.
#[derive(Debug)]
pub(crate) enum Store {
    /// Nowhere: a demonstration that leaves nothing behind, and runs where nothing can be written.
    Memory(Memory),
    /// In a folder of this controller alone.
    Folder(Folder),
}

/// What is kept while the process lives.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    decisions: Recent,
    /// Where somebody wants the blocks all the same.
    blocks: Option<Blocks>,
}

/// The folder of one controller.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: PathBuf,
    history: History,
    blocks: Blocks,
    /// Released by the system when the process ends, however it does.
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// Another controller holds it.
    Held(PathBuf),
    /// It cannot be made, read or written.
    Io(PathBuf, io::Error),
}

/// The first line of a state file; the state is the second.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: u32,
    service: String,
    /// FNV-1a of the second line: against torn writes and editors, not against intent.
    sum: String,
}

impl Store {
    /// Makes the folder if it is absent, locks it, reads the history.
    pub fn open(folder: &Path) -> Result<Store, Unusable> {
        Folder::open(folder).map(Store::Folder)
    }

    /// Without a folder; the blocks go to a file if there is one.
    pub fn in_memory(blocks: Option<&Path>) -> io::Result<Store> {
        Ok(Store::Memory(Memory {
            decisions: Recent::default(),
            blocks: blocks.map(Blocks::in_file).transpose()?,
        }))
    }

    /// Where decisions can be looked up, from any thread.
    pub fn records(&self) -> Records {
        match self {
            Store::Memory(m) => Records::Memory(m.decisions.clone()),
            Store::Folder(f) => Records::File(history::path(&f.folder)),
        }
    }

    /// Its folder; `None`: there is none.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Store::Memory(_) => None,
            Store::Folder(f) => Some(f.folder.clone()),
        }
    }

    /// The saved state of a service, or what can be known without it.
    pub fn load(&mut self, service: &str, now: f64) -> State {
        match self {
            Store::Memory(_) => State::fresh(),
            Store::Folder(f) => f.load(service, now),
        }
    }

    /// Replaces the saved state.
    pub fn save(&self, service: &str, state: &State) -> io::Result<()> {
        match self {
            Store::Memory(_) => Ok(()),
            Store::Folder(f) => f.save(service, state),
        }
    }

    /// Puts a decision on record.
    pub fn record(&mut self, service: &str, decision: &Decision) -> io::Result<()> {
        match self {
            Store::Memory(m) => {
                m.decisions.keep(service, decision);
                Ok(())
            }
            Store::Folder(f) => f.history.append(service, decision),
        }
    }

    /// Puts what a turn has read into the log of blocks.
    pub fn journal(&mut self, service: &str, entries: &[Entry]) -> io::Result<()> {
        let blocks = match self {
            Store::Memory(m) => m.blocks.as_mut(),
            Store::Folder(f) => Some(&mut f.blocks),
        };
        blocks.map_or(Ok(()), |b| b.append(service, entries))
    }
}

impl Folder {
    fn open(folder: &Path) -> Result<Folder, Unusable> {
        let failed = |e| Unusable::Io(folder.to_owned(), e);
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = lock(folder)?;
        let history = History::open(folder).map_err(failed)?;
        Ok(Folder {
            folder: folder.to_owned(),
            history,
            blocks: Blocks::in_folder(folder),
            _lock: lock,
        })
    }

    fn load(&mut self, service: &str, now: f64) -> State {
        let path = self.path(service);
        let known = self.history.of(service);
        match read(&path, service) {
            Ok(Some(state)) => state,
            Ok(None) if known.is_empty() => State::fresh(),
            Ok(None) => State::recovered(
                known,
                "the saved state is missing; what the history records is known",
            ),
            Err(why) => {
                let note = self.set_aside(&path, &why, now);
                tracing::error!(service, "{note}");
                State::recovered(known, &note)
            }
        }
    }

    fn save(&self, service: &str, state: &State) -> io::Result<()> {
        let body = serde_json::to_string(state)?;
        let sum = sum(&body);
        let header = serde_json::to_string(&Header {
            schema: SCHEMA,
            service: service.to_owned(),
            sum,
        })?;
        replace(&self.folder, &self.path(service), &format!("{header}\n{body}\n"))
    }

    fn path(&self, service: &str) -> PathBuf {
        self.folder.join(format!("{service}{ENDING}"))
    }

    fn set_aside(&self, path: &Path, why: &str, now: f64) -> String {
        let aside = PathBuf::from(format!("{}.corrupt-{now:.0}", path.display()));
        let name = aside
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match fs::rename(path, &aside) {
            Ok(()) => {
                format!("the saved state was set aside as {name}, because {why}; the release starts over")
            }
            Err(e) => format!(
                "the saved state is ignored, because {why}, and cannot be renamed ({e}); the release starts over"
            ),
        }
    }
}

fn lock(folder: &Path) -> Result<File, Unusable> {
    let path = folder.join(LOCK);
    let failed = |e| Unusable::Io(path.clone(), e);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Unusable::Held(folder.to_owned())),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// `Ok(None)` when there is no file; `Err` with a clause when there is one that must not be obeyed.
fn read(path: &Path, service: &str) -> Result<Option<State>, String> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("it cannot be read: {e}")),
    };
    let (header, body) = text.split_once('\n').ok_or("it is only half written")?;
    let header: Header = serde_json::from_str(header).map_err(|_| "its first line is none of Serin's")?;
    if header.schema != SCHEMA {
        return Err(format!(
            "its schema is {}, and this version knows {SCHEMA}",
            header.schema
        ));
    }
    if header.service != service {
        return Err(format!("it belongs to the service {}", header.service));
    }
    let body = body.strip_suffix('\n').ok_or("it is only half written")?;
    if header.sum != sum(body) {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_str(body)
        .map(Some)
        .map_err(|e| format!("it cannot be understood: {e}"))
}

fn sum(body: &str) -> String {
    format!("{:016x}", fnv1a(body.as_bytes()))
}

/// The new content is on disk under the name, or the old one is.
fn replace(folder: &Path, path: &Path, content: &str) -> io::Result<()> {
    let beside = PathBuf::from(format!("{}.new", path.display()));
    let mut file = File::create(&beside)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Held(folder) => write!(
                f,
                "{}: another Serin uses this state folder; stop it, or name another folder in [controller] state",
                folder.display()
            ),
            Unusable::Io(path, e) => write!(
                f,
                "{}: {e}; the state folder must be a writable directory",
                path.display()
            ),
        }
    }
}
