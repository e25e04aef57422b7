//! Who may speak: tokens, and the rights that roles grant.

use super::ask::User;
use std::collections::BTreeMap;

/// Tokens issued so far.
#[derive(Default)]
pub(super) struct Tokens {
    users: BTreeMap<String, User>,
}

impl Tokens {
    /// A token for the user; the same one as long as name and groups are the same.
    pub(super) fn issue(&mut self, name: &str, groups: &[&str]) -> String {
        let user = user(name, groups);
        if let Some((token, _)) = self.users.iter().find(|(_, known)| **known == user) {
            return token.clone();
        }
        let token = format!("token-{}", super::effects::uid());
        self.users.insert(token.clone(), user);
        token
    }

    /// The user of an `Authorization` header.
    pub(super) fn user(&self, header: &str) -> Option<User> {
        self.users.get(header.strip_prefix("Bearer ")?.trim()).cloned()
    }
}

/// The user with the groups that the server adds by itself.
fn user(name: &str, groups: &[&str]) -> User {
    let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
    let mut join = |group: String| {
        if !groups.contains(&group) {
            groups.push(group);
        }
    };
    if let Some((namespace, _)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        join("system:serviceaccounts".into());
        join(format!("system:serviceaccounts:{namespace}"));
    }
    join("system:authenticated".into());
    User {
        name: name.into(),
        groups,
    }
}
