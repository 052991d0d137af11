//! Filters of clusters: they see a request when its endpoint has been chosen, which is later than what a route
//! takes away from it.

use super::names::HASH_HEADER;
use super::pb::{Any, hcm, header_mutation, mutation, pack_any, upstream_codec};

/// For clusters that choose endpoints by the hash header, which must not reach them. A route that took the header
/// away would do so before the choice (Envoy 1.40).
pub(super) fn without_hash() -> Vec<hcm::HttpFilter> {
    vec![filter("envoy.filters.http.header_mutation", without(&[HASH_HEADER])), codec()]
}

/// Takes headers away from requests.
fn without(names: &[&str]) -> Any {
    let remove = |name: &&str| mutation::HeaderMutation {
        action: Some(mutation::header_mutation::Action::Remove((*name).to_owned())),
    };
    pack_any(header_mutation::HeaderMutation {
        mutations: Some(header_mutation::Mutations {
            request_mutations: names.iter().map(remove).collect(),
            ..header_mutation::Mutations::default()
        }),
        ..header_mutation::HeaderMutation::default()
    })
}

/// The filter that has to be the last.
fn codec() -> hcm::HttpFilter {
    filter("envoy.filters.http.upstream_codec", pack_any(upstream_codec::UpstreamCodec {}))
}

fn filter(name: &str, config: Any) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..hcm::HttpFilter::default()
    }
}
