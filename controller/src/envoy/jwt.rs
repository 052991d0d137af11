//! Envoy's filter for JSON Web Tokens. It stands behind ours and does nothing but for routes that require a token.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use ingress_wasm_translate::jwt::{Jwt, Keys};
use ingress_wasm_translate::output::RouteProfile;
use sha2::{Digest, Sha256};

use super::pb::{Any, core, duration, inline, jwt_authn, pack_any};

/// How long fetching keys may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a route says that requires a token. A name that the filter does not know is refused.
pub(super) fn required(jwt: &Jwt) -> Any {
    use jwt_authn::per_route_config::RequirementSpecifier;

    pack_any(jwt_authn::PerRouteConfig {
        requirement_specifier: Some(RequirementSpecifier::RequirementName(jwt.name.clone())),
    })
}

/// The filter for all tokens that routes require; `local` hands over keys that are not fetched.
pub(super) fn filter(
    profiles: &BTreeMap<String, RouteProfile>,
    mut local: impl FnMut(&Jwt, &str) -> core::DataSource,
) -> jwt_authn::JwtAuthentication {
    use jwt_authn::jwt_requirement::RequiresType;

    let by_name: BTreeMap<&str, &Jwt> =
        profiles.values().filter_map(|profile| profile.jwt.as_ref()).map(|jwt| (&*jwt.name, jwt)).collect();
    let requirement = |name: &str| jwt_authn::JwtRequirement {
        requires_type: Some(RequiresType::ProviderName(name.to_owned())),
    };
    jwt_authn::JwtAuthentication {
        requirement_map: by_name.keys().map(|name| ((*name).to_owned(), requirement(name))).collect(),
        providers: by_name
            .iter()
            .map(|(name, jwt)| ((*name).to_owned(), provider(jwt, &mut local)))
            .collect(),
        ..jwt_authn::JwtAuthentication::default()
    }
}

fn provider(jwt: &Jwt, local: &mut impl FnMut(&Jwt, &str) -> core::DataSource) -> jwt_authn::JwtProvider {
    use core::http_uri::HttpUpstreamType;
    use jwt_authn::jwt_claim_to_header::PathSegment;
    use jwt_authn::jwt_provider::JwksSourceSpecifier;

    let keys = match &jwt.keys {
        Keys::Inline(keys) => JwksSourceSpecifier::LocalJwks(local(jwt, keys)),
        Keys::Remote { cluster, url, cache } => JwksSourceSpecifier::RemoteJwks(jwt_authn::RemoteJwks {
            http_uri: Some(core::HttpUri {
                uri: url.clone(),
                timeout: duration(PATIENCE),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster.clone())),
            }),
            cache_duration: duration(*cache),
            // Once for all workers, and before a request needs them; listeners do not wait.
            async_fetch: Some(jwt_authn::JwksAsyncFetch {
                fast_listener: true,
                ..jwt_authn::JwksAsyncFetch::default()
            }),
            ..jwt_authn::RemoteJwks::default()
        }),
    };
    // Names with a dot in them need the path, which Envoy 1.36 refuses.
    let claim = |(header, path): &(String, Vec<String>)| {
        let with_dots = path.iter().any(|key| key.contains('.'));
        let segments = path.iter().filter(|_| with_dots).map(|key| PathSegment { key: key.clone() });
        jwt_authn::JwtClaimToHeader {
            header_name: header.clone(),
            claim_name: if with_dots { String::new() } else { path.join(".") },
            claim_path: segments.collect(),
        }
    };
    let header = |(name, prefix): &(String, String)| jwt_authn::JwtHeader {
        name: name.clone(),
        value_prefix: prefix.clone(),
    };
    jwt_authn::JwtProvider {
        issuer: jwt.issuer.clone().unwrap_or_default(),
        audiences: jwt.audiences.clone(),
        require_expiration: jwt.require_expiration,
        forward: jwt.forward,
        from_headers: jwt.headers.iter().map(header).collect(),
        from_params: jwt.params.clone(),
        from_cookies: jwt.cookies.clone(),
        clock_skew_seconds: jwt.clock_skew,
        claim_to_headers: jwt.claims.iter().map(claim).collect(),
        jwks_source_specifier: Some(keys),
        ..jwt_authn::JwtProvider::default()
    }
}

/// Keys that stand in the configuration itself, as certificates' keys do in a static one.
pub(super) fn inline_keys(keys: &str) -> core::DataSource {
    inline(keys)
}

/// Keys in a file beside the module. Where it cannot be written no token is good.
pub(super) fn keys_in_file(directory: &Path, keys: &str) -> core::DataSource {
    let digest = Sha256::digest(keys.as_bytes());
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(format!("jwks-{name}.json"));
    if !path.exists()
        && let Err(error) = write(&path, keys)
    {
        log::error!("no token is good: the keys cannot be written to {}: {error}", path.display());
        return inline("{\"keys\": []}");
    }
    core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(path.to_string_lossy().into_owned())),
        ..core::DataSource::default()
    }
}

fn write(path: &Path, keys: &str) -> std::io::Result<()> {
    // Under another name until it is whole.
    let unfinished = path.with_extension("unfinished");
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(keys.as_bytes())?;
    fs::rename(&unfinished, path)
}
