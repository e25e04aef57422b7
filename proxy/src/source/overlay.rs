//! What admin calls have set since the file was written. Each key remembers what the file said at the time: when the
//! file says something else later, the file wins. So the last writer of a key wins, also across a restart. A weight is
//! that of one version: when the file names another canary, that one begins at what the file says.

use super::sealed;
use contract::{
    annotations::Annotations,
    file::{File, ServiceEntry},
    names,
};
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
    /// Of a weight: the canary's version then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

impl Set {
    /// Whether the file still says what it said.
    fn holds(&self, key: &str, entry: &ServiceEntry) -> bool {
        let version = self.of.as_ref();
        entry.annotations.get(key) == self.base.as_ref() && version.is_none_or(|v| *v == entry.canary.version)
    }
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
    pub fn set(&mut self, entry: &ServiceEntry, key: &str, value: Option<String>) {
        let base = entry.annotations.get(key).cloned();
        let keys = self.0.entry(entry.name.clone()).or_default();
        if value == base {
            keys.remove(key);
            return;
        }
        let is_weight = key.ends_with(names::CANARY_WEIGHT) || key.ends_with(names::CANARY_WEIGHT_TOTAL);
        let of = is_weight.then(|| entry.canary.version.clone());
        keys.insert(key.to_owned(), Set { value, base, of });
    }

    /// Drops what the file has overtaken.
    pub fn settle(&mut self, file: &File) {
        self.0.retain(|service, keys| {
            let Some(entry) = file.service.iter().find(|s| s.name == *service) else {
                return false;
            };
            keys.retain(|key, set| set.holds(key, entry));
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
                next.set(entry, &by, Some(names::FILE.to_owned()));
                if same(&cause) {
                    next.set(entry, &cause, None);
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
    use contract::names::PREFIX;

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
        overlay.set(&five.service[0], WEIGHT, Some("7".into()));
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
    fn another_canary_does_not_get_the_weight_of_the_last() {
        let (old, mut new) = (file(&[]), file(&[("serin.dev/canary-shield", "off")]));
        let mut overlay = Overlay::default();
        overlay.set(&old.service[0], WEIGHT, Some("100".into()));
        assert_eq!(effective(&overlay.after(&old, &new, PREFIX), &new)[WEIGHT], "100");
        new.service[0].canary.version = "v3".into();
        assert!(!effective(&overlay.after(&old, &new, PREFIX), &new).contains_key(WEIGHT));
        // The same when the file was edited while nothing ran.
        overlay.settle(&new);
        assert!(!effective(&overlay, &new).contains_key(WEIGHT));
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
        overlay.set(&file(&[]).service[0], WEIGHT, Some("7".into()));
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
