//! Pod templates as values: which version one is, and what it becomes when it is copied, kept or released.
//!
//! Templates are JSON here and not typed: a field of a newer cluster must survive a copy. Both sides come from the API
//! server, so its defaults stand in both and make no difference.

use contract::{annotations::fnv1a, names::SIDECAR, policy::Behind};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Labels or a selector.
pub(super) type Labels = BTreeMap<String, String>;

/// Label that a pod's version is read from, and that follows an image.
const VERSION: &str = "version";
/// The same in the recommended labels.
const APP_VERSION: &str = "app.kubernetes.io/version";
/// Written by the controller of Deployments.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Suffix of our label that tells copies from their originals.
const TRACK: &str = "track";
/// Suffix of the node selector that no node satisfies: a DaemonSet has no replicas to take away.
const NOWHERE: &str = "nowhere";
/// Value of a label by which tracks differ, on the pods of the old version.
const PREVIOUS: &str = "previous";
/// Digits of a digest that people can still compare.
const SHORT: usize = 12;

/// What of a template belongs to its place, and not to its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Keys of pod labels that selectors use.
    pub selected: BTreeSet<String>,
    /// By which labels the two track Services differ: each one's whole selector.
    pub tracks: [Labels; 2],
    /// What stays behind.
    pub behind: Behind,
    /// What our keys begin with.
    pub prefix: String,
}

/// A workload's object, made into another one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Copy {
    pub selector: Value,
    pub template: Value,
}

impl Terms {
    /// Terms of one release: all selectors that choose its pods.
    pub fn new(tracks: [Labels; 2], workloads: &[&Labels], behind: Behind, prefix: &str) -> Terms {
        let all = tracks.iter().chain(workloads.iter().copied());
        Terms {
            selected: all.flat_map(|s| s.keys().cloned()).collect(),
            tracks,
            behind,
            prefix: prefix.to_owned(),
        }
    }

    /// Keys by which the track Services differ.
    pub fn differing(&self) -> BTreeSet<&str> {
        let [stable, canary] = &self.tracks;
        let keys = stable.keys().chain(canary.keys());
        keys.filter(|k| stable.get(*k) != canary.get(*k))
            .map(String::as_str)
            .collect()
    }

    /// Which version a template is.
    pub fn hash(&self, template: &Value) -> String {
        let mut bare = template.clone();
        self.strip(&mut bare);
        format!("{:016x}", fnv1a(bare.to_string().as_bytes()))
    }

    /// The canary's template, to be stable's.
    pub fn copied(&self, canary: &Value, stable: &Value) -> Value {
        let mut copy = canary.clone();
        drop_keys(&mut copy, "annotations", |k| self.is_ours(k));
        self.raise(&mut copy);
        let own = |key: &str| {
            self.selected.contains(key) || self.is_ours(key) || self.behind.labels.iter().any(|l| l == key)
        };
        for part in ["labels", "annotations"] {
            drop_keys(&mut copy, part, own);
            for (key, value) in entries(stable, part).filter(|(k, _)| own(k)) {
                put(&mut copy, part, key, value.clone());
            }
        }
        self.env_of(&mut copy, stable);
        sidecar_of(&mut copy, stable);
        copy
    }

    /// Stable's workload, to live on beside it, chosen by neither track Service.
    pub fn kept(&self, selector: &Value, template: &Value) -> Copy {
        let differing = self.differing();
        let labels = differing
            .into_iter()
            .map(|k| (k.to_owned(), PREVIOUS.to_owned()))
            .collect();
        self.relabelled(selector, template, labels, PREVIOUS)
    }

    /// Stable's workload with another image, to be the canary.
    pub fn released(&self, selector: &Value, template: &Value, image: &Image) -> Result<Copy, String> {
        let mut made = self.relabelled(selector, template, self.tracks[1].clone(), "canary");
        image.put(&mut made.template)?;
        Ok(made)
    }

    /// An existing canary's template, from stable's and an image: its own labels stay.
    pub fn updated(&self, canary: &Value, stable: &Value, image: &Image) -> Result<Value, String> {
        let mut template = self.copied(stable, canary);
        image.put(&mut template)?;
        Ok(template)
    }

