//! How the endpoints of one service are chosen, limited and tried again: checked, in the units that a worker uses.

use contract::{
    Fault, Span,
    file::{HealthCheckEntry, ResilienceEntry},
};
use std::time::Duration;

/// The longest time for which an endpoint is left alone.
pub const EJECT_LONGEST: Duration = Duration::from_secs(30);

/// The limits of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Resilience {
    /// Time to the head of an answer, all attempts together; none: the proxy's.
    pub request_timeout: Option<Duration>,
    /// Time to the head of an answer, for one attempt.
    pub try_timeout: Option<Duration>,
    /// Time for a whole request, unless it is a stream.
    pub total_timeout: Option<Duration>,
    /// Second tries within a track, as a share of requests.
    pub retry_share: f64,
    /// Second tries that are always allowed, a second and worker.
    pub retry_min: f64,
    /// How long a newcomer gets less than its share.
    pub slow_start: Duration,
    /// When endpoints are left alone.
    pub ejection: Ejection,
    /// Most requests under way at one endpoint.
    pub max_connections: Option<u32>,
    /// Most requests of a track that wait for room.
    pub max_pending: u32,
    /// How long they wait.
    pub pending_timeout: Duration,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<HealthCheckEntry>,
}

/// When, and for how long, endpoints are left alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// After so many failures in a row; 0: never.
    pub after: u32,
    /// For this long at first.
    pub time: Duration,
    /// Most of a track, in percent.
    pub most: u32,
}

impl Resilience {
    /// From what the file says; `key` is where the table stands.
    ///
    /// # Errors
    /// Every value with which no request could pass, or that is no share.
    pub fn new(entry: &ResilienceEntry, key: &str) -> Result<Resilience, Vec<Fault>> {
        let mut check = Check {
            key,
            faults: Vec::new(),
        };
        check.all(entry);
        if check.faults.is_empty() {
            Ok(Resilience::of(entry))
        } else {
            Err(check.faults)
        }
    }

    fn of(entry: &ResilienceEntry) -> Resilience {
        Resilience {
            request_timeout: entry.request_timeout.map(Span::duration),
            try_timeout: entry.try_timeout.map(Span::duration),
            total_timeout: Some(entry.total_timeout.duration()).filter(|t| !t.is_zero()),
            retry_share: f64::from(entry.retry_share) / 100.0,
            retry_min: f64::from(entry.retry_min),
            slow_start: entry.slow_start.duration(),
            ejection: Ejection {
                after: entry.eject_after,
                time: entry.eject_time.duration(),
                most: entry.max_ejected,
            },
            max_connections: Some(entry.max_connections).filter(|n| *n > 0),
            max_pending: entry.max_pending,
            pending_timeout: entry.pending_timeout.duration(),
            health_check: entry.health_check.clone(),
        }
    }
}

impl Ejection {
    /// How long after so many times in a row.
    pub fn pause(&self, times: u32) -> Duration {
        self.time.saturating_mul(1 << times.min(8)).min(EJECT_LONGEST)
    }

    /// How many of `n` endpoints may be left alone: one at least where there are others, and never the last one.
    pub fn cap(&self, n: usize) -> usize {
        if self.most == 0 {
            return 0;
        }
        let share = n * self.most as usize / 100;
        share.max(1).min(n.saturating_sub(1))
    }
}

/// Gathers faults.
struct Check<'a> {
    key: &'a str,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn all(&mut self, entry: &ResilienceEntry) {
        let times = [
            ("requestTimeout", entry.request_timeout),
            ("tryTimeout", entry.try_timeout),
            ("ejectTime", Some(entry.eject_time)),
            ("pendingTimeout", Some(entry.pending_timeout)),
        ];
        for (key, span) in times {
            self.time(key, span);
        }
        self.percent("retryShare", entry.retry_share);
        self.percent("maxEjected", entry.max_ejected);
        if let Some(check) = &entry.health_check {
            self.health(check);
        }
    }

    fn health(&mut self, check: &HealthCheckEntry) {
        self.time("healthCheck.interval", Some(check.interval));
        self.time("healthCheck.timeout", Some(check.timeout));
        let plain = check.path.bytes().all(|b| b.is_ascii_graphic());
        if !check.path.starts_with('/') || !plain {
            self.refuse(
                "healthCheck.path",
                &check.path,
                "is not a path",
                "write for example /healthz",
            );
        }
        if check.statuses().is_none() {
            self.refuse(
                "healthCheck.status",
                &check.status,
                "is no status and no range of them",
                "write for example 200, or 200-399",
            );
        }
        let service = check.grpc.as_deref().unwrap_or_default();
        if service.len() > 127 || !service.bytes().all(|b| b.is_ascii_graphic()) {
            self.refuse(
                "healthCheck.grpc",
                service,
                "is no name of a service",
                "write for example shop.v1.Orders, or \"\" for the whole server",
            );
        }
        for (key, n) in [("healthy", check.healthy), ("unhealthy", check.unhealthy)] {
            if n == 0 {
                let key = format!("healthCheck.{key}");
                self.refuse(&key, "0", "asks for no answer at all", "write 1 or more");
            }
        }
    }

    fn time(&mut self, key: &str, span: Option<Span>) {
        if let Some(span) = span.filter(|s| s.duration().is_zero()) {
            self.refuse(
                key,
                &span.to_string(),
                "leaves no time at all",
                "write for example 1s, or leave it out",
            );
        }
    }

    fn percent(&mut self, key: &str, n: u32) {
        if n > 100 {
            self.refuse(key, &n.to_string(), "is more than 100 percent", "write 0 to 100");
        }
    }

    fn refuse(&mut self, key: &str, value: &str, reason: &str, remedy: &str) {
        let key = format!("{}.{key}", self.key);
        self.faults.push(Fault::new(key, value, reason, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_come_together() {
        let entry = ResilienceEntry::default();
        assert!(Resilience::new(&entry, "service[0].resilience").is_ok());
        let entry = ResilienceEntry {
            try_timeout: Some(Span::seconds(0)),
            retry_share: 101,
            health_check: Some(HealthCheckEntry {
                path: "no path".into(),
                status: "ok".into(),
                grpc: Some("a b".into()),
                unhealthy: 0,
                ..HealthCheckEntry::default()
            }),
            ..entry
        };
        let faults = Resilience::new(&entry, "service[0].resilience").unwrap_err();
        let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "service[0].resilience.tryTimeout",
                "service[0].resilience.retryShare",
                "service[0].resilience.healthCheck.path",
                "service[0].resilience.healthCheck.status",
                "service[0].resilience.healthCheck.grpc",
                "service[0].resilience.healthCheck.unhealthy"
            ]
        );
    }

    #[test]
    fn the_last_endpoint_is_never_left_alone() {
        let ejection = |most| Ejection {
            after: 5,
            time: Duration::from_secs(1),
            most,
        };
        let caps = |most| [0, 1, 2, 3, 4, 10].map(|n| ejection(most).cap(n));
        assert_eq!(caps(50), [0, 0, 1, 1, 2, 5]);
        assert_eq!(caps(100), [0, 0, 1, 2, 3, 9]);
        assert_eq!(caps(0), [0; 6]);
        assert_eq!(ejection(50).pause(2), Duration::from_secs(4));
        assert_eq!(ejection(50).pause(100), EJECT_LONGEST);
    }
}
