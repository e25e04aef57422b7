//! A release in our words: the Rollout, the annotations of its Service, and the layout of `serin front` where Service
//! and Deployment are at hand. Whatever our own checks refuse is left out and told.

use super::{Done, fields::Loss, find};
use crate::manifest::{Wish, front};
use proxy::{
    contract::{
        Canary, Fault, Span,
        annotations::Annotations,
        names::{
            CANARY_BY_HEADER, CANARY_BY_HEADER_PATTERN, CANARY_BY_HEADER_VALUE, CANARY_SERVICE, PREFIX,
            STABLE_SERVICE,
        },
        policy::{At, Gate, Policy},
        rollout::{GROUP, KIND, RolloutSpec, VERSION, Workload},
    },
    table::Rules,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The gate before the first weight where only testers were meant.
pub const TESTED: &str = "tested-by-opt-in";
/// Longest deadline that a policy may have, in seconds.
const LONGEST: u64 = 30_000_000;
/// Least deadline that is written: our default.
const DEADLINE: u64 = 3600;

/// What a server writes into `metadata`.
const WRITTEN: [&str; 6] = [
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
];

/// What is known of a release.
pub struct Release<'a> {
    /// What was read.
    pub source: &'a Value,
    /// How it is called.
    pub from: String,
    /// What to do besides applying it.
    pub first: &'static str,
    /// The Rollout's name.
    pub name: String,
    /// The Service that clients call.
    pub service: String,
    /// The workload that serves everybody.
    pub stable: Workload,
    /// The workload on trial, where there is one already.
    pub canary: Option<Workload>,
    /// Its Service, where there is one already.
    pub canary_service: Option<String>,
    /// Annotations without their prefix.
    pub notes: BTreeMap<&'static str, String>,
    /// The policy.
    pub policy: Policy,
    /// Whether it is suspended.
    pub suspend: bool,
    /// Service or Deployment that the other controller made, or had inside.
    pub made: Vec<Value>,
    /// What is not carried.
    pub losses: Vec<Loss>,
}

