//! The access log: one line of JSON for each request, with what the filter decided about it.

use std::path::Path;

use super::pb::{Kind as ValueKind, Struct, Value, accesslog, core, file_log, pack_any};

/// The fields of a line, and where Envoy takes them from. What begins with `wasm.` the filter has left in the filter
/// state (`src/filter/http.rs`): Envoy itself knows nothing of Ingresses, and the target that it sends is the one
/// after a rewrite.
const FIELDS: &[(&str, &str)] = &[
    ("time", "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
    ("client", "%FILTER_STATE(wasm.client:PLAIN)%"),
    ("method", "%REQ(:METHOD)%"),
    ("host", "%FILTER_STATE(wasm.host:PLAIN)%"),
    ("target", "%FILTER_STATE(wasm.target:PLAIN)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("ingress", "%FILTER_STATE(wasm.ingress:PLAIN)%"),
    ("rule", "%FILTER_STATE(wasm.rule:PLAIN)%"),
    ("service", "%FILTER_STATE(wasm.service:PLAIN)%"),
    ("cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("backend", "%UPSTREAM_HOST%"),
    ("backend_target", "%REQ(:PATH)%"),
    ("backend_ms", "%RESPONSE_DURATION%"),
    ("attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("received_bytes", "%BYTES_RECEIVED%"),
    ("sent_bytes", "%BYTES_SENT%"),
    ("duration_ms", "%DURATION%"),
    ("details", "%RESPONSE_CODE_DETAILS%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("server_name", "%REQUESTED_SERVER_NAME%"),
    ("tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("referer", "%REQ(REFERER)%"),
];

/// A log in a file; JSON, so that no client can forge a line.
pub(super) fn to_file(path: &Path) -> accesslog::AccessLog {
    let field = |(name, format): &(&str, &str)| {
        let value = Value { kind: Some(ValueKind::StringValue((*format).to_owned())) };
        ((*name).to_owned(), value)
    };
    let format = core::SubstitutionFormatString {
        format: Some(core::substitution_format_string::Format::JsonFormat(Struct {
            fields: FIELDS.iter().map(field).collect(),
        })),
        ..core::SubstitutionFormatString::default()
    };
    let config = file_log::FileAccessLog {
        path: path.to_string_lossy().into_owned(),
        access_log_format: Some(file_log::file_access_log::AccessLogFormat::LogFormat(format)),
    };
    accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack_any(config))),
        ..accesslog::AccessLog::default()
    }
}
