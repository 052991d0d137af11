//! End-to-end tests of what no single case can say: through `ingress-wasm run` and a real Envoy, one named
//! test each.
//!
//!     cargo test -p ingress-wasm-tests --test envoy                    all
//!     cargo test -p ingress-wasm-tests --test envoy -- websocket       by name
//!
//! `INGRESS_WASM_BIN` names another binary of the product, `ENVOY` another Envoy.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

#[path = "envoy/api_keys.rs"]
mod api_keys;
#[path = "envoy/balancing.rs"]
mod balancing;
#[path = "envoy/certificates.rs"]
mod certificates;
#[path = "envoy/changes.rs"]
mod changes;
#[path = "envoy/connections.rs"]
mod connections;
#[path = "envoy/evasion.rs"]
mod evasion;
#[path = "envoy/grpc.rs"]
mod grpc;
#[path = "envoy/jwt.rs"]
mod jwt;
#[path = "envoy/names.rs"]
mod names;
#[path = "envoy/observability.rs"]
mod observability;
#[path = "envoy/parts.rs"]
mod parts;
#[path = "envoy/process.rs"]
mod process;
#[path = "envoy/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "envoy/rate_limits.rs"]
mod rate_limits;
#[path = "envoy/retries.rs"]
mod retries;
#[path = "envoy/secrets.rs"]
mod secrets;
#[path = "envoy/spellings.rs"]
mod spellings;
#[path = "envoy/support.rs"]
mod support;
#[path = "envoy/tls.rs"]
mod tls;
#[path = "envoy/traffic.rs"]
mod traffic;

/// A test that panics or gives an error has failed.
type Test = fn() -> Result<(), String>;

fn main() -> ExitCode {
    let tests: &[(&str, Test)] = &[
        (
            "affinity_keeps_clients_when_an_endpoint_comes",
            balancing::affinity_keeps_clients_when_an_endpoint_comes,
        ),
        (
            "persistent_affinity_moves_nobody_who_need_not",
            balancing::persistent_affinity_moves_nobody_who_need_not,
        ),
        ("cookie_changes_on_failure_where_it_should", balancing::cookie_changes_on_failure_where_it_should),
        ("canary_follows_its_endpoints", balancing::canary_follows_its_endpoints),
        (
            "hash_of_a_client_is_not_taken_and_not_passed_on",
            balancing::hash_of_a_client_is_not_taken_and_not_passed_on,
        ),
        ("changed_cluster_with_a_name_loses_no_request", names::changed_cluster_with_a_name_loses_no_request),
        ("silent_name_server_holds_up_no_start", names::silent_name_server_holds_up_no_start),
        ("mirror_gets_what_it_should", balancing::mirror_gets_what_it_should),
        ("websocket_upgrade_passes_and_echoes", traffic::websocket_upgrade_passes_and_echoes),
        ("declared_body_over_the_limit_is_refused", traffic::declared_body_over_the_limit_is_refused),
        ("chunked_body_over_the_limit_is_refused", traffic::chunked_body_over_the_limit_is_refused),
        ("responses_are_streamed", traffic::responses_are_streamed),
        ("proxy_header_is_dropped", traffic::proxy_header_is_dropped),
        ("private_headers_of_clients_have_no_effect", traffic::private_headers_of_clients_have_no_effect),
        ("dead_endpoint_is_a_bad_gateway", traffic::dead_endpoint_is_a_bad_gateway),
        ("no_endpoints_is_service_unavailable", traffic::no_endpoints_is_service_unavailable),
        ("requests_are_counted", observability::requests_are_counted),
        ("requests_are_logged", observability::requests_are_logged),
        ("unknown_host_is_not_found", traffic::unknown_host_is_not_found),
        ("basic_auth_knows_three_hashes", traffic::basic_auth_knows_three_hashes),
        ("read_timeout_is_between_bytes", traffic::read_timeout_is_between_bytes),
        ("what_was_sent_is_repeated_by_method", retries::what_was_sent_is_repeated_by_method),
        (
            "changed_file_is_live_without_a_failed_request",
            changes::changed_file_is_live_without_a_failed_request,
        ),
        ("many_rules_are_served_and_changed_in_parts", parts::many_rules_are_served_and_changed_in_parts),
        ("object_that_becomes_invalid_keeps_serving", changes::object_that_becomes_invalid_keeps_serving),
        ("file_that_becomes_unreadable_keeps_serving", changes::file_that_becomes_unreadable_keeps_serving),
        ("mistakes_are_named_and_the_rest_serves", changes::mistakes_are_named_and_the_rest_serves),
        ("each_server_name_gets_its_certificate", tls::each_server_name_gets_its_certificate),
        (
            "certificates_change_without_losing_a_connection",
            tls::certificates_change_without_losing_a_connection,
        ),
        ("answers_may_have_large_headers", traffic::answers_may_have_large_headers),
        ("static_bootstrap_has_its_keys_in_files", tls::static_bootstrap_has_its_keys_in_files),
        ("hosts_have_ciphers_of_their_own", tls::hosts_have_ciphers_of_their_own),
        ("versions_and_protocols_are_those_of_nginx", tls::versions_and_protocols_are_those_of_nginx),
        ("changed_authorities_of_clients_are_live", certificates::changed_authorities_of_clients_are_live),
        ("passed_connections_are_not_opened", certificates::passed_connections_are_not_opened),
        ("changed_authorities_of_backends_are_live", certificates::changed_authorities_of_backends_are_live),
        ("answers_are_compressed_as_asked_for", connections::answers_are_compressed_as_asked_for),
        ("connections_are_closed_as_asked_for", connections::connections_are_closed_as_asked_for),
        ("tokens_are_asked_for", jwt::tokens_are_asked_for),
        ("keys_of_tokens_are_fetched", jwt::keys_of_tokens_are_fetched),
        ("keys_of_tokens_are_fetched_by_https", jwt::keys_of_tokens_are_fetched_by_https),
        ("api_keys_let_in_and_go_no_further", api_keys::api_keys_let_in_and_go_no_further),
        ("secrets_are_shown_nowhere", secrets::secrets_are_shown_nowhere),
        ("requests_are_limited_by_a_service", rate_limits::requests_are_limited_by_a_service),
        (
            "requests_pass_without_the_service_where_asked_for",
            rate_limits::requests_pass_without_the_service_where_asked_for,
        ),
        ("proxy_protocol_names_the_client", proxy_protocol::proxy_protocol_names_the_client),
        ("grpc_passes_with_trailers_and_streams", grpc::grpc_passes_with_trailers_and_streams),
        ("no_spelling_evades_a_policy", evasion::no_spelling_evades_a_policy),
        ("spellings_are_requests", evasion::spellings_are_requests),
        ("killed_envoy_comes_back", process::killed_envoy_comes_back),
        ("end_leaves_nothing_behind", process::end_leaves_nothing_behind),
    ];
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, || test().map_err(Into::into)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
