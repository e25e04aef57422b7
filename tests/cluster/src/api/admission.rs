//! Admission policies: what they stamp on an object, and what they refuse. Creations and updates only.

use super::ask::Ask;
use super::cel::{self, Names};
use super::failure::Failure;
use super::shape::Type;
use super::store::Store;
use super::{apply, merge};
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io";

/// A policy with the name of a binding that puts it into force.
struct Bound {
    policy: Value,
    binding: String,
    /// Which objects the policy takes its parameters from.
    params: Value,
}

/// Lets the mutating policies write.
pub(super) fn mutate(store: &Store, ask: &Ask, old: Option<&Value>, new: &mut Value) -> Result<(), Failure> {
    for bound in bound(
        store,
        ask,
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ) {
        let changed = mutated(store, ask, &bound.policy, old, new);
        match changed {
            Ok(Some(object)) => *new = object,
            Ok(None) => (),
            Err(_) if bound.policy["spec"]["failurePolicy"] == "Ignore" => (),
            Err(fault) => return Err(denied(ask, "MutatingAdmissionPolicy", &bound, new, &fault, "")),
        }
    }
    Ok(())
}

/// Lets the validating policies refuse.
pub(super) fn validate(store: &Store, ask: &Ask, old: Option<&Value>, new: &Value) -> Result<(), Failure> {
    for bound in bound(
        store,
        ask,
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ) {
        match refusal(store, ask, &bound, old, new) {
            Ok(None) => (),
            Ok(Some((why, reason))) => {
                return Err(denied(
                    ask,
                    "ValidatingAdmissionPolicy",
                    &bound,
                    new,
                    &why,
                    &reason,
                ));
            }
            Err(_) if bound.policy["spec"]["failurePolicy"] == "Ignore" => (),
            Err(fault) => return Err(denied(ask, "ValidatingAdmissionPolicy", &bound, new, &fault, "")),
        }
    }
    Ok(())
}

/// The policies in force for the request's resource and operation.
fn bound(store: &Store, ask: &Ask, policies: &str, bindings: &str) -> Vec<Bound> {
    if ask.kind.group == GROUP {
        return Vec::new();
    }
    let shelf = |plural: &str| (GROUP.to_owned(), plural.to_owned());
    let all = store
        .scan(&shelf(bindings), None, None)
        .filter_map(|((_, binding), object)| {
            let denies = object["spec"]["validationActions"]
                .as_array()
                .is_none_or(|all| all.iter().any(|one| one == "Deny"));
            let name = object["spec"]["policyName"].as_str().filter(|_| denies)?;
            let policy = store.get(&shelf(policies), &(String::new(), name.to_owned()))?;
            Some(Bound {
                policy: (*policy).clone(),
                binding: binding.clone(),
                params: object["spec"]["paramRef"].clone(),
            })
        });
    all.filter(|bound| concerns(&bound.policy["spec"]["matchConstraints"], ask))
        .collect()
}

fn concerns(constraints: &Value, ask: &Ask) -> bool {
    let any = |list: &str| {
        constraints[list]
            .as_array()
            .into_iter()
            .flatten()
            .any(|rule| fits(rule, ask))
    };
    any("resourceRules") && !any("excludeResourceRules")
}

fn fits(rule: &Value, ask: &Ask) -> bool {
    let has = |field: &str, wanted: &str| {
        rule[field]
            .as_array()
            .is_none_or(|all| all.iter().any(|one| one == wanted || one == "*"))
    };
    let resource = if ask.sub.is_empty() {
        ask.kind.plural.clone()
    } else {
        format!("{}/{}", ask.kind.plural, ask.sub)
    };
    let names = rule["resourceNames"].as_array().is_none_or(|names| {
        names.is_empty() || names.iter().any(|name| ask.name.as_deref() == name.as_str())
    });
    names
        && has("apiGroups", &ask.kind.group)
        && has("apiVersions", &ask.kind.version)
        && has("resources", &resource)
}

