//! How the requests of a rule are divided, and why this one goes where it does.

use ingress_wasm::decision::{Split, SplitBy};
use ingress_wasm::router::{CompiledAction, CompiledBalancing, CompiledCanary, CompiledRule, HeaderRule};
use serde::Serialize;

/// How the requests of a rule are divided.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Division {
    /// Between the Service and a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryChoice>,
    /// How the endpoint is chosen; none: as Envoy does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// The canary, and whether this request goes to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryChoice {
    /// The canary Ingress.
    pub ingress: String,
    /// The canary's Service.
    pub service: String,
    /// This request goes to it.
    pub chosen: bool,
    /// Why, or why not.
    pub reason: String,
}

impl Division {
    /// The division of a rule's requests; none where they all go one way.
    pub fn of(rule: Option<&CompiledRule>, split: Option<Split>) -> Option<Self> {
        let CompiledAction::Forward { balancing: Some(balancing), .. } = &rule?.action else { return None };
        let canary = balancing.canary.as_ref().zip(split);
        let endpoint =
            endpoint(balancing, canary.filter(|(_, split)| split.canary).map(|(canary, _)| canary));
        let canary = canary.map(|(canary, split)| CanaryChoice {
            ingress: canary.ingress.to_string(),
            service: canary.service.to_string(),
            chosen: split.canary,
            reason: reason(canary, split),
        });
        Some(Division { canary, endpoint })
    }

    /// The lines that a person reads, each with its label.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(CanaryChoice { ingress, service, chosen, reason }) = &self.canary {
            let goes = if *chosen { "yes" } else { "no" };
            lines.push(("canary", format!("{goes}, {reason} ({service}, Ingress {ingress})")));
        }
        lines.extend(self.endpoint.iter().map(|endpoint| ("endpoint", endpoint.clone())));
        lines
    }
}

fn reason(canary: &CompiledCanary, split: Split) -> String {
    let header = canary.header.as_ref();
    match split.by {
        SplitBy::Affinity => "the client's session cookie says so".to_owned(),
        SplitBy::Header => {
            let name = header.map_or("", |(name, _)| name);
            match header.map(|(_, rule)| rule) {
                Some(HeaderRule::Broken) => format!("the expression for the header {name} is broken"),
                _ => format!("the header {name} says so"),
            }
        }
        SplitBy::Cookie => format!("the cookie {} says so", canary.cookie.as_deref().unwrap_or_default()),
        SplitBy::Weight if canary.weight == 0 => "nothing asks for it".to_owned(),
        SplitBy::Weight => {
            let CompiledCanary { weight, weight_total, .. } = canary;
            format!("by chance: {weight} of {weight_total} requests go there")
        }
    }
}

fn endpoint(balancing: &CompiledBalancing, canary: Option<&CompiledCanary>) -> Option<String> {
    let (affinity, hash_by) = match canary {
        Some(canary) => (&canary.affinity, &canary.hash_by),
        None => (&balancing.affinity, &balancing.hash_by),
    };
    match (affinity, hash_by) {
        (Some(affinity), _) if affinity.set.is_some() => {
            Some(format!("by the cookie {}, which a client without it gets", affinity.cookie))
        }
        (Some(affinity), _) => Some(format!("by the cookie {}, by chance without it", affinity.cookie)),
        (None, Some(hash)) if hash.subsets.is_empty() => Some("by a hash of the request".to_owned()),
        (None, Some(hash)) => Some(format!(
            "one of a part of them; the part, of {}, by a hash of the request",
            hash.subsets.len()
        )),
        (None, None) => None,
    }
}
