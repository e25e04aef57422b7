//! The log of blocks, `<service>.blocks.jsonl`: what evidence was made of, one [`Entry`] a line, for `serin replay`.
//!
//! It is written before the state is saved, and not synced: a crash of the machine may cost the last lines, never a
//! decision. A log that has grown large is put aside when evidence begins anew: that needs nothing of what was before.

use engine::{Entry, mended};
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// What the names of the logs end with.
pub const ENDING: &str = ".blocks.jsonl";
/// What is added to that when a log is put aside; one is kept.
const ASIDE: &str = ".1";
/// Size from which on a log is put aside, in octets.
const LARGE: u64 = 16 * 1024 * 1024;
/// Who writes.
const PROGRAM: &str = concat!("serin ", env!("CARGO_PKG_VERSION"));

/// The logs of one controller.
#[derive(Debug)]
pub(crate) struct Blocks {
    place: Place,
    large: u64,
    open: BTreeMap<String, Log>,
}

#[derive(Debug)]
enum Place {
    /// One file a service.
    Folder(PathBuf),
    /// One file for a demonstration.
    File(PathBuf),
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    /// Octets that are whole lines.
    size: u64,
    /// Whether a write failed: what it left behind is no whole line.
    torn: bool,
}

/// What a log says.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The entries that hold: turns that were cut off are left out.
    pub entries: Vec<Entry>,
    /// Every program that wrote a part of it, once.
    pub programs: Vec<String>,
    /// The last line, when a crash has cut it off and it was skipped.
    pub torn: Option<usize>,
}

/// Why a log cannot be used.
#[derive(Debug)]
pub enum Unreadable {
    /// It cannot be read.
    Io(PathBuf, io::Error),
    /// A line, counted from 1, is none of a log's, and why.
    Damaged(PathBuf, usize, String),
}

impl Blocks {
    /// One log a service, in this folder.
    pub fn in_folder(folder: &Path) -> Blocks {
        Blocks::at(Place::Folder(folder.to_owned()))
    }

    /// All in this file, which begins empty.
    pub fn in_file(path: &Path) -> io::Result<Blocks> {
        File::create(path)?;
        Ok(Blocks::at(Place::File(path.to_owned())))
    }

    fn at(place: Place) -> Blocks {
        Blocks {
            place,
            large: LARGE,
            open: BTreeMap::new(),
        }
    }

    /// Appends what one turn has read and decided.
    pub fn append(&mut self, service: &str, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if !self.open.contains_key(service) {
            let log = Log::open(self.path(service), service)?;
            self.open.insert(service.to_owned(), log);
        }
        let Some(log) = self.open.get_mut(service) else {
            return Ok(());
        };
        let mut text = String::new();
        for entry in entries {
            let begins = matches!(entry, Entry::Begun { .. });
            if begins && log.size + text.len() as u64 > self.large {
                log.append(&std::mem::take(&mut text))?;
                log.put_aside(service)?;
            }
            line(&mut text, entry)?;
        }
        log.append(&text)
    }

    fn path(&self, service: &str) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.join(format!("{service}{ENDING}")),
            Place::File(path) => path.clone(),
        }
    }
}

impl Log {
    fn open(path: PathBuf, service: &str) -> io::Result<Log> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)?;
        let size = whole_lines(&mut file)?;
        let mut log = Log {
            path,
            file,
            size,
            torn: true,
        };
        log.sign(service)?;
        Ok(log)
    }

    /// Who writes from here on.
    fn sign(&mut self, service: &str) -> io::Result<()> {
        let mut text = String::new();
        let entry = Entry::Written {
            by: PROGRAM.to_owned(),
            service: service.to_owned(),
        };
        line(&mut text, &entry)?;
        self.append(&text)
    }

    /// What a crash or a full disk has left of a line is cut off first: it belongs to a turn that will be repeated, or
    /// to blocks that are missing.
    fn append(&mut self, text: &str) -> io::Result<()> {
        if std::mem::replace(&mut self.torn, true) {
            self.file.set_len(self.size)?;
        }
        self.file.write_all(text.as_bytes())?;
        self.size += text.len() as u64;
        self.torn = false;
        Ok(())
    }

    fn put_aside(&mut self, service: &str) -> io::Result<()> {
        fs::rename(&self.path, format!("{}{ASIDE}", self.path.display()))?;
        *self = Log::open(self.path.clone(), service)?;
        Ok(())
    }
}

fn line(text: &mut String, entry: &Entry) -> io::Result<()> {
    text.push_str(&serde_json::to_string(entry)?);
    text.push('\n');
    Ok(())
}

/// Octets up to the last line's end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    /// Octets that are looked at together.
    const PIECE: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let begin = end.saturating_sub(PIECE);
        let mut piece = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|b| *b == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

