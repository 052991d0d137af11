//! End-to-end tests of `ingress-wasm controller`: an API server, the controller and an Envoy, each a process of
//! its own (the double of the API server is a thread of the test).
//!
//!     cargo test -p ingress-wasm-tests --test cluster                  all
//!     cargo test -p ingress-wasm-tests --test cluster -- killed        by name
//!
//! `INGRESS_WASM_BIN` names another binary of the product; `ENVOY` names the Envoy.
//!
//! What needs no switches of the double runs against a real API server as well, as `real::NAME`, where there is one:
//! `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`, which are started; else `KUBECONFIG` leads
//! to one. Else those tests are ignored, and it is said why.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ingress_wasm_tests::apiserver::ApiServer;
use ingress_wasm_tests::control_plane::ControlPlane;
use kube::config::Kubeconfig;
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "cluster/admission.rs"]
mod admission;
#[path = "cluster/api.rs"]
mod api;
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
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/replica.rs"]
mod replica;
#[path = "cluster/replicas.rs"]
mod replicas;
#[path = "cluster/scope.rs"]
mod scope;
#[path = "cluster/world.rs"]
mod world;

use api::On;

/// A test that panics or gives an error has failed.
type Test = fn(&On) -> Result<(), String>;

/// Those that any API server will do for.
const ANYWHERE: &[(&str, Test)] = &[
    ("ingresses_are_live", changes::ingresses_are_live),
    ("endpoints_are_live_and_leave_the_filter_alone", changes::endpoints_are_live_and_leave_the_filter_alone),
    ("certificates_are_live", changes::certificates_are_live),
    ("passwords_are_live", changes::passwords_are_live),
    ("options_are_live", changes::options_are_live),
    ("classes_are_live", changes::classes_are_live),
    ("killed_controller_loses_nothing", faults::killed_controller_loses_nothing),
    ("deleted_secret_loses_nothing", faults::deleted_secret_loses_nothing),
    ("replaced_endpoints_lose_nothing", faults::replaced_endpoints_lose_nothing),
    ("only_the_leader_writes_and_both_serve", replicas::only_the_leader_writes_and_both_serve),
    ("killed_leader_is_followed", replicas::killed_leader_is_followed),
    (
        "lease_is_handed_back_and_the_last_clears_the_status",
        replicas::lease_is_handed_back_and_the_last_clears_the_status,
    ),
    ("status_follows_the_published_service", replicas::status_follows_the_published_service),
    ("refused_authorities_close_their_host", refusals::refused_authorities_close_their_host),
    ("refused_secret_leaves_the_rest", refusals::refused_secret_leaves_the_rest),
    (
        "many_refused_secrets_are_told_from_the_good_ones",
        refusals::many_refused_secrets_are_told_from_the_good_ones,
    ),
];

/// Those that need the switches of the double, or objects that a real API server does not take.
const ON_THE_DOUBLE: &[(&str, Test)] = &[
    ("not_ready_before_the_first_configuration", |_| scope::not_ready_before_the_first_configuration()),
    ("other_namespaces_are_not_served", |_| scope::other_namespaces_are_not_served()),
    ("secrets_that_nobody_names_are_not_fetched", |_| scope::secrets_that_nobody_names_are_not_fetched()),
    ("forbidden_secrets_leave_the_rest", |_| scope::forbidden_secrets_leave_the_rest()),
    ("api_server_away_loses_nothing", faults::api_server_away_loses_nothing),
    ("forgotten_history_loses_nothing", faults::forgotten_history_loses_nothing),
    ("refusals_of_the_api_server_lose_nothing", faults::refusals_of_the_api_server_lose_nothing),
    ("bad_ingresses_lose_nothing", faults::bad_ingresses_lose_nothing),
    ("silent_api_server_does_not_hold_up_the_end", replicas::silent_api_server_does_not_hold_up_the_end),
    ("bad_ingresses_are_refused_and_good_ones_pass", |_| {
        admission::bad_ingresses_are_refused_and_good_ones_pass()
    }),
    ("without_the_flag_there_is_no_webhook", |_| admission::without_the_flag_there_is_no_webhook()),
    ("silent_webhook_holds_up_writes_for_its_time", |_| {
        admission::silent_webhook_holds_up_writes_for_its_time()
    }),
    ("certificate_of_files_is_followed", |_| admission::certificate_of_files_is_followed()),
    ("certificate_is_renewed_before_its_end", |_| admission::certificate_is_renewed_before_its_end()),
    ("istio_objects_are_live", |_| istio::objects_are_live()),
    ("istio_secrets_are_copied", |_| istio::secrets_are_copied()),
    ("istio_drift_is_repaired", |_| istio::drift_is_repaired()),
    ("istio_foreign_objects_are_left_alone", |_| istio::foreign_objects_are_left_alone()),
    ("istio_another_controller_of_the_same_name_is_refused", |_| {
        istio::another_controller_of_the_same_name_is_refused()
    }),
    ("istio_another_replica_takes_over", |_| istio::another_replica_takes_over()),
    ("istio_errors_of_the_api_server_are_survived", |_| istio::errors_of_the_api_server_are_survived()),
    ("istio_what_the_filter_names_is_always_there", |_| istio::what_the_filter_names_is_always_there()),
    ("istio_what_is_written_serves", |_| istio::what_is_written_serves()),
    ("a_kubeconfig_leads_to_an_api_server", |_| a_kubeconfig_leads_to_an_api_server()),
];

