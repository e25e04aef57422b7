//! From a tree to its value.

use super::Names;
use super::parse::Tree;
use regex::Regex;
use serde_json::{Map, Number, Value};

type Found = Result<Value, String>;

pub(super) fn eval(tree: &Tree, names: &Names) -> Found {
    match tree {
        Tree::Known(value) => Ok(value.clone()),
        Tree::Name(name) => names
            .get(name)
            .cloned()
            .ok_or_else(|| format!("undeclared reference to {name:?}")),
        Tree::List(items) => items
            .iter()
            .map(|item| eval(item, names))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::from),
        Tree::Map(entries) => map(entries, names),
        Tree::Field { of, name, optional } => field(&eval(of, names)?, name, *optional),
        Tree::Index { of, at, optional } => index(&eval(of, names)?, &eval(at, names)?, *optional),
        Tree::Call { on, name, given } => call(on.as_deref(), name, given, names),
        Tree::Not(inner) => truth(&eval(inner, names)?).map(|is| Value::from(!is)),
        Tree::Minus(inner) => arithmetic("-", &0.into(), &eval(inner, names)?),
        Tree::Two { sign, left, right } => two(sign, left, right, names),
        Tree::Choice { test, yes, no } => eval(if truth(&eval(test, names)?)? { yes } else { no }, names),
    }
}

fn map(entries: &[(Tree, Tree)], names: &Names) -> Found {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(text(&eval(key, names)?)?, eval(value, names)?);
    }
    Ok(map.into())
}

fn field(of: &Value, name: &str, optional: bool) -> Found {
    match of.get(name) {
        Some(value) => Ok(value.clone()),
        None if optional => Ok(Value::Null),
        None => Err(format!("no such key: {name}")),
    }
}

fn index(of: &Value, at: &Value, optional: bool) -> Found {
    let found = match at {
        Value::String(key) => of.get(key),
        other => other
            .as_u64()
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| of.get(at)),
    };
    match found {
        Some(value) => Ok(value.clone()),
        None if optional => Ok(Value::Null),
        None => Err(format!("no such key: {at}")),
    }
}

/// `&&` and `||` ask the second side only where the first does not decide; a fault on one side does not matter
/// where the other decides.
fn two(sign: &str, left: &Tree, right: &Tree, names: &Names) -> Found {
    if sign == "&&" || sign == "||" {
        let decides = |is: &Result<bool, String>| matches!(is, Ok(is) if *is == (sign == "||"));
        let one = eval(left, names).and_then(|value| truth(&value));
        if decides(&one) {
            return one.map(Value::from);
        }
        let other = eval(right, names).and_then(|value| truth(&value));
        return if decides(&other) {
            other.map(Value::from)
        } else {
            one.and(other).map(Value::from)
        };
    }
    let (left, right) = (eval(left, names)?, eval(right, names)?);
    match sign {
        "==" => Ok(equal(&left, &right).into()),
        "!=" => Ok((!equal(&left, &right)).into()),
        "in" => match &right {
            Value::Array(items) => Ok(items.iter().any(|item| equal(item, &left)).into()),
            Value::Object(map) => Ok(map.contains_key(&text(&left)?).into()),
            _ => Err("in needs a list or a map".into()),
        },
        "<" | "<=" | ">" | ">=" => compare(sign, &left, &right),
        _ => arithmetic(sign, &left, &right),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn compare(sign: &str, left: &Value, right: &Value) -> Found {
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => left
            .as_f64()
            .zip(right.as_f64())
            .and_then(|(left, right)| left.partial_cmp(&right)),
    };
    let order = order.ok_or_else(|| format!("no such overload: {left} {sign} {right}"))?;
    Ok(match sign {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    }
    .into())
}

fn arithmetic(sign: &str, left: &Value, right: &Value) -> Found {
    let none = || format!("no such overload: {left} {sign} {right}");
    match (left, right) {
        (Value::String(left), Value::String(right)) if sign == "+" => Ok(format!("{left}{right}").into()),
        (Value::Array(left), Value::Array(right)) if sign == "+" => {
            Ok([left.as_slice(), right].concat().into())
        }
        _ => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => whole(sign, left, right).map(Value::from),
            _ => broken(
                sign,
                left.as_f64().ok_or_else(none)?,
                right.as_f64().ok_or_else(none)?,
            ),
        },
    }
}

fn whole(sign: &str, left: i64, right: i64) -> Result<i64, String> {
    let made = match sign {
        "+" => left.checked_add(right),
        "-" => left.checked_sub(right),
        "*" => left.checked_mul(right),
        "/" => left.checked_div(right),
        _ => left.checked_rem(right),
    };
    made.ok_or_else(|| format!("{left} {sign} {right} has no value"))
}

fn broken(sign: &str, left: f64, right: f64) -> Found {
    let made = match sign {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        "/" => left / right,
        _ => return Err("no such overload: % of doubles".into()),
    };
    Number::from_f64(made)
        .map(Value::from)
        .ok_or_else(|| "a number without bounds".into())
}

