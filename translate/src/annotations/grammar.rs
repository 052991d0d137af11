//! What values may look like. Each grammar takes what ingress-nginx takes (`internal/ingress/annotations`,
//! its validators and what its parsers do afterwards), and says in a few words what that is.
//!
//! ingress-nginx drops the blanks of many values before it looks at them; where a value is a list, blanks
//! around its elements do not matter here, elsewhere only those around the whole value.

use std::fmt;

use super::Network;
use super::text::{parse_bool, parse_integer, parse_seconds, parse_size};

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueGrammar {
    /// Go's spellings of true and false.
    Boolean,
    /// A whole number within bounds.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A number with a fraction, not negative.
    Number,
    /// Whole seconds.
    Seconds,
    /// A time with a unit, as nginx and Go write it.
    Duration,
    /// A size in bytes, with the units of nginx.
    Size,
    /// One of a few words.
    OneOf {
        /// The words.
        words: &'static [&'static str],
        /// Case does not matter.
        any_case: bool,
    },
    /// Several of a few words, between blanks.
    Words(&'static [&'static str]),
    /// A URL or a path, without variables.
    Url,
    /// A URL or a path that may hold nginx variables.
    UrlWithVariables,
    /// A URL with scheme and host that may hold nginx variables.
    AuthUrl,
    /// The name of a header.
    HeaderName,
    /// Names of headers between commas.
    HeaderNames,
    /// Lines `Name: value`; a line without value removes the header.
    HeaderLines,
    /// IP addresses and networks between commas.
    CidrList,
    /// A Secret, `namespace/name` or, where allowed, `name`.
    SecretName {
        /// A bare name is not accepted.
        namespace_required: bool,
    },
    /// A ConfigMap, `name` or `namespace/name`.
    ConfigMapName,
    /// A Service of the same namespace.
    ServiceName,
    /// A host name, possibly with nginx variables.
    HostName,
    /// Host names, wildcards or regular expressions between commas.
    HostNames,
    /// A regular expression of a narrow alphabet.
    Regex,
    /// A path that may use the groups `$1` to `$9`.
    RewriteTarget,
    /// A path that begins with `/`.
    Path,
    /// HTTP statuses from 400 to 599 between commas.
    StatusCodes,
    /// One HTTP method in capitals.
    Method,
    /// HTTP methods between commas.
    Methods,
    /// Origins of CORS between commas.
    Origins,
    /// Statuses and times to remember them for, as in `200 202 30m`.
    CacheDurations,
    /// `CN=` and a regular expression.
    CommonName,
    /// The two domains of a cookie rewrite, or `off`.
    CookieDomains,
    /// A number of seconds for a cookie; may be negative.
    CookieSeconds,
    /// Letters, digits and some signs.
    Characters(&'static Characters),
    /// A piece of nginx configuration.
    Snippet,
    /// Anything.
    Text,
}

/// An alphabet: ASCII letters and digits, and these signs.
#[derive(Debug, PartialEq, Eq)]
pub struct Characters {
    /// The signs.
    pub signs: &'static str,
    /// In words.
    pub description: &'static str,
}

/// Names of things: `BasicCharsRegex` of ingress-nginx.
pub(super) static NAME: Characters =
    Characters { signs: "-._~/:", description: "letters, digits and `-._~/:`" };
/// The realm of basic authentication: `CharsWithSpace`.
pub(super) static REALM: Characters =
    Characters { signs: "-._~/: ", description: "text of letters, digits, blanks and `-._~/:`" };
/// nginx variables and text: `NGINXVariable`, and the validator of `upstream-hash-by`.
pub(super) static VARIABLES: Characters =
    Characters { signs: "-_${}", description: "nginx variables and text, such as `$request_uri`" };
/// `X-Forwarded-Prefix`: `RegexPathWithCapture` without blanks.
pub(super) static PREFIX: Characters = Characters {
    signs: "-._~/:$ ",
    description: "a path that may use the groups `$1` to `$9`, without `?` and `=`",
};
/// The `Path` rewrite of a cookie: `URLIsValidRegex` and the blank between its two parts.
pub(super) static COOKIE_PATHS: Characters = Characters {
    signs: "-._~/:,?&= ",
    description: "a path and what replaces it, with a blank between, or `off`",
};
/// OpenSSL cipher lists.
pub(super) static CIPHERS: Characters =
    Characters { signs: "+:_-!@=", description: "a list of ciphers in OpenSSL's form" };
