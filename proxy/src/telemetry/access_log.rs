//! The access log: a thread that takes entries out of the queues, and writes a line for each.

use super::{Inbox, entry::Entry};
use crate::{
    config::{Log, LogTarget},
    grpc,
    shared::{Phase, Shared},
};
use contract::file::LogFormat;
use k8s_openapi::jiff::Timestamp;
use std::{
    borrow::Cow,
    fmt::Display,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the queues are looked at. Waking the writer for each entry would be a system call a request.
const LOOK: Duration = Duration::from_millis(50);
/// How often it is looked whether the file was moved away, and how often a trouble is told.
const REOPEN: Duration = Duration::from_secs(1);
const COMPLAIN: Duration = Duration::from_secs(60);
/// A batch is written when it is so long.
const BATCH: usize = 64 * 1024;

/// Writes lines.
#[derive(Debug)]
pub struct Writer {
    to: Target,
    format: LogFormat,
    inbox: Inbox,
    dropped: Arc<AtomicU64>,
    batch: Vec<u8>,
    /// Lines in the batch.
    lines: u64,
    looked: Instant,
    complained: Option<Instant>,
}

#[derive(Debug)]
enum Target {
    Stdout,
    File(PathBuf, File),
}

impl Writer {
    /// A writer to what the settings name.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(log: &Log, inbox: Inbox, dropped: &Arc<AtomicU64>) -> io::Result<Writer> {
        let to = match &log.to {
            LogTarget::Stdout => Target::Stdout,
            LogTarget::File(path) => Target::File(path.clone(), append(path)?),
        };
        Ok(Writer {
            to,
            format: log.format,
            inbox,
            dropped: Arc::clone(dropped),
            batch: Vec::new(),
            lines: 0,
            looked: Instant::now(),
            complained: None,
        })
    }

    /// Writes until the end of all things, and then what is left.
    pub fn run(mut self, shared: &Shared) {
        while shared.phase() != Phase::Ended {
            thread::sleep(LOOK);
            self.drain();
            self.reopen();
        }
        self.drain();
    }

    fn drain(&mut self) {
        for i in 0..self.inbox.len() {
            while let Some(entry) = self.inbox.get(i).and_then(|queue| queue.try_recv().ok()) {
                line(&entry, self.format, &mut self.batch);
                self.lines += 1;
                if self.batch.len() >= BATCH {
                    self.flush();
                }
            }
        }
        self.flush();
    }

    /// Writes the batch. What cannot be written is lost: it would only be followed by more.
    fn flush(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let written = match &mut self.to {
            _ if self.batch.is_empty() => return,
            Target::Stdout => io::stdout()
                .write_all(&self.batch)
                .and_then(|()| io::stdout().flush()),
            Target::File(_, file) => file.write_all(&self.batch),
        };
        self.batch.clear();
        if let Err(e) = written {
            self.dropped.fetch_add(lines, Relaxed);
            self.complain(&e);
        }
    }

    /// Opens the file anew when another one, or none, has its name: log rotation.
    fn reopen(&mut self) {
        if self.looked.elapsed() < REOPEN {
            return;
        }
        self.looked = Instant::now();
        let Target::File(path, file) = &mut self.to else {
            return;
        };
        if is_still(path, file) {
            return;
        }
        match append(path) {
            Ok(fresh) => *file = fresh,
            Err(e) => self.complain(&e),
        }
    }

    fn complain(&mut self, e: &io::Error) {
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN) {
            return;
        }
        self.complained = Some(Instant::now());
        tracing::error!("the access log cannot be written: {e}; make room, or correct proxy.accessLog.to");
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn is_still(path: &Path, file: &File) -> bool {
    let of = |m: std::fs::Metadata| (m.dev(), m.ino());
    let (there, here) = (path.metadata().map(of), file.metadata().map(of));
    matches!((there, here), (Ok(there), Ok(here)) if there == here)
}

/// Writes one line.
pub fn line(entry: &Entry, format: LogFormat, out: &mut Vec<u8>) {
    let mut fields = Fields {
        format,
        out,
        any: false,
    };
    fields.begin();
    let time = Timestamp::try_from(entry.ended).unwrap_or_default();
    fields.text("time", &time.to_string());
    fields.optional("service", entry.service());
    choice(entry, &mut fields);
    said(entry, &mut fields);
    fields.number("status", entry.status);
    if let Some(code) = entry.grpc {
        fields.text("grpc_status", &grpc::label(code.index()));
    }
    failure(entry, &mut fields);
    fields.millis("duration_ms", entry.took);
    fields.millis("connect_ms", entry.connecting);
    fields.number("bytes_in", entry.received);
    fields.number("bytes_out", entry.sent);
    fields.text("protocol", entry.protocol);
    fields.text("client", &entry.client.to_string());
    fields.end();
}

fn choice(entry: &Entry, fields: &mut Fields<'_>) {
    if let Some((track, reason)) = entry.choice {
        fields.text("track", track.name());
        fields.text("reason", reason.name());
    }
    if let Some(endpoint) = entry.endpoint {
        fields.text("endpoint", &endpoint.to_string());
    }
    if entry.attempts > 1 {
        fields.number("attempts", entry.attempts);
    }
    if entry.is_shielded() {
        fields.number("shielded", true);
    }
}

fn said(entry: &Entry, fields: &mut Fields<'_>) {
    let said = &entry.said;
    for (key, value) in [
        ("method", &said.method),
        ("path", &said.path),
        ("query", &said.query),
        ("host", &said.host),
        ("user_agent", &said.user_agent),
        ("request_id", &said.request_id),
    ] {
        fields.optional(key, Some(value.as_str()).filter(|v| !v.is_empty()));
    }
    fields.optional("trace_id", entry.trace.as_deref());
}

/// Whose fault the first failure was.
fn failure(entry: &Entry, fields: &mut Fields<'_>) {
    if let Some((track, status)) = entry.replaced {
        fields.text("replaced_track", track.name());
        fields.number("replaced_status", status);
    }
    let Some((track, failure)) = entry.blame else {
        return;
    };
    fields.text("failure_side", failure.side().name());
    fields.text("failure_kind", failure.kind());
    fields.optional("failure_track", track.map(|t| t.name()));
}

/// The pairs of one line. Values are escaped, so that nobody can write a line of their own.
struct Fields<'a> {
    format: LogFormat,
    out: &'a mut Vec<u8>,
    any: bool,
}

