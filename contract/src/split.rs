//! The weight: an exact fraction, as it was written. An impossible split cannot be built.

use crate::{Fault, names};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// What a weight is a share of when nothing else is said.
pub const DEFAULT_TOTAL: u32 = 100;
/// Largest total that is honoured.
pub const MAX_TOTAL: u32 = 1_000_000;
/// Digits after the point that are honoured: finer than one request in 10^8 of the default total.
pub const MAX_DECIMALS: u32 = 6;

/// The share of undecided requests that goes to the canary: `weight / total`, kept as written, so that 1 of 3
/// stays exactly one third.
///
/// Invariants: `1 <= total <= 1_000_000`, `0 <= weight <= total`, at most six decimals, no trailing zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    /// Weight times 10^decimals.
    scaled: u64,
    decimals: u32,
    total: u32,
}

impl Split {
    /// Nothing to the canary.
    pub const NONE: Split = Split {
        scaled: 0,
        decimals: 0,
        total: DEFAULT_TOTAL,
    };
    /// Everything to the canary.
    pub const ALL: Split = Split {
        scaled: DEFAULT_TOTAL as u64,
        decimals: 0,
        total: DEFAULT_TOTAL,
    };

    /// Reads the two annotation values. `prefix` stands before the keys in what is reported.
    ///
    /// # Errors
    /// Every fault of the two values: not a decimal number, negative, more than the total, total out of range.
    pub fn parse(weight: &str, total: Option<&str>, prefix: &str) -> Result<Split, Vec<Fault>> {
        let mut faults = Vec::new();
        let total = total
            .map_or(Ok(DEFAULT_TOTAL), |t| parse_total(t, prefix))
            .map_err(|f| faults.push(f));
        let decimal = parse_decimal(weight).map_err(|reason| {
            faults.push(Fault::new(
                format!("{prefix}{}", names::CANARY_WEIGHT),
                weight,
                reason,
                WEIGHT_REMEDY,
            ))
        });
        let (Ok(total), Ok((scaled, decimals))) = (total, decimal) else {
            return Err(faults);
        };
        Split::build(scaled, decimals, total).ok_or_else(|| {
            let key = format!("{prefix}{}", names::CANARY_WEIGHT);
            vec![Fault::new(
                key,
                weight,
                format!("is more than the total of {total}"),
                format!(
                    "write 0 to {total}, or raise {prefix}{}",
                    names::CANARY_WEIGHT_TOTAL
                ),
            )]
        })
    }

    /// The split nearest to `share` (0 to 1, clipped; NaN is 0) with four significant digits and the given total,
    /// never rounded up past `share` by more than the last digit.
    pub fn of_share(share: f64, total: u32) -> Split {
        let total = total.clamp(1, MAX_TOTAL);
        let share = if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        };
        let weight = share * f64::from(total);
        let digits = if weight > 0.0 {
            3 - weight.log10().floor() as i32
        } else {
            0
        };
        let decimals = digits.clamp(0, MAX_DECIMALS as i32) as u32;
        let scaled = (weight * 10f64.powi(decimals as i32)).round() as u64;
        Split::build(scaled, decimals, total).unwrap_or(Split {
            scaled: u64::from(total),
            decimals: 0,
            total,
        })
    }

    /// `None` when the weight is more than the total. Trailing zeros go, so that 0.50 is 0.5.
    fn build(mut scaled: u64, mut decimals: u32, total: u32) -> Option<Split> {
        while decimals > 0 && scaled.is_multiple_of(10) {
            scaled /= 10;
            decimals -= 1;
        }
        let split = Split {
            scaled,
            decimals,
            total,
        };
        (u128::from(scaled) <= u128::from(split.denominator())).then_some(split)
    }

    /// Numerator of the exact fraction.
    pub const fn numerator(self) -> u64 {
        self.scaled
    }

    /// Denominator of the exact fraction: at most 10^12.
    pub const fn denominator(self) -> u64 {
        self.total as u64 * 10u64.pow(self.decimals)
    }

    /// What the weight is a share of.
    pub const fn total(self) -> u32 {
        self.total
    }

    /// The fraction as a number from 0 to 1.
    pub fn share(self) -> f64 {
        self.numerator() as f64 / self.denominator() as f64
    }

    /// The fraction in percent.
    pub fn percent(self) -> f64 {
        self.share() * 100.0
    }

    /// Whether nothing goes to the canary.
    pub const fn is_none(self) -> bool {
        self.scaled == 0
    }

    /// Whether the same share goes to the canary, however written.
    pub fn same_share(self, other: Split) -> bool {
        self.cross(other) == other.cross(self)
    }

    /// Whether a larger share than `other` goes to the canary; exact.
    pub fn exceeds(self, other: Split) -> bool {
        self.cross(other) > other.cross(self)
    }

    fn cross(self, other: Split) -> u128 {
        u128::from(self.numerator()) * u128::from(other.denominator())
    }

    /// The weight as the annotation has it: `0.5`.
    pub fn weight(self) -> String {
        if self.decimals == 0 {
            return self.scaled.to_string();
        }
        let unit = 10u64.pow(self.decimals);
        format!(
            "{}.{:0width$}",
            self.scaled / unit,
            self.scaled % unit,
            width = self.decimals as usize
        )
    }
}

