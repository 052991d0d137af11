//! Errors that a Service answers (`custom-http-errors`), and the Service that answers for others
//! (`default-backend`).

use ingress_wasm::config::ErrorPages;

use crate::annotations::{AnnotationSet, Value};
use crate::backends::Backends;
use crate::diagnostic::Diagnostic;
use crate::global::Defaults;
use crate::objects::{Ingress, ObjectName};
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
        Some(Value::Codes(codes)) => (codes, stand_in.map(str::to_owned)),
        _ => (defaults.custom_http_errors.clone(), None),
    };
    (!statuses.is_empty()).then_some(ErrorPages { statuses, cluster, keep_backend_errors })
}
