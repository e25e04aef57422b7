//! An explanation as a page of plain text, 80 columns wide. Words of the trade stand in its last part only.

use super::{
    Account,
    numbers::numbers,
    parts::{bar, bullet, heading, latency, line, rate, ratio, seconds, times, unanswered, wrapped},
};
use crate::{
    figures::{number, percent, time},
    view,
};
use proxy::contract::{
    explanation::{Explanation, Metric, MetricPart, Quantile, Silence},
    names::CONTROLLER,
    release::{Decision, Phase},
};

/// Below this much evidence (a factor of 2) the parts of it say nothing to anybody.
const WORTH_A_WORD: f64 = 0.7;
/// Shares below this are not shown.
const LEAST_SHARE: f64 = 0.02;

/// For decisions that follow from others, and those of people.
const NOTHING: &str = "No evidence was weighed for this. `serin explain --decision last` shows the last decision that rests on some.";

/// The page.
pub fn page(account: &Account) -> String {
    let mut out = wrapped(&headline(account), "");
    if let Some(d) = &account.decision {
        out += &wrapped(&stamp(d), "");
    }
    let Some(e) = &account.explanation else {
        return out + "\n" + &wrapped(NOTHING, "");
    };
    let parts = [
        compared(account, e),
        sure(e),
        against(e),
        unseen(e),
        next(account, e),
        change(account, e),
        numbers(e),
    ];
    out + &parts.concat()
}

/// What was decided and why, in one sentence.
fn headline(account: &Account) -> String {
    let s = &account.status;
    let Some(d) = &account.decision else {
        return format!(
            "{}: {} is compared with {} at {} of the traffic; {}.",
            s.service,
            called(&s.canary_version, "the canary"),
            called(&s.stable_version, "stable"),
            s.wanted,
            account
                .explanation
                .as_ref()
                .map_or("nothing is known yet", standing)
        );
    };
    let why = match (&account.explanation, d.to) {
        (Some(e), Phase::RollingBack) if e.is_worse() && d.by == CONTROLLER => {
            format!("{} was rolled back, because {}", d.version, blame(e))
        }
        (Some(e), Phase::Promoting) if e.is_good_enough() && d.by == CONTROLLER => {
            format!(
                "{} is promoted, because it is as good as stable as far as that can be told",
                d.version
            )
        }
        _ => first_clause(&d.reason).to_owned(),
    };
    format!("{}: {why}.", account.service)
}

fn called<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}

fn standing(e: &Explanation) -> &'static str {
    if e.is_worse() {
        "it is worse"
    } else if e.is_good_enough() {
        "it is good enough, and waits for what else a promotion needs"
    } else {
        "nothing is decided yet"
    }
}

/// Who is worse, in words: all that are proven, or else the largest part.
fn blame(e: &Explanation) -> String {
    let proven: Vec<&MetricPart> = e.metrics.iter().filter(|m| m.guilty).collect();
    let named = if proven.is_empty() {
        e.metrics.iter().take(1).collect()
    } else {
        proven
    };
    let words: Vec<String> = named.into_iter().map(|m| fault(e, m.metric)).collect();
    words.join(", and ")
}

fn fault(e: &Explanation, metric: Metric) -> String {
    match metric {
        Metric::Errors => format!(
            "{} of its requests were bad, and {} of stable's",
            e.canary.counts, e.stable.counts
        ),
        Metric::Latency => slower(e),
        Metric::Unanswered => format!(
            "{} of its requests had no good answer within 1 s, and {} of stable's within half of that",
            e.canary.unanswered.unwrap_or_default(),
            e.stable.unanswered.unwrap_or_default()
        ),
    }
}

/// The quantile in which both differ most.
fn slower(e: &Explanation) -> String {
    let pairs = e.canary.latency.iter().zip(&e.stable.latency);
    let ratio = |p: &(&Quantile, &Quantile)| p.0.seconds / p.1.seconds;
    let widest = pairs.max_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    widest.map_or("it is slower".to_owned(), |(canary, stable)| {
        format!(
            "{} of its answers take up to {}, and stable's {}",
            percent(canary.p),
            seconds(canary.seconds),
            seconds(stable.seconds)
        )
    })
}

fn first_clause(reason: &str) -> &str {
    reason.split("; ").next().unwrap_or(reason)
}

fn stamp(d: &Decision) -> String {
    let who = if d.by == CONTROLLER {
        "Serin itself"
    } else {
        d.by.as_str()
    };
    format!(
        "Decision {} at {}, by {who}: {} -> {}, weight {}.",
        d.number,
        view::clock(d.at),
        d.from,
        d.to,
        d.weight
    )
}

fn compared(account: &Account, e: &Explanation) -> String {
    let mut out = heading("What was compared");
    let (stable, canary) = versions(account);
    out += &rate(&format!("stable {stable}"), &e.stable);
    out += &rate(&format!("canary {canary}"), &e.canary);
    out += &unanswered(e);
    out += &latency(e);
    if let Some(text) = ratio(e) {
        out += &bullet(&text);
    }
    out += &bullet(
        "Both had their requests in the same seconds, and chance chose who got which. Requests that ask for the \
         canary by header, cookie or URL are not among them: nobody can compare users who chose themselves.",
    );
    out
}

