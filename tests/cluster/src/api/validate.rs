//! Checks of the whole object, after defaults and policies and before it is stored.

use super::ask::Ask;
use super::failure::{Cause, Failure};
use super::schema;
use serde_json::Value;
use std::net::IpAddr;

pub(super) fn check(ask: &Ask, old: Option<&Value>, new: &mut Value) -> Result<(), Failure> {
    let kind = &ask.kind;
    let mut causes = match &kind.custom {
        Some(custom) => by_schema(ask, &custom.schema, old, new)?,
        None => builtin(ask, old, new),
    };
    causes.extend(metadata(new));
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(
        kind,
        new["metadata"]["name"].as_str().unwrap_or_default(),
        &causes,
    ))
}

fn by_schema(ask: &Ask, schema: &Value, old: Option<&Value>, new: &mut Value) -> Result<Vec<Cause>, Failure> {
    let unknown = schema::prune(schema, new);
    if ask.query.get("fieldValidation") == "Strict" && !unknown.is_empty() {
        let fields: Vec<String> = unknown
            .iter()
            .map(|path| format!("unknown field {path:?}"))
            .collect();
        let (kind, version) = (&ask.kind.kind, &ask.kind.version);
        let message = format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            fields.join(", ")
        );
        return Err(Failure::bad(message));
    }
    schema::fill(schema, new);
    Ok(schema::check(schema, new, old))
}

fn metadata(object: &Value) -> Vec<Cause> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let plain = |letter: char| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '.' | ':')
    };
    let fits = name.len() <= 253
        && name.chars().all(plain)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.']);
    if fits {
        return Vec::new();
    }
    let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    vec![Cause::invalid("metadata.name", &name.into(), why)]
}

fn builtin(ask: &Ask, old: Option<&Value>, new: &Value) -> Vec<Cause> {
    match ask.kind.plural.as_str() {
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => workload(old, new),
        "endpointslices" => slice(new),
        "services" => service(new),
        "pods" => pod(old, new),
        "customresourcedefinitions" => definition(new),
        _ => Vec::new(),
    }
}

fn workload(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let spec = &new["spec"];
    let mut causes = containers(&spec["template"]["spec"], "spec.template.spec");
    let wanted = spec["selector"]["matchLabels"].as_object();
    let labels = &spec["template"]["metadata"]["labels"];
    if spec["selector"].is_null() {
        causes.push(Cause::required("spec.selector", ""));
    }
    if wanted
        .into_iter()
        .flatten()
        .any(|(name, value)| labels.get(name) != Some(value))
    {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != spec["selector"]) {
        causes.push(Cause::invalid(
            "spec.selector",
            &spec["selector"],
            "field is immutable",
        ));
    }
    causes
}

fn pod(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let mut causes = containers(&new["spec"], "spec");
    let class = &new["status"]["qosClass"];
    if old.is_some_and(|old| old["status"]["qosClass"] != *class) {
        causes.push(Cause::invalid("status.qosClass", class, "field is immutable"));
    }
    causes
}

fn containers(spec: &Value, path: &str) -> Vec<Cause> {
    let path = format!("{path}.containers");
    let Some(all) = spec["containers"].as_array().filter(|all| !all.is_empty()) else {
        return vec![Cause::required(path, "")];
    };
    let missing = |index: usize, container: &Value, field: &str| {
        let absent = container[field].as_str().unwrap_or_default().is_empty();
        absent.then(|| Cause::required(format!("{path}[{index}].{field}"), ""))
    };
    let each = all.iter().enumerate();
    each.flat_map(|(index, one)| {
        ["name", "image"]
            .into_iter()
            .filter_map(move |field| missing(index, one, field))
            .collect::<Vec<_>>()
    })
    .collect()
}

fn service(new: &Value) -> Vec<Cause> {
    let ports = new["spec"]["ports"].as_array();
    let outside =
        matches!(new["spec"]["type"].as_str(), Some("ExternalName")) || new["spec"]["clusterIP"] == "None";
    if ports.is_none_or(Vec::is_empty) && !outside {
        return vec![Cause::required("spec.ports", "")];
    }
    let ports = ports.into_iter().flatten().enumerate();
    let wrong = ports.filter(|(_, port)| {
        !port["port"]
            .as_u64()
            .is_some_and(|port| (1..=65_535).contains(&port))
    });
    wrong
        .map(|(index, port)| {
            Cause::invalid(
                format!("spec.ports[{index}].port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            )
        })
        .collect()
}

/// The schemas' own faults, as far as ours could have them.
fn definition(new: &Value) -> Vec<Cause> {
    let versions = new["spec"]["versions"].as_array().into_iter().flatten();
    let mut causes = Vec::new();
    for version in versions {
        let path = "spec.validation.openAPIV3Schema";
        keyless(&version["schema"]["openAPIV3Schema"], path, &mut causes);
    }
    causes
}

/// Lists whose items may lack what tells them apart.
fn keyless(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let items = &schema["items"];
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    for key in keys.into_iter().flatten().filter_map(Value::as_str) {
        let required = items["required"]
            .as_array()
            .is_some_and(|all| all.contains(&key.into()));
        if !required && items["properties"][key]["default"].is_null() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required(
                format!("{path}.items.properties[{key}].default"),
                why,
            ));
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        keyless(inner, &format!("{path}.properties[{name}]"), causes);
    }
    if items.is_object() {
        keyless(items, &format!("{path}.items"), causes);
    }
}

/// Addresses that no endpoint may have: those that mean the reader's own machine or link.
fn slice(new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (index, endpoint) in new["endpoints"].as_array().into_iter().flatten().enumerate() {
        for (place, address) in endpoint["addresses"].as_array().into_iter().flatten().enumerate() {
            if let Some(why) = address.as_str().and_then(refused) {
                causes.push(Cause::invalid(
                    format!("endpoints[{index}].addresses[{place}]"),
                    address,
                    why,
                ));
            }
        }
    }
    causes
}

fn refused(address: &str) -> Option<&'static str> {
    match address.parse::<IpAddr>() {
        Err(_) => Some("must be a valid IP address"),
        Ok(address) if address.is_unspecified() => Some("may not be unspecified (0.0.0.0 or ::)"),
        Ok(address) if address.is_loopback() => {
            Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
        }
        Ok(IpAddr::V4(address)) if address.is_link_local() => {
            Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
        }
        Ok(IpAddr::V6(address)) if address.is_unicast_link_local() => {
            Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
        }
        Ok(IpAddr::V4(address)) if address.octets()[..3] == [224, 0, 0] => {
            Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
        }
        Ok(_) => None,
    }
}
