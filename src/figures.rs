//! Figures for people: few digits, always with their unit.

/// Seconds.
pub const HOUR: f64 = 3600.0;
/// Seconds.
pub const DAY: f64 = 86_400.0;

/// A time in the unit that suits it: `56 s`, `13 min`, `5.3 h`, `12 days`.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "< 1 s".into(),
        s if s < 59.5 => format!("{} s", number(s)),
        s if s < HOUR - 30.0 => format!("{} min", number(s / 60.0)),
        s if s < DAY - 1800.0 => format!("{} h", number(s / HOUR)),
        s if s < 1.95 * DAY => format!("{} day", number(s / DAY)),
        s => format!("{} days", number(s / DAY)),
    }
}

/// Of a share.
pub fn percent(rate: f64) -> String {
    format!("{} %", number(rate * 100.0))
}

/// At most three significant digits below 100, whole above; no trailing zeros.
pub fn number(x: f64) -> String {
    let whole = if x > 0.0 { x.log10().floor() as i32 + 1 } else { 1 };
    let decimals = (if x < 10.0 { 2 } else { 3 } - whole).clamp(0, 9) as usize;
    let text = format!("{x:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_units_and_few_digits() {
        let times = [0.2, 7.26, 59.9, 754.0, 3600.0, 19_000.0, 86_400.0, 1e7].map(time);
        let expected = [
            "< 1 s", "7.3 s", "1 min", "12.6 min", "1 h", "5.3 h", "1 day", "116 days",
        ];
        assert_eq!(times, expected);
        assert_eq!(
            [0.0, 0.001, 1.0, 10.0, 16.5, 1234.0].map(number),
            ["0", "0.001", "1", "10", "16.5", "1234"]
        );
        assert_eq!(percent(0.0015), "0.15 %");
    }
}