impl<'a> Release<'a> {
    /// With our defaults.
    pub fn new(source: &'a Value, service: &str, stable: Workload) -> Release<'a> {
        Release {
            source,
            from: super::called(source),
            first: "",
            name: service.to_owned(),
            service: service.to_owned(),
            stable,
            canary: None,
            canary_service: None,
            notes: BTreeMap::new(),
            policy: Policy::default(),
            suspend: false,
            made: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Nobody but testers until a person says so.
    pub fn hold_for_testers(&mut self) {
        self.policy.gates.push(Gate {
            name: TESTED.to_owned(),
            at: At::BeforeStart,
            webhook: None,
        });
    }

    /// Tells of something that is not carried.
    pub fn lose(&mut self, key: impl Into<String>, value: &Value, why: impl Into<String>) {
        self.losses.push(Loss::new(&self.from, key, value, why));
    }

    /// The objects.
    pub fn finish(mut self, all: &[Value], wish: &Wish) -> Done {
        self.extend_deadline();
        self.sift_policy();
        self.sift_notes();
        self.check_name();
        let objects = self.objects(all, wish);
        Done {
            from: self.from,
            first: self.first,
            objects,
            losses: self.losses,
        }
    }

    /// Templates have placeholders where names stand; what comes of them would be refused by every API server.
    fn check_name(&mut self) {
        let is_label = |label: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        if self.name.len() > 253 || !self.name.split('.').all(is_label) {
            let why = "is no name of an object (RFC 1123: lower-case letters, digits, - and .); write a name before you apply it";
            self.lose("metadata.name", &Value::String(self.name.clone()), why);
        }
    }

    /// Plain steps that are long must not run into the deadline.
    fn extend_deadline(&mut self) {
        let holds: u64 = self
            .policy
            .pacing
            .steps
            .iter()
            .map(|s| s.hold.duration().as_secs())
            .fold(0, u64::saturating_add);
        let twice = holds.saturating_mul(2).min(LONGEST);
        if twice > DEADLINE {
            self.policy.deadline = Span::seconds(twice);
        }
    }

    fn sift_policy(&mut self) {
        for _ in 0..1000 {
            let faults = self.policy.faults("spec");
            let Some(fault) = faults.first() else { return };
            self.told(fault);
            if !self.without(&fault.key) {
                self.policy = Policy::default();
            }
        }
    }

    /// Leaves out the item of a list that a fault is in.
    fn without(&mut self, key: &str) -> bool {
        let item = |list: &str| {
            let rest = key.strip_prefix(list)?.strip_prefix('[')?;
            rest.split(']').next()?.parse::<usize>().ok()
        };
        if let Some(i) = item("spec.gates").filter(|i| *i < self.policy.gates.len()) {
            self.policy.gates.remove(i);
        } else if let Some(i) =
            item("spec.judgement.checks").filter(|i| *i < self.policy.judgement.checks.len())
        {
            self.policy.judgement.checks.remove(i);
        } else if let Some(i) = item("spec.pacing.steps").filter(|i| *i < self.policy.pacing.steps.len()) {
            self.policy.pacing.steps.remove(i);
        } else {
            return false;
        }
        true
    }

    fn sift_notes(&mut self) {
        while let Err(faults) = self.canary() {
            let keys: Vec<&'static str> = self.notes.keys().copied().collect();
            let is_in = |f: &Fault, key: &str| {
                let rest = f.key.strip_prefix(PREFIX).and_then(|k| k.strip_prefix(key));
                rest.is_some_and(|r| r.is_empty() || r.starts_with(['.', '[']))
            };
            let Some((fault, key)) = faults
                .iter()
                .find_map(|f| keys.iter().find(|key| is_in(f, key)).map(|key| (f, *key)))
            else {
                self.notes.clear();
                return;
            };
            self.told(fault);
            self.notes.remove(key);
            if [CANARY_BY_HEADER_VALUE, CANARY_BY_HEADER_PATTERN].contains(&key) {
                // Alone it would be asked for `always` and `never`, which nobody meant.
                self.notes.remove(CANARY_BY_HEADER);
            }
        }
    }

    fn canary(&self) -> Result<(), Vec<Fault>> {
        let canary = Canary::parse(&self.annotations(), PREFIX)?;
        Rules::compile(&canary, PREFIX).map(drop)
    }

    fn told(&mut self, fault: &Fault) {
        let why = format!("{}, so it was left out; {}", fault.reason, fault.remedy);
        self.lose(&fault.key, &Value::String(fault.value.clone()), why);
    }

    fn annotations(&self) -> Annotations {
        let own = [
            (STABLE_SERVICE, format!("{}-stable", self.service)),
            (CANARY_SERVICE, self.canary_service()),
        ];
        let given = self.notes.iter().map(|(k, v)| (*k, v.clone()));
        own.into_iter()
            .chain(given)
            .map(|(key, value)| (format!("{PREFIX}{key}"), value))
            .collect()
    }

    fn canary_service(&self) -> String {
        let usual = || format!("{}-canary", self.service);
        self.canary_service.clone().unwrap_or_else(usual)
    }

    fn objects(&mut self, all: &[Value], wish: &Wish) -> Vec<Value> {
        let rollout = self.rollout();
        let kind = match self.stable.kind {
            proxy::contract::rollout::WorkloadKind::Deployment => "Deployment",
            proxy::contract::rollout::WorkloadKind::DaemonSet => "DaemonSet",
        };
        let service = self.known(all, "Service", &self.service.clone());
        let workload = self.known(all, kind, &self.stable.name.clone());
        let (Some(service), Some(workload)) = (service, workload.clone()) else {
            let missing = match workload {
                Some(_) => format!("Service/{}", self.service),
                None => format!("{kind}/{}", self.stable.name),
            };
            let why = "was not given, so there are no proxies in what is printed, and of the Service its annotations alone; give Service and workload in \
                       the same file, or put `serin front` to work on them";
            self.lose(missing, &Value::String("not in the file".to_owned()), why);
            return self.bare(rollout);
        };
        match self.fronted(vec![workload, service], wish) {
            Ok(mut objects) => {
                objects.push(rollout);
                objects
            }
            Err(why) => {
                let why = format!("the layout of `serin front` cannot be made: {why}");
                self.lose(
                    format!("Service/{}", self.service),
                    &Value::String(self.service.clone()),
                    why,
                );
                self.bare(rollout)
            }
        }
    }

    /// Without proxies: what the other controller had inside, the annotations, the Rollout.
    fn bare(&self, rollout: Value) -> Vec<Value> {
        let inside = self.made.iter().filter(|o| o["kind"] == "Deployment").cloned();
        inside.chain([self.fragment(), rollout]).collect()
    }

    /// One that the other controller made, or one of the file.
    fn known(&self, all: &[Value], kind: &str, name: &str) -> Option<Value> {
        let made = self
            .made
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        made.or_else(|| find(all, self.source, kind, name))
            .cloned()
            .map(clean)
    }

    fn fronted(&self, mut objects: Vec<Value>, wish: &Wish) -> Result<Vec<Value>, String> {
        let wish = Wish {
            service: Some(self.service.clone()),
            ..wish.clone()
        };
        let mut refs: Vec<&mut Value> = objects.iter_mut().collect();
        let more = front::front(&mut refs, &wish)?;
        let usual = format!("{}-canary", self.service);
        let has_own = self.canary_service() != usual;
        objects.extend(
            more.into_iter()
                .filter(|o| o["kind"] != KIND)
                .filter(|o| !(has_own && o["kind"] == "Service" && o["metadata"]["name"] == usual)),
        );
        let is_front = |o: &&mut Value| o["kind"] == "Service" && o["metadata"]["name"] == self.service;
        if let Some(service) = objects.iter_mut().find(is_front) {
            for (key, value) in self.annotations() {
                crate::manifest::annotate(service, &key, &value);
            }
        }
        Ok(objects)
    }

    /// For server-side apply to the Service that is there.
    fn fragment(&self) -> Value {
        let annotations = self.annotations();
        self.placed(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.service, "annotations": annotations}}))
    }

