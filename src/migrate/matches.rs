//! Header matches of Istio's kind (`exact`, `prefix`, `suffix`, `regex`) in Gateway API words.

use proxy::{
    contract::{
        Canary,
        matches::{FieldKind, FieldMatch, RouteMatch},
        names::PREFIX,
    },
    table::Rules,
};
use serde_json::Value;

/// The match of a header; `None`: it says nothing that can be compared.
pub fn header(name: &str, test: &Value) -> Option<FieldMatch> {
    let word = |key: &str| test[key].as_str();
    let (kind, value) = if let Some(value) = word("exact") {
        (FieldKind::Exact, value.to_owned())
    } else if let Some(value) = word("prefix") {
        (FieldKind::RegularExpression, format!("{}.*", escaped(value)))
    } else if let Some(value) = word("suffix") {
        (FieldKind::RegularExpression, format!(".*{}", escaped(value)))
    } else {
        (FieldKind::RegularExpression, word("regex")?.to_owned())
    };
    Some(FieldMatch {
        kind,
        name: name.to_owned(),
        value,
    })
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// One match, if our proxy takes it.
///
/// # Errors
/// Why it does not, and what to write instead.
pub fn of(headers: Vec<FieldMatch>) -> Result<RouteMatch, String> {
    let one = RouteMatch {
        headers,
        ..RouteMatch::default()
    };
    let text = serde_json::to_string(&[&one]).map_err(|e| e.to_string())?;
    let parsed = proxy::contract::matches::parse(&text, PREFIX).and_then(|matches| {
        let canary = Canary {
            matches,
            ..Canary::default()
        };
        Rules::compile(&canary, PREFIX).map(drop)
    });
    match parsed {
        Ok(()) => Ok(one),
        Err(faults) => Err(faults
            .first()
            .map_or_else(String::new, |f| format!("{}; {}", f.reason, f.remedy))),
    }
}