/// The page of `auth-tls-error-page`: a URL, a path or a named location.
pub(super) static PAGE: Characters =
    Characters { signs: "-._/:@", description: "a URL or a path, without query" };
/// The name of a span.
pub(super) static SPAN: Characters = Characters { signs: "_-", description: "letters, digits, `_` and `-`" };
/// The name of an index file.
pub(super) static FILE: Characters = Characters { signs: ".-_", description: "a file name" };

const BASIC: &str = "-._~/:";
const URL: &str = "-._~/:,?&=";
const URL_VARIABLES: &str = "-._~/:,?&=$ ";
const REGEX: &str = "-._~/:^$[](){}*+?|&=\\";
const TARGET: &str = "-._~/:$";

/// A value that has been read.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// A whole number, a number of seconds of a cookie included.
    Integer(i64),
    /// A number with a fraction.
    Number(f64),
    /// Seconds.
    Seconds(u64),
    /// Bytes.
    Size(u64),
    /// Text without surrounding blanks; of [`ValueGrammar::OneOf`] in the spelling of the list.
    Text(String),
    /// Elements of a list.
    List(Vec<String>),
    /// HTTP statuses.
    Codes(Vec<u16>),
    /// The name of an object; without namespace, that of the Ingress is meant.
    Name {
        /// The namespace, if one is named.
        namespace: Option<String>,
        /// The name.
        name: String,
    },
    /// Networks, host bits cleared.
    Networks(Vec<Network>),
    /// Headers to set or remove.
    Headers(Vec<HeaderLine>),
}

/// One line of [`ValueGrammar::HeaderLines`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderLine {
    /// Header name as written.
    pub name: String,
    /// The value to set; none: the header is removed.
    pub value: Option<String>,
}

/// Why a value is refused. Never holds more of the value than one element of a list or one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidValue {
    /// Nothing but blanks.
    Empty,
    /// Of the wrong form.
    Malformed,
    /// A character that may not occur.
    Character(char),
    /// A size with the unit `b`, which ingress-nginx accepts and nginx does not know.
    UnknownUnit,
    /// One element of a list is of the wrong form.
    Element(String),
    /// A line, counted from 1, is no `Name: value`, or its name or value may not be used.
    Line(usize),
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidValue::Empty => formatter.write_str("it is empty"),
            InvalidValue::Malformed => formatter.write_str("it has another form"),
            InvalidValue::Character(character) => write!(formatter, "it may not contain {character:?}"),
            InvalidValue::UnknownUnit => formatter.write_str("nginx does not know the unit b"),
            InvalidValue::Element(element) => write!(formatter, "{element:?} has another form"),
            InvalidValue::Line(line) => write!(formatter, "line {line} has another form"),
        }
    }
}

impl std::error::Error for InvalidValue {}

