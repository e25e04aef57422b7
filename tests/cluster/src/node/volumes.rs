//! Volumes as folders of the pod. No process has a file system of its own, so the folder's path replaces the mount path
//! wherever the manifest names it in command, args and env.

use super::{Shared, env};
use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tokio::fs;

/// Mount paths and the folders that take their place, longest first.
pub struct Mounts(Vec<(String, String)>);

impl Mounts {
    /// Those of one container.
    pub fn of(shared: &Shared, pod: &Pod, container: &Container) -> Mounts {
        let mounts = container.volume_mounts.iter().flatten();
        let mut mounts: Vec<_> = mounts
            .map(|m| {
                let path = folder(shared, pod, &m.name);
                let path = m.sub_path.as_ref().map_or(path.clone(), |s| path.join(s));
                (
                    m.mount_path.trim_end_matches('/').to_owned(),
                    path.display().to_string(),
                )
            })
            .collect();
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Mounts(mounts)
    }

    /// A text with the folders in the place of the mount paths.
    pub fn replace(&self, text: &str) -> String {
        let paths = self.0.iter().filter(|(path, _)| !path.is_empty());
        paths.fold(text.to_owned(), |text, (path, folder)| swap(&text, path, folder))
    }
}

/// Every mention of this very path, or of one below it.
fn swap(text: &str, path: &str, folder: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(path) {
        let (before, after) = (&rest[..at], &rest[at + path.len()..]);
        out.push_str(before);
        let begins = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        out.push_str(if begins && ends { folder } else { path });
        rest = after;
    }
    out + rest
}

fn folder(shared: &Shared, pod: &Pod, volume: &str) -> PathBuf {
    shared.private(pod).join("volumes").join(volume)
}

/// Makes the folders, and the files of ConfigMaps and Secrets in them.
pub async fn fill(shared: &Shared, pod: &Pod) -> Result<(), String> {
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let folder = folder(shared, pod, &volume.name);
        fs::create_dir_all(&folder)
            .await
            .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let (data, items) = content(shared, pod, volume).await?;
        write(&folder, &data, items.as_deref()).await?;
    }
    Ok(())
}

type Content = (BTreeMap<String, String>, Option<Vec<KeyToPath>>);

async fn content(shared: &Shared, pod: &Pod, volume: &Volume) -> Result<Content, String> {
    if let Some(map) = &volume.config_map {
        let data = env::config_map(&shared.client, pod, &map.name, map.optional).await?;
        return Ok((data, map.items.clone()));
    }
    if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let data = env::secret(&shared.client, pod, name, secret.optional).await?;
        return Ok((data, secret.items.clone()));
    }
    Ok((BTreeMap::new(), None))
}

async fn write(
    folder: &Path,
    data: &BTreeMap<String, String>,
    items: Option<&[KeyToPath]>,
) -> Result<(), String> {
    let whole = || data.keys().map(|k| (k.as_str(), k.as_str())).collect();
    let files: Vec<(&str, &str)> = items.map_or_else(whole, |items| {
        items.iter().map(|i| (i.key.as_str(), i.path.as_str())).collect()
    });
    for (key, path) in files {
        let text = data
            .get(key)
            .ok_or_else(|| format!("references non-existent config key: {key}"))?;
        let path = folder.join(path);
        fs::write(&path, text)
            .await
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_replaced() {
        let mounts = Mounts(vec![
            ("/cache".into(), "/t/1".into()),
            ("/etc/words".into(), "/t/2".into()),
        ]);
        assert_eq!(
            mounts.replace("cat /etc/words/a >/cache/a; rm /cache"),
            "cat /t/2/a >/t/1/a; rm /t/1"
        );
        assert_eq!(mounts.replace("--cache=/cache/table"), "--cache=/t/1/table");
        assert_eq!(mounts.replace("/cache"), "/t/1");
        assert_eq!(mounts.replace("/cached"), "/cached");
        assert_eq!(mounts.replace("/var/cache"), "/var/cache");
    }
}
