//! The environment of a container: values, references, and `$(NAME)`.

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};
use kube::{Api, Client, ResourceExt};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// Names and values, in the order in which they were set.
pub type Env = Vec<(String, String)>;

/// Everything that the manifest says, resolved. The error names what is missing.
pub async fn resolve(
    client: &Client,
    pod: &Pod,
    address: Ipv4Addr,
    container: &Container,
) -> Result<Env, String> {
    let mut env = whole(client, pod, container).await?;
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) => Some(expand(text, &env)),
            (None, Some(source)) => from(client, pod, address, var, source).await?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.push((var.name.clone(), value));
        }
    }
    Ok(env)
}

/// `envFrom`: all keys of ConfigMaps and Secrets.
async fn whole(client: &Client, pod: &Pod, container: &Container) -> Result<Env, String> {
    let mut env = Env::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(map) = &source.config_map_ref {
            config_map(client, pod, &map.name, map.optional).await?
        } else if let Some(secret) = &source.secret_ref {
            self::secret(client, pod, &secret.name, secret.optional).await?
        } else {
            BTreeMap::new()
        };
        env.extend(data.into_iter().map(|(k, v)| (format!("{prefix}{k}"), v)));
    }
    Ok(env)
}

async fn from(
    client: &Client,
    pod: &Pod,
    address: Ipv4Addr,
    var: &EnvVar,
    source: &EnvVarSource,
) -> Result<Option<String>, String> {
    if let Some(field) = &source.field_ref {
        let value = self::field(pod, address, &field.field_path);
        return value.map(Some).ok_or_else(|| {
            format!(
                "{}: the node does not know the field {}",
                var.name, field.field_path
            )
        });
    }
    let (kind, name, key, optional, data) = if let Some(r) = &source.config_map_key_ref {
        (
            "configmap",
            &r.name,
            &r.key,
            r.optional,
            config_map(client, pod, &r.name, r.optional).await?,
        )
    } else if let Some(r) = &source.secret_key_ref {
        (
            "secret",
            &r.name,
            &r.key,
            r.optional,
            secret(client, pod, &r.name, r.optional).await?,
        )
    } else {
        return Err(format!("{}: the node does not know this valueFrom", var.name));
    };
    match data.get(key) {
        Some(value) => Ok(Some(value.clone())),
        None if optional == Some(true) => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {name}")),
    }
}

/// The data of a ConfigMap; nothing when it is optional and not there.
pub async fn config_map(
    client: &Client,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, String>, String> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match api.get_opt(name).await.map_err(|e| e.to_string())? {
        Some(map) => Ok(map.data.unwrap_or_default()),
        None if optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("configmap \"{name}\" not found")),
    }
}

/// The data of a Secret, as text; nothing when it is optional and not there.
pub async fn secret(
    client: &Client,
    pod: &Pod,
    name: &str,
    optional: Option<bool>,
) -> Result<BTreeMap<String, String>, String> {
    let api = Api::<Secret>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match api.get_opt(name).await.map_err(|e| e.to_string())? {
        Some(secret) => {
            let data = secret.data.unwrap_or_default().into_iter();
            Ok(data
                .map(|(k, v)| (k, String::from_utf8_lossy(&v.0).into_owned()))
                .collect())
        }
        None if optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("secret \"{name}\" not found")),
    }
}

/// A field of the downward API.
fn field(pod: &Pod, address: Ipv4Addr, path: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    Some(match path {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => pod.uid().unwrap_or_default(),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.podIP" | "status.podIPs" => address.to_string(),
        "status.hostIP" => "198.18.0.1".into(),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            match map {
                "metadata.labels" => pod.labels().get(key).cloned().unwrap_or_default(),
                "metadata.annotations" => pod.annotations().get(key).cloned().unwrap_or_default(),
                _ => return None,
            }
        }
    })
}

/// `$(NAME)` becomes the value; `$$(NAME)` stays as `$(NAME)`, and an unknown name stays as it is.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
        match reference.and_then(|(name, after)| Some((last(env, name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

/// The last value set wins.
fn last<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = env.iter().rev().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_brackets_become_values() {
        let env = [("IP".into(), "198.18.1.1".into()), ("P".into(), "80".into())];
        assert_eq!(expand("$(IP):$(P)", &env), "198.18.1.1:80");
        assert_eq!(expand("a $(NO) $$(IP) $ b$", &env), "a $(NO) $(IP) $ b$");
    }

    #[test]
    fn fields_of_the_pod_are_told() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("a".into());
        pod.labels_mut().insert("app/x".into(), "echo".into());
        let address = Ipv4Addr::new(198, 18, 1, 7);
        let told = |path| field(&pod, address, path);
        assert_eq!(told("metadata.name").as_deref(), Some("a"));
        assert_eq!(told("metadata.labels['app/x']").as_deref(), Some("echo"));
        assert_eq!(told("status.podIP").as_deref(), Some("198.18.1.7"));
        assert_eq!(told("spec.nonsense"), None);
    }
}
