//! Who may speak: tokens, and the rights that roles grant.

use super::ask::User;
use super::failure::Failure;
use http::HeaderMap;
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

/// Who acts: whoever may do everything may be somebody else, as with `kubectl --as`.
pub(super) fn acting(caller: User, headers: &HeaderMap) -> Result<User, Failure> {
    let Some(name) = headers.get("impersonate-user").and_then(|v| v.to_str().ok()) else {
        return Ok(caller);
    };
    if !caller.groups.iter().any(|group| group == "system:masters") {
        let message = format!(
            "users {name:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            caller.name
        );
        return Err(Failure::forbidden(message));
    }
    let groups = headers.get_all("impersonate-group").iter();
    let groups: Vec<&str> = groups.filter_map(|v| v.to_str().ok()).collect();
    Ok(user(name, &groups))
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
