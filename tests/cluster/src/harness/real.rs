//! A real control plane of ready-made binaries: the folder that `KUBEBUILDER_ASSETS` names (the envtest convention).
//!
//! etcd and kube-apiserver have to be there; with kube-controller-manager and kube-scheduler beside them the real
//! controllers run, without them our loops do.

use super::connect;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);

/// Running servers; they end when this goes.
pub struct ControlPlane {
    children: Vec<Child>,
    folder: PathBuf,
    controllers: bool,
}

impl ControlPlane {
    /// Starts what is in the folder and waits until it answers.
    pub fn start(binaries: &Path, folder: &Path) -> ControlPlane {
        for name in ["etcd", "kube-apiserver"] {
            assert!(
                binaries.join(name).exists(),
                "KUBEBUILDER_ASSETS={}: no {name} there; unset it to test with the stand-in",
                binaries.display()
            );
        }
        fs::create_dir_all(folder).unwrap();
        let [etcd, peer, port, manager, scheduler] = free_ports();
        let mut plane = ControlPlane {
            children: Vec::new(),
            folder: folder.to_owned(),
            controllers: binaries.join("kube-controller-manager").exists()
                && binaries.join("kube-scheduler").exists(),
        };
        Authority::new().write(folder, port);
        plane.launch(&binaries.join("etcd"), &etcd_flags(folder, etcd, peer));
        plane.launch(&binaries.join("kube-apiserver"), &plane.server_flags(etcd, port));
        plane.until_ready();
        if plane.controllers {
            plane.launch(
                &binaries.join("kube-controller-manager"),
                &plane.manager_flags(manager),
            );
            plane.launch(&binaries.join("kube-scheduler"), &plane.client_flags(scheduler));
        }
        plane
    }

    /// Whether the real controllers run.
    pub fn has_controllers(&self) -> bool {
        self.controllers
    }

    /// The admin's.
    pub fn kubeconfig(&self) -> String {
        fs::read_to_string(self.folder.join("kubeconfig")).unwrap()
    }

    fn launch(&mut self, binary: &Path, flags: &[String]) {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        let log = fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(binary)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot run {}: {e}", binary.display()));
        self.children.push(child);
    }

    fn until_ready(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(connect(&self.kubeconfig()));
        let begun = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).unwrap();
            if runtime.block_on(client.request_text(request)).is_ok() {
                return;
            }
            let log = self.folder.join("kube-apiserver.log");
            assert!(
                begun.elapsed() < PATIENCE,
                "kube-apiserver did not become ready; see {}",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn server_flags(&self, etcd: u16, port: u16) -> Vec<String> {
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--endpoint-reconciler-type=none".into(),
            "--service-cluster-ip-range=198.19.0.0/16".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--allow-privileged=true".into(),
            format!("--client-ca-file={}", self.file("ca.crt")),
            format!("--tls-cert-file={}", self.file("server.crt")),
            format!("--tls-private-key-file={}", self.file("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", self.file("accounts.pub")),
            format!("--service-account-signing-key-file={}", self.file("accounts.key")),
        ];
        if !self.controllers {
            // Nobody makes a namespace's default service account then.
            flags.push("--disable-admission-plugins=ServiceAccount".into());
        }
        flags
    }

    fn client_flags(&self, port: u16) -> Vec<String> {
        let own = [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ];
        let mut flags: Vec<_> = own
            .iter()
            .map(|f| format!("--{f}={}", self.file("kubeconfig")))
            .collect();
        flags.extend([
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            "--leader-elect=false".into(),
        ]);
        // Their default rate makes the start 5 s longer.
        flags.extend(["--kube-api-qps=1000".into(), "--kube-api-burst=2000".into()]);
        flags
    }

    fn manager_flags(&self, port: u16) -> Vec<String> {
        let mut flags = self.client_flags(port);
        flags.push(format!(
            "--service-account-private-key-file={}",
            self.file("accounts.key")
        ));
        flags.push(format!("--root-ca-file={}", self.file("ca.crt")));
        flags
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn etcd_flags(folder: &Path, client: u16, peer: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        // A test's data need not outlive the machine.
        "--unsafe-no-fsync".into(),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-cluster=default=http://127.0.0.1:{peer}"),
    ]
}

fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|l| l.local_addr().unwrap().port())
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = named("test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Keys and certificates of the server, of accounts, and of the admin.
    fn write(&self, folder: &Path, port: u16) {
        let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        put("ca.crt", &self.pem);
        let mut server = named("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.subject_alt_names = vec![
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1))),
        ];
        let (crt, key) = self.sign(server);
        put("server.crt", &crt);
        put("server.key", &key);
        let accounts = KeyPair::generate().unwrap();
        put("accounts.key", &accounts.serialize_pem());
        put("accounts.pub", &accounts.public_key_pem());
        let mut admin = named("admin", Some(super::MASTERS));
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (crt, key) = self.sign(admin);
        put("kubeconfig", &self.kubeconfig(port, &crt, &key).to_string());
    }

    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn kubeconfig(&self, port: u16, crt: &str, key: &str) -> Value {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let [ca, crt, key] = [&self.pem, crt, key].map(|pem| STANDARD.encode(pem));
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "real", "cluster": {"server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca}}],
            "contexts": [{"name": "real", "context": {"cluster": "real", "user": "admin"}}],
            "users": [{"name": "admin", "user": {"client-certificate-data": crt, "client-key-data": key}}],
        })
    }
}

fn named(name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params
}

/// Server and authority (PEM) of a kubeconfig's first cluster.
pub fn address(kubeconfig: &str) -> (String, String) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let config: Value = serde_saphyr::from_str(kubeconfig).unwrap();
    let cluster = &config["clusters"][0]["cluster"];
    let text = |key: &str| cluster[key].as_str().map(str::to_owned);
    let data = text("certificate-authority-data").and_then(|d| STANDARD.decode(d).ok());
    let pem = data.and_then(|d| String::from_utf8(d).ok());
    let file = || text("certificate-authority").and_then(|path| fs::read_to_string(path).ok());
    (
        text("server").unwrap_or_default(),
        pem.or_else(file).unwrap_or_default(),
    )
}
