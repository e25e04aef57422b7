//! An image that is asked for on the stable workload becomes the canary, once what is there before it has no traffic.

use super::{
    desk::{AGAIN, Desk},
    rollout,
    sight::Sight,
    template::Image,
};
use contract::{
    Split,
    names::DEPLOY_IMAGE,
    release::{Command, Phase},
};
use engine::{Action, Order, Step, Tracks};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time between two attempts at what fails again and again.
const LONGEST: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing that is new.
    Nothing,
    /// What can never be done, and why.
    Refused(String, String),
    /// What stable runs already.
    Running(String),
    /// This image; as it was written.
    Release(String, Image),
}

/// How long something that fails is left alone: twice as long each time that the same stands.
#[derive(Debug, Default)]
pub(super) struct Patience {
    what: String,
    wait: Duration,
    due: Option<Instant>,
}

impl Patience {
    /// It has failed; the time until the next attempt.
    pub fn failed(&mut self, what: &str, now: Instant) -> Duration {
        self.wait = if self.what == what && self.due.is_some() {
            (self.wait * 2).min(LONGEST)
        } else {
            AGAIN
        };
        what.clone_into(&mut self.what);
        self.due = Some(now + self.wait);
        self.wait
    }

    /// Whether it may be tried.
    fn is_due(&self, what: &str, now: Instant) -> bool {
        self.what != what || self.due.is_none_or(|due| due <= now)
    }

    /// It does not fail any more.
    pub fn clear(&mut self) {
        *self = Patience::default();
    }
}

impl Desk {
    /// Ends the release under way when another image is asked for: its canary is not replaced while it has traffic.
    pub(super) fn superseded(&self, known: &rollout::Known, sight: &Sight) -> Option<Order> {
        let has_traffic = matches!(
            self.state.phase(),
            Phase::Shifting | Phase::Holding | Phase::Paused | Phase::Undecided
        );
        if !has_traffic || known.deleting || self.is_home(sight) {
            return None;
        }
        let Wish::Release(asked, _) = wish(sight, self.deploy_image.as_deref()) else {
            return None;
        };
        Some(Order {
            command: Command::Abort,
            who: format!("the annotation {}{DEPLOY_IMAGE}", self.hub.world.prefix),
            why: Some(format!("{asked} takes its place")),
        })
    }

    /// Takes up the image that is asked for, after everything that the evidence asks for is done.
    pub(super) async fn deploy(&mut self, known: &rollout::Known, step: Option<&Step>) {
        let Some(sight) = self.sight.clone().filter(|_| step.is_some()) else {
            return;
        };
        if known.deleting || self.trouble.is_some() || !self.hub.leads() {
            return;
        }
        for fault in &sight.stable.known.mistyped {
            self.warn(known, "ConfigRejected", fault.to_string());
        }
        match wish(&sight, self.deploy_image.as_deref()) {
            Wish::Nothing => {}
            Wish::Refused(asked, why) => {
                self.warn(known, "DeployRefused", format!("the image `{asked}` {why}"));
                self.deploy_image = Some(asked);
            }
            Wish::Running(asked) => {
                tracing::info!(rollout = %self.key, "{asked} is what stable runs: there is nothing to release");
                self.deploy_image = Some(asked);
            }
            Wish::Release(asked, image) => self.make(known, &sight, asked, &image).await,
        }
    }

    async fn make(&mut self, known: &rollout::Known, sight: &Sight, asked: String, image: &Image) {
        if !self.is_home(sight) {
            self.send_home(known, sight, &asked).await;
            return;
        }
        // On its way out, or into stable: what is half done is finished first.
        let busy = matches!(
            self.state.phase(),
            Phase::RollingBack | Phase::Promoting | Phase::Watching
        );
        if busy {
            return;
        }
        if !self.deploying.is_due(&asked, Instant::now()) {
            self.failure = self.failure.take().or_else(|| self.undeployed.clone());
            return;
        }
        match self.hands(known, sight).release(image).await {
            Ok(()) => {
                self.deploying.clear();
                self.undeployed = None;
                self.deploy_image = Some(asked);
            }
            Err(why) => {
                self.deploying.failed(&asked, Instant::now());
                self.undeployed = Some(why.clone());
                self.fail(why);
            }
        }
    }

    /// A weight that no release has set must not be met by a canary that is replaced.
    async fn send_home(&mut self, known: &rollout::Known, sight: &Sight, asked: &str) {
        if !self.state.phase().is_final() {
            return;
        }
        let act = Action::SetSplit {
            split: Split::NONE,
            tracks: Tracks::Usual,
            force: true,
            cause: format!("{asked} is to be released, and begins at weight 0"),
        };
        if let Err(why) = self.act(known, sight, &act).await {
            self.urgent = true;
            self.fail(why);
        }
    }

    fn is_home(&self, sight: &Sight) -> bool {
        let front = self.hub.world.service(&self.key.beside(&sight.spec.service));
        front.is_some_and(|f| f.is_home(&sight.spec.service, &self.hub.world.prefix))
    }
}

/// What is asked for, unless it was taken up before.
fn wish(sight: &Sight, taken: Option<&str>) -> Wish {
    let Some(asked) = sight.stable.known.deploy_image.clone() else {
        return Wish::Nothing;
    };
    if taken == Some(asked.as_str()) {
        return Wish::Nothing;
    }
    let template = sight.stable.known.template();
    match Image::parse(&asked) {
        Err(why) => Wish::Refused(asked, why),
        Ok(image) if image.is_in(&template) => Wish::Running(asked),
        Ok(image) => match image.fits(&template) {
            Err(why) => Wish::Refused(asked, format!("cannot be released: {why}")),
            Ok(()) => Wish::Release(asked, image),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_is_left_alone_twice_as_long() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        assert!(patience.is_due("a", now));
        let waits: Vec<u128> = (0..8).map(|_| patience.failed("a", now).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert!(!patience.is_due("a", now) && patience.is_due("b", now));
        assert!(patience.is_due("a", now + LONGEST));
        assert_eq!(patience.failed("b", now), AGAIN);
        patience.clear();
        assert_eq!(patience.failed("b", now), AGAIN);
    }
}
