//! Errors that a Service answers (`custom-http-errors`), and the Service that answers for others
//! (`default-backend`).

use ingress_wasm::config::ErrorPages;

use crate::annotations::{AnnotationSet, Value};
use crate::backends::Backends;
use crate::diagnostic::Diagnostic;
use crate::global::Defaults;
use crate::objects::{Ingress, Kind, ObjectName, ObjectRef};
use crate::output::Options;
use crate::report::Report;

/// The cluster of the Service that an Ingress names in `default-backend`. A Service that is not there is passed
/// over, as in ingress-nginx.
pub fn stand_in(
    ingress: &Ingress,
    annotations: &AnnotationSet<'_>,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<String> {
    let setting = annotations.get("default-backend")?;
    let Ok(Value::Text(name)) = setting.parse() else { return None };
    let service = ObjectName::new(ingress.metadata.name.namespace.clone(), name);
    match backends.stand_in(service) {
        Ok(cluster) => Some(cluster),
        Err(fault) => {
            let consequence =
                format!("{fault}: no Service answers for those without endpoints, or for errors");
            let diagnostic = Diagnostic::warning("default-backend-missing", consequence)
                .remedy("create the Service in the namespace of the Ingress, or correct the name");
            report.annotation(ingress, setting.key, diagnostic);
            None
        }
    }
}

/// The cluster of the Service that answers what no rule takes (`--default-backend-service`), by its first port. As
/// in ingress-nginx, it is passed over where it has no endpoints.
pub fn default_backend(
    options: &Options,
    backends: &mut Backends<'_>,
    report: &mut Report,
) -> Option<(String, ObjectName)> {
    let service = options.default_backend.clone()?;
    let fault = match backends.stand_in(service.clone()) {
        Ok(cluster) if !backends.is_empty(&cluster) => return Some((cluster, service)),
        Ok(_) => format!("Service {service} has no endpoints"),
        Err(fault) => fault,
    };
    let consequence = format!("{fault}: what no rule takes is answered 404 without it");
    let diagnostic = Diagnostic::warning("default-backend-missing", consequence)
        .object(ObjectRef { kind: Kind::Service, name: service }, None)
        .remedy(
            "create the Service with a port and pods that are ready, or correct --default-backend-service",
        );
    report.add(diagnostic);
    None
}

/// The errors that are replaced. Those of the ConfigMap never go to the Service of an annotation.
pub fn error_pages(
    annotations: &AnnotationSet<'_>,
    defaults: &Defaults,
    stand_in: Option<&str>,
) -> Option<ErrorPages> {
    let keep_backend_errors = match annotations.value("disable-proxy-intercept-errors") {
        Some(Value::Bool(on)) => on,
        _ => defaults.keep_backend_errors,
    };
    let (statuses, cluster) = match annotations.value("custom-http-errors") {
        Some(Value::Codes(codes)) => {
            (codes, stand_in.map(str::to_owned).or_else(|| defaults.default_backend.clone()))
        }
        _ => (defaults.custom_http_errors.clone(), defaults.default_backend.clone()),
    };
    (!statuses.is_empty()).then_some(ErrorPages { statuses, cluster, keep_backend_errors })
}