/// A real API server, where there is one.
enum Real {
    Started(Arc<Kubeconfig>, #[expect(dead_code, reason = "it ends with it")] Box<ControlPlane>),
    Found(Arc<Kubeconfig>),
    None,
    /// There was to be one.
    Broken(String),
}

impl Real {
    fn find() -> Real {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(assets) = variable("KUBEBUILDER_ASSETS") {
            let started = ControlPlane::start(Path::new(&assets)).and_then(|plane| {
                let kubeconfig =
                    Kubeconfig::from_yaml(plane.kubeconfig()).map_err(|error| error.to_string())?;
                Ok(Real::Started(Arc::new(kubeconfig), Box::new(plane)))
            });
            return started.unwrap_or_else(|error| Real::Broken(format!("KUBEBUILDER_ASSETS: {error}")));
        }
        if variable("KUBECONFIG").is_some() {
            return match Kubeconfig::from_env() {
                Ok(Some(kubeconfig)) => Real::Found(Arc::new(kubeconfig)),
                Ok(None) => Real::Broken("KUBECONFIG names no file".to_owned()),
                Err(error) => Real::Broken(format!("KUBECONFIG: {error}")),
            };
        }
        Real::None
    }

    fn trial(&self, name: &str, test: Test) -> Trial {
        let name = format!("real::{name}");
        match self {
            Real::Started(kubeconfig, _) | Real::Found(kubeconfig) => {
                let on = On::Real(Arc::clone(kubeconfig));
                Trial::test(name, move || test(&on).map_err(Failed::from))
            }
            Real::None => Trial::test(name, || Err(SKIPPED.into())).with_ignored_flag(true),
            Real::Broken(error) => {
                let error = error.clone();
                Trial::test(name, move || Err(error.into()))
            }
        }
    }
}

const SKIPPED: &str = "against a real API server: skipped, neither KUBEBUILDER_ASSETS nor KUBECONFIG is set";

/// How a real API server is reached, on the double.
fn a_kubeconfig_leads_to_an_api_server() -> Result<(), String> {
    let double = ApiServer::start().map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("kubeconfig");
    double.write_kubeconfig(&path, "tests").map_err(|error| error.to_string())?;
    let kubeconfig = Kubeconfig::read_from(&path).map_err(|error| error.to_string())?;
    let on = On::Real(Arc::new(kubeconfig));
    let before = double.list("namespaces").len();
    changes::ingresses_are_live(&on)?;
    changes::classes_are_live(&on)?;
    assert_eq!(double.list("namespaces").len(), before, "nothing is left behind");
    assert_eq!(double.list("ingressclasses.networking.k8s.io").len(), 0, "nothing is left behind");
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let real = if arguments.list { Real::None } else { Real::find() };
    if matches!(real, Real::None) {
        println!("{SKIPPED}");
    }
    let on_the_double = ANYWHERE.iter().chain(ON_THE_DOUBLE).map(|(name, test)| {
        let test = *test;
        Trial::test(*name, move || test(&On::Double).map_err(Failed::from))
    });
    let trials = on_the_double.chain(ANYWHERE.iter().map(|(name, test)| real.trial(name, *test)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
