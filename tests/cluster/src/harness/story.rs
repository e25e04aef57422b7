//! The story's objects: a stable Deployment, its Services, front proxies, the controller, a Rollout, a canary.

use super::World;
use std::{fmt::Write, time::Duration};

/// Pods of the controller.
pub const CONTROLLER: &str = "app=serin-controller";
/// Pods of the front proxies.
const FRONT: &str = "serin.dev/proxy=echo";
const PATIENCE: Duration = Duration::from_secs(20);

/// What the story begins with.
#[derive(Clone, Debug)]
pub struct StoryOptions {
    /// What `server` and its canary are: `Deployment` or `DaemonSet`.
    pub kind: &'static str,
    /// Pods of the stable Deployment `server`.
    pub stable: usize,
    /// Its version.
    pub version: String,
    /// More arguments of `serin app` in stable, such as `--latency=5ms`.
    pub args: Vec<String>,
    /// Front proxies; none, and the Service `echo` selects no pods.
    pub proxies: usize,
    /// Controllers; none, and no CRD, no rights and no Rollout are made.
    pub controllers: usize,
    /// The rest of the Rollout's `spec`, as YAML flow or block indented by two, after service, stable and canary.
    pub spec: String,
}

impl Default for StoryOptions {
    fn default() -> StoryOptions {
        StoryOptions {
            kind: "Deployment",
            stable: 3,
            version: "v1.0.0".into(),
            args: Vec::new(),
            proxies: 2,
            controllers: 1,
            spec: String::new(),
        }
    }
}

/// The story, begun: stable serves behind the front.
pub struct Story<'a> {
    world: &'a World,
    kind: &'static str,
}

impl World {
    /// Begins the story and waits until all its pods are ready.
    pub fn story(&self, options: &StoryOptions) -> Story<'_> {
        let story = Story {
            world: self,
            kind: options.kind,
        };
        self.apply(SERVICES);
        self.apply(&app(
            (options.kind, "server"),
            "stable",
            &options.version,
            options.stable,
            &options.args,
        ));
        if options.proxies > 0 {
            self.apply(&proxies(options.proxies));
        }
        if options.controllers > 0 {
            story.control(options);
        }
        self.ready("app=echo,track=stable", options.stable, PATIENCE);
        if options.proxies > 0 {
            self.ready(FRONT, options.proxies, PATIENCE);
        }
        if options.controllers > 0 {
            self.ready(CONTROLLER, options.controllers, PATIENCE);
            self.apply(&rollout(options.kind, &options.spec));
        }
        story
    }
}

impl Story<'_> {
    /// Starts `server-canary` with this version beside stable, as `kubectl apply -f canary.yml` does.
    pub fn canary(&self, version: &str, replicas: usize, args: &[&str]) {
        self.canary_of("serin", version, replicas, args);
    }

    /// The same with another image, such as `missing` or `crash`.
    pub fn canary_of(&self, image: &str, version: &str, replicas: usize, args: &[&str]) {
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        let yaml = app((self.kind, "server-canary"), "canary", version, replicas, &args);
        self.world
            .apply(&yaml.replace("image: serin\n", &format!("image: {image}\n")));
    }

    fn control(&self, options: &StoryOptions) {
        let crd = self.world.serin(&["crd"]);
        let error = String::from_utf8_lossy(&crd.stderr);
        assert!(crd.status.success(), "serin crd: {error}");
        self.world.apply(&String::from_utf8_lossy(&crd.stdout));
        self.world
            .apply(&RIGHTS.replace("NAMESPACE", self.world.namespace()));
        self.world
            .apply(&CONTROLLERS.replace("REPLICAS", &options.controllers.to_string()));
    }
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata:
  name: echo
  annotations: {serin.dev/stable-service: echo-stable, serin.dev/canary-service: echo-canary}
spec:
  selector: {serin.dev/proxy: echo}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: echo-stable}
spec:
  selector: {app: echo, track: stable}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: echo-canary}
spec:
  selector: {app: echo, track: canary}
  ports: [{name: http, port: 80, targetPort: http}]
";

/// A workload of the little application.
fn app((kind, name): (&str, &str), track: &str, version: &str, replicas: usize, args: &[String]) -> String {
    let mut more = String::new();
    for arg in args {
        let _ = write!(more, ", {arg:?}");
    }
    let replicas = match kind {
        "DaemonSet" => String::new(),
        _ => format!("replicas: {replicas}"),
    };
    format!(
        "
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: echo, track: {track}}}}}
  template:
    metadata: {{labels: {{app: echo, track: {track}, version: {version}}}}}
    spec:
      containers:
      - name: app
        image: serin
        args: [app, --listen=$(POD_IP):8080, --version={version}{more}]
        env: [{{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
"
    )
}

fn proxies(replicas: usize) -> String {
    PROXIES.replace("REPLICAS", &replicas.to_string())
}

/// All pods share one loopback: whatever listens does so on its pod's own address, or on a free port.
const PROXIES: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: serin-proxy}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: serin-proxy}
rules:
- {apiGroups: [''], resources: [services], resourceNames: [echo], verbs: [get, list, watch]}
- {apiGroups: [''], resources: [secrets], resourceNames: [serin-evidence], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: serin-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: serin-proxy}
subjects: [{kind: ServiceAccount, name: serin-proxy}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo-front}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {serin.dev/proxy: echo}}
  template:
    metadata: {labels: {serin.dev/proxy: echo}}
    spec:
      serviceAccountName: serin-proxy
      containers:
      - name: proxy
        image: serin
        args:
        - proxy
        - --service=echo
        - --listen=$(POD_IP):8080
        - --signals=$(POD_IP):9901
        - --admin=127.0.0.1:0
        - --workers=1
        - --allow-debug
        - --drain-grace=1s
        env:
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        ports: [{name: http, containerPort: 8080}, {name: signals, containerPort: 9901}]
        readinessProbe: {httpGet: {path: /readyz, port: signals}, periodSeconds: 1}
";

const RIGHTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: serin-controller}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: serin-controller-NAMESPACE}
rules:
- {apiGroups: [serin.dev], resources: [rollouts, rollouts/status, rollouts/finalizers], verbs: [get, list, watch, update, patch]}
- {apiGroups: [''], resources: [services], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [''], resources: [pods, namespaces], verbs: [get, list, watch]}
- {apiGroups: [''], resources: [secrets, configmaps], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [apps], resources: [deployments, deployments/scale, daemonsets, statefulsets], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [apps], resources: [replicasets], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [get, list, watch, update, patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, watch, create, update, patch, delete]}
- {apiGroups: [events.k8s.io, ''], resources: [events], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: serin-controller-NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: serin-controller-NAMESPACE}
subjects: [{kind: ServiceAccount, name: serin-controller, namespace: NAMESPACE}]
";

const CONTROLLERS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: serin-controller}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: serin-controller}}
  template:
    metadata: {labels: {app: serin-controller}}
    spec:
      serviceAccountName: serin-controller
      containers:
      - name: controller
        image: serin
        args: [controller, '--namespace=$(POD_NAMESPACE)', '--listen=$(POD_IP):9903']
        env:
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        ports: [{name: health, containerPort: 9903}]
        readinessProbe: {httpGet: {path: /readyz, port: health}, periodSeconds: 1}
";

fn rollout(kind: &str, more: &str) -> String {
    format!(
        "
apiVersion: serin.dev/v1alpha1
kind: Rollout
metadata: {{name: echo}}
spec:
  service: echo
  stable: {{kind: {kind}, name: server}}
  canary: {{kind: {kind}, name: server-canary}}
{more}
"
    )
}