    fn relabelled(&self, selector: &Value, template: &Value, labels: Labels, track: &str) -> Copy {
        let (mut matched, mut template) = (selector.clone(), template.clone());
        let gone = |key: &str| labels.contains_key(key);
        if let Some(Value::Array(expressions)) = matched.get_mut("matchExpressions") {
            expressions.retain(|e| !e["key"].as_str().is_some_and(gone));
        }
        let ours = [(format!("{}{TRACK}", self.prefix), track.to_owned())];
        for (key, value) in labels.iter().map(|(k, v)| (k.clone(), v.clone())).chain(ours) {
            put_at(&mut matched, "matchLabels", &key, value.clone().into());
            put(&mut template, "labels", &key, value.into());
        }
        drop_keys(&mut template, "labels", |k| k == TEMPLATE_HASH);
        Copy {
            selector: matched,
            template,
        }
    }

    fn is_ours(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }

    fn strip(&self, template: &mut Value) {
        let behind = &self.behind.labels;
        let gone = |k: &str| self.is_ours(k) || behind.iter().any(|l| l == k);
        drop_keys(template, "labels", |k| {
            gone(k) || k == TEMPLATE_HASH || self.selected.contains(k)
        });
        drop_keys(template, "annotations", gone);
        self.raise(template);
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
        }
        for container in containers(template) {
            retain_env(container, |name| !self.behind.env.iter().any(|b| b == name));
        }
        sidecar_of(template, &Value::Null);
        without_empty(template);
    }

    fn raise(&self, template: &mut Value) {
        let key = self.nowhere();
        if let Some(selector) = template
            .pointer_mut("/spec/nodeSelector")
            .and_then(Value::as_object_mut)
        {
            selector.remove(&key);
        }
    }

    /// The node selector that no node satisfies.
    pub fn nowhere(&self) -> String {
        nowhere(&self.prefix)
    }

    /// What stays behind is as stable had it.
    fn env_of(&self, copy: &mut Value, stable: &Value) {
        let own: BTreeMap<String, Vec<Value>> = all_containers(stable)
            .map(|c| (text(c, "name"), self.env_behind(c)))
            .collect();
        for container in containers(copy) {
            retain_env(container, |name| !self.behind.env.iter().any(|b| b == name));
            let kept = own.get(&text(container, "name")).cloned().unwrap_or_default();
            if !kept.is_empty()
                && let Some(container) = container.as_object_mut()
                && let Value::Array(env) = container.entry("env").or_insert(json!([]))
            {
                env.extend(kept);
            }
        }
    }

    fn env_behind(&self, container: &Value) -> Vec<Value> {
        let env = container["env"].as_array().into_iter().flatten();
        env.filter(|e| self.behind.env.contains(&text(e, "name")))
            .cloned()
            .collect()
    }
}

/// The node selector that no node satisfies.
pub(super) fn nowhere(prefix: &str) -> String {
    format!("{prefix}{NOWHERE}")
}

/// An image to release, and of which container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// `None`: the first one.
    container: Option<String>,
    name: String,
}

impl Image {
    /// `image`, or `container=image`.
    pub fn parse(value: &str) -> Result<Image, String> {
        let (container, name) = match value.trim().split_once('=') {
            Some((container, image)) => (Some(container.trim().to_owned()), image.trim()),
            None => (None, value.trim()),
        };
        let is_plain = !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_plain || container.as_deref() == Some("") {
            return Err("is no image; write `image`, or `container=image`".to_owned());
        }
        Ok(Image {
            container,
            name: name.to_owned(),
        })
    }

    /// Whether a template runs it.
    pub fn is_in(&self, template: &Value) -> bool {
        self.place(template)
            .is_ok_and(|i| template["spec"]["containers"][i]["image"] == self.name.as_str())
    }

