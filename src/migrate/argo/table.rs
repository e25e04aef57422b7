//! What becomes of each field of a Rollout.

use crate::migrate::fields::{Field, differs, gone, same};

const MESH: &str = "is about the mesh or ingress that Argo steers, which Serin does not need: its proxies stand behind the Service; point the route at \
                    that Service alone";
const POD_SETS: &str = "is about ReplicaSets that Argo scales itself; here stable is a Deployment, and Serin makes, scales and removes the canary by its weight";
const RESULT: &str = "copies labels to pods by their role; Serin labels the canary track: canary, and spec.promotion.leaveBehind names what stays there";
const BLUE_GREEN: &str = "moves everybody at once; here the weight grows by evidence, and pods go only when nothing is in flight there";

/// In the order of Argo's reference.
pub const FIELDS: &[Field] = &[
    same("spec.replicas", "Deployment spec.replicas"),
    same("spec.selector", "Deployment spec.selector"),
    same("spec.template", "Deployment spec.template"),
    same("spec.minReadySeconds", "Deployment spec.minReadySeconds"),
    same(
        "spec.revisionHistoryLimit",
        "Deployment spec.revisionHistoryLimit",
    ),
    same(
        "spec.progressDeadlineSeconds",
        "Deployment spec.progressDeadlineSeconds",
    ),
    same("spec.workloadRef.apiVersion", "spec.stable"),
    same("spec.workloadRef.kind", "spec.stable"),
    same("spec.workloadRef.name", "spec.stable"),
    gone(
        "spec.workloadRef.scaleDown",
        "had the Deployment scaled away; it serves here, so give it its replicas before Argo's Rollout goes",
    ),
    differs(
        "spec.paused",
        "spec.suspend",
        "suspends every release of it, but for the way back",
    ),
    gone(
        "spec.progressDeadlineAbort",
        "is not needed: without ready pods the weight stays 0, and spec.undecided says what a deadline does",
    ),
    gone(
        "spec.restartAt",
        "restarts pods; `kubectl rollout restart` does it for the Deployment",
    ),
    gone(
        "spec.rollbackWindow",
        "skips steps for an old version; `serin undo NAME` goes back at once, also after a promotion",
    ),
    gone(
        "spec.analysis",
        "is how many runs are kept; the Rollout's status keeps the last 20 decisions, and the controller's log all blocks",
    ),
    same("spec.strategy.canary.stableService", "spec.service"),
    differs(
        "spec.strategy.canary.canaryService",
        "serin.dev/canary-service",
        "is not needed any more: NAME-canary finds the canary's pods by track: canary",
    ),
    same(
        "spec.strategy.canary.steps[].setWeight",
        "spec.pacing.steps[].weight",
    ),
    same(
        "spec.strategy.canary.steps[].pause",
        "spec.pacing.steps[].hold, .pause",
    ),
    differs(
        "spec.strategy.canary.steps[].analysis",
        "spec.judgement.checks",
        "is a check from the first weight to the last, and no step: a breach stops every increase, and rolls back",
    ),
    gone(
        "spec.strategy.canary.steps[].experiment",
        "starts more versions beside each other; one canary is compared with stable here, from the first request on",
    ),
    gone(
        "spec.strategy.canary.steps[].setCanaryScale",
        "is not a step here: the canary has the pods that its weight needs, before it gets it",
    ),
    differs(
        "spec.strategy.canary.steps[].setHeaderRoute",
        "serin.dev/canary-match",
        "sends these requests to the canary whenever it has endpoints, from before the first weight; headers in one list are alternatives",
    ),
    differs(
        "spec.strategy.canary.steps[].setMirrorRoute",
        "serin.dev/canary-mirror",
        "copies only what is safe to repeat, only at weight 0, and counts differences; it is never evidence",
    ),
    gone(
        "spec.strategy.canary.steps[].plugin",
        "runs a program of Argo's; ask it by a gate (spec.gates[].webhook)",
    ),
    gone("spec.strategy.canary.steps[].replicaProgressThreshold", POD_SETS),
    differs(
        "spec.strategy.canary.analysis.templates",
        "spec.judgement.checks",
        "are checks: limits that stop increases and, three times in a row, roll back; the judgement by the proxies' own counts needs none of them",
    ),
    same("spec.strategy.canary.analysis.args", "spec.judgement.checks"),
    gone(
        "spec.strategy.canary.analysis.startingStep",
        "begins later; checks count from the first weight",
    ),
    gone(
        "spec.strategy.canary.analysis.dryRun",
        "only looks; leave the check out, or make its noData ignore",
    ),
    gone(
        "spec.strategy.canary.analysis.measurementRetention",
        "is how much is kept; the status keeps the last value of each check",
    ),
    gone(
        "spec.strategy.canary.analysis.analysisRunMetadata",
        "labels runs, and there are none here",
    ),
    same(
        "spec.strategy.canary.trafficRouting.maxTrafficWeight",
        "spec.pacing.steps[].weight",
    ),
    gone(
        "spec.strategy.canary.trafficRouting.managedRoutes",
        "names routes of the mesh, and there are none here; see setHeaderRoute",
    ),
    gone("spec.strategy.canary.trafficRouting.nginx.stableIngress", MESH),
    gone("spec.strategy.canary.trafficRouting.nginx.stableIngresses", MESH),
    gone("spec.strategy.canary.trafficRouting.nginx.annotationPrefix", MESH),
    gone(
        "spec.strategy.canary.trafficRouting.nginx.canaryIngressAnnotations",
        MESH,
    ),
    same(
        "spec.strategy.canary.trafficRouting.nginx.additionalIngressAnnotations",
        "serin.dev/canary-by-*",
    ),
    gone("spec.strategy.canary.trafficRouting.istio", MESH),
    same(
        "spec.strategy.canary.trafficRouting.smi.rootService",
        "spec.service",
    ),
    gone("spec.strategy.canary.trafficRouting.smi.trafficSplitName", MESH),
    same(
        "spec.strategy.canary.trafficRouting.alb.rootService",
        "spec.service",
    ),
    gone("spec.strategy.canary.trafficRouting.alb.ingress", MESH),
    gone("spec.strategy.canary.trafficRouting.alb.ingresses", MESH),
    gone("spec.strategy.canary.trafficRouting.alb.servicePort", MESH),
    gone("spec.strategy.canary.trafficRouting.alb.annotationPrefix", MESH),
    differs(
        "spec.strategy.canary.trafficRouting.alb.stickinessConfig",
        "serin.dev/canary-cohort",
        "keeps users at their track by a cookie of Serin's own (canary-cohort: cookie); its age is Serin's, and a growing weight only adds users",
    ),
    gone("spec.strategy.canary.trafficRouting.ambassador", MESH),
    gone("spec.strategy.canary.trafficRouting.traefik", MESH),
    gone("spec.strategy.canary.trafficRouting.apisix", MESH),
    gone("spec.strategy.canary.trafficRouting.appMesh", MESH),
    gone("spec.strategy.canary.trafficRouting.plugins", MESH),
    same("spec.strategy.canary.pingPong.pingService", "spec.service"),
    gone(
        "spec.strategy.canary.pingPong.pongService",
        "takes turns with the other one; here one Service is always stable's; take it away",
    ),
    gone("spec.strategy.canary.maxSurge", POD_SETS),
    gone("spec.strategy.canary.maxUnavailable", POD_SETS),
    gone(
        "spec.strategy.canary.dynamicStableScale",
        "scales stable down as the canary grows; here stable keeps the pods that take everybody back, for as long as a release runs",
    ),
    gone(
        "spec.strategy.canary.abortScaleDownDelaySeconds",
        "keeps an aborted canary for so long; here its pods go when every proxy has let go of them and nothing is in flight",
    ),
    gone(
        "spec.strategy.canary.scaleDownDelaySeconds",
        "keeps old pods for so long; here they go when every proxy has let go of them, and the old version lives on in NAME-previous while both are compared (spec.promotion.watch)",
    ),
    gone("spec.strategy.canary.scaleDownDelayRevisionLimit", POD_SETS),
    gone("spec.strategy.canary.minPodsPerReplicaSet", POD_SETS),
    gone("spec.strategy.canary.replicaProgressThreshold", POD_SETS),
    gone(
        "spec.strategy.canary.antiAffinity",
        "spreads versions over nodes; write it into the pod template",
    ),
    gone("spec.strategy.canary.canaryMetadata", RESULT),
    gone("spec.strategy.canary.stableMetadata", RESULT),
    differs(
        "spec.strategy.blueGreen.activeService",
        "spec.service",
        BLUE_GREEN,
    ),
    gone(
        "spec.strategy.blueGreen.previewService",
        "is NAME-canary here, which finds the canary's pods by track: canary; testers can call that, or send a header (serin.dev/canary-by-header)",
    ),
    differs(
        "spec.strategy.blueGreen.autoPromotionEnabled",
        "spec.gates",
        "false is the gate `promotion`: `serin approve NAME promotion`, after the evidence suffices",
    ),
    differs(
        "spec.strategy.blueGreen.autoPromotionSeconds",
        "spec.pacing.soak",
        "is the least time at a weight above 0; promotion needs evidence too",
    ),
    differs(
        "spec.strategy.blueGreen.prePromotionAnalysis",
        "spec.judgement.checks",
        "are checks from the first weight to the last",
    ),
    gone(
        "spec.strategy.blueGreen.postPromotionAnalysis",
        "looks after the switch; both versions are compared after a promotion here (spec.promotion.watch)",
    ),
    gone("spec.strategy.blueGreen.previewReplicaCount", POD_SETS),
    gone("spec.strategy.blueGreen.scaleDownDelaySeconds", BLUE_GREEN),
    gone("spec.strategy.blueGreen.scaleDownDelayRevisionLimit", POD_SETS),
    gone("spec.strategy.blueGreen.abortScaleDownDelaySeconds", BLUE_GREEN),
    gone("spec.strategy.blueGreen.maxUnavailable", POD_SETS),
    gone(
        "spec.strategy.blueGreen.antiAffinity",
        "spreads versions over nodes; write it into the pod template",
    ),
    gone("spec.strategy.blueGreen.activeMetadata", RESULT),
    gone("spec.strategy.blueGreen.previewMetadata", RESULT),
];
