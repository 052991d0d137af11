//! Names of the counters that the filter keeps in Envoy's statistics.
//!
//! A name holds its labels: `ingress_wasm_requests;ingress=default/web;service=default/web:80;status=200;`
//! `decision=forward`. Envoy takes them apart where it is told how (`stats_tags` of its bootstrap), and then shows
//! `envoy_wasmcustom_ingress_wasm_requests{ingress="default/web",…}` to Prometheus.

/// The counter of requests.
pub const REQUESTS: &str = "ingress_wasm_requests";
/// The counter of configurations that workers loaded or refused.
pub const CONFIGURATIONS: &str = "ingress_wasm_configurations";

/// The labels of [`REQUESTS`], in order: the Ingress, the Service that its rule names, the status that the client
/// got, and what became of the request (`forward`, or the reason of the filter's own answer).
pub const REQUEST_LABELS: [&str; 4] = ["ingress", "service", "status", "decision"];
/// The label of [`CONFIGURATIONS`]: `loaded` or `refused`.
pub const CONFIGURATION_LABELS: [&str; 1] = ["result"];

/// A name with its labels.
pub fn counter<const N: usize>(name: &str, labels: [&str; N], values: [&str; N]) -> String {
    let mut text = String::from(name);
    for (label, value) in labels.into_iter().zip(values) {
        text.push(';');
        text.push_str(label);
        text.push('=');
        // A semicolon would begin the next label. No name of an object has one.
        text.extend(value.chars().map(|c| if c == ';' || c.is_control() { '_' } else { c }));
    }
    text
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn names_hold_their_labels() {
        let values = ["n/i", "n/s:80", "200", "forward"];
        let expected = "ingress_wasm_requests;ingress=n/i;service=n/s:80;status=200;decision=forward";
        assert_eq!(counter(REQUESTS, REQUEST_LABELS, values), expected);
        let name = counter(CONFIGURATIONS, CONFIGURATION_LABELS, ["a;b\n"]);
        assert_eq!(name, "ingress_wasm_configurations;result=a_b_");
    }
}