    /// Whether a template has a place for it.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, template: &Value) -> Result<(), String> {
        self.place(template).map(drop)
    }

    /// Its version, as people call it.
    pub fn version(&self) -> String {
        tag(&self.name)
    }

    fn place(&self, template: &Value) -> Result<usize, String> {
        let names: Vec<String> = list(template, "containers").map(|c| text(c, "name")).collect();
        match &self.container {
            None if names.is_empty() => Err("stable has no container".to_owned()),
            None => Ok(0),
            Some(wanted) => names
                .iter()
                .position(|n| n == wanted)
                .ok_or_else(|| format!("stable has no container {wanted}; it has {}", names.join(", "))),
        }
    }

    fn put(&self, template: &mut Value) -> Result<(), String> {
        let place = self.place(template)?;
        template["spec"]["containers"][place]["image"] = self.name.clone().into();
        let version = label(&self.version());
        let labelled = [VERSION, APP_VERSION]
            .into_iter()
            .filter(|k| entries(template, "labels").any(|(key, _)| key == k));
        let keys: Vec<&str> = labelled.collect();
        for key in if keys.is_empty() { vec![VERSION] } else { keys } {
            put(template, "labels", key, version.clone().into());
        }
        Ok(())
    }
}

/// What people call the version of a template.
pub(super) fn version(template: &Value) -> String {
    let labels = &template["metadata"]["labels"];
    let named = [VERSION, APP_VERSION].iter().find_map(|k| labels[*k].as_str());
    let image = template["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default();
    named.map_or_else(|| tag(image), str::to_owned)
}

fn tag(image: &str) -> String {
    if let Some((_, digest)) = image.split_once('@') {
        let digits = digest.rsplit(':').next().unwrap_or(digest);
        return digits.chars().take(SHORT).collect();
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').map_or("latest", |(_, tag)| tag).to_owned()
}

/// A text as it may stand in a label.
fn label(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    let short: String = text.chars().map(plain).take(63).collect();
    short
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

fn entries<'a>(template: &'a Value, part: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    template["metadata"][part].as_object().into_iter().flatten()
}

fn put(template: &mut Value, part: &str, key: &str, value: Value) {
    if !template["metadata"].is_object() {
        template["metadata"] = json!({});
    }
    put_at(&mut template["metadata"], part, key, value);
}

fn put_at(object: &mut Value, part: &str, key: &str, value: Value) {
    if !object.is_object() {
        *object = json!({});
    }
    if !object[part].is_object() {
        object[part] = json!({});
    }
    object[part][key] = value;
}

fn drop_keys(template: &mut Value, part: &str, gone: impl Fn(&str) -> bool) {
    let found = template.get_mut("metadata").and_then(|m| m.get_mut(part));
    if let Some(map) = found.and_then(Value::as_object_mut) {
        map.retain(|k, _| !gone(k));
    }
}

fn list<'a>(template: &'a Value, part: &str) -> impl Iterator<Item = &'a Value> {
    template["spec"][part].as_array().into_iter().flatten()
}

fn all_containers(template: &Value) -> impl Iterator<Item = &Value> {
    list(template, "initContainers").chain(list(template, "containers"))
}

fn containers(template: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = template.get_mut("spec").and_then(Value::as_object_mut);
    let parts = spec.into_iter().flat_map(Map::iter_mut);
    let lists = parts.filter(|(k, _)| *k == "initContainers" || *k == "containers");
    lists.filter_map(|(_, v)| v.as_array_mut()).flatten()
}

/// The proxy beside the application belongs to the place, and not to the version: what the other template has of it.
fn sidecar_of(template: &mut Value, other: &Value) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let theirs: Vec<Value> = list(other, "containers")
        .filter(|c| is_sidecar(c))
        .cloned()
        .collect();
    let own = spec.get_mut("containers").and_then(Value::as_array_mut);
    if let Some(containers) = own {
        containers.retain(|c| !is_sidecar(c));
        containers.extend(theirs);
    }
    // The API server writes the account under its old name too.
    for key in ["serviceAccountName", "serviceAccount"] {
        if spec.get(key).is_none_or(|v| v == SIDECAR) {
            spec.remove(key);
            let account = other["spec"].get(key).filter(|v| *v == SIDECAR);
            account.map(|v| spec.insert(key.to_owned(), v.clone()));
        }
    }
}

fn is_sidecar(container: &Value) -> bool {
    container["name"] == SIDECAR
}

fn retain_env(container: &mut Value, keep: impl Fn(&str) -> bool) {
    if let Some(Value::Array(env)) = container.get_mut("env") {
        env.retain(|e| e["name"].as_str().is_none_or(&keep));
    }
}