    fn placed(&self, mut object: Value) -> Value {
        if let Some(namespace) = self.source["metadata"]["namespace"].as_str() {
            object["metadata"]["namespace"] = namespace.into();
        }
        object
    }

    fn rollout(&self) -> Value {
        let policy = &self.policy;
        let spec = RolloutSpec {
            service: self.service.clone(),
            stable: self.stable.clone(),
            canary: self.canary.clone(),
            suspend: self.suspend,
            pacing: policy.pacing.clone(),
            judgement: policy.judgement.clone(),
            verify: policy.verify.clone(),
            promotion: policy.promotion.clone(),
            gates: policy.gates.clone(),
            notify: policy.notify.clone(),
            undecided: policy.undecided,
            deadline: policy.deadline,
        };
        let bare = json!({"service": "", "stable": {"name": ""}});
        let plain: Option<RolloutSpec> = serde_json::from_value(bare).ok();
        let (Ok(mut said), Ok(usual)) = (serde_json::to_value(&spec), serde_json::to_value(&plain)) else {
            return Value::Null;
        };
        shorten(&mut said, &usual);
        self.placed(json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "metadata": {"name": self.name}, "spec": said}))
    }
}

/// Leaves out what is a default anyway.
fn shorten(said: &mut Value, usual: &Value) {
    let Some(map) = said.as_object_mut() else { return };
    for (key, value) in map.iter_mut() {
        if let Some(usual) = usual.get(key) {
            shorten(value, usual);
        }
    }
    map.retain(|key, value| {
        usual.get(key) != Some(value) && !value.as_object().is_some_and(|m| m.is_empty())
    });
}

/// Without what a server wrote into it.
fn clean(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for key in WRITTEN {
            metadata.remove(key);
        }
    }
    if let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.remove("deployment.kubernetes.io/revision");
    }
    object
}