fn versions(account: &Account) -> (&str, &str) {
    let canary = account
        .decision
        .as_ref()
        .map_or(account.status.canary_version.as_str(), |d| &d.version);
    (&account.status.stable_version, canary)
}

fn sure(e: &Explanation) -> String {
    let mut out = heading("How sure that is");
    out += &line("worse", &view::bar(e.log_rollback, e.rollback_at));
    out += &line("good enough", &view::bar(e.log_promote, e.promote_at));
    let one_in = |at: f64| number(at.exp().round());
    let alarmed = e.placebos.as_ref().is_some_and(|p| p.alarmed.is_some());
    out += &bullet(&if alarmed {
        "How rare this is by chance cannot be said: a part of stable, judged in the same way, would have been rolled back \
         too. The first line stands far beyond the most that any part of stable has shown."
            .to_owned()
    } else if e.is_worse() {
        format!(
            "Of {} healthy releases, fewer than one would ever look this bad, however often one looks. This one is {} \
             beyond that line.",
            one_in(e.rollback_at),
            times((e.log_rollback - e.rollback_at).exp())
        )
    } else if e.is_good_enough() {
        format!(
            "Of {} canaries that are worse than tolerated, fewer than one would look this good.",
            one_in(e.promote_at)
        )
    } else {
        format!(
            "Neither line is reached. Of {} healthy releases, fewer than one would ever reach the first by chance; of {} \
             that are worse than tolerated, fewer than one the second.",
            one_in(e.rollback_at),
            one_in(e.promote_at)
        )
    });
    out
}

/// Who says how much, as bars.
fn against(e: &Explanation) -> String {
    let mut out = heading("What speaks against the canary");
    if e.log_rollback < WORTH_A_WORD {
        out += &bullet("Nothing so far.");
        return out + &silences(e);
    }
    for metric in e.metrics.iter().filter(|m| m.share >= LEAST_SHARE) {
        out += &bar(name(metric.metric), metric.share);
        let bets = metric.bets.iter().filter(|b| b.share >= LEAST_SHARE).take(3);
        out += &bets
            .map(|b| bar(&format!("  {}", b.on), b.share))
            .collect::<String>();
    }
    out + &silences(e)
}

fn silences(e: &Explanation) -> String {
    let silence = e.metrics.iter().find_map(|m| m.silence);
    match silence {
        None => String::new(),
        Some(Silence::Learning) => {
            bullet("Latency is silent: too few requests of stable are known to compare with.")
        }
        Some(Silence::Tolerated) => {
            let tolerated = e.margins.slower.unwrap_or(1.0);
            bullet(&format!(
                "Latency is silent: the canary is slower, but by less than the {} that you tolerate.",
                percent(tolerated - 1.0)
            ))
        }
    }
}

/// As a reader knows it.
pub fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Errors => "errors",
        Metric::Latency => "latency",
        Metric::Unanswered => "no good answer in 1 s",
    }
}

/// What it is blind to, and why.
fn unseen(e: &Explanation) -> String {
    let mut out = heading("What it cannot see");
    let [stable, canary] = e.noise.endpoints;
    let (margin, wanted) = (e.margins.rollback, e.margins.policy_rollback);
    if e.noise.pod_spread > 0.0 && margin.ratio > wanted.ratio {
        out += &bullet(&format!(
            "Stable's own pods differ for good. With {canary} of the canary beside {stable} of stable, nothing below {} \
             stable's error rate can be told from that (you asked for {}).",
            times(margin.ratio),
            times(wanted.ratio)
        ));
    } else {
        out += &bullet(&format!(
            "Up to {} stable's error rate plus {} is tolerated, and not looked for.",
            times(margin.ratio),
            percent(margin.absolute)
        ));
    }
    if e.noise.dispersion_now > 1.05 {
        out += &bullet(&format!(
            "Stable's errors come in bursts, so {} of them count as one.",
            number(e.noise.dispersion_now)
        ));
    }
    if let Some(least) = e.outlook.visible_in_an_hour {
        out += &bullet(&format!(
            "At {} requests/s with {} for the canary, less than {} bad takes longer than an hour to find.",
            number(e.traffic.rate),
            percent(e.traffic.share),
            percent(least)
        ));
    }
    out + &doubts(e)
}

fn doubts(e: &Explanation) -> String {
    let mut out = String::new();
    match &e.placebos {
        Some(p) if p.alarmed.is_some() => {
            out += &bullet(&format!(
                "Part {} of {} of stable, judged like a canary, would have been rolled back: chance is larger here than \
                 it should be, and a rollback needs more.",
                p.alarmed.unwrap_or(0),
                p.groups
            ));
        }
        Some(p) => {
            out += &bullet(&format!(
                "{} parts of stable are judged like canaries beside it: none of them alarms, so the measure can be \
                 trusted here.",
                p.groups
            ));
        }
        None => {}
    }
    if e.traffic.warm_up_left > 0.0 {
        out += &bullet(&format!(
            "The canary is warming up: for {} more it may be slow.",
            time(e.traffic.warm_up_left)
        ));
    }
    out
}

