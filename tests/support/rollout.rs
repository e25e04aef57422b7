//! What the tests of releases in a cluster share: a story under way, and what is looked at.
#![allow(dead_code)] // each test binary uses its part

use cluster::harness::{Options, Story, StoryOptions, World, own_network};
use serde_json::Value;
use std::time::Duration;

/// The built binary.
pub const SERIN: &str = env!("CARGO_BIN_EXE_serin");
/// Longest wait for what takes a moment.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the end of a release.
pub const END: Duration = Duration::from_secs(90);
/// Requests a second.
pub const RATE: f64 = 300.0;
/// The defaults, with times that fit into a minute.
pub const FAST: &str =
    "  pacing: {soak: 5s, interval: 1s}\n  judgement: {warmUp: 2s}\n  promotion: {watch: 3s}";
/// Errors alone, and a promotion that a few thousand requests can prove.
pub const WIDE: &str =
    "  judgement: {warmUp: 1s, errors: {promote: {ratio: 1.5, absolute: 0.02}}, latency: {enabled: false}}\n";

/// The story with this rest of the Rollout's `spec`, in a network of its own.
pub fn released(test: &str, spec: &str, body: impl FnOnce(&World, &Story<'_>)) {
    let options = StoryOptions {
        spec: spec.into(),
        ..StoryOptions::default()
    };
    told(test, &options, body);
}

/// The story with these options, in a network of its own.
pub fn told(test: &str, options: &StoryOptions, body: impl FnOnce(&World, &Story<'_>)) {
    own_network(test, || {
        let world = World::start(Options::new(SERIN));
        let story = world.story(options);
        body(&world, &story);
    });
}

/// The Rollout as it is now.
pub fn rollout(world: &World) -> Value {
    world
        .json("serin.dev/v1alpha1/Rollout", "echo")
        .unwrap_or_default()
}

/// Its status as it is now.
pub fn status(world: &World) -> Value {
    rollout(world)["status"].take()
}

/// Waits for a phase; the status then.
pub fn phase(world: &World, wanted: &str, limit: Duration) -> Value {
    world.wait(&format!("phase {wanted}"), limit, || {
        let status = status(world);
        (status["phase"] == wanted).then_some(status)
    })
}

/// The weight that the annotations have.
pub fn weight(world: &World) -> f64 {
    annotation(world, "canary-weight").parse().unwrap_or(0.0)
}

/// One of our annotations of the Service.
pub fn annotation(world: &World, key: &str) -> String {
    let service = world.json("v1/Service", "echo").unwrap_or_default();
    let value = &service["metadata"]["annotations"][format!("serin.dev/{key}")];
    value.as_str().unwrap_or_default().to_owned()
}

/// Whether a condition is true.
pub fn condition(status: &Value, kind: &str) -> Value {
    let all = status["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == kind).unwrap_or_default()["status"].take()
}

/// The decisions on record, oldest first.
pub fn decisions(status: &Value) -> Vec<Value> {
    status["decisions"].as_array().cloned().unwrap_or_default()
}

/// The decisions that entered a phase.
pub fn entered(status: &Value, phase: &str) -> Vec<Value> {
    let all = decisions(status).into_iter();
    all.filter(|d| d["to"] == phase && d["from"] != phase).collect()
}

/// A Deployment.
pub fn deployment(world: &World, name: &str) -> Value {
    world.json("apps/v1/Deployment", name).unwrap_or_default()
}

/// The version label of a Deployment's template.
pub fn version(world: &World, name: &str) -> String {
    let labels = &deployment(world, name)["spec"]["template"]["metadata"]["labels"];
    labels["version"].as_str().unwrap_or_default().to_owned()
}
