//! TLS with clients and with backends.

use super::*;

const BASE: Annotation = Annotation { group: Group::Tls, ..super::BASE };

/// What belongs to `proxy-ssl-secret`: without it ingress-nginx does not read the rest.
const BACKEND: Annotation = Annotation {
    scope: Scope::Host,
    support: Support::Exact,
    lost: Lost::Ignored(Severity::Note),
    needs: &["proxy-ssl-secret"],
    ..BASE
};

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "proxy-ssl-ciphers",
        value: ValueGrammar::Characters(&grammar::CIPHERS),
        support: Support::Differs("ciphers and families that BoringSSL lacks are left out"),
        risk: Risk::Medium,
        summary: "Ciphers for TLS with the backend.",
        example: "HIGH:!aNULL",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-name",
        value: ValueGrammar::HostName,
        support: Support::Differs("a host name without variables; the rule answers 503 otherwise"),
        risk: Risk::High,
        summary: "The name that the backend's certificate must have, and that is sent as SNI.",
        example: "backend.internal",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-protocols",
        value: ValueGrammar::Words(&["TLSv1.2", "TLSv1.3"]),
        summary: "TLS versions for the backend.",
        example: "TLSv1.2 TLSv1.3",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-secret",
        value: ValueGrammar::SecretName { namespace_required: true },
        support: Support::Differs(
            "it holds for GRPCS as well, and a key pair is shown to backends without a `ca.crt` beside it too; a \
             Secret without `ca.crt` is denied where `proxy-ssl-verify` is on",
        ),
        on_invalid: OnInvalid::DeniesRule,
        lost: Lost::Ignored(Severity::Warning),
        needs: &[],
        risk: Risk::Medium,
        summary: "The Secret with the certificate for the backend and the authorities that the backend's own is \
                  checked by.",
        example: "default/backend-tls",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-server-name",
        value: ValueGrammar::ON_OFF,
        summary: "Whether the name is sent to the backend as SNI; `off` unless set.",
        example: "on",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-verify",
        value: ValueGrammar::ON_OFF,
        support: Support::Differs(
            "the name has to be among the alternative names: a common name does not count",
        ),
        summary: "Whether the backend's certificate is checked; `off` unless set.",
        example: "on",
        ..BACKEND
    },
    Annotation {
        name: "proxy-ssl-verify-depth",
        value: ValueGrammar::ANY_INTEGER,
        summary: "How long the chain of the backend's certificates may be; 1 unless set.",
        example: "2",
        ..BACKEND
    },
    Annotation {
        name: "ssl-ciphers",
        scope: Scope::Host,
        value: ValueGrammar::Characters(&grammar::CIPHERS),
        support: Support::Differs("ciphers and families that BoringSSL lacks are left out"),
        on_invalid: OnInvalid::DropsIngress,
        summary: "Ciphers for TLS with clients of the host, for versions before 1.3.",
        example: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        ..BASE
    },
    Annotation {
        name: "ssl-passthrough",
        scope: Scope::Host,
        support: Support::Differs(
            "always in force, without a flag of the controller; what looks into requests, protections included, holds for \
             plain HTTP only, as there",
        ),
        neutral: &["false"],
        summary: "Hands TLS connections of the host to the backend without opening them.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "ssl-prefer-server-ciphers",
        scope: Scope::Host,
        support: Support::Exact,
        neutral: &["true"],
        summary: "Whether the order of ciphers on the server or on the client decides.",
        example: "true",
        ..BASE
    },
];
