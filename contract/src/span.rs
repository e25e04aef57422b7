//! A length of time as people write it: `90s`, `5m`, `1h30m`, `250ms`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr, time::Duration};

/// Longest span that is accepted: a year. Longer ones are typing errors, and they overflow timers.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A non-negative length of time, at most a year, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

impl Span {
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Span {
        Span(Duration::from_secs(n))
    }

    /// For timers.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// For arithmetic, in seconds.
    pub fn as_seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "maxLength": 32 })
    }
}

const REMEDY: &str = "write a number with a unit, such as 250ms, 90s, 5m or 1h30m";

impl FromStr for Span {
    type Err = String;

    /// # Errors
    /// A sentence with the remedy when `text` is no sum of number-and-unit pairs, or longer than a year.
    fn from_str(text: &str) -> Result<Span, String> {
        let mut total = Duration::ZERO;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(format!("no length of time is given; {REMEDY}"));
        }
        while !rest.is_empty() {
            let (part, tail) =
                first_part(rest).ok_or_else(|| format!("`{text}` is not a length of time; {REMEDY}"))?;
            total = total.saturating_add(part);
            rest = tail;
        }
        if total > LONGEST {
            Err(format!("`{text}` is longer than a year; {REMEDY}"))
        } else {
            Ok(Span(total))
        }
    }
}

/// The first number-and-unit pair of `text`, and what follows it.
fn first_part(text: &str) -> Option<(Duration, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).filter(|d| *d > 0)?;
    let (number, rest) = text.split_at(digits);
    let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some((
        Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?),
        tail,
    ))
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ] {
            if left >= size {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
        ] {
            assert_eq!(
                text.parse::<Span>().unwrap().duration(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1 s",
            "5 parsecs",
            "9999999999999999999s",
            "400d",
        ] {
            let e = text.parse::<Span>().unwrap_err();
            assert!(e.contains("90s"), "{text}: {e}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["1h30m", "90s", "1d", "250ms", "1m1s1ms"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!(Span::seconds(90).to_string(), "1m30s");
    }
}
