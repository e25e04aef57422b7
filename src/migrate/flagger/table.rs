//! What becomes of each field of a Canary.

use crate::migrate::fields::{Field, differs, gone, same};

const MESH: &str = "is about the mesh or ingress that Flagger steers, which Serin does not need: its proxies stand behind the Service; keep what \
                    routes hosts and paths to the Service, and take the rest away";
const RESILIENCE: &str = "is a key of the proxies here: [service.resilience], by `serin proxy --resilience FILE`; see docs/failures.md";
const NOTIFY: &str =
    "goes to a provider of Flagger's; name the receiver in spec.notify (docs/notifications.md)";

/// In the order of Flagger's reference.
pub const FIELDS: &[Field] = &[
    same("spec.targetRef", "spec.stable"),
    gone("spec.provider", MESH),
    differs(
        "spec.metricsServer",
        "spec.judgement.checks[].promql.address",
        "is only asked by checks: requests, errors and latency come from the proxies themselves",
    ),
    gone(
        "spec.autoscalerRef",
        "is not copied for a primary, since there is none: the autoscaler stays with the Deployment that it names; mind that the canary made \
         beside it has a share of its pods",
    ),
    gone("spec.ingressRef", MESH),
    gone("spec.routeRef", MESH),
    gone("spec.gatewayRef", MESH),
    gone("spec.upstreamRef", MESH),
    gone(
        "spec.progressDeadlineSeconds",
        "rolls back pods that do not become ready; here the weight stays 0 until they are, and the status has their own reason; \
         spec.deadline is the time to a verdict",
    ),
    gone(
        "spec.skipAnalysis",
        "promotes without looking, and nothing here does: `serin promote NAME` does it for one release",
    ),
    gone(
        "spec.revertOnDeletion",
        "is what deleting a Rollout always does: traffic goes to the healthy side, and objects are left as they were found",
    ),
    same("spec.suspend", "spec.suspend"),
    same("spec.service.name", "spec.service"),
    same("spec.service.port", "Service spec.ports[0].port"),
    same("spec.service.targetPort", "Service spec.ports[0].targetPort"),
    same("spec.service.portName", "Service spec.ports[0].name"),
    same("spec.service.appProtocol", "Service spec.ports[0].appProtocol"),
    gone(
        "spec.service.portDiscovery",
        "adds every port of the pods to the Service; one port is released here, so give other ports a Service of their own",
    ),
    gone("spec.service.timeout", RESILIENCE),
    gone("spec.service.retries", RESILIENCE),
    gone("spec.service.trafficPolicy", RESILIENCE),
    gone("spec.service.gateways", MESH),
    gone("spec.service.gatewayRefs", MESH),
    gone("spec.service.hosts", MESH),
    gone("spec.service.match", MESH),
    gone("spec.service.rewrite", MESH),
    gone("spec.service.headers", MESH),
    gone("spec.service.corsPolicy", MESH),
    gone("spec.service.delegation", MESH),
    gone("spec.service.meshName", MESH),
    gone("spec.service.backends", MESH),
    gone("spec.service.mirror", MESH),
    gone(
        "spec.service.apex",
        "labels and annotates Services that Flagger makes; write them on the Service itself",
    ),
    gone(
        "spec.service.primary",
        "labels and annotates Services that Flagger makes; write them on NAME-stable",
    ),
    gone(
        "spec.service.canary",
        "labels and annotates Services that Flagger makes; write them on NAME-canary",
    ),
    same("spec.analysis.interval", "spec.pacing.steps[].hold"),
    differs(
        "spec.analysis.threshold",
        "spec.judgement.checks[].breaches",
        "counts failed looks in all; here it is breaches in a row of one check, and a canary that is worse by the proxies' own counts goes \
         back as soon as that is proven (spec.judgement.alpha)",
    ),
    differs(
        "spec.analysis.maxWeight",
        "spec.pacing.steps",
        "is the last step; after it the canary is promoted when the evidence suffices, and not by time alone",
    ),
    differs(
        "spec.analysis.stepWeight",
        "spec.pacing.steps",
        "is a list of plain steps, each held for an interval at least; take the list out, and evidence and error budget raise the weight",
    ),
    differs(
        "spec.analysis.stepWeights",
        "spec.pacing.steps",
        "is a list of plain steps, each held for an interval at least; take the list out, and evidence and error budget raise the weight",
    ),
    gone(
        "spec.analysis.stepWeightPromotion",
        "moves traffic back to the primary in steps; here stable rolls to the new version while the canary serves, and both are compared after \
         (spec.promotion.watch)",
    ),
    differs(
        "spec.analysis.iterations",
        "spec.gates",
        "holds testers' traffic for so long; opt-in traffic is never evidence here: with a match the gate `tested-by-opt-in` waits for \
         `serin approve`, then the weight grows by evidence; without one it grows by evidence at once, and never jumps",
    ),
    differs(
        "spec.analysis.mirror",
        "serin.dev/canary-mirror",
        "copies only what is safe to repeat, only at weight 0, and counts differences; it is never evidence",
    ),
    same("spec.analysis.mirrorWeight", "serin.dev/canary-mirror"),
    differs(
        "spec.analysis.match",
        "serin.dev/canary-match",
        "sends these requests to the canary whenever it has endpoints, before and during every release",
    ),
    differs(
        "spec.analysis.sessionAffinity",
        "serin.dev/canary-cohort",
        "keeps users at their track by a cookie of Serin's own (canary-cohort: cookie); its name and age are Serin's, and a growing weight only adds users",
    ),
    gone(
        "spec.analysis.primaryReadyThreshold",
        "is not a number here: an increase waits until stable's ready pods can take everybody back",
    ),
    gone(
        "spec.analysis.canaryReadyThreshold",
        "is not a number here: the canary gets no more weight than its ready share of pods",
    ),
    gone("spec.analysis.alerts", NOTIFY),
    same("spec.analysis.metrics", "spec.judgement.checks"),
    differs(
        "spec.analysis.webhooks",
        "spec.gates",
        "are gates: a signed POST with our words in its body (docs: spec.gates), where 2xx is yes and all else is not yet, and never a failure; \
         metadata is not sent",
    ),
];
