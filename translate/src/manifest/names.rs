//! What Kubernetes accepts as a name (k8s.io/apimachinery `pkg/util/validation`).

/// RFC 1123 label: lower-case letters, digits and `-`, at most 63.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// RFC 1123 subdomain: labels with dots between, at most 253 characters. Kubernetes does not bound the labels.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

/// `*.` and a subdomain.
pub(super) fn is_wildcard_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.strip_prefix("*.").is_some_and(is_subdomain)
}

/// Name of a port in a backend: at most 15 of lower-case letters, digits and single `-`, with a letter.
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_label_of_any_length(text)
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase())
}
