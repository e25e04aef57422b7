//! Files that are watched by their content: mounted Secrets change by a symbolic link, network folders without a word of
//! the kernel, and a certificate is replaced days apart; so a look each second does, and nothing needs to be subscribed.

use arc_swap::ArcSwap;
use contract::Fault;
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Largest file of certificates or keys that is read.
const MAX: u64 = 4 * 1024 * 1024;

/// What files hold now, by their names as they were given; or why they cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, Result<Vec<u8>, String>>);

/// Something that is made of files, and made again when they change.
#[derive(Debug)]
pub struct Watched<T> {
    folder: PathBuf,
    names: Vec<String>,
    seen: Mutex<Seen>,
    value: ArcSwap<T>,
}

#[derive(Debug)]
struct Seen {
    /// Of what the value in force was made.
    good: Contents,
    /// As it was at the last look.
    last: Contents,
    /// Whether its faults were told.
    told: bool,
}

impl Contents {
    /// Reads files; relative names count from a folder.
    pub fn read(folder: &Path, names: &[String]) -> Contents {
        let read = |name: &String| (name.clone(), read(&folder.join(name)));
        Contents(names.iter().map(read).collect())
    }

    /// What a file holds; `key` is where its name was given.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn of(&self, key: &str, name: &str) -> Result<&[u8], Fault> {
        let reason = match self.0.get(name) {
            Some(Ok(octets)) => return Ok(octets),
            Some(Err(e)) => e,
            None => "was not read",
        };
        let remedy = "name a file in PEM that this user may read";
        Err(Fault::new(
            key,
            name,
            format!("cannot be read ({reason})"),
            remedy,
        ))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let open = File::open(path).and_then(|f| f.take(MAX).read_to_end(&mut octets));
    open.map(|_| octets).map_err(|e| e.to_string())
}

impl<T> Watched<T> {
    /// Reads the files and makes the first value.
    ///
    /// # Errors
    /// Every fault of the files.
    pub fn new(
        folder: &Path,
        names: Vec<String>,
        make: impl FnOnce(&Contents) -> Result<T, Vec<Fault>>,
    ) -> Result<Watched<T>, Vec<Fault>> {
        let good = Contents::read(folder, &names);
        let value = ArcSwap::from_pointee(make(&good)?);
        Ok(Watched {
            folder: folder.to_owned(),
            names,
            seen: Mutex::new(Seen {
                last: good.clone(),
                good,
                told: false,
            }),
            value,
        })
    }

    /// The value in force.
    pub fn value(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Looks at the files, and makes the value again when they are others. True when there is a new one. Two files
    /// change one after the other, so faults are told only when they stand at the next look too, and only once.
    ///
    /// # Errors
    /// The faults; the last good value stays in force.
    pub fn look(
        &self,
        make: impl FnOnce(&Contents, &T) -> Result<T, Vec<Fault>>,
    ) -> Result<bool, Vec<Fault>> {
        let now = Contents::read(&self.folder, &self.names);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = std::mem::replace(&mut seen.last, now) == seen.last;
        if seen.last == seen.good || stands && seen.told {
            return Ok(false);
        }
        seen.told = false;
        match make(&seen.last, &self.value.load()) {
            Ok(value) => {
                self.value.store(Arc::new(value));
                seen.good = seen.last.clone();
                Ok(true)
            }
            Err(_) if !stands => Ok(false),
            Err(faults) => {
                seen.told = true;
                Err(faults)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn number(contents: &Contents) -> Result<u32, Vec<Fault>> {
        let text = contents.of("n", "n").map_err(|f| vec![f])?;
        let text = std::str::from_utf8(text).unwrap_or_default();
        let bad = |_| vec![Fault::new("n", "", "is no number", "write one")];
        text.parse().map_err(bad)
    }

    #[test]
    fn a_bad_file_keeps_the_last_value_and_is_told_once() {
        let folder = std::env::temp_dir().join(format!("serin-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |text: &str| fs::write(folder.join("n"), text).unwrap();
        let make = || Watched::new(&folder, vec!["n".into()], number);
        assert_eq!(make().unwrap_err()[0].key, "n");
        write("1");
        let watched = make().unwrap();
        let look = || watched.look(|c, _| number(c));
        assert_eq!(look(), Ok(false));
        write("x");
        assert_eq!(look(), Ok(false), "it may be in the middle of a change");
        assert_eq!(look().unwrap_err()[0].key, "n");
        assert_eq!((look(), *watched.value()), (Ok(false), 1));
        write("2");
        assert_eq!((look(), *watched.value()), (Ok(true), 2));
        fs::remove_file(folder.join("n")).unwrap();
        assert!(look().is_ok() && look().is_err() && look().is_ok());
        write("2");
        assert_eq!((look(), *watched.value()), (Ok(false), 2));
        write("y");
        assert!(look().is_ok() && look().is_err(), "another bad one is told again");
        fs::remove_dir_all(folder).unwrap();
    }
}
