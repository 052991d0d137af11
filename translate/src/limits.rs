//! How many requests of one client an Ingress serves (`annotations/ratelimit` of ingress-nginx).

use ingress_wasm::config::Limits;

use crate::annotations::{AnnotationSet, Value};

/// The multiplier that holds where none is set, or one that is no number.
const BURST: i64 = 5;

/// Reads the limits; none where there is none.
pub fn read(annotations: &AnnotationSet<'_>) -> Option<Limits> {
    let number = |name| match annotations.value(name) {
        Some(Value::Integer(number)) => Some(number),
        _ => None,
    };
    // nginx refuses to load a burst of 0; what its author wants is clear.
    let multiplier = number("limit-burst-multiplier").unwrap_or(BURST).max(0);
    let limit = |name| number(name).unwrap_or(0).max(0);
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let (per_second, per_minute) = (limit("limit-rps"), limit("limit-rpm"));
    let connections = limit("limit-connections");
    if per_second == 0 && per_minute == 0 && connections == 0 {
        return None;
    }
    let exempt = match annotations.value("limit-allowlist") {
        Some(Value::Networks(networks)) => networks.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    Some(Limits {
        per_second: small(per_second),
        per_second_burst: small(per_second.saturating_mul(multiplier)),
        per_minute: small(per_minute),
        per_minute_burst: small(per_minute.saturating_mul(multiplier)),
        connections: small(connections),
        exempt,
    })
}
