//! A file of several YAML documents. What is not changed is printed as it stood, with its comments.

use serde_json::Value;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// As it stood, without the separator; empty for a new one.
    text: String,
    /// What it said at first.
    was: Value,
    /// What it says now.
    pub value: Value,
    /// Whether it is to be left out.
    is_gone: bool,
}

impl Document {
    /// One that is not in the file.
    pub fn new(value: Value) -> Document {
        Document {
            text: String::new(),
            was: Value::Null,
            value,
            is_gone: false,
        }
    }
}

/// # Errors
/// The number of the document, counted from 1, and what is wrong there.
pub fn read(text: &str) -> Result<Vec<Document>, String> {
    let parts = split(text.trim_start_matches('\u{feff}'));
    let mut documents = Vec::new();
    for (i, text) in parts.into_iter().enumerate() {
        let value = parse(&text).map_err(|e| format!("document {}: {e}", i + 1))?;
        if !value.is_null() && !value.is_object() {
            return Err(format!(
                "document {} is no object: write apiVersion, kind and metadata",
                i + 1
            ));
        }
        documents.push(Document {
            text,
            was: value.clone(),
            value,
            is_gone: false,
        });
    }
    Ok(documents)
}

/// At each line that begins with `---`; inside a block of text lines are indented, so none of them can look like that.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end();
        let rest = bare
            .strip_prefix("---")
            .filter(|r| r.is_empty() || r.starts_with([' ', '\t']));
        match (rest, parts.last_mut()) {
            (Some(rest), _) => parts.push(match rest.trim() {
                "" => String::new(),
                rest => format!("{rest}\n"),
            }),
            (None, Some(_)) if bare == "..." => {}
            (None, Some(part)) => part.push_str(line),
            (None, None) => {}
        }
    }
    parts.retain(|p| !p.trim().is_empty());
    parts
}

/// As kubectl reads it: `0644` is octal, `yes` is a truth.
fn parse(text: &str) -> Result<Value, String> {
    let is_empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_empty) {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())
}

/// Every object, those in lists too.
pub fn objects(documents: &mut [Document]) -> Vec<&mut Value> {
    documents.iter_mut().flat_map(|d| items(&mut d.value)).collect()
}

fn items(value: &mut Value) -> Vec<&mut Value> {
    if !is_list(value) {
        return vec![value];
    }
    let items = value.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().collect()
}

fn is_list(value: &Value) -> bool {
    value["kind"].as_str().is_some_and(|k| k.ends_with("List")) && value["items"].is_array()
}

/// Leaves out what `is_made` says.
pub fn remove(documents: &mut [Document], is_made: impl Fn(&Value) -> bool) {
    for document in documents {
        document.is_gone = is_made(&document.value);
        if is_list(&document.value)
            && let Some(items) = document.value["items"].as_array_mut()
        {
            items.retain(|item| !is_made(item));
        }
    }
}

/// # Errors
/// A value that cannot be written, which no value that was read is.
pub fn print(documents: &[Document]) -> Result<String, String> {
    let kept = documents.iter().filter(|d| !d.is_gone);
    let texts = kept.map(text).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("---\n"))
}

fn text(document: &Document) -> Result<String, String> {
    let mut text = match document.value == document.was {
        true => document.text.clone(),
        false => serde_saphyr::to_string(&document.value).map_err(|e| e.to_string())?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
