//! Envoy's filter for sessions: it sends a request to the endpoint that the filter names, if that is still there, and
//! tells which one has answered instead. It does so on routes of rules with an affinity cookie that holds an endpoint.

use super::names::{ENDPOINT_HEADER, SESSION_FILTER};
use super::pb::{Any, core, hcm, pack_any, session_header, stateful_session};

/// The filter, behind the one that decides. It does nothing but on the routes that say so. It is always there, so that no
/// connection is without it when a rule begins to need it, and it cannot be off by default: Envoy looks for what turns it
/// on when a request has just come.
pub(super) fn session_filter() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: SESSION_FILTER.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
            stateful_session::StatefulSession::default(),
        ))),
        ..hcm::HttpFilter::default()
    }
}

/// What a route says that does.
pub(super) fn kept_endpoint() -> Any {
    use stateful_session::stateful_session_per_route::Override;

    let state = session_header::HeaderBasedSessionState { name: ENDPOINT_HEADER.to_owned() };
    let session = stateful_session::StatefulSession {
        session_state: Some(core::TypedExtensionConfig {
            name: "envoy.http.stateful_session.header".to_owned(),
            typed_config: Some(pack_any(state)),
        }),
        ..stateful_session::StatefulSession::default()
    };
    pack_any(stateful_session::StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(session)),
    })
}
