//! The annotations of this project, under the prefix `ingress-wasm.io/`.

use super::*;

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "request-headers",
        group: Group::Own,
        value: ValueGrammar::HeaderLines,
        support: Support::Exact,
        on_invalid: OnInvalid::DeniesRule,
        // Taking away a header that a client could forge is a protection.
        protects: true,
        lost: Lost::Denied,
        summary: "Sets headers of the request to the backend, one `Name: value` per line; `Name:` alone removes \
                  the header.",
        example: "X-Team: checkout\nX-Debug:",
        ..BASE
    },
    Annotation {
        name: "response-headers",
        group: Group::Own,
        value: ValueGrammar::HeaderLines,
        support: Support::Exact,
        on_invalid: OnInvalid::DeniesRule,
        summary: "Sets headers of the answer, one `Name: value` per line; `Name:` alone removes the header.",
        example: "X-Frame-Options: DENY\nX-Powered-By:",
        ..BASE
    },
];
