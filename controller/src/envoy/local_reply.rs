//! Envoy's own answers in the form in which nginx gives them.
//!
//! Which failure an answer stands for is told by its response flag. Answers of the filter carry none of
//! these flags and are left alone, and so is whatever a backend answers. What is no HTTP is answered by the
//! codec, which sets no flag: in Envoy's words, but for the status 431, which nginx has another for and
//! nobody else gives.

use ingress_wasm_translate::rate_limits::RateLimitService;

use super::names::ERROR_PAGE;
use super::pb::{UInt32Value, accesslog, cel_filter, core, hcm, inline, number, pack_any};

/// What nginx answers where Envoy, by its flags, gives up; statuses are nginx's, Envoy's own differ in part
/// (503 for a connection that failed).
const FAILURES: &[(&[&str], Option<u32>, Page)] = &[
    // No connection to the backend, or it broke before the answer began, or the answer was no HTTP.
    (&["UF", "UC", "UR", "LR", "UPE"], Some(502), Page { title: "502 Bad Gateway", note: "" }),
    // The backend was silent for too long. Before the next: the last of several tries has URX besides.
    (&["UT", "DT"], Some(504), Page { title: "504 Gateway Time-out", note: "" }),
    // No endpoint, no cluster, a circuit breaker, an overloaded proxy.
    (
        &["UH", "NC", "UO", "OM", "UMSDR", "URX"],
        Some(503),
        Page { title: "503 Service Temporarily Unavailable", note: "" },
    ),
];

/// The pages of answers whose flag leaves the status open: (flag, status that Envoy chose, page).
const BY_STATUS: &[(&str, u32, Page)] = &[
    ("SI", 408, Page { title: "408 Request Time-out", note: "" }),
    ("SI", 504, Page { title: "504 Gateway Time-out", note: "" }),
];

/// What nginx answers where Envoy answers 431.
const TOO_LARGE: Page = Page { title: "400 Bad Request", note: "Request Header Or Cookie Too Large" };

/// One of nginx's error pages.
struct Page {
    /// Status and reason.
    title: &'static str,
    /// What nginx adds for statuses of its own; replaces the reason in the title.
    note: &'static str,
}

impl Page {
    /// The bytes that nginx sends with `server_tokens off`.
    fn body(&self) -> String {
        let Page { title, note } = self;
        let status = title.split(' ').next().unwrap_or_default();
        let (head, line) = if note.is_empty() {
            ((*title).to_owned(), String::new())
        } else {
            (format!("{status} {note}"), format!("<center>{note}</center>\r\n"))
        };
        format!(
            "<html>\r\n<head><title>{head}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n{line}\
             <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        )
    }
}

/// The connection manager's rules for its own answers.
pub(super) fn local_replies(limits: Option<&RateLimitService>) -> hcm::LocalReplyConfig {
    let by_flag = FAILURES.iter().map(|(flags, status, page)| mapper(flag_filter(flags), *status, page));
    let by_status = BY_STATUS
        .iter()
        .map(|(flag, status, page)| mapper(both(flag_filter(&[*flag]), status_filter(*status)), None, page))
        .chain([mapper(status_filter(431), Some(400), &TOO_LARGE)]);
    let by_limit = limits.into_iter().flat_map(|service| {
        let status = u32::from(service.status);
        [
            with_body(flag_filter(&["RL"]), Some(status), body_of(service.status)),
            // Where requests are let through without the service, other answers of this status have the flag.
            with_body(both(flag_filter(&["RLSE"]), status_filter(503)), None, body_of(503)),
        ]
    });
    // The first rule that fits holds, and this one changes nothing: an answer that the filter gives in place of a
    // failure still carries the failure's flag.
    let replaced = hcm::ResponseMapper { filter: Some(replaced()), ..hcm::ResponseMapper::default() };
    let mappers = [replaced].into_iter().chain(by_flag).chain(by_status).chain(by_limit).collect();
    hcm::LocalReplyConfig { mappers, body_format: None }
}

/// The answer is one that the filter gives in place of an error.
fn replaced() -> accesslog::AccessLogFilter {
    use accesslog::extension_filter::ConfigType;

    let expression = format!("response.code_details == '{ERROR_PAGE}'");
    filter(accesslog::access_log_filter::FilterSpecifier::ExtensionFilter(accesslog::ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pack_any(cel_filter::ExpressionFilter {
            expression,
            ..cel_filter::ExpressionFilter::default()
        }))),
    }))
}

fn mapper(filter: accesslog::AccessLogFilter, status: Option<u32>, page: &Page) -> hcm::ResponseMapper {
    with_body(filter, status, page.body())
}

/// The page that the filter answers with this status.
fn body_of(status: u16) -> String {
    String::from_utf8_lossy(&ingress_wasm::policy::page(status, "").body).into_owned()
}

fn with_body(filter: accesslog::AccessLogFilter, status: Option<u32>, body: String) -> hcm::ResponseMapper {
    hcm::ResponseMapper {
        filter: Some(filter),
        status_code: status.map(|value| UInt32Value { value }),
        body_format_override: Some(core::SubstitutionFormatString {
            content_type: "text/html".to_owned(),
            format: Some(core::substitution_format_string::Format::TextFormatSource(inline(body))),
            ..core::SubstitutionFormatString::default()
        }),
        ..hcm::ResponseMapper::default()
    }
}

fn flag_filter(flags: &[&str]) -> accesslog::AccessLogFilter {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    filter(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(accesslog::ResponseFlagFilter {
        flags,
    }))
}

fn status_filter(status: u32) -> accesslog::AccessLogFilter {
    filter(accesslog::access_log_filter::FilterSpecifier::StatusCodeFilter(accesslog::StatusCodeFilter {
        comparison: Some(accesslog::ComparisonFilter {
            op: accesslog::comparison_filter::Op::Eq.into(),
            value: Some(core::RuntimeUInt32 {
                default_value: number(status).map_or(0, |status| status.value),
                // Envoy demands a name for the value; nothing sets it at run time.
                runtime_key: "ingress_wasm.local_reply_status".to_owned(),
            }),
        }),
    }))
}

fn both(first: accesslog::AccessLogFilter, second: accesslog::AccessLogFilter) -> accesslog::AccessLogFilter {
    filter(accesslog::access_log_filter::FilterSpecifier::AndFilter(accesslog::AndFilter {
        filters: vec![first, second],
    }))
}

fn filter(specifier: accesslog::access_log_filter::FilterSpecifier) -> accesslog::AccessLogFilter {
    accesslog::AccessLogFilter { filter_specifier: Some(specifier) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_those_of_nginx() {
        let cases = [
            (
                Page { title: "502 Bad Gateway", note: "" },
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1>\
                 </center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
            ),
            (
                TOO_LARGE,
                "<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title></head>\r\n<body>\r\n<center>\
                 <h1>400 Bad Request</h1></center>\r\n<center>Request Header Or Cookie Too Large</center>\r\n<hr>\
                 <center>nginx</center>\r\n</body>\r\n</html>\r\n",
            ),
        ];
        for (page, expected) in cases {
            assert_eq!(page.body(), expected, "{}", page.title);
        }
    }

    #[test]
    fn no_page_is_read_as_a_format() {
        for page in FAILURES
            .iter()
            .map(|(_, _, page)| page)
            .chain(BY_STATUS.iter().map(|(.., page)| page))
            .chain([&TOO_LARGE])
        {
            assert!(!page.body().contains('%'), "{}", page.title);
        }
    }
}