impl ValueGrammar {
    /// Words that may come in any case.
    pub(super) const fn any_case(words: &'static [&'static str]) -> Self {
        ValueGrammar::OneOf { words, any_case: true }
    }

    /// Words that must be written just so.
    pub(super) const fn one_of(words: &'static [&'static str]) -> Self {
        ValueGrammar::OneOf { words, any_case: false }
    }

    /// Any whole number: what lies out of bounds falls back to a default later.
    pub(super) const ANY_INTEGER: Self = ValueGrammar::Integer { min: i64::MIN, max: i64::MAX };
    /// A whole number that is not negative.
    pub(super) const COUNT: Self = ValueGrammar::Integer { min: 0, max: i64::MAX };
    /// `on` or `off`.
    pub(super) const ON_OFF: Self = ValueGrammar::one_of(&["on", "off"]);

    /// What a value looks like, for humans.
    pub fn description(&self) -> String {
        let fixed = match self {
            ValueGrammar::Boolean => "`true` or `false`",
            ValueGrammar::Integer { min: i64::MIN, max: i64::MAX } => "a whole number",
            ValueGrammar::Integer { min: 0, max: i64::MAX } => "a whole number, 0 or more",
            ValueGrammar::Integer { min, max } => return format!("a whole number from {min} to {max}"),
            ValueGrammar::Number => "a number, such as 0.01",
            ValueGrammar::Seconds => "a whole number of seconds without unit, such as 60",
            ValueGrammar::Duration => "a time with its unit, such as 10s",
            ValueGrammar::Size => "a number of bytes, or with the unit k, m or g, such as 8m",
            ValueGrammar::OneOf { words, .. } => return words_between(words, "or"),
            ValueGrammar::Words(words) => {
                return format!("{}, with blanks between", words_between(words, "and"));
            }
            ValueGrammar::Url => "a URL or a path, without variables, `#`, `%` and `;`",
            ValueGrammar::UrlWithVariables => "a URL or a path that may hold nginx variables",
            ValueGrammar::AuthUrl => "a URL with scheme and host that may hold nginx variables",
            ValueGrammar::HeaderName => "the name of a header",
            ValueGrammar::HeaderNames => "names of headers with commas between",
            ValueGrammar::HeaderLines => "lines `Name: value`; `Name:` alone removes the header",
            ValueGrammar::CidrList => {
                "IP addresses and networks with commas between, such as 10.0.0.0/8, ::1"
            }
            ValueGrammar::SecretName { namespace_required: true } => "a Secret as `namespace/name`",
            ValueGrammar::SecretName { namespace_required: false } => {
                "a Secret as `name` or `namespace/name`"
            }
            ValueGrammar::ConfigMapName => "a ConfigMap as `namespace/name`",
            ValueGrammar::ServiceName => "the name of a Service in the same namespace",
            ValueGrammar::HostName => "a host name",
            ValueGrammar::HostNames => "host names with commas between",
            ValueGrammar::Regex => "a regular expression",
            ValueGrammar::RewriteTarget => {
                "a path that may use the groups `$1` to `$9`, without `?`, `=` and blanks"
            }
            ValueGrammar::Path => "a path that begins with `/`, without `?` and `=`",
            ValueGrammar::StatusCodes => "statuses from 400 to 599 with commas between",
            ValueGrammar::Method => "an HTTP method in capitals",
            ValueGrammar::Methods => "HTTP methods with commas between",
            ValueGrammar::Origins => {
                "`*`, or origins such as `https://app.example` and `https://*.app.example` with commas between and no \
                 final slash"
            }
            ValueGrammar::CacheDurations => {
                "statuses and a time, such as 200 202 30m, with commas between several"
            }
            ValueGrammar::CommonName => "`CN=` and a regular expression",
            ValueGrammar::CookieDomains => "a domain and what replaces it, with a blank between, or `off`",
            ValueGrammar::CookieSeconds => "a whole number of seconds",
            ValueGrammar::Characters(characters) => characters.description,
            ValueGrammar::Snippet => "nginx configuration",
            ValueGrammar::Text => "text",
        };
        fixed.to_owned()
    }

    /// Whether values may hold secrets (a token in a header, a password in a URL) and are not shown.
    pub fn hides(&self, value: &str) -> bool {
        match self {
            ValueGrammar::Snippet | ValueGrammar::HeaderLines | ValueGrammar::Text => true,
            ValueGrammar::Url
            | ValueGrammar::UrlWithVariables
            | ValueGrammar::AuthUrl
            | ValueGrammar::HostName => value.contains(['@', '?']),
            _ => false,
        }
    }

    /// Whether the value means the same as one of the list. Values that do not parse are equal to none.
    pub(super) fn is_among(&self, value: &str, list: &[&str]) -> bool {
        self.parse(value)
            .is_ok_and(|value| list.iter().any(|other| self.parse(other).is_ok_and(|other| value == other)))
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`]; an empty value, or one of blanks only, is [`InvalidValue::Empty`] for every grammar.
    pub fn parse(&self, raw: &str) -> Result<Value, InvalidValue> {
        let value = raw.trim();
        if value.is_empty() {
            return Err(InvalidValue::Empty);
        }
        let malformed = InvalidValue::Malformed;
        match self {
            // Numbers and booleans are read as they stand: blanks around them are a mistake.
            ValueGrammar::Boolean => parse_bool(raw).map(Value::Bool).ok_or(malformed),
            ValueGrammar::Integer { min, max } => {
                parse_integer(raw).filter(|n| (min..=max).contains(&n)).map(Value::Integer).ok_or(malformed)
            }
            ValueGrammar::CookieSeconds => parse_integer(raw).map(Value::Integer).ok_or(malformed),
            ValueGrammar::Number => raw
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite() && *n >= 0.0)
                .map(Value::Number)
                .ok_or(malformed),
            ValueGrammar::Seconds => parse_seconds(raw).map(Value::Seconds).ok_or(malformed),
            ValueGrammar::Duration => text_if(value, is_duration),
            ValueGrammar::Size => match (parse_size(value), value.strip_suffix(['b', 'B'])) {
                (Some(size), _) => Ok(Value::Size(size)),
                (None, Some(digits)) if parse_size(digits).is_some() => Err(InvalidValue::UnknownUnit),
                _ => Err(malformed),
            },
            ValueGrammar::OneOf { words, any_case } => words
                .iter()
                .find(|word| if *any_case { word.eq_ignore_ascii_case(value) } else { **word == value })
                .map(|word| Value::Text((*word).to_owned()))
                .ok_or(malformed),
            ValueGrammar::Words(words) => list(value.split_ascii_whitespace(), |word| words.contains(&word)),
            ValueGrammar::Url => within(value, URL),
            ValueGrammar::UrlWithVariables => within(value, URL_VARIABLES),
            ValueGrammar::AuthUrl => {
                within(value, URL_VARIABLES).and_then(|_| text_if(value, has_scheme_and_host))
            }
            ValueGrammar::HeaderName => text_if(value, is_header_name),
            ValueGrammar::HeaderNames => {
                list(elements(value), |name| name.is_empty() || is_header_name(name))
            }
            ValueGrammar::HeaderLines => header_lines(raw),
            ValueGrammar::CidrList => elements(value)
                .map(|element| {
                    Network::parse(element).ok_or_else(|| InvalidValue::Element(element.to_owned()))
                })
                .collect::<Result<_, _>>()
                .map(Value::Networks),
            ValueGrammar::SecretName { namespace_required } => object_name(value, *namespace_required),
            ValueGrammar::ConfigMapName => object_name(value, false),
            ValueGrammar::ServiceName => text_if(value, is_service_name),
            ValueGrammar::HostName | ValueGrammar::Regex => within(value, REGEX),
            ValueGrammar::HostNames => list(elements(value), |name| foreign_character(name, REGEX).is_none()),
            // No blanks, not even around it, and no line breaks.
            ValueGrammar::RewriteTarget => within(raw, TARGET),
            ValueGrammar::Path => {
                within(raw, TARGET).and_then(|_| text_if(raw, |path| path.starts_with('/')))
            }
            ValueGrammar::StatusCodes => status_codes(value),
            ValueGrammar::Method => text_if(value, |method| METHODS.contains(&method)),
            ValueGrammar::Methods => list(elements(value), |method| {
                method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' ')
            }),
            ValueGrammar::Origins => origins(value),
            ValueGrammar::CacheDurations => {
                list(elements(value), |part| part.is_empty() || is_cache_duration(part))
            }
            ValueGrammar::CommonName => {
                text_if(value, |name| name.strip_prefix("CN=").is_some_and(|cn| !cn.is_empty()))
            }
            ValueGrammar::CookieDomains => within(value, "-._~/: ")
                .and_then(|_| text_if(value, |v| v == "off" || v.split_ascii_whitespace().count() == 2)),
            ValueGrammar::Characters(characters) => within(value, characters.signs),
            ValueGrammar::Snippet => Ok(Value::Text(value.to_owned())),
            ValueGrammar::Text => Ok(Value::Text(value.to_owned())),
        }
    }
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];

/// Headers that belong to the connection or to Envoy, and those that only this project may write.
fn is_reserved(name: &str) -> bool {
    const RESERVED: &[&str] = &[
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str()) || name.starts_with("x-ingress-wasm-") || name.starts_with("x-envoy-")
}

fn words_between(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [head @ .., tail] => {
            let head = head.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            format!("{head} {last} `{tail}`")
        }
    }
}

fn text_if(value: &str, is: impl Fn(&str) -> bool) -> Result<Value, InvalidValue> {
    if is(value) { Ok(Value::Text(value.to_owned())) } else { Err(InvalidValue::Malformed) }
}

fn foreign_character(value: &str, signs: &str) -> Option<char> {
    value.chars().find(|&character| !character.is_ascii_alphanumeric() && !signs.contains(character))
}

fn within(value: &str, signs: &str) -> Result<Value, InvalidValue> {
    match foreign_character(value, signs) {
        Some(character) => Err(InvalidValue::Character(character)),
        None => Ok(Value::Text(value.to_owned())),
    }
}

fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// Elements of a list; empty ones are left out where `is` lets them pass.
fn list<'a>(
    elements: impl Iterator<Item = &'a str>,
    is: impl Fn(&str) -> bool,
) -> Result<Value, InvalidValue> {
    let mut all = Vec::new();
    for element in elements {
        if !is(element) {
            return Err(InvalidValue::Element(element.to_owned()));
        }
        if !element.is_empty() {
            all.push(element.to_owned());
        }
    }
    if all.is_empty() { Err(InvalidValue::Malformed) } else { Ok(Value::List(all)) }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// A DNS label that begins with a letter (RFC 1035).
fn is_service_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn object_name(value: &str, namespace_required: bool) -> Result<Value, InvalidValue> {
    if let Some(character) = foreign_character(value, BASIC) {
        return Err(InvalidValue::Character(character));
    }
    let (namespace, name) = match value.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, value),
    };
    let complete = !name.is_empty() && !name.contains('/') && namespace.is_none_or(|ns| !ns.is_empty());
    if complete && (namespace.is_some() || !namespace_required) {
        Ok(Value::Name { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    } else {
        Err(InvalidValue::Malformed)
    }
}

fn has_scheme_and_host(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    !scheme.is_empty()
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !host.is_empty()
        && !host.starts_with(':')
        && !host.contains("..")
}

fn status_codes(value: &str) -> Result<Value, InvalidValue> {
    let mut codes = Vec::new();
    for element in elements(value).filter(|element| !element.is_empty()) {
        let code = (element.len() == 3).then(|| element.parse::<u16>().ok()).flatten();
        match code.filter(|code| (400..=599).contains(code)) {
            Some(code) => codes.push(code),
            None => return Err(InvalidValue::Element(element.to_owned())),
        }
    }
    if codes.is_empty() { Err(InvalidValue::Malformed) } else { Ok(Value::Codes(codes)) }
}

/// Origins; `*` among them stands for all. Elements without a scheme pass the validator of ingress-nginx
/// and are then skipped; a list in which nothing is left allows nobody.
fn origins(value: &str) -> Result<Value, InvalidValue> {
    let mut all = Vec::new();
    let mut everybody = false;
    for element in elements(value).filter(|element| !element.is_empty()) {
        if element == "*" {
            everybody = true;
            continue;
        }
        let (scheme, host) = match element.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host),
            None => (None, element),
        };
        let scheme_fits =
            scheme.is_none_or(|s| !s.is_empty() && s.bytes().all(|byte| byte.is_ascii_lowercase()));
        let host = host.strip_prefix("*.").unwrap_or(host);
        let (name, port) = host.split_once(':').unwrap_or((host, "0"));
        let fits = scheme_fits
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
            && !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit());
        if !fits {
            return Err(InvalidValue::Element(element.to_owned()));
        }
        if scheme.is_some() || element == "null" {
            all.push(element.to_owned());
        }
    }
    Ok(Value::List(if everybody { vec!["*".to_owned()] } else { all }))
}

fn is_duration(value: &str) -> bool {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = value.get(digits.len()..).unwrap_or_default();
    !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && ["", "ms", "s", "m", "h", "d", "w", "M", "y"].contains(&unit)
}

fn is_cache_duration(value: &str) -> bool {
    if foreign_character(value, "-._~/:, ").is_some() {
        return false;
    }
    let mut seen = false;
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            if seen {
                return false;
            }
        } else if is_duration(word) && !word.bytes().all(|byte| byte.is_ascii_digit()) {
            seen = true;
        }
    }
    seen
}

fn header_lines(value: &str) -> Result<Value, InvalidValue> {
    let mut headers: Vec<HeaderLine> = Vec::new();
    for (position, line) in value.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let fault = InvalidValue::Line(position + 1);
        let Some((name, text)) = line.split_once(':') else { return Err(fault) };
        let (name, text) = (name.trim_end(), text.trim());
        let named_before = headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        if !is_header_name(name) || is_reserved(name) || named_before || text.chars().any(char::is_control) {
            return Err(fault);
        }
        headers
            .push(HeaderLine { name: name.to_owned(), value: (!text.is_empty()).then(|| text.to_owned()) });
    }
    Ok(Value::Headers(headers))
}

#[cfg(test)]
#[path = "grammar_tests.rs"]
mod tests;
