//! Filters of clusters: they see a request when its endpoint has been chosen, which is later than what a route
//! takes away from it.

use super::names::{HASH_HEADER, MIRROR_BODY_HEADER, MIRROR_FOR_HEADER, MIRROR_TARGET_HEADER};
use super::pb::{Any, hcm, header_mutation, inline, lua, mutation, pack_any, upstream_codec};

/// For clusters that choose endpoints by the hash header, which must not reach them. A route that took the header
/// away would do so before the choice (Envoy 1.40).
pub(super) fn without_hash() -> Vec<hcm::HttpFilter> {
    vec![filter("envoy.filters.http.header_mutation", without(&[HASH_HEADER])), codec()]
}

/// For clusters of mirrors: gives a copy the path, the X-Forwarded-For and the body that the route's headers say.
/// Nothing else in Envoy 1.40 can change the path of a copy. The script is fixed; nothing of an Ingress is in it.
pub(super) fn as_mirror() -> Vec<hcm::HttpFilter> {
    let script = format!(
        r#"function envoy_on_request(request)
  local headers = request:headers()
  local function take(name)
    local value = headers:get(name)
    headers:remove(name)
    return value
  end
  local target = take("{MIRROR_TARGET_HEADER}")
  if target and target:sub(1, 1) == "/" then headers:replace(":path", target) end
  local forwarded = take("{MIRROR_FOR_HEADER}")
  if forwarded then headers:replace("x-forwarded-for", forwarded) end
  headers:remove("x-envoy-internal")
  if take("{MIRROR_BODY_HEADER}") == "off" then
    local body = request:body(true)
    if body then body:setBytes("") end
  end
end
"#
    );
    let lua = lua::Lua { default_source_code: Some(inline(script)), ..lua::Lua::default() };
    vec![filter("envoy.filters.http.lua", pack_any(lua)), codec()]
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
