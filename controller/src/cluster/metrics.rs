//! The controller's own metrics.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::activity::{Activity, Labels};

/// The numbers, and how they are written.
#[derive(Debug)]
pub struct Metrics {
    registries: Mutex<[Registry; 2]>,
    /// What is done besides serving.
    pub activity: Arc<Activity>,
    lists: Family<Resource, Counter>,
    watch_failures: Family<Resource, Counter>,
    /// How long translations took, in seconds.
    pub translations: Histogram,
    /// From the first change that a configuration has to all workers serving it, in seconds.
    pub latency: Histogram,
    outcomes: Family<Label, Counter>,
    diagnostics: Family<Severity, Gauge>,
    objects: Family<KindLabel, Gauge>,
    /// 1 while every worker serves a configuration.
    pub ready: Gauge,
    /// Whether an Envoy is connected.
    pub connected: Gauge,
    /// When the last configuration was accepted, in seconds since 1970.
    pub accepted_at: Gauge<f64, AtomicU64>,
    /// 1 where Envoy has accepted the last configuration, 0 where it has refused it.
    pub accepted: Gauge<i64, AtomicI64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Severity {
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(&Labels::default())
    }
}

impl Metrics {
    /// All at zero. The labels are those of metrics that are named as ingress-nginx's.
    pub fn new(labels: &Labels) -> Metrics {
        let steps = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let mut metrics = Metrics {
            registries: Mutex::default(),
            activity: Arc::default(),
            lists: Family::default(),
            watch_failures: Family::default(),
            translations: Histogram::new(steps),
            latency: Histogram::new(steps),
            outcomes: Family::default(),
            diagnostics: Family::default(),
            objects: Family::default(),
            ready: Gauge::default(),
            connected: Gauge::default(),
            accepted_at: Gauge::default(),
            accepted: Gauge::default(),
        };
        let mut registries = [metrics.registry(), labels.registry()];
        let [own, nginx] = &mut registries;
        metrics.activity.register(own, nginx);
        metrics.registries = Mutex::new(registries);
        metrics
    }

    fn registry(&self) -> Registry {
        let mut all = Registry::with_prefix("ingress_wasm_controller");
        all.register("lists", "Complete lists that were read from the API server", self.lists.clone());
        all.register(
            "watch_failures",
            "Failures of lists and watches; each is tried again",
            self.watch_failures.clone(),
        );
        all.register("translation_seconds", "Time that translations took", self.translations.clone());
        all.register(
            "live_seconds",
            "Time from the first change of a configuration until every worker of Envoy served it, or the objects of the \
             gateway were written",
            self.latency.clone(),
        );
        all.register(
            "configurations",
            "Translations by outcome: live, unchanged, rejected, superseded, invalid",
            self.outcomes.clone(),
        );
        all.register("diagnostics", "What is to be said of the objects at present", self.diagnostics.clone());
        all.register("objects", "What is served at present", self.objects.clone());
        all.register("ready", "1 while /readyz says so", self.ready.clone());
        all.register("envoy_connected", "Envoys that are connected", self.connected.clone());
        all.register(
            "last_accepted_timestamp_seconds",
            "When Envoy, or the API server, accepted a configuration last",
            self.accepted_at.clone(),
        );
        all.register(
            "last_accepted",
            "1 where Envoy, or the API server, accepted the last configuration",
            self.accepted.clone(),
        );
        all
    }

    /// A watch has read a complete list.
    pub fn listed(&self, resource: &str) {
        self.lists.get_or_create(&Resource { resource: resource.to_owned() }).inc();
    }

    /// A list or a watch has failed.
    pub fn watch_failed(&self, resource: &str) {
        self.watch_failures.get_or_create(&Resource { resource: resource.to_owned() }).inc();
    }

    /// What became of a translation.
    pub fn outcome(&self, outcome: &'static str) {
        self.outcomes.get_or_create(&Label { outcome }).inc();
    }

    /// How many diagnostics there are.
    pub fn diagnostics(&self, severity: &'static str, count: usize) {
        self.diagnostics.get_or_create(&Severity { severity }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// How much is served.
    pub fn objects(&self, kind: &'static str, count: usize) {
        self.objects.get_or_create(&KindLabel { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All of them in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registries = self.registries.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for registry in registries.iter() {
            // Writing to a String does not fail.
            let _ = prometheus_client::encoding::text::encode(&mut text, registry);
            // More follows: of ingress-nginx's names, and of Envoy.
            text.truncate(text.trim_end().trim_end_matches("# EOF").len());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus() {
        let metrics = Metrics::default();
        metrics.listed("services");
        metrics.outcome("live");
        metrics.latency.observe(0.02);
        metrics.ready.set(1);
        let text = metrics.text();
        for expected in [
            "ingress_wasm_controller_lists_total{resource=\"services\"} 1\n",
            "ingress_wasm_controller_configurations_total{outcome=\"live\"} 1\n",
            "ingress_wasm_controller_live_seconds_bucket{le=\"0.025\"} 1\n",
            "ingress_wasm_controller_ready 1\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("# EOF"), "{text}");
    }

    #[test]
    fn some_are_named_as_those_of_ingress_nginx() {
        let labels = Labels { namespace: "edge".to_owned(), pod: "p".to_owned(), class: "c".to_owned() };
        let metrics = Metrics::new(&labels);
        metrics.activity.leads("leader", true);
        metrics.activity.configured("00000000000000ff", true);
        metrics.activity.event("written");
        let text = metrics.text();
        let of = "controller_namespace=\"edge\",controller_class=\"c\",controller_pod=\"p\"";
        for expected in [
            format!("nginx_ingress_controller_leader_election_status{{{of},name=\"leader\"}} 1\n"),
            format!("nginx_ingress_controller_config_last_reload_successful{{{of}}} 1\n"),
            format!("nginx_ingress_controller_config_hash{{{of}}} 255.0\n"),
            format!("nginx_ingress_controller_success{{{of}}} 1\n"),
            "ingress_wasm_controller_events_total{outcome=\"written\"} 1\n".to_owned(),
        ] {
            assert!(text.contains(&expected), "{expected}\n{text}");
        }
        metrics.activity.configured("", false);
        let text = metrics.text();
        let expected = format!("nginx_ingress_controller_config_last_reload_successful{{{of}}} 0\n");
        assert!(text.contains(&expected), "{text}");
    }
}
