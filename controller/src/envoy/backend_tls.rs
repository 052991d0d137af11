//! TLS with backends: what a cluster says of it, and the secrets that it needs.
//!
//! Keys and authorities are SDS resources, so that a new one is used for the next connection and nothing else
//! changes.

use std::collections::BTreeMap;
use std::time::Duration;

use ingress_wasm_translate::backend_protocol::{BackendTls, Transport, Verify};
use ingress_wasm_translate::objects::ObjectName;
use ingress_wasm_translate::output::Translation;

use super::pb::{ads, core, inline, matcher_inputs, number, pack_any, tls};
use super::tls::{secret, secret_name, version};

/// Where Envoy gets secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretSource {
    /// The xDS server.
    Server,
    /// The bootstrap.
    Bootstrap,
}

/// TLS of a cluster.
pub(super) fn backend_tls(settings: &BackendTls, http2: bool, source: SecretSource) -> core::TransportSocket {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};

    let BackendTls { server_name, verify, certificate, oldest, newest, ciphers } = settings;
    let from = |name: String| tls::SdsSecretConfig {
        name,
        // Without a source, the name is that of a static secret.
        sds_config: (source == SecretSource::Server).then(|| ads(Duration::ZERO)),
    };
    let validation = |verify: &Verify| {
        ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(tls::CertificateValidationContext {
                match_typed_subject_alt_names: vec![is_for(&verify.name)],
                // nginx does not count the authority itself.
                max_verify_depth: number(verify.depth.saturating_add(1)),
                ..tls::CertificateValidationContext::default()
            }),
            validation_context_sds_secret_config: Some(from(authorities_name(&verify.secret))),
            ..CombinedCertificateValidationContext::default()
        })
    };
    let context = tls::UpstreamTlsContext {
        sni: server_name.clone().unwrap_or_default(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: version(*oldest).into(),
                tls_maximum_protocol_version: version(*newest).into(),
                cipher_suites: ciphers.iter().map(|cipher| (*cipher).to_owned()).collect(),
                ..tls::TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: certificate
                .iter()
                .map(|certificate| from(secret_name(&certificate.secret)))
                .collect(),
            validation_context_type: verify.as_ref().map(validation),
            alpn_protocols: if http2 { vec!["h2".to_owned()] } else { Vec::new() },
            ..tls::CommonTlsContext::default()
        }),
        ..tls::UpstreamTlsContext::default()
    };
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(context))),
    }
}

/// The alternative name that the certificate of a backend has to have.
pub(super) fn is_for(name: &str) -> tls::SubjectAltNameMatcher {
    use matcher_inputs::string_matcher::MatchPattern;
    use tls::subject_alt_name_matcher::SanType;

    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    tls::SubjectAltNameMatcher {
        san_type: if is_address { SanType::IpAddress } else { SanType::Dns }.into(),
        matcher: Some(matcher_inputs::StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.to_owned())),
            ..matcher_inputs::StringMatcher::default()
        }),
        ..tls::SubjectAltNameMatcher::default()
    }
}

/// The SDS resource of authorities for backends. It has a colon, so none is a certificate's.
fn authorities_name(secret: &ObjectName) -> String {
    format!("backends:{secret}")
}

/// The secrets that clusters need, by the name of their resource.
pub(super) fn backend_secrets(translation: &Translation) -> BTreeMap<String, tls::Secret> {
    let mut secrets = BTreeMap::new();
    for settings in translation.transports.values().filter_map(|Transport { tls, .. }| tls.as_deref()) {
        if let Some(certificate) = &settings.certificate {
            let name = secret_name(&certificate.secret);
            let message = secret(&name, &certificate.chain, &certificate.key);
            secrets.insert(name, message);
        }
        if let Some(verify) = &settings.verify {
            let name = authorities_name(&verify.secret);
            let context = tls::CertificateValidationContext {
                trusted_ca: Some(inline(&verify.authorities)),
                ..tls::CertificateValidationContext::default()
            };
            let message = tls::Secret {
                name: name.clone(),
                r#type: Some(tls::secret::Type::ValidationContext(context)),
            };
            secrets.insert(name, message);
        }
    }
    secrets
}
