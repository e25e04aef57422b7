//! `serin front` and `serin inject`: plain manifests with what it takes to release behind Serin, and back.

pub mod documents;
pub mod front;
mod made;
mod plain;
mod sidecar;

pub use plain::annotate;

use crate::{calls::print_text, cli::ManifestArgs, fail::Failure};
use std::{
    fs,
    io::{self, Read},
    process::ExitCode,
};

/// Where the proxies stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In pods of their own, in front of the Service.
    Front,
    /// In the pods of the application.
    Sidecar,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The Service that is meant.
    pub service: Option<String>,
    /// How many proxies in front.
    pub proxies: u32,
    /// The image of the proxies.
    pub image: String,
    /// The namespace of what names none.
    pub namespace: String,
}

/// `serin front`, `serin inject`
pub fn main(args: &ManifestArgs, place: Place) -> Result<ExitCode, Failure> {
    let name = args.file.display().to_string();
    let text = read(args).map_err(|e| Failure::usage(format!("{name} cannot be read: {e}")))?;
    let wish = Wish {
        service: args.service.clone(),
        proxies: args.proxies,
        image: args.image.clone(),
        namespace: args.namespace.clone(),
    };
    let done =
        changed(&text, place, &wish, args.undo).map_err(|why| Failure::usage(format!("{name}: {why}")))?;
    print_text(&done);
    Ok(ExitCode::SUCCESS)
}

fn read(args: &ManifestArgs) -> io::Result<String> {
    if args.file.as_os_str() != "-" {
        return fs::read_to_string(&args.file);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// All documents, those that need no change as they stood.
fn changed(text: &str, place: Place, wish: &Wish, undo: bool) -> Result<String, String> {
    let mut documents = documents::read(text)?;
    if undo {
        let found = plain::restore(&mut documents::objects(&mut documents), wish.service.as_deref())?;
        documents::remove(&mut documents, |object| {
            found.iter().any(|service| made::is_made_for(object, service))
        });
        return documents::print(&documents);
    }
    let more = match place {
        Place::Front => front::front(&mut documents::objects(&mut documents), wish)?,
        Place::Sidecar => sidecar::inject(&mut documents::objects(&mut documents), wish)?,
    };
    documents.extend(more.into_iter().map(documents::Document::new));
    documents::print(&documents)
}

#[cfg(test)]
mod tests;
