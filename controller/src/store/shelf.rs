//! `<service>.series.jsonl`: the course of a service's last release. The first line says which, each other is a point.
//!
//! It is for people's eyes, and no decision rests on it: nothing is synced, and what is torn is left out.

use contract::series::{MOST, Point, Series};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

/// What the names of its files end with.
const ENDING: &str = ".series.jsonl";

/// The files of a folder; without a folder nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    folder: Option<PathBuf>,
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    began: f64,
    points: usize,
}

impl Shelf {
    pub fn new(folder: Option<PathBuf>) -> Shelf {
        Shelf {
            folder,
            open: BTreeMap::new(),
        }
    }

    /// The course of a service's last release; `None`: there is none that can be read.
    pub fn read(&self, service: &str) -> Option<Series> {
        read(self.folder.as_deref()?, service)
    }

    /// Keeps the last point of a series; the whole, when the file does not hold the points before.
    pub fn keep(&mut self, series: &Series) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let Some(last) = series.points.last() else {
            return Ok(());
        };
        if let Some(open) = self.open.get_mut(&series.service)
            && open.began == series.began
            && open.points + 1 == series.points.len()
        {
            open.points += 1;
            return open.file.write_all(line(last)?.as_bytes());
        }
        let open = rewrite(&path(folder, &series.service), series)?;
        self.open.insert(series.service.clone(), open);
        Ok(())
    }
}

/// The course of a service's last release, from any thread.
pub(crate) fn read(folder: &Path, service: &str) -> Option<Series> {
    let mut lines = BufReader::new(File::open(path(folder, service)).ok()?)
        .lines()
        .map_while(Result::ok);
    let mut series: Series = serde_json::from_str(&lines.next()?).ok()?;
    let points = lines.map_while(|l| serde_json::from_str::<Point>(&l).ok());
    series.points = points.take(MOST).collect();
    (series.service == service).then_some(series)
}

fn rewrite(path: &Path, series: &Series) -> io::Result<Open> {
    let beside = PathBuf::from(format!("{}.new", path.display()));
    let head = Series {
        points: Vec::new(),
        ..series.clone()
    };
    let mut text = line(&head)?;
    for point in &series.points {
        text.push_str(&line(point)?);
    }
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&beside, path)?;
    Ok(Open {
        file,
        began: series.began,
        points: series.points.len(),
    })
}

fn path(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}{ENDING}"))
}

fn line(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::release::Phase;

    fn series(points: u32) -> Series {
        let mut series = Series {
            service: "echo".into(),
            stable_version: "v1".into(),
            canary_version: "v2".into(),
            began: 7.0,
            step: 0.0,
            points: Vec::new(),
        };
        (0..points).for_each(|i| series.push(point(f64::from(i))));
        series
    }

    fn point(at: f64) -> Point {
        Point {
            at,
            phase: Phase::Shifting,
            wanted: 0.5,
            taken: Some(0.25),
            judged: None,
        }
    }

    #[test]
    fn a_course_survives_a_restart_and_a_torn_line() {
        let folder = std::env::temp_dir().join(format!("serin-shelf-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut shelf = Shelf::new(Some(folder.clone()));
        let mut kept = series(2);
        shelf.keep(&kept).unwrap();
        kept.push(point(2.0));
        shelf.keep(&kept).unwrap();
        assert_eq!(shelf.read("echo"), Some(kept.clone()));

        let file = path(&folder, "echo");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() - 9]).unwrap();
        let mut shelf = Shelf::new(Some(folder.clone()));
        let mut torn = shelf.read("echo").unwrap();
        assert_eq!(torn.points.len(), 2);
        torn.push(point(3.0));
        shelf.keep(&torn).unwrap();
        assert_eq!(shelf.read("echo"), Some(torn), "the torn line is gone");
        assert_eq!(shelf.read("other"), None);
        fs::remove_dir_all(folder).unwrap();
    }
}