impl Fields<'_> {
    fn begin(&mut self) {
        if self.format == LogFormat::Json {
            self.out.push(b'{');
        }
    }

    fn end(&mut self) {
        if self.format == LogFormat::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    fn key(&mut self, key: &str) {
        let between = if self.format == LogFormat::Json {
            b','
        } else {
            b' '
        };
        if std::mem::replace(&mut self.any, true) {
            self.out.push(between);
        }
        // A vector takes everything that is written to it.
        let _ = match self.format {
            LogFormat::Json => write!(self.out, "\"{key}\":"),
            LogFormat::Text => write!(self.out, "{key}="),
        };
    }

    /// A number, or a word that is none in JSON.
    fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.out, "{value}");
    }

    /// Milliseconds with microseconds behind the point.
    fn millis(&mut self, key: &str, time: Duration) {
        let micros = time.as_micros();
        self.number(key, format_args!("{}.{:03}", micros / 1000, micros % 1000));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        if self.format == LogFormat::Text && is_plain(value) {
            self.out.extend_from_slice(value.as_bytes());
        } else {
            let _ = serde_json::to_writer(&mut *self.out, &*escaped(value));
        }
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }
}

/// Whether a value can stand without quotes.
fn is_plain(value: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'=\\".contains(&b);
    !value.is_empty() && value.bytes().all(plain)
}

/// JSON escapes control characters below a space; these are dangerous to terminals and readers of lines too: delete, C1
/// controls, the two separators of lines and paragraphs, and what turns the direction of text round.
fn escaped(value: &str) -> Cow<'_, str> {
    if value.bytes().all(|b| b < 0x7f) {
        return value.into();
    }
    let strange = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    value.replace(strange, "\u{fffd}").into()
}
