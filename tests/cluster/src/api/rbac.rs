//! Rights, as Roles and ClusterRoles grant them through their bindings.

use super::ask::{Ask, User};
use super::failure::Failure;
use super::store::Store;
use serde_json::{Value, json};

/// What somebody wants to do.
struct Act<'a> {
    verb: &'a str,
    group: &'a str,
    /// With the subresource: `rollouts/status`.
    resource: String,
    namespace: &'a str,
    name: &'a str,
}

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whether the caller may; the refusal in the real server's words if not.
pub(super) fn allowed(store: &Store, ask: &Ask) -> Result<(), Failure> {
    if ask.kind.fleeting {
        return Ok(());
    }
    let act = Act::of(ask);
    let created = ask.applies() && store.get(&ask.kind.shelf(), &ask.key()?).is_none();
    if !may(store, &ask.user, &act) {
        return Err(refused(ask, &act));
    }
    // An apply that creates is a creation too.
    let creation = Act {
        verb: "create",
        ..Act::of(ask)
    };
    if created && !may(store, &ask.user, &creation) {
        return Err(refused(ask, &creation));
    }
    Ok(())
}

/// SelfSubjectReview and SelfSubjectAccessReview.
pub(super) fn review(store: &Store, ask: &Ask) -> Result<Value, Failure> {
    let mut review = ask.json()?;
    if ask.kind.plural == "selfsubjectreviews" {
        review["status"] = json!({"userInfo": {"username": ask.user.name, "groups": ask.user.groups}});
        return Ok(review);
    }
    let wanted = review["spec"]["resourceAttributes"].clone();
    let text = |field: &str| wanted[field].as_str().unwrap_or_default();
    let resource = joined(text("resource"), text("subresource"));
    let act = Act {
        verb: text("verb"),
        group: text("group"),
        resource,
        namespace: text("namespace"),
        name: text("name"),
    };
    review["status"] = json!({"allowed": may(store, &ask.user, &act)});
    Ok(review)
}

impl<'a> Act<'a> {
    fn of(ask: &'a Ask) -> Act<'a> {
        let name = ask.name.as_deref().unwrap_or_default();
        // Reading a namespace by name is a right within that namespace.
        let space = if ask.kind.is("", "namespaces") {
            name
        } else {
            ask.namespace.as_deref().unwrap_or_default()
        };
        Act {
            verb: ask.verb,
            group: &ask.kind.group,
            resource: joined(&ask.kind.plural, &ask.sub),
            namespace: space,
            name,
        }
    }
}

fn joined(resource: &str, sub: &str) -> String {
    if sub.is_empty() {
        resource.into()
    } else {
        format!("{resource}/{sub}")
    }
}

fn may(store: &Store, user: &User, act: &Act) -> bool {
    if user.groups.iter().any(|group| group == "system:masters") {
        return true;
    }
    let bound = |plural: &str, namespace: Option<&str>| {
        let resource = (GROUP.to_owned(), plural.to_owned());
        let bindings = store.scan(&resource, namespace, None);
        bindings
            .map(|(_, binding)| binding.clone())
            .collect::<Vec<_>>()
            .into_iter()
            .any(|binding| {
                names(&binding, user) && rules(store, &binding).iter().any(|rule| grants(rule, act))
            })
    };
    bound("clusterrolebindings", None)
        || !act.namespace.is_empty() && bound("rolebindings", Some(act.namespace))
}

/// Whether the binding's subjects include the user.
fn names(binding: &Value, user: &User) -> bool {
    let home = binding["metadata"]["namespace"].as_str().unwrap_or_default();
    binding["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|subject| {
            let name = subject["name"].as_str().unwrap_or_default();
            match subject["kind"].as_str() {
                Some("User") => user.name == name,
                Some("Group") => user.groups.iter().any(|group| group == name),
                Some("ServiceAccount") => {
                    let space = subject["namespace"].as_str().unwrap_or(home);
                    user.name == format!("system:serviceaccount:{space}:{name}")
                }
                _ => false,
            }
        })
}

/// The rules of the role that a binding refers to.
fn rules(store: &Store, binding: &Value) -> Vec<Value> {
    let name = binding["roleRef"]["name"].as_str().unwrap_or_default().to_owned();
    let home = binding["metadata"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (plural, space) = if binding["roleRef"]["kind"] == "Role" {
        ("roles", home)
    } else {
        ("clusterroles", String::new())
    };
    let role = store.get(&(GROUP.to_owned(), plural.to_owned()), &(space, name));
    role.and_then(|role| role["rules"].as_array().cloned())
        .unwrap_or_default()
}

fn grants(rule: &Value, act: &Act) -> bool {
    let has = |field: &str, wanted: &str| lists(rule, field, wanted) || lists(rule, field, "*");
    let sub = act.resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
    let resource = has("resources", &act.resource) || sub.is_some_and(|any| lists(rule, "resources", &any));
    let only = rule["resourceNames"]
        .as_array()
        .is_some_and(|names| !names.is_empty());
    has("verbs", act.verb)
        && has("apiGroups", act.group)
        && resource
        && (!only || lists(rule, "resourceNames", act.name))
}

fn lists(rule: &Value, field: &str, wanted: &str) -> bool {
    rule[field]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one == wanted))
}

fn refused(ask: &Ask, act: &Act) -> Failure {
    let scope = match ask.namespace.as_deref() {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".into(),
    };
    let subject = if act.name.is_empty() {
        ask.kind.resource()
    } else {
        format!("{} {:?}", ask.kind.resource(), act.name)
    };
    let message = format!(
        "{subject} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {scope}",
        ask.user.name, act.verb, act.resource, act.group
    );
    Failure::forbidden(message).about(&ask.kind, act.name)
}