impl fmt::Display for Split {
    /// `0.5 %` with the default total, `1 of 3` otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            DEFAULT_TOTAL => write!(f, "{} %", self.weight()),
            total => write!(f, "{} of {total}", self.weight()),
        }
    }
}

const WEIGHT_REMEDY: &str = "write a plain decimal number from 0 to the total, such as 10 or 0.5, with at most six digits after the point";

fn parse_total(text: &str, prefix: &str) -> Result<u32, Fault> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|t| plain && (1..=MAX_TOTAL).contains(t))
        .ok_or_else(|| {
            let key = format!("{prefix}{}", names::CANARY_WEIGHT_TOTAL);
            Fault::new(
                key,
                text,
                "is not a whole number from 1 to 1000000",
                "write for example 100 or 1000, or remove the key",
            )
        })
}

/// `12.50` as (1250, 2). Only digits and one point: no sign, no exponent, no space.
fn parse_decimal(text: &str) -> Result<(u64, u32), &'static str> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if text.starts_with('-') {
        return Err("is negative");
    }
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err("is not a plain decimal number");
    }
    let part = part.trim_end_matches('0');
    if part.len() > MAX_DECIMALS as usize {
        return Err("has more than six digits after the point");
    }
    let whole = whole
        .parse::<u64>()
        .ok()
        .filter(|w| *w <= u64::from(MAX_TOTAL))
        .ok_or("is more than any total")?;
    let unit = 10u64.pow(part.len() as u32);
    Ok((whole * unit + part.parse::<u64>().unwrap_or(0), part.len() as u32))
}

#[derive(Serialize, Deserialize)]
struct Written {
    weight: String,
    total: u32,
}

impl schemars::JsonSchema for Split {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Split".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "required": ["weight", "total"],
            "properties": { "weight": { "type": "string", "maxLength": 32 }, "total": { "type": "integer", "minimum": 1, "maximum": MAX_TOTAL } },
        })
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Written {
            weight: self.weight(),
            total: self.total,
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Split, D::Error> {
        let w = Written::deserialize(from)?;
        Split::parse(&w.weight, Some(&w.total.to_string()), "")
            .map_err(|f| D::Error::custom(crate::fault::listing(&f)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(w: &str, t: Option<&str>) -> Split {
        Split::parse(w, t, "serin.dev/").unwrap()
    }

    #[test]
    fn keeps_the_fraction_as_written() {
        let third = split("1", Some("3"));
        assert_eq!(
            (third.numerator(), third.denominator(), third.to_string()),
            (1, 3, "1 of 3".into())
        );
        let half_percent = split("0.50", None);
        assert_eq!((half_percent.numerator(), half_percent.denominator()), (5, 1000));
        assert_eq!(half_percent.to_string(), "0.5 %");
        assert_eq!(split("0.05", None).weight(), "0.05");
        assert_eq!(split("100", None), Split::ALL);
        assert!(split("0.000", None).is_none());
    }

    #[test]
    fn refuses_the_impossible_with_key_value_and_remedy() {
        let cases = [
            "abc",
            "-1",
            "101",
            "100.1",
            "1e1",
            "",
            " 5",
            "5%",
            "NaN",
            "inf",
            "1.2.3",
            ".5",
            "5.",
            "+5",
            "0x10",
            "0.0000001",
            "99999999999999999999",
            "٣",
        ];
        for w in cases {
            let f = Split::parse(w, None, "serin.dev/").unwrap_err();
            assert_eq!(f[0].key, "serin.dev/canary-weight", "{w}");
            assert!(f[0].remedy.contains("write"), "{w}");
        }
        for t in ["0", "1000001", "-5", "1.5", "", "many", "+3"] {
            let f = Split::parse("1", Some(t), "serin.dev/").unwrap_err();
            assert_eq!(f[0].key, "serin.dev/canary-weight-total", "{t}");
        }
    }

    #[test]
    fn reports_both_faults_at_once() {
        assert_eq!(Split::parse("x", Some("y"), "").unwrap_err().len(), 2);
    }

    #[test]
    fn of_share_stays_close_and_valid() {
        assert_eq!(Split::of_share(0.1, 100).to_string(), "10 %");
        assert_eq!(Split::of_share(1.0 / 300.0, 100).to_string(), "0.3333 %");
        assert_eq!(Split::of_share(7.0, 100), Split::ALL);
        assert_eq!(Split::of_share(f64::NAN, 100), Split::NONE);
        assert!(Split::of_share(-1.0, 0).is_none());
    }

    proptest! {
        #[test]
        fn survives_the_wire(whole in 0u64..1000, part in 0u32..1_000_000, total in 1000u32..=MAX_TOTAL) {
            let s = split(&format!("{}.{part:06}", whole.saturating_sub(1)), Some(&total.to_string()));
            let back: Split = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
            prop_assert_eq!(s, back);
            prop_assert!(s.share() >= 0.0 && s.share() <= 1.0);
        }

        #[test]
        fn any_text_is_a_split_or_a_fault(w in ".*", t in ".*") {
            if let Ok(s) = Split::parse(&w, Some(&t), "") { prop_assert!(s.numerator() <= s.denominator()); }
        }

        #[test]
        fn of_share_is_within_a_thousandth(share in 0.0f64..=1.0, total in 1u32..=MAX_TOTAL) {
            let s = Split::of_share(share, total);
            prop_assert!((s.share() - share).abs() <= share * 1e-3 + 1e-6);
        }
    }
}
