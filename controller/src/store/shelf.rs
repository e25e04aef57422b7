//! `<service>.series.jsonl`: the course of a service's last release, and `<service>.series.1.jsonl` and so on those of the
//! ones before. The first line says which, each other is a point.
//!
//! It is for people's eyes, and no decision rests on it: nothing is synced, and what is torn is left out.

use crate::course::KEPT;
use contract::series::{MOST, Point, Series};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

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

    /// The courses of a service's last releases that can be read, oldest first.
    pub fn read(&self, service: &str) -> Vec<Series> {
        let folder = self.folder.as_deref();
        folder.map(|f| read(f, service)).unwrap_or_default()
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
        let before = one(&path(folder, &series.service, 0), &series.service);
        if before.is_some_and(|b| b.began != series.began) {
            (1..KEPT)
                .rev()
                .try_for_each(|n| age(folder, &series.service, n))?;
        }
        let open = rewrite(&path(folder, &series.service, 0), series)?;
        self.open.insert(series.service.clone(), open);
        Ok(())
    }
}

/// The courses of a service's last releases, oldest first, from any thread.
pub(crate) fn read(folder: &Path, service: &str) -> Vec<Series> {
    let kept = (0..KEPT).rev();
    kept.filter_map(|n| one(&path(folder, service, n), service))
        .collect()
}

/// What was the n-1st release before becomes the nth.
fn age(folder: &Path, service: &str, n: usize) -> io::Result<()> {
    match fs::rename(path(folder, service, n - 1), path(folder, service, n)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn one(path: &Path, service: &str) -> Option<Series> {
    let mut lines = BufReader::new(File::open(path).ok()?)
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

/// Of the nth release before the last one.
fn path(folder: &Path, service: &str, n: usize) -> PathBuf {
    match n {
        0 => folder.join(format!("{service}.series.jsonl")),
        n => folder.join(format!("{service}.series.{n}.jsonl")),
    }
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
        assert_eq!(shelf.read("echo"), [kept.clone()]);

        let file = path(&folder, "echo", 0);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() - 9]).unwrap();
        let mut shelf = Shelf::new(Some(folder.clone()));
        let mut torn = shelf.read("echo").remove(0);
        assert_eq!(torn.points.len(), 2);
        torn.push(point(3.0));
        shelf.keep(&torn).unwrap();
        assert_eq!(shelf.read("echo"), [torn], "the torn line is gone");
        assert_eq!(shelf.read("other"), []);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_last_few_releases_are_kept_also_over_a_restart() {
        let folder = std::env::temp_dir().join(format!("serin-shelf-few-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for n in 0..8 {
            // Every other one is the first of a new process.
            let mut shelf = Shelf::new(Some(folder.clone()));
            for began in [f64::from(2 * n), f64::from(2 * n + 1)] {
                shelf.keep(&Series { began, ..series(1) }).unwrap();
                shelf.keep(&Series { began, ..series(2) }).unwrap();
            }
        }
        let kept = Shelf::new(Some(folder.clone())).read("echo");
        let began: Vec<f64> = kept.iter().map(|s| s.began).collect();
        assert_eq!(began, [11.0, 12.0, 13.0, 14.0, 15.0]);
        assert!(kept.iter().all(|s| s.points.len() == 2));
        fs::remove_dir_all(folder).unwrap();
    }
}