fn call(on: Option<&Tree>, name: &str, given: &[Tree], names: &Names) -> Found {
    if name == "has" {
        return given
            .first()
            .map_or(Err("has() of nothing".into()), |tree| has(tree, names));
    }
    if let (Some(on), "all" | "exists" | "exists_one" | "filter" | "map", [Tree::Name(item), body]) =
        (on, name, given)
    {
        return each(name, &eval(on, names)?, item, body, names);
    }
    if matches!(on, Some(Tree::Name(library)) if library == "jsonpatch") {
        let key = text(&eval(given.first().ok_or("escapeKey() of nothing")?, names)?)?;
        return Ok(key.replace('~', "~0").replace('/', "~1").into());
    }
    let mut values = Vec::new();
    if let Some(on) = on {
        values.push(eval(on, names)?);
    }
    for tree in given {
        values.push(eval(tree, names)?);
    }
    function(name, &values)
}

fn has(tree: &Tree, names: &Names) -> Found {
    let Tree::Field { of, name, .. } = tree else {
        return Err("has() needs a field".into());
    };
    Ok(eval(of, names)?
        .get(name)
        .is_some_and(|value| !value.is_null())
        .into())
}

/// A macro over the items of a list, or the keys of a map.
fn each(name: &str, over: &Value, item: &str, body: &Tree, names: &Names) -> Found {
    let items: Vec<Value> = match over {
        Value::Array(items) => items.clone(),
        Value::Object(map) => map.keys().map(|key| Value::from(key.as_str())).collect(),
        _ => return Err(format!("{name}() needs a list or a map")),
    };
    let mut scope = names.clone();
    let mut value = |one: &Value| {
        scope.insert(item.to_owned(), one.clone());
        eval(body, &scope)
    };
    if name == "map" {
        return items
            .iter()
            .map(value)
            .collect::<Result<Vec<_>, _>>()
            .map(Value::from);
    }
    let mut kept = Vec::new();
    for one in &items {
        if truth(&value(one)?)? {
            kept.push(one.clone());
        }
    }
    Ok(match name {
        "all" => (kept.len() == items.len()).into(),
        "exists" => (!kept.is_empty()).into(),
        "exists_one" => (kept.len() == 1).into(),
        _ => kept.into(),
    })
}

fn function(name: &str, given: &[Value]) -> Found {
    match (name, given) {
        ("size", [value]) => size(value),
        ("string", [value]) => Ok(value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
            .into()),
        ("int", [value]) => integer(value),
        ("double", [value]) => {
            let made = value
                .as_f64()
                .or_else(|| value.as_str()?.parse().ok())
                .and_then(Number::from_f64);
            made.map(Value::from)
                .ok_or_else(|| format!("type conversion error: {value} is no double"))
        }
        ("duration", [Value::String(time)]) => seconds(time),
        ("hasValue", [value]) => Ok((!value.is_null()).into()),
        ("orValue", [Value::Null, other]) => Ok(other.clone()),
        ("orValue", [value, _]) => Ok(value.clone()),
        ("matches", [Value::String(value), Value::String(pattern)]) => Regex::new(pattern)
            .map(|pattern| pattern.is_match(value).into())
            .map_err(|fault| fault.to_string()),
        ("startsWith", [Value::String(value), Value::String(part)]) => Ok(value.starts_with(part).into()),
        ("endsWith", [Value::String(value), Value::String(part)]) => Ok(value.ends_with(part).into()),
        ("contains", [Value::String(value), Value::String(part)]) => Ok(value.contains(part.as_str()).into()),
        ("lowerAscii", [Value::String(value)]) => Ok(value.to_ascii_lowercase().into()),
        ("trim", [Value::String(value)]) => Ok(value.trim().into()),
        ("split", [Value::String(value), Value::String(part)]) => {
            Ok(value.split(part.as_str()).map(Value::from).collect())
        }
        _ => Err(format!("no such overload: {name}() of {} values", given.len())),
    }
}

fn size(value: &Value) -> Found {
    match value {
        Value::String(text) => Ok(text.chars().count().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        other => Err(format!("{other} has no size")),
    }
}

fn integer(value: &Value) -> Found {
    let made = value
        .as_i64()
        .or_else(|| value.as_str()?.parse().ok())
        .or_else(|| value.as_f64().map(|value| value as i64));
    made.map(Value::from)
        .ok_or_else(|| format!("type conversion error: {value} is no int"))
}

/// `1h30m5.5s` in seconds.
fn seconds(time: &str) -> Found {
    let fault = || format!("{time:?} is no duration");
    let (mut total, mut rest) = (0.0, time);
    while !rest.is_empty() {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(fault)?;
        let amount: f64 = rest[..end].parse().map_err(|_| fault())?;
        let after = &rest[end..];
        let units = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units
            .into_iter()
            .find(|(unit, _)| after.starts_with(unit))
            .ok_or_else(fault)?;
        total += amount * factor;
        rest = &after[unit.len()..];
    }
    Number::from_f64(total).map(Value::from).ok_or_else(fault)
}

fn truth(value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("{value} is not a condition"))
}

fn text(value: &Value) -> Result<String, String> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{value} is not a string"))
}
