//! Gates: who must say yes before the release goes on. A gate that does not answer has not said yes, and has not failed.

use crate::{desk::Desk, state::Run, step::Action};
use contract::{
    fault,
    policy::{At, Gate},
};

/// Why the release must wait at this point, if it must. `intent` is what would happen next; `detail` tells two questions
/// of one gate apart.
pub(crate) fn wait(desk: &mut Desk, run: &mut Run, at: At, detail: &str, intent: &str) -> Option<String> {
    let gates = &desk.plan.policy.gates;
    let asked: Vec<(usize, String)> = gates
        .iter()
        .enumerate()
        .filter(|(_, g)| g.at == at)
        .map(|(i, g)| (i, question(g, detail)))
        .collect();
    take_answers(desk, run, &asked);
    run.asked.clear();
    let mut waiting = None;
    for (i, question) in asked {
        if run.approved.contains(&question) {
            continue;
        }
        let gate = &desk.plan.policy.gates[i];
        let why = reason(desk, gate, &question);
        waiting = waiting.or(Some(format!("before it {intent}, {why}")));
        run.asked.push(question.clone());
        if gate.webhook.is_some() {
            let intent = format!("{} {intent}", run.version);
            desk.act(Action::Ask {
                gate: i,
                question,
                intent,
            });
        }
    }
    waiting
}

/// A person's yes to what this gate is asked now.
pub(crate) fn approve(run: &mut Run, gate: &str) -> Result<(), String> {
    let is_its = |q: &&String| q.split('@').next() == Some(gate);
    let mine: Vec<String> = run.asked.iter().filter(is_its).cloned().collect();
    if mine.is_empty() {
        let asked: Vec<&str> = run.asked.iter().filter_map(|q| q.split('@').next()).collect();
        return Err(not_asked(gate, &asked));
    }
    run.approved.extend(mine);
    Ok(())
}

fn not_asked(gate: &str, asked: &[&str]) -> String {
    match (fault::meant(gate, asked.iter().copied()), asked) {
        (_, []) => "no gate waits for an answer".to_owned(),
        (Some(near), _) => format!("no gate {gate} is waited for; did you mean {near}?"),
        (None, [only]) => format!("no gate {gate} is waited for; {only} is"),
        (None, several) => format!("no gate {gate} is waited for; these are: {}", several.join(", ")),
    }
}

fn take_answers(desk: &Desk, run: &mut Run, asked: &[(usize, String)]) {
    for answer in desk.seen.gates.iter().filter(|a| a.outcome.is_ok()) {
        let known = asked.iter().any(|(_, q)| *q == answer.question);
        if known && !run.approved.contains(&answer.question) {
            run.approved.push(answer.question.clone());
        }
    }
}

fn question(gate: &Gate, detail: &str) -> String {
    match detail {
        "" => format!("{}@{}", gate.name, gate.at),
        detail => format!("{}@{} {detail}", gate.name, gate.at),
    }
}

fn reason(desk: &Desk, gate: &Gate, question: &str) -> String {
    let answer = desk.seen.gates.iter().find(|a| a.question == *question);
    match (&gate.webhook, answer.map(|a| &a.outcome)) {
        (_, Some(Err(why))) => format!("gate {} must say yes: {why}", gate.name),
        (Some(_), _) => format!("gate {} must say yes", gate.name),
        (None, _) => format!(
            "a person must approve: serin approve {} {}",
            desk.plan.name, gate.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_gate_is_answered_with_the_right_one() {
        assert_eq!(not_asked("board", &[]), "no gate waits for an answer");
        assert_eq!(
            not_asked("bord", &["board", "load-test"]),
            "no gate bord is waited for; did you mean board?"
        );
        assert_eq!(
            not_asked("x-ray", &["board"]),
            "no gate x-ray is waited for; board is"
        );
        assert_eq!(
            not_asked("x-ray", &["board", "load-test"]),
            "no gate x-ray is waited for; these are: board, load-test"
        );
    }
}
