//! What can go wrong on the way to an API server, with the remedy.

use crate::fail::Failure;
use kube::core::Status;

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The API server said no.
    Refused(Box<Status>),
    /// It said nothing.
    Silent(String),
}

impl Trouble {
    /// Nobody answered.
    pub fn unreachable(why: &str) -> Trouble {
        Trouble::Silent(why.to_owned())
    }

    /// Whether the object, or its kind, is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Trouble::Refused(status) if status.code == 404)
    }

    /// In words; `what` was tried, such as `patch services echo`.
    pub fn told(self, what: &str) -> Failure {
        match self {
            Trouble::Silent(why) => Failure::usage(format!(
                "cannot reach the API server ({what}): {why}; `kubectl cluster-info` asks the same server"
            )),
            Trouble::Refused(status) => refused(&status, what),
        }
    }
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Trouble {
        match error {
            kube::Error::Api(status) => Trouble::Refused(status),
            other => Trouble::Silent(causes(&other)),
        }
    }
}

/// The error with everything that lies under it: the last one usually says what it is.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn refused(status: &Status, what: &str) -> Failure {
    let said = &status.message;
    match status.code {
        401 => Failure::refused(format!(
            "the API server does not know who you are ({what}): {said}; `kubectl auth whoami` asks the same"
        )),
        403 => Failure::refused(format!(
            "you may not {what}: {said}; ask for the role `edit` in this namespace, or for this right"
        )),
        404 => Failure::refused(format!("{what}: not found: {said}")),
        409 => Failure::refused(format!("{what}: somebody else was faster: {said}; try again")),
        code => Failure::refused(format!("{what}: the API server refused it ({code}): {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Trouble {
        Trouble::Refused(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn each_refusal_says_what_was_tried_and_what_to_do() {
        let text = status(403, "User \"ann\" cannot patch resource \"services\"")
            .told("patch services echo")
            .to_string();
        assert!(
            text.contains("you may not patch services echo")
                && text.contains("User \"ann\"")
                && text.contains("role")
        );
        assert!(
            status(401, "Unauthorized")
                .told("get rollouts")
                .to_string()
                .contains("kubectl auth whoami")
        );
        assert!(status(404, "").is_absent() && !status(403, "").is_absent());
        assert!(
            Trouble::unreachable("refused")
                .told("get rollouts")
                .to_string()
                .contains("cluster-info")
        );
    }
}