/// The names that expressions see; none where the policy's conditions leave the request alone.
fn names(
    store: &Store,
    ask: &Ask,
    policy: &Value,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Names>, String> {
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array();
    let wanted = |rule: &Value| {
        rule["operations"]
            .as_array()
            .is_none_or(|all| all.iter().any(|one| one == operation || one == "*"))
    };
    if !rules
        .into_iter()
        .flatten()
        .any(|rule| wanted(rule) && fits(rule, ask))
    {
        return Ok(None);
    }
    let space = ask.namespace.clone().unwrap_or_default();
    let home = store.get(
        &(String::new(), "namespaces".into()),
        &(String::new(), space.clone()),
    );
    let request = json!({
        "operation": operation, "namespace": space, "name": new["metadata"]["name"], "subResource": ask.sub, "dryRun": ask.dry(),
        "userInfo": {"username": ask.user.name, "groups": ask.user.groups},
        "kind": {"group": ask.kind.group, "version": ask.kind.version, "kind": ask.kind.kind},
        "resource": {"group": ask.kind.group, "version": ask.kind.version, "resource": ask.kind.plural},
    });
    let mut names = Names::from([
        ("object".to_owned(), new.clone()),
        ("oldObject".to_owned(), old.cloned().unwrap_or_default()),
        ("request".to_owned(), request),
        (
            "namespaceObject".to_owned(),
            home.map(|home| (*home).clone()).unwrap_or_default(),
        ),
        ("params".to_owned(), Value::Null),
        ("variables".to_owned(), json!({})),
    ]);
    for condition in policy["spec"]["matchConditions"].as_array().into_iter().flatten() {
        if !cel::holds(condition["expression"].as_str().unwrap_or_default(), &names)? {
            return Ok(None);
        }
    }
    let mut variables = json!({});
    for variable in policy["spec"]["variables"].as_array().into_iter().flatten() {
        // A variable that fails matters only to those who use it, as on a real server, where it is lazy.
        if let Ok(value) = cel::value(variable["expression"].as_str().unwrap_or_default(), &names) {
            variables[variable["name"].as_str().unwrap_or_default()] = value;
            names.insert("variables".to_owned(), variables.clone());
        }
    }
    Ok(Some(names))
}

fn mutated(
    store: &Store,
    ask: &Ask,
    policy: &Value,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<Value>, String> {
    let Some(mut names) = names(store, ask, policy, old, new)? else {
        return Ok(None);
    };
    let mut object = new.clone();
    for mutation in policy["spec"]["mutations"].as_array().into_iter().flatten() {
        names.insert("object".to_owned(), object.clone());
        let of = |form: &str| mutation[form]["expression"].as_str().unwrap_or_default();
        if mutation["patchType"] == "JSONPatch" {
            let steps = cel::value(of("jsonPatch"), &names)?;
            merge::operations(&mut object, &steps).map_err(|failure| failure.message)?;
        } else {
            let made = cel::value(of("applyConfiguration"), &names)?;
            apply::merge(Type::root(&ask.kind), &mut object, &made);
        }
    }
    Ok(Some(object))
}

/// What the first validation that does not hold says, with its reason.
fn refusal(
    store: &Store,
    ask: &Ask,
    bound: &Bound,
    old: Option<&Value>,
    new: &Value,
) -> Result<Option<(String, String)>, String> {
    let Some(mut names) = names(store, ask, &bound.policy, old, new)? else {
        return Ok(None);
    };
    for params in params(store, ask, bound)? {
        names.insert("params".to_owned(), params);
        let found = invalid(&bound.policy, &names)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The objects that a policy is judged with, one after another; a policy without parameters is judged once.
fn params(store: &Store, ask: &Ask, bound: &Bound) -> Result<Vec<Value>, String> {
    let wanted = &bound.policy["spec"]["paramKind"];
    let (Some(version), Some(kind)) = (wanted["apiVersion"].as_str(), wanted["kind"].as_str()) else {
        return Ok(vec![Value::Null]);
    };
    let kind = store.kinds.of_kind(version, kind).ok_or_else(|| {
        format!("failed to configure policy: failed to find resource referenced by paramKind: '{version}, Kind={kind}'")
    })?;
    let own = ask.namespace.as_deref();
    let space = bound.params["namespace"]
        .as_str()
        .or(own)
        .filter(|_| kind.namespaced);
    let labels = bound.params["selector"]["matchLabels"].as_object();
    let fits = |object: &Value| {
        let name = bound.params["name"].as_str();
        let has = |(key, value): (&String, &Value)| object["metadata"]["labels"][key] == *value;
        name.is_none_or(|name| object["metadata"]["name"] == name) && labels.into_iter().flatten().all(has)
    };
    let all = store.scan(&kind.shelf(), space, None);
    let found: Vec<Value> = all.map(|(_, o)| (**o).clone()).filter(fits).collect();
    if found.is_empty() && bound.params["parameterNotFoundAction"] != "Allow" {
        return Err("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

fn invalid(policy: &Value, names: &Names) -> Result<Option<(String, String)>, String> {
    for validation in policy["spec"]["validations"].as_array().into_iter().flatten() {
        let text = validation["expression"].as_str().unwrap_or_default();
        if cel::holds(text, names)? {
            continue;
        }
        let made = validation["messageExpression"]
            .as_str()
            .and_then(|expression| cel::value(expression, names).ok());
        let made = made.and_then(|message| message.as_str().map(str::to_owned));
        let message = made.or_else(|| validation["message"].as_str().map(str::to_owned));
        let reason = validation["reason"].as_str().unwrap_or_default().to_owned();
        return Ok(Some((
            message.unwrap_or_else(|| format!("failed expression: {text}")),
            reason,
        )));
    }
    Ok(None)
}

fn denied(ask: &Ask, kind: &str, bound: &Bound, new: &Value, why: &str, reason: &str) -> Failure {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let policy = bound.policy["metadata"]["name"].as_str().unwrap_or_default();
    let said = format!(
        "{kind} '{policy}' with binding '{}' denied request: {why}",
        bound.binding
    );
    let message = format!("{} {name:?} is forbidden: {said}", ask.kind.resource());
    let (code, reason) = match reason {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let mut failure = Failure::new(code, reason, message).about(&ask.kind, name);
    // All that kubectl shows of a refusal for this reason.
    failure.details["causes"] = json!([{"message": said}]);
    failure
}
