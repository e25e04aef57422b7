//! A small file that outlives the process: a checksum in the first line, JSON in the rest, for this user only.

use contract::annotations::fnv1a;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// What a file holds; `None` when it is damaged.
pub fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    let (sum, json) = text.split_once('\n')?;
    let good = u64::from_str_radix(sum, 16).ok()? == fnv1a(json.as_bytes());
    if good {
        serde_json::from_str(json).ok()
    } else {
        None
    }
}

/// Keeps a value: written beside and renamed, so that a crash leaves the old one or the new one.
///
/// # Errors
/// Those of the file system.
pub fn keep(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    write!(file, "{:016x}\n{json}", fnv1a(json.as_bytes()))?;
    fs::rename(&beside, path)
}
