//! A real Prometheus that reads one signals listener once a second.

use super::{Process, Scratch, get, loopback, raw, until};
use serde_json::Value;
use std::{fs, path::Path, process::Command, time::Duration};

/// Reads `/metrics` once a second.
pub struct Prometheus {
    _process: Process,
    _scratch: Scratch,
    pub port: u16,
}

impl Prometheus {
    pub fn start(port: u16, signals: u16) -> Prometheus {
        Prometheus::with_rules(port, &[signals], &[])
    }

    /// One that reads several listeners, and evaluates rules once a second.
    pub fn with_rules(port: u16, targets: &[u16], rules: &[&Path]) -> Prometheus {
        let scratch = Scratch::new();
        let config = scratch.path("prometheus.yml");
        let targets: Vec<String> = targets.iter().map(|p| format!("'127.0.0.1:{p}'")).collect();
        let rules: Vec<String> = rules.iter().map(|r| format!("'{}'", r.display())).collect();
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs: [{{ job_name: serin, static_configs: [{{ targets: [{}] }}] }}]\n",
            rules.join(", "),
            targets.join(", ")
        );
        fs::write(&config, text).unwrap();
        let process = Process::start(
            Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", scratch.path("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        );
        until("Prometheus is ready", Duration::from_secs(20), || {
            get(loopback(port), "/-/ready").filter(|a| a.status == 200)
        });
        Prometheus {
            _process: process,
            _scratch: scratch,
            port,
        }
    }

    /// What its API answers.
    pub fn api(&self, path: &str) -> Value {
        // Whole and in one piece, as HTTP/1.0 has it.
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n");
        let answer = raw(loopback(self.port), request.as_bytes()).unwrap();
        let whole: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(whole["status"], "success", "{path}: {whole}");
        whole["data"].clone()
    }
}
