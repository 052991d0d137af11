//! Logs and traces.

use super::*;

const BASE: Annotation = Annotation { group: Group::Observability, ..super::BASE };

pub(super) const ENTRIES: &[Annotation] = &[
    Annotation {
        name: "enable-access-log",
        support: Support::NotSupported("whether requests are logged is one setting for all rules"),
        lost: Lost::Ignored(Severity::Note),
        neutral: &["true"],
        summary: "Whether requests of the rule are logged; `true` unless set.",
        example: "false",
        ..BASE
    },
    Annotation {
        name: "enable-opentelemetry",
        support: Support::NotSupported("no spans are sent"),
        neutral: &["false"],
        summary: "Whether requests of the rule are traced.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "enable-rewrite-log",
        support: Support::NoEffect("there is no rewrite module whose steps could be logged"),
        summary: "Logs the steps of nginx's rewrite module.",
        example: "true",
        ..BASE
    },
    Annotation {
        name: "opentelemetry-operation-name",
        value: ValueGrammar::Characters(&grammar::SPAN),
        support: Support::NotSupported("no spans are sent"),
        on_invalid: OnInvalid::DropsIngress,
        lost: Lost::Ignored(Severity::Note),
        needs: &["enable-opentelemetry"],
        risk: Risk::Medium,
        summary: "The name of the rule's spans.",
        example: "checkout",
        ..BASE
    },
    Annotation {
        name: "opentelemetry-trust-incoming-span",
        support: Support::NotSupported("no spans are sent"),
        lost: Lost::Ignored(Severity::Note),
        needs: &["enable-opentelemetry"],
        summary: "Whether a trace that the client began is continued.",
        example: "false",
        ..BASE
    },
];
