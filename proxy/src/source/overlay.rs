//! What admin calls have set since the file was written. Each key remembers what the file said at the time: when the
//! file says something else later, the file wins. So the last writer of a key wins, also across a restart.

use super::sealed;
use contract::{annotations::Annotations, file::File, names};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Set keys by service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay(BTreeMap<String, BTreeMap<String, Set>>);

/// One set key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Set {
    /// What was set; `None`: removed.
    value: Option<String>,
    /// What the file said then.
    base: Option<String>,
}

impl Overlay {
    /// The annotations of a service with what was set on top.
    pub fn over(&self, service: &str, file: &Annotations) -> Annotations {
        let mut annotations = file.clone();
        for (key, set) in self.0.get(service).into_iter().flatten() {
            match &set.value {
                Some(value) => annotations.insert(key.clone(), value.clone()),
                None => annotations.remove(key),
            };
        }
        annotations
    }

    /// Sets a key over what the file says.
    pub fn set(&mut self, service: &str, file: &Annotations, key: &str, value: Option<String>) {
        let base = file.get(key).cloned();
        let keys = self.0.entry(service.to_owned()).or_default();
        if value == base {
            keys.remove(key);
        } else {
            keys.insert(key.to_owned(), Set { value, base });
        }
    }

    /// Drops what the file has overtaken.
    pub fn settle(&mut self, file: &File) {
        self.0.retain(|service, keys| {
            let Some(entry) = file.service.iter().find(|s| s.name == *service) else {
                return false;
            };
            keys.retain(|key, set| entry.annotations.get(key) == set.base.as_ref());
            !keys.is_empty()
        });
    }

    /// The overlay after the file has changed: settled, and with the file named as who changed a service whose
    /// annotations are others now, unless it names somebody itself.
    pub fn after(&self, old: &File, new: &File, prefix: &str) -> Overlay {
        let mut next = self.clone();
        next.settle(new);
        let (by, cause) = (key(prefix, names::CHANGED_BY), key(prefix, names::CHANGE_CAUSE));
        for entry in &new.service {
            let Some(before) = old.service.iter().find(|s| s.name == entry.name) else {
                continue;
            };
            let same = |k: &str| before.annotations.get(k) == entry.annotations.get(k);
            if before.annotations != entry.annotations && same(&by) {
                next.set(&entry.name, &entry.annotations, &by, Some(names::FILE.to_owned()));
                if same(&cause) {
                    next.set(&entry.name, &entry.annotations, &cause, None);
                }
            }
        }
        next
    }
}

/// A full annotation key.
pub fn key(prefix: &str, suffix: &str) -> String {
    format!("{prefix}{suffix}")
}

/// Reads a kept overlay. One that is damaged is set aside and reported, never obeyed.
pub fn restore(path: &Path) -> Overlay {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Overlay::default(),
        Err(e) => {
            tracing::error!(
                "{}: {e}; weights set by admin calls before are forgotten",
                path.display()
            );
            return Overlay::default();
        }
    };
    sealed::decode(&text).unwrap_or_else(|| {
        let aside = aside(path);
        let moved = fs::rename(path, &aside);
        tracing::error!(
            "{} is damaged and is not used; it was set aside as {} ({}); weights set by admin calls before are forgotten",
            path.display(),
            aside.display(),
            moved.map_or_else(|e| e.to_string(), |()| "done".to_owned())
        );
        Overlay::default()
    })
}

fn aside(path: &Path) -> PathBuf {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".corrupt-{seconds}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{file::ServiceEntry, names::PREFIX};

    const WEIGHT: &str = "serin.dev/canary-weight";
    const BY: &str = "serin.dev/changed-by";

    fn file(pairs: &[(&str, &str)]) -> File {
        File {
            service: vec![ServiceEntry {
                name: "a".into(),
                annotations: pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
                ..ServiceEntry::default()
            }],
            ..File::default()
        }
    }

    fn effective(overlay: &Overlay, file: &File) -> Annotations {
        overlay.over("a", &file.service[0].annotations)
    }

    #[test]
    fn the_last_writer_of_a_key_wins() {
        let (five, ten) = (file(&[(WEIGHT, "5")]), file(&[(WEIGHT, "10")]));
        let mut overlay = Overlay::default();
        overlay.set("a", &five.service[0].annotations, WEIGHT, Some("7".into()));
        assert_eq!(effective(&overlay, &five)[WEIGHT], "7");
        let other = file(&[(WEIGHT, "5"), ("serin.dev/canary-shield", "off")]);
        assert_eq!(
            effective(&overlay.after(&five, &other, PREFIX), &other)[WEIGHT],
            "7"
        );
        let after = overlay.after(&five, &ten, PREFIX);
        assert_eq!(effective(&after, &ten)[WEIGHT], "10");
        assert_eq!(effective(&after, &ten)[BY], "file");
    }

    #[test]
    fn a_file_that_names_somebody_is_believed() {
        let (old, new) = (file(&[(WEIGHT, "5")]), file(&[(WEIGHT, "6"), (BY, "ann")]));
        let after = Overlay::default().after(&old, &new, PREFIX);
        assert_eq!(effective(&after, &new)[BY], "ann");
    }

    #[test]
    fn is_kept_across_a_restart_and_refused_when_damaged() {
        let folder = std::env::temp_dir().join(format!("serin-overlay-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("overlay");
        let mut overlay = Overlay::default();
        overlay.set("a", &Annotations::new(), WEIGHT, Some("7".into()));
        sealed::keep(&path, &overlay).unwrap();
        assert_eq!(restore(&path), overlay);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            &text[..text.len() / 2],
            &text.replace('7', "9"),
            "",
            "\n",
            "zz\n{}",
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(restore(&path), Overlay::default(), "{damaged:?}");
            assert!(!path.exists());
        }
        assert_eq!(restore(&path), Overlay::default());
        fs::remove_dir_all(&folder).unwrap();
    }
}
