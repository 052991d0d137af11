//! End-to-end tests of `ingress-wasm controller`: an API server, the controller and an Envoy, each a process of
//! its own (the double of the API server is a thread of the test).
//!
//!     cargo test -p ingress-wasm-tests --test cluster                  all
//!     cargo test -p ingress-wasm-tests --test cluster -- killed        by name
//!
//! `INGRESS_WASM_BIN` names another binary of the product; `ENVOY` names the Envoy.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

#[path = "cluster/changes.rs"]
mod changes;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/gateway.rs"]
mod gateway;
#[path = "cluster/istio.rs"]
mod istio;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/processes.rs"]
mod processes;
#[path = "cluster/scope.rs"]
mod scope;
#[path = "cluster/world.rs"]
mod world;

/// A test that panics or gives an error has failed.
type Test = fn() -> Result<(), String>;

fn main() -> ExitCode {
    let tests: &[(&str, Test)] = &[
        ("ingresses_are_live", changes::ingresses_are_live),
        (
            "endpoints_are_live_and_leave_the_filter_alone",
            changes::endpoints_are_live_and_leave_the_filter_alone,
        ),
        ("certificates_are_live", changes::certificates_are_live),
        ("passwords_are_live", changes::passwords_are_live),
        ("options_are_live", changes::options_are_live),
        ("classes_are_live", changes::classes_are_live),
        ("not_ready_before_the_first_configuration", scope::not_ready_before_the_first_configuration),
        ("other_namespaces_are_not_served", scope::other_namespaces_are_not_served),
        ("secrets_that_nobody_names_are_not_fetched", scope::secrets_that_nobody_names_are_not_fetched),
        ("forbidden_secrets_leave_the_rest", scope::forbidden_secrets_leave_the_rest),
        ("api_server_away_loses_nothing", faults::api_server_away_loses_nothing),
        ("forgotten_history_loses_nothing", faults::forgotten_history_loses_nothing),
        ("refusals_of_the_api_server_lose_nothing", faults::refusals_of_the_api_server_lose_nothing),
        ("killed_controller_loses_nothing", faults::killed_controller_loses_nothing),
        ("bad_ingresses_lose_nothing", faults::bad_ingresses_lose_nothing),
        ("deleted_secret_loses_nothing", faults::deleted_secret_loses_nothing),
        ("replaced_endpoints_lose_nothing", faults::replaced_endpoints_lose_nothing),
        ("istio_objects_are_live", istio::objects_are_live),
        ("istio_drift_is_repaired", istio::drift_is_repaired),
        ("istio_foreign_objects_are_left_alone", istio::foreign_objects_are_left_alone),
        (
            "istio_another_controller_of_the_same_name_is_refused",
            istio::another_controller_of_the_same_name_is_refused,
        ),
        ("istio_another_replica_takes_over", istio::another_replica_takes_over),
        ("istio_errors_of_the_api_server_are_survived", istio::errors_of_the_api_server_are_survived),
        ("istio_what_the_filter_names_is_always_there", istio::what_the_filter_names_is_always_there),
        ("istio_what_is_written_serves", istio::what_is_written_serves),
    ];
    println!("against a real API server: skipped, the tests use the switches of the double");
    let trials = tests.iter().map(|(name, test)| Trial::test(*name, || test().map_err(Into::into)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
