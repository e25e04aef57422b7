//! The last part of the page, for whoever knows the words of the trade.

use super::{
    page::name,
    parts::{between, exact, heading, line, wrapped},
};
use crate::figures::{number, percent, time};
use proxy::contract::{explanation::Explanation, policy::Margin};

/// The same in numbers.
pub fn numbers(e: &Explanation) -> String {
    let parts = [heading("The same in numbers"), worse(e), good(e), trust(e)];
    let about = "All bounds are 95 % anytime bounds: they hold at every look at once.";
    parts.concat() + &wrapped(about, "  ")
}

fn worse(e: &Explanation) -> String {
    let mut out = line("worse", &log("ln M", e.log_rollback, e.rollback_at));
    for m in &e.metrics {
        let (weight, share) = (exact(m.weight), percent(m.share));
        let text = format!("ln M {:.2}, weight {weight}, share {share}", m.log_evidence);
        out += &line(&format!("  {}", name(m.metric)), &text);
    }
    let gain = format!("{:+.2} nats to the errors' ln M", e.next_errors.one_adds);
    out + &line("  one canary error more", &gain)
}

fn good(e: &Explanation) -> String {
    let needs: Vec<String> = e
        .promotion
        .iter()
        .map(|n| format!("{} {:.2}", n.of, n.has))
        .collect();
    line("good enough", &log("ln M'", e.log_promote, e.promote_at)) + &line("  by part", &needs.join(", "))
}

fn log(name: &str, has: f64, at: f64) -> String {
    format!("{name} {has:.2}, threshold {at:.2}")
}

fn trust(e: &Explanation) -> String {
    let [roll_back, promote] = [e.margins.rollback, e.margins.promote].map(margin);
    let mut out = line(
        "margins",
        &format!("roll back above {roll_back}, promote below {promote}"),
    );
    let n = &e.noise;
    let [pod, now, tau] = [n.dispersion, n.dispersion_now, n.pod_spread].map(number);
    out += &line("noise", &format!("phi {pod} (a pod), {now} (now); tau {tau}"));
    if let Some(p) = &e.placebos {
        let text = format!(
            "{}, largest ln M {:.2}, alarm at {:.2}",
            p.groups, p.largest, p.alarm_at
        );
        out += &line("placebos", &text);
    }
    if let Some(r) = e.ratio.as_ref().filter(|r| r.high.is_some() || r.low > 0.0) {
        out += &line("error ratio", &between(r, number));
    }
    let blocks = format!("{} events in {} of traffic", e.events, time(e.traffic.seconds));
    out + &line("log of blocks", &blocks)
}

fn margin(m: Margin) -> String {
    format!("{} x + {}", exact(m.ratio), percent(m.absolute))
}
