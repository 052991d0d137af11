//! Metrics of what the controller does besides serving: leading, status, Events, admission. And those of
//! ingress-nginx's controller under their own names, so that dashboards and alerts go on working.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A gauge of a number that need not be whole.
type Real = Gauge<f64, AtomicU64>;

/// The numbers.
#[derive(Debug, Default)]
pub struct Activity {
    status_writes: Family<Outcome, Counter>,
    events: Family<Outcome, Counter>,
    mesh_writes: Family<Write, Counter>,
    admissions: Family<Decision, Counter>,
    admission_seconds: Seconds,
    nginx: Nginx,
}

/// A histogram of how long something took.
#[derive(Debug, Clone)]
struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Seconds {
        Seconds(Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]))
    }
}

/// Metrics of ingress-nginx's controller.
#[derive(Debug, Default)]
struct Nginx {
    leads: Family<Name, Gauge>,
    hash: Real,
    successful: Gauge,
    successful_at: Real,
    // Counters there, and named without `_total`, which a counter of this library cannot be.
    reloads: Gauge,
    reload_errors: Gauge,
    checks: Gauge,
    check_errors: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: String,
}

/// Who the metrics of ingress-nginx say they are of.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// `--controller-class`.
    pub class: String,
}

impl Labels {
    /// An empty registry for metrics that are named as ingress-nginx's.
    pub fn registry(&self) -> Registry {
        let Labels { namespace, pod, class } = self;
        let labels =
            [("controller_namespace", namespace), ("controller_class", class), ("controller_pod", pod)];
        let labels = labels.map(|(name, value)| (name.into(), value.clone().into()));
        Registry::with_prefix_and_labels("nginx_ingress_controller", labels.into_iter())
    }
}

impl Activity {
    /// Adds all of them to the registries: the controller's own, and one whose metrics are named as ingress-nginx's.
    pub fn register(&self, own: &mut Registry, nginx: &mut Registry) {
        own.register(
            "status_writes",
            "Writes of the status of Ingresses by outcome: written, failed",
            self.status_writes.clone(),
        );
        own.register(
            "istio_writes",
            "Writes of objects of Istio by kind and outcome: applied, repaired, deleted, refused, failed",
            self.mesh_writes.clone(),
        );
        own.register("events", "Events by outcome: written, known, failed", self.events.clone());
        own.register(
            "admissions",
            "Reviews by decision: allowed, refused, foreign, unchecked, unreadable",
            self.admissions.clone(),
        );
        own.register("admission_seconds", "Time that reviews took", self.admission_seconds.0.clone());
        let Nginx { leads, hash, successful, successful_at, reloads, reload_errors, checks, check_errors } =
            &self.nginx;
        nginx.register(
            "leader_election_status",
            "1 while this replica leads; 'name' is the Lease",
            leads.clone(),
        );
        nginx.register("config_hash", "A number for the configuration that is served", hash.clone());
        nginx.register(
            "config_last_reload_successful",
            "1 where Envoy accepted the last configuration",
            successful.clone(),
        );
        nginx.register(
            "config_last_reload_successful_timestamp_seconds",
            "When Envoy accepted a configuration last",
            successful_at.clone(),
        );
        nginx.register("success", "Configurations that Envoy accepted", reloads.clone());
        nginx.register("errors", "Configurations that Envoy refused", reload_errors.clone());
        nginx.register("check_success", "Ingresses that were admitted", checks.clone());
        nginx.register("check_errors", "Ingresses that were refused", check_errors.clone());
    }

    /// This replica leads, or does not.
    pub fn leads(&self, lease: &str, leads: bool) {
        self.nginx.leads.get_or_create(&Name { name: lease.to_owned() }).set(i64::from(leads));
    }

    /// What became of writing the status of an Ingress.
    pub fn status_write(&self, outcome: &'static str) {
        self.status_writes.get_or_create(&Outcome { outcome }).inc();
    }

    /// What became of writing an object of Istio.
    pub fn mesh_write(&self, kind: &'static str, outcome: &'static str) {
        self.mesh_writes.get_or_create(&Write { kind, outcome }).inc();
    }

    /// What became of an Event.
    pub fn event(&self, outcome: &'static str) {
        self.events.get_or_create(&Outcome { outcome }).inc();
    }

    /// How many Events came to this.
    #[cfg(test)]
    pub fn events_of(&self, outcome: &'static str) -> u64 {
        self.events.get_or_create(&Outcome { outcome }).get()
    }

    /// What was said to a review, and how long it took.
    pub fn admission(&self, decision: &'static str, took: Duration) {
        self.admissions.get_or_create(&Decision { decision }).inc();
        self.admission_seconds.0.observe(took.as_secs_f64());
    }

    /// An Ingress was checked. Without its name, which anybody may choose: series would grow without bound.
    pub fn checked(&self, good: bool) {
        if good { &self.nginx.checks } else { &self.nginx.check_errors }.inc();
    }

    /// Envoy has answered to a configuration, which is named by its generation.
    pub fn configured(&self, generation: &str, accepted: bool) {
        let Nginx { hash, successful, successful_at, reloads, reload_errors, .. } = &self.nginx;
        successful.set(i64::from(accepted));
        if accepted {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            successful_at.set(now.as_secs_f64());
            hash.set(u64::from_str_radix(generation, 16).unwrap_or(0) as f64);
            reloads.inc();
        } else {
            hash.set(0.0);
            reload_errors.inc();
        }
    }
}