fn next(account: &Account, e: &Explanation) -> String {
    let settled = account.decision.as_ref().map(|d| d.to);
    if account.decision.is_none() && account.status.phase != Phase::Shifting {
        return heading("What happens next") + &bullet(&now(account));
    }
    let out = heading(if is_past(settled) {
        "What was to come then"
    } else {
        "What happens next"
    });
    out + &match settled {
        Some(Phase::RollingBack | Phase::RolledBack) => bullet(&format!(
            "Stable serves everybody. This version is not tried again by itself; `serin retry {}` does, with half the \
             chance of a wrong decision.",
            account.service
        )),
        Some(_) if is_ordered(account) => {
            bullet("A person ordered it: nothing is judged or watched after that.")
        }
        Some(Phase::Promoting | Phase::Watching | Phase::Succeeded) => {
            bullet("The canary takes over. While the old version keeps a share, both are compared on.")
        }
        _ => worst(e) + &best(e),
    }
}

fn worst(e: &Explanation) -> String {
    bullet(&match e.outlook.rollback_if_so {
        _ if e.is_worse() => "It is rolled back.".to_owned(),
        Some(seconds) => format!(
            "If both go on as they did, it is rolled back for errors in about {}.",
            about(seconds)
        ),
        None => "If both go on as they did, errors do not lead to a rollback.".to_owned(),
    })
}

fn best(e: &Explanation) -> String {
    bullet(&match e.outlook.promote_if_same {
        Some(seconds) if seconds > 0.0 => format!(
            "If it is as good as stable, it is promoted in about {}; sooner when the weight grows.",
            about(seconds)
        ),
        Some(_) => "No evidence and no soak is missing for a promotion.".to_owned(),
        None => "When it can be promoted is not in sight yet.".to_owned(),
    })
}

/// A time that was estimated: more than two digits would promise too much.
fn about(seconds: f64) -> String {
    let unit = 10f64.powf(seconds.max(1.0).log10().floor() - 1.0);
    time((seconds / unit).round() * unit)
}

/// A decision on the way: what it expected may have come by now, or not.
fn is_past(settled: Option<Phase>) -> bool {
    settled.is_some_and(|to| {
        !matches!(
            to,
            Phase::RollingBack | Phase::RolledBack | Phase::Promoting | Phase::Watching | Phase::Succeeded
        )
    })
}

/// Promoted because a person said so.
fn is_ordered(account: &Account) -> bool {
    let ordered = |d: &Decision| d.to == Phase::Promoting && d.by != CONTROLLER;
    account.decision.as_ref().is_some_and(ordered)
}

/// What a release that does not shift is doing, and how that ends.
fn now(account: &Account) -> String {
    let s = &account.status;
    let how = match s.phase {
        Phase::Paused => {
            "Nothing rises and nothing is promoted until somebody resumes; a canary that turns out worse is still rolled back"
        }
        Phase::Watching => {
            "It was promoted; both are compared while the old version keeps a share, and a canary that turns out worse is rolled back"
        }
        Phase::Holding => {
            "The weight stays until the cause has gone; a canary that turns out worse is still rolled back"
        }
        Phase::Undecided => "It stays so until a person or late evidence decides",
        _ => "It goes on by itself",
    };
    format!("{} now: {}. {how}.", s.phase, s.reason.trim_end_matches('.'))
}

fn change(account: &Account, e: &Explanation) -> String {
    let settled = account.decision.as_ref().map(|d| d.to);
    let still = account.decision.is_none() && account.status.phase != Phase::Shifting;
    let over = matches!(
        settled,
        Some(Phase::RollingBack | Phase::RolledBack | Phase::Succeeded)
    );
    if still || over || is_ordered(account) {
        return String::new();
    }
    let mut out = heading(if is_past(settled) {
        "What would have changed that"
    } else {
        "What would change that"
    });
    if let Some(text) = more_errors(e) {
        out += &bullet(&text);
    }
    let lacking: Vec<String> = e
        .promotion
        .iter()
        .filter(|n| n.has < n.needs)
        .map(|n| format!("{} {:.0} %", n.of, view::progress(n.has, n.needs) * 100.0))
        .collect();
    out += &bullet(&if lacking.is_empty() {
        "For a promotion no evidence is missing.".to_owned()
    } else {
        format!(
            "A promotion needs more evidence. So far: {} of what it takes.",
            lacking.join(", ")
        )
    });
    if e.traffic.soak_left > 0.0 {
        out += &bullet(&format!("And {} of soak are left.", time(e.traffic.soak_left)));
    }
    out
}

fn more_errors(e: &Explanation) -> Option<String> {
    let n = e.next_errors.to_rollback?;
    let text = match n {
        0 => return None,
        1 => "One more bad request of the canary, without one of stable, rolls it back.".to_owned(),
        n => format!(
            "{n} more bad requests of the canary within a second, without one of stable, roll it back."
        ),
    };
    Some(text)
}