/// Reads a log.
///
/// # Errors
/// It cannot be read, or a line other than the last is damaged.
pub fn read(path: &Path) -> Result<Kept, Unreadable> {
    let bytes = fs::read(path).map_err(|e| Unreadable::Io(path.to_owned(), e))?;
    let mut entries = Vec::new();
    let mut torn = None;
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_slice::<Entry>(line) {
            Ok(entry) => entries.push(entry),
            // Only the last line can be half of one, and then its end is missing.
            Err(_) if i + 1 == lines.len() && !line.ends_with(b"\n") => torn = Some(i + 1),
            Err(e) => return Err(Unreadable::Damaged(path.to_owned(), i + 1, e.to_string())),
        }
    }
    Ok(Kept {
        programs: programs(&entries),
        entries: mended(entries),
        torn,
    })
}

fn programs(entries: &[Entry]) -> Vec<String> {
    let mut programs: Vec<String> = Vec::new();
    for entry in entries {
        if let Entry::Written { by, .. } = entry
            && !programs.contains(by)
        {
            programs.push(by.clone());
        }
    }
    programs
}

/// The program that would write a log now.
pub fn program() -> &'static str {
    PROGRAM
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Io(path, e) => write!(f, "{}: {e}", path.display()),
            Unreadable::Damaged(path, line, why) => write!(
                f,
                "{}: line {line} is none of a log of blocks ({why}); give the `NAME{ENDING}` of a state folder, or what \
                 `serin demo --record` has written",
                path.display()
            ),
        }
    }
}

impl std::error::Error for Unreadable {}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Event;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("serin-blocks-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn log(&self) -> PathBuf {
            self.0.join("echo.blocks.jsonl")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn taken(n: u64) -> Entry {
        Entry::Taken {
            n,
            event: Event::Slices {
                dt: 0.1 + 0.2,
                slices: Vec::new(),
            },
        }
    }

    fn begun() -> Entry {
        Entry::Begun { evidence: "w".into() }
    }

    fn written() -> Entry {
        Entry::Written {
            by: PROGRAM.into(),
            service: "echo".into(),
        }
    }

    #[test]
    fn what_is_appended_comes_back_and_every_writer_signs() {
        let folder = Folder::new("append");
        for entries in [[begun(), taken(1)], [taken(2), taken(3)]] {
            Blocks::in_folder(&folder.0).append("echo", &entries).unwrap();
        }
        let kept = read(&folder.log()).unwrap();
        let expected = [written(), begun(), taken(1), written(), taken(2), taken(3)];
        assert_eq!((kept.entries.as_slice(), kept.torn), (&expected[..], None));
        assert_eq!(kept.programs, [PROGRAM]);
    }

    #[test]
    fn a_torn_last_line_is_skipped_and_cut_off_by_the_next_writer() {
        let folder = Folder::new("torn");
        Blocks::in_folder(&folder.0)
            .append("echo", &[begun(), taken(1)])
            .unwrap();
        let mut file = OpenOptions::new().append(true).open(folder.log()).unwrap();
        file.write_all(br#"{"taken":{"n":2,"ev"#).unwrap();
        let kept = read(&folder.log()).unwrap();
        assert_eq!((kept.entries.len(), kept.torn), (3, Some(4)));
        Blocks::in_folder(&folder.0).append("echo", &[taken(2)]).unwrap();
        let kept = read(&folder.log()).unwrap();
        assert_eq!(kept.entries, [written(), begun(), taken(1), written(), taken(2)]);
    }

    #[test]
    fn a_damaged_line_in_the_middle_is_an_error_with_its_number() {
        let folder = Folder::new("damaged");
        Blocks::in_folder(&folder.0)
            .append("echo", &[begun(), taken(1)])
            .unwrap();
        let text = fs::read_to_string(folder.log()).unwrap();
        fs::write(folder.log(), text.replacen("\"begun\"", "\"begum\"", 1)).unwrap();
        let why = read(&folder.log()).unwrap_err().to_string();
        assert!(why.contains("line 2 is none"), "{why}");
        assert!(matches!(read(&folder.0.join("absent")), Err(Unreadable::Io(..))));
    }

    #[test]
    fn a_large_log_is_put_aside_when_evidence_begins_and_never_within() {
        let folder = Folder::new("large");
        let mut blocks = Blocks::in_folder(&folder.0);
        blocks.large = 200;
        let turn: Vec<Entry> = [begun()].into_iter().chain((1..=20).map(taken)).collect();
        blocks.append("echo", &turn).unwrap();
        blocks.append("echo", &[taken(21)]).unwrap();
        let aside = PathBuf::from(format!("{}{ASIDE}", folder.log().display()));
        assert!(!aside.exists());
        blocks.append("echo", &[taken(22), begun(), taken(1)]).unwrap();
        assert_eq!(read(&aside).unwrap().entries.last(), Some(&taken(22)));
        assert_eq!(
            read(&folder.log()).unwrap().entries,
            [written(), begun(), taken(1)]
        );
        blocks.append("echo", &[taken(2)]).unwrap();
        assert_eq!(read(&folder.log()).unwrap().entries.len(), 4);
    }

    #[test]
    fn a_folder_that_is_gone_is_an_error_and_no_end() {
        let folder = Folder::new("gone");
        let mut blocks = Blocks::in_folder(&folder.0.join("missing"));
        assert!(blocks.append("echo", &[begun()]).is_err());
        fs::create_dir(folder.0.join("missing")).unwrap();
        assert!(blocks.append("echo", &[begun()]).is_ok());
    }
}
