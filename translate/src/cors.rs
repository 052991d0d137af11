//! `enable-cors` and the annotations that belong to it, with the defaults of ingress-nginx.

use ingress_wasm::config::Cors;

use crate::annotations::{AnnotationSet, InvalidValue, Value};

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,\
                       Authorization";
const MAX_AGE: &str = "1728000";

/// The setting; none where CORS is off, or no origin is left of a list.
pub fn read(annotations: &AnnotationSet<'_>) -> Option<Cors> {
    if !annotations.is_true("enable-cors") {
        return None;
    }
    let origins = match annotations.get("cors-allow-origin").map(|setting| setting.parse()) {
        Some(Ok(Value::List(origins))) => origins,
        None | Some(Err(InvalidValue::Empty)) => vec!["*".to_owned()],
        // Such a rule is denied.
        _ => Vec::new(),
    };
    // A value goes into the header as it stands in the annotation.
    let value = |name, default: &str| match annotations.get(name) {
        Some(setting) if setting.parse().is_ok() => {
            setting.text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
        }
        _ => default.to_owned(),
    };
    let setting = Cors {
        methods: value("cors-allow-methods", METHODS),
        headers: value("cors-allow-headers", HEADERS),
        expose_headers: value("cors-expose-headers", ""),
        max_age: value("cors-max-age", MAX_AGE),
        credentials: annotations.value("cors-allow-credentials") != Some(Value::Bool(false)),
        origins,
    };
    (!setting.origins.is_empty()).then_some(setting)
}
