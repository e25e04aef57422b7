//! Credentials of service accounts: a kubeconfig for each pod, with a token of its account.

use super::Shared;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};

/// Makes a kubeconfig (YAML) for a user with these groups.
pub type Sign = dyn Fn(&str, &[&str]) -> String + Send + Sync;

/// Where tokens come from.
#[derive(Clone)]
pub enum Keys {
    /// From the stand-in, which believes its own.
    Signed(Arc<Sign>),
    /// By TokenRequest, from a real API server.
    Requested {
        /// Its address.
        url: String,
        /// Its certificate authority, PEM.
        ca: String,
    },
}

/// Writes the pod's kubeconfig and returns where it is.
pub async fn kubeconfig(shared: &Shared, pod: &Pod) -> Result<PathBuf, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    let account = account.unwrap_or_else(|| "default".into());
    let mut config = match &shared.options.keys {
        Keys::Signed(sign) => signed(sign.as_ref(), &namespace, &account)?,
        Keys::Requested { url, ca } => config(url, ca, &request(shared, &namespace, &account).await?),
    };
    // A process in a pod finds its own namespace when it asks for none.
    config["contexts"][0]["context"]["namespace"] = namespace.into();
    let path = shared.private(pod).join("kubeconfig");
    tokio::fs::write(&path, config.to_string())
        .await
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(path)
}

fn signed(sign: &Sign, namespace: &str, account: &str) -> Result<Value, String> {
    let user = format!("system:serviceaccount:{namespace}:{account}");
    let own = format!("system:serviceaccounts:{namespace}");
    let text = sign(&user, &["system:serviceaccounts", &own, "system:authenticated"]);
    serde_saphyr::from_str(&text).map_err(|e| format!("the kubeconfig for {user} is not YAML: {e}"))
}

async fn request(shared: &Shared, namespace: &str, account: &str) -> Result<String, String> {
    let api = Api::<ServiceAccount>::namespaced(shared.client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(24 * 3600),
            ..Default::default()
        },
        ..Default::default()
    };
    let answer = api
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .map_err(|e| format!("no token for the service account {namespace}/{account}: {e}"))?;
    Ok(answer.status.map(|s| s.token).unwrap_or_default())
}

fn config(url: &str, ca: &str, token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(ca)}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
        "users": [{"name": "pod", "user": {"token": token}}],
    })
}