/// What was emptied by stripping must be as if it had never been there.
fn without_empty(value: &mut Value) {
    let Value::Object(map) = value else { return };
    map.values_mut().for_each(without_empty);
    if let Some(Value::Array(containers)) = map.get_mut("containers") {
        containers.iter_mut().for_each(without_empty);
    }
    if let Some(Value::Array(containers)) = map.get_mut("initContainers") {
        containers.iter_mut().for_each(without_empty);
    }
    for key in ["labels", "annotations", "nodeSelector", "env", "metadata"] {
        let is_empty =
            |v: &Value| v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty);
        if map.get(key).is_some_and(is_empty) {
            map.remove(key);
        }
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn terms() -> Terms {
        let [stable, canary] = ["stable", "canary"].map(|t| labels(&[("app", "echo"), ("track", t)]));
        let behind = Behind {
            labels: vec!["trial".into()],
            env: vec!["TRIAL".into()],
        };
        Terms::new(
            [stable.clone(), canary.clone()],
            &[&stable, &canary],
            behind,
            "serin.dev/",
        )
    }

    fn template(track: &str, version: &str) -> Value {
        json!({
            "metadata": {
                "creationTimestamp": null,
                "labels": { "app": "echo", "track": track, "version": version, "team": "a" },
                "annotations": { "kubectl.kubernetes.io/restartedAt": "1" },
            },
            "spec": {
                "containers": [
                    { "name": "app", "image": format!("registry:5000/echo:{version}"), "env": [{ "name": "A", "value": "1" }] },
                    { "name": "side", "image": "side:1" },
                ],
                "futureField": { "kept": true },
            },
        })
    }

    fn selector(track: &str) -> Value {
        json!({ "matchLabels": { "app": "echo", "track": track }, "matchExpressions": [{ "key": "track", "operator": "Exists" }] })
    }

    #[test]
    fn a_version_is_all_of_a_template_but_its_place() {
        let t = terms();
        let same = t.hash(&template("stable", "v1"));
        assert_eq!(same, t.hash(&template("canary", "v1")));
        let mut trial = template("canary", "v1");
        trial["metadata"]["labels"]["trial"] = "x".into();
        trial["metadata"]["labels"][TEMPLATE_HASH] = "abc".into();
        trial["metadata"]["annotations"]["serin.dev/note"] = "x".into();
        trial["spec"]["nodeSelector"] = json!({ "serin.dev/nowhere": "true" });
        trial["spec"]["containers"][1]["env"] = json!([{ "name": "TRIAL", "value": "1" }]);
        assert_eq!(same, t.hash(&trial));
        for (path, value) in [
            ("/spec/containers/0/image", json!("echo:v2")),
            ("/spec/containers/0/env/0/value", json!("2")),
            ("/metadata/labels/version", json!("v2")),
            ("/metadata/labels/team", json!("b")),
            (
                "/metadata/annotations/kubectl.kubernetes.io~1restartedAt",
                json!("2"),
            ),
            ("/spec/futureField/kept", json!(false)),
        ] {
            let mut other = template("stable", "v1");
            *other.pointer_mut(path).unwrap() = value;
            assert_ne!(same, t.hash(&other), "{path}");
        }
    }

    #[test]
    fn a_copy_is_the_canary_in_stables_place() {
        let t = terms();
        let (mut stable, mut canary) = (template("stable", "v1"), template("canary", "v2"));
        stable["spec"]["containers"][0]["env"] =
            json!([{ "name": "TRIAL", "value": "stable" }, { "name": "OLD", "value": "1" }]);
        canary["spec"]["containers"][0]["env"] =
            json!([{ "name": "TRIAL", "value": "canary" }, { "name": "NEW", "value": "1" }]);
        canary["metadata"]["labels"]["trial"] = "x".into();
        canary["metadata"]["annotations"]["serin.dev/note"] = "x".into();
        canary["spec"]["nodeSelector"] = json!({ "serin.dev/nowhere": "true" });
        canary["spec"]["containers"].as_array_mut().unwrap().pop();
        let copy = t.copied(&canary, &stable);
        assert_eq!(t.hash(&copy), t.hash(&canary));
        assert_eq!(
            copy["metadata"]["labels"],
            json!({ "app": "echo", "track": "stable", "version": "v2", "team": "a" })
        );
        assert_eq!(
            copy["spec"]["containers"].as_array().unwrap().len(),
            1,
            "what v2 has not is gone"
        );
        assert_eq!(
            copy["spec"]["containers"][0]["env"],
            json!([{ "name": "NEW", "value": "1" }, { "name": "TRIAL", "value": "stable" }])
        );
        assert!(copy["metadata"]["annotations"].get("serin.dev/note").is_none());
        assert_eq!(t.copied(&canary, &copy), copy, "a second copy changes nothing");
    }

    #[test]
    fn the_proxy_beside_stable_is_no_part_of_its_version_and_stays() {
        let t = terms();
        let mut stable = template("stable", "v1");
        stable["metadata"]["labels"]["serin.dev/proxy"] = "echo".into();
        stable["spec"]["serviceAccountName"] = SIDECAR.into();
        let sidecar = json!({ "name": SIDECAR, "image": "serin:1" });
        stable["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(sidecar.clone());
        assert_eq!(t.hash(&stable), t.hash(&template("canary", "v1")));
        let canary = template("canary", "v2");
        let copy = t.copied(&canary, &stable);
        assert_eq!(copy["spec"]["containers"][2], sidecar);
        assert_eq!(copy["spec"]["serviceAccountName"], SIDECAR);
        assert_eq!(copy["metadata"]["labels"]["serin.dev/proxy"], "echo");
        assert_eq!(t.hash(&copy), t.hash(&canary));
        let mut own = template("canary", "v2");
        own["spec"]["serviceAccountName"] = "billing".into();
        assert_ne!(
            t.hash(&own),
            t.hash(&canary),
            "another account is another version"
        );
        assert_eq!(t.copied(&own, &stable)["spec"]["serviceAccountName"], "billing");
    }

    #[test]
    fn the_old_version_lives_on_where_no_track_service_finds_it() {
        let t = terms();
        let kept = t.kept(&selector("stable"), &template("stable", "v1"));
        let found = json!({ "app": "echo", "track": "previous", "serin.dev/track": "previous" });
        assert_eq!(kept.selector["matchLabels"], found);
        assert_eq!(kept.selector["matchExpressions"], json!([]));
        for (key, value) in found.as_object().unwrap() {
            assert_eq!(&kept.template["metadata"]["labels"][key], value);
        }
        assert_eq!(t.hash(&kept.template), t.hash(&template("stable", "v1")));
    }

    #[test]
    fn an_image_becomes_a_canary() {
        let t = terms();
        let image = Image::parse("side=registry:5000/side:2.0").unwrap();
        let made = t
            .released(&selector("stable"), &template("stable", "v1"), &image)
            .unwrap();
        assert_eq!(
            made.template["spec"]["containers"][1]["image"],
            "registry:5000/side:2.0"
        );
        assert_eq!(made.template["metadata"]["labels"]["track"], "canary");
        assert_eq!(made.template["metadata"]["labels"]["version"], "2.0");
        assert!(image.is_in(&made.template) && !image.is_in(&template("stable", "v1")));
        let canary = template("canary", "v0");
        let updated = t.updated(&canary, &template("stable", "v1"), &image).unwrap();
        assert_eq!(updated["metadata"]["labels"]["track"], "canary");
        assert_eq!(t.hash(&updated), t.hash(&made.template));
        let missing = Image::parse("db=x:1").unwrap();
        let why = t
            .released(&selector("stable"), &template("stable", "v1"), &missing)
            .unwrap_err();
        assert!(why.contains("no container db; it has app, side"), "{why}");
        for bad in ["", "=x", "a b", "c="] {
            assert!(Image::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_of_an_unknown_container_has_no_place() {
        let template = template("stable", "1");
        assert!(Image::parse("server:9").unwrap().fits(&template).is_ok());
        let why = Image::parse("nobody=server:9").unwrap().fits(&template);
        assert!(why.unwrap_err().contains("no container nobody"));
    }

    #[test]
    fn versions_are_called_as_people_do() {
        assert_eq!(version(&template("stable", "v1")), "v1");
        let bare = |image: &str| version(&json!({ "spec": { "containers": [{ "image": image }] } }));
        assert_eq!(bare("registry:5000/echo:1.2"), "1.2");
        assert_eq!(bare("registry:5000/echo"), "latest");
        assert_eq!(bare("echo@sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(label("a/b+c_"), "a-b-c");
    }
}
