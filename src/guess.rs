//! "Did you mean": the nearest of the names that there are.

use strsim::osa_distance;

/// Names that a sentence lists at most.
const LISTED: usize = 10;

/// `there is no service eco; did you mean echo? There are: echo, shop`
pub fn absent(kind: &str, wanted: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there is no {kind} {wanted}, nor any other");
    }
    let mut list: Vec<&str> = known.iter().take(LISTED).copied().collect();
    if known.len() > LISTED {
        list.push("…");
    }
    let list = list.join(", ");
    match nearest(wanted, known) {
        Some(near) => format!("there is no {kind} {wanted}; did you mean {near}? There are: {list}"),
        None => format!("there is no {kind} {wanted}; there are: {list}"),
    }
}

/// The name that was probably meant: at most a third of it is another.
pub fn nearest<'a>(wanted: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let near = known
        .iter()
        .map(|name| (osa_distance(&wanted, &name.to_lowercase()), *name));
    let (steps, name) = near.min_by_key(|(steps, _)| *steps)?;
    (steps * 3 <= name.chars().count().max(3)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["echo", "shop", "payments"];
        for (typed, meant) in [
            ("eco", Some("echo")),
            ("ehco", Some("echo")),
            ("Shop", Some("shop")),
            ("paymnet", Some("payments")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
        assert_eq!(
            absent("service", "eco", &known),
            "there is no service eco; did you mean echo? There are: echo, shop, payments"
        );
        assert_eq!(
            absent("service", "a", &[]),
            "there is no service a, nor any other"
        );
    }
}
