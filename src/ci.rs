//! Logs of pipelines: details that can be folded away.

use std::{env, fmt::Write};

/// The pipelines whose logs can fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// `GITLAB_CI`
    GitLab,
    /// `GITHUB_ACTIONS`
    GitHub,
}

impl Pipeline {
    /// The one that this process runs in.
    pub fn here() -> Option<Pipeline> {
        let is_set = |name| env::var(name).is_ok_and(|v| v == "true" || v == "1");
        match () {
            () if is_set("GITLAB_CI") => Some(Pipeline::GitLab),
            () if is_set("GITHUB_ACTIONS") => Some(Pipeline::GitHub),
            () => None,
        }
    }

    /// A folded section; `key` is one of each log, of letters and digits alone.
    pub fn section(self, key: &str, title: &str, body: &str, now: f64) -> String {
        let mut out = String::new();
        let key: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let body = body.trim_end();
        let _ = match self {
            Pipeline::GitLab => writeln!(
                out,
                "\x1b[0Ksection_start:{now:.0}:{key}[collapsed=true]\r\x1b[0K{title}\n{body}\n\x1b[0Ksection_end:{now:.0}:{key}\r\x1b[0K"
            ),
            Pipeline::GitHub => writeln!(out, "::group::{title}\n{body}\n::endgroup::"),
        };
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_as_the_pipelines_read_them() {
        let lab = Pipeline::GitLab.section("serin echo", "why", "a\nb\n", 12.0);
        assert_eq!(
            lab,
            "\x1b[0Ksection_start:12:serin_echo[collapsed=true]\r\x1b[0Kwhy\na\nb\n\x1b[0Ksection_end:12:serin_echo\r\x1b[0K\n"
        );
        let hub = Pipeline::GitHub.section("x", "why", "a\n", 12.0);
        assert_eq!(hub, "::group::why\na\n::endgroup::\n");
    }
}
