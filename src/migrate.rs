//! `serin migrate`: canary Ingresses of ingress-nginx, Canaries of Flagger and Rollouts of Argo, read and said in our
//! words. What is not carried, or is meant differently, is named with its remedy; every result passes our own checks.

mod argo;
mod checks;
mod fields;
mod flagger;
mod ingress;
mod layout;
mod matches;

use crate::{
    calls::{print_json, print_text},
    cli::{MigrateArgs, Output},
    fail::Failure,
    manifest::{Wish, documents},
};
use fields::Loss;
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

/// What came of one release of theirs.
struct Done {
    /// Kind and name of what was read.
    from: String,
    /// What to do besides applying it.
    first: &'static str,
    objects: Vec<Value>,
    losses: Vec<Loss>,
}

/// The answer to scripts.
#[derive(Serialize)]
struct Told<'a> {
    objects: Vec<&'a Value>,
    losses: Vec<&'a Loss>,
}

/// `serin migrate`
pub fn main(args: &MigrateArgs) -> Result<ExitCode, Failure> {
    if args.fields {
        print_text(&fields::page());
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.file.clone().unwrap_or_default();
    let name = file.display().to_string();
    let text = read(&file).map_err(|e| Failure::usage(format!("{name} cannot be read: {e}")))?;
    let wish = Wish {
        service: None,
        proxies: args.proxies,
        image: args.image.clone(),
        namespace: args.namespace.clone(),
    };
    let all = migrated(&text, &wish).map_err(|why| Failure::usage(format!("{name}: {why}")))?;
    for loss in all.iter().flat_map(|done| &done.losses) {
        eprintln!("{loss}");
    }
    match args.output {
        Output::Json => print_json(&told(&all))?,
        Output::Text => print_text(&page(&all)?),
    }
    match all.iter().any(|done| !done.objects.is_empty()) {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::usage(format!("{name}: nothing could be carried over"))),
    }
}

fn read(file: &Path) -> io::Result<String> {
    if file.as_os_str() != "-" {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Everything in the file that is a release of somebody's.
fn migrated(text: &str, wish: &Wish) -> Result<Vec<Done>, String> {
    let mut documents = documents::read(text)?;
    let all: Vec<Value> = documents::objects(&mut documents)
        .into_iter()
        .map(std::mem::take)
        .collect();
    let mut done = ingress::all(&all, wish);
    done.extend(flagger::all(&all, wish));
    done.extend(argo::all(&all, wish));
    match done.is_empty() {
        false => Ok(done),
        true => Err(
            "there is no canary Ingress of ingress-nginx, no Canary of Flagger (flagger.app/v1beta1) and no Rollout of Argo \
             (argoproj.io/v1alpha1) in it; give a file that has one, with its Services and Deployments"
                .to_owned(),
        ),
    }
}

fn told(all: &[Done]) -> Told<'_> {
    Told {
        objects: all.iter().flat_map(|done| &done.objects).collect(),
        losses: all.iter().flat_map(|done| &done.losses).collect(),
    }
}

/// Documents to apply, each release with its losses before it.
fn page(all: &[Done]) -> Result<String, Failure> {
    let mut out = String::new();
    for done in all {
        // A text takes everything that is written to it.
        let _ = writeln!(out, "# From {}. {}", fields::line(&done.from), done.first);
        if !done.losses.is_empty() {
            out.push_str("# Not carried, or meant differently:\n");
        }
        for loss in &done.losses {
            let _ = writeln!(out, "#   {loss}");
        }
        for object in &done.objects {
            out.push_str("---\n");
            out.push_str(&serde_saphyr::to_string(object).map_err(Failure::refused)?);
        }
    }
    Ok(out)
}

/// The text at a JSON pointer.
fn text<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at)?.as_str()
}

/// The number at a JSON pointer, also one that stands in quotes.
fn number(value: &Value, at: &str) -> Option<f64> {
    let value = value.pointer(at)?;
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|n| n.is_finite())
}

/// The list at a JSON pointer; none is an empty one.
fn list<'a>(value: &'a Value, at: &str) -> &'a [Value] {
    value
        .pointer(at)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn is_kind(object: &Value, group: &str, kind: &str) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    object["kind"] == kind && version.split('/').next() == Some(group)
}

/// Kind and name, as sentences have it.
fn called(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}/{}", word(&object["kind"]), word(&object["metadata"]["name"]))
}

/// The object of a kind and name, in the namespace of another one.
fn find<'a>(all: &'a [Value], beside: &Value, kind: &str, name: &str) -> Option<&'a Value> {
    all.iter().find(|o| {
        o["kind"] == kind
            && o["metadata"]["name"] == name
            && o["metadata"]["namespace"] == beside["metadata"]["namespace"]
    })
}

#[cfg(test)]
mod tests;
