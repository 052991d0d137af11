//! Text with nginx variables: `$request_uri`, `${host}`, `$1`.
//!
//! The variables are those of nginx that have a meaning without nginx, and those that ingress-nginx sets in
//! each location. Compiled once; text without variables costs nothing on a request.

use std::borrow::Cow;
use std::fmt;

use super::Facts;
use crate::decision::Scheme;
use crate::router::PathMatch;
use crate::router::path::escape_byte;

/// Names of variables that a script sets, and their numbers.
pub type Scope = [(Box<str>, usize)];

/// Text with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Group(usize),
    /// One that a script sets.
    Set(usize),
    Variable(Variable),
}

/// The variables without a parameter, by their names in nginx, and those with one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Args,
    BestHttpHost,
    EscapedRequestUri,
    /// `$date_plus_SECONDS`, `$date_minus_SECONDS`: the time of the request and so many seconds, as HTTP has it.
    /// Of our own, for nginx's `expires`.
    Date(i64),
    ForwardedFor,
    Https,
    RemoteUser,
    ServerName,
    UpstreamName,
    Host,
    IngressName,
    IsArgs,
    LocationPath,
    Msec,
    Namespace,
    PassAccessScheme,
    PassPort,
    RemoteAddr,
    /// `$req_id` of ingress-nginx.
    ReqId,
    /// `$request_id` of nginx.
    RequestId,
    RequestMethod,
    RequestUri,
    Scheme,
    ServerPort,
    ServiceName,
    ServicePort,
    Uri,
    /// `$http_NAME`, with the header's name in lower case with hyphens.
    Header(Box<str>),
    /// `$arg_NAME`
    Argument(Box<str>),
    /// `$cookie_NAME`
    Cookie(Box<str>),
}

/// A variable that is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable {
    /// Its name, without the dollar.
    pub name: String,
}

impl fmt::Display for UnknownVariable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the variable `${}` is not known", self.name)
    }
}

impl std::error::Error for UnknownVariable {}

impl Template {
    /// Reads text with variables. `$$` stands for a dollar, and so does a dollar that no name follows.
    ///
    /// # Errors
    ///
    /// [`UnknownVariable`]
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        Template::parse_with(text, &[])
    }

    /// Reads text that may name variables of a script, which go before those of nginx.
    ///
    /// # Errors
    ///
    /// [`UnknownVariable`]
    pub fn parse_with(text: &str, scope: &Scope) -> Result<Self, UnknownVariable> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(following) = after.strip_prefix('$') {
                literal.push('$');
                rest = following;
                continue;
            }
            let (name, following) = variable_name(after);
            rest = following;
            if name.is_empty() {
                literal.push('$');
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal).into()));
            }
            parts.push(match name.parse::<usize>() {
                Ok(group) => Part::Group(group),
                Err(_) => match scope.iter().find(|(found, _)| **found == *name) {
                    Some((_, number)) => Part::Set(*number),
                    None => Part::Variable(Variable::named(name)?),
                },
            });
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Ok(Template { parts: parts.into() })
    }

    /// Rendering looks at the time.
    pub fn needs_clock(&self) -> bool {
        let is_time = |part: &Part| matches!(part, Part::Variable(Variable::Msec | Variable::Date(_)));
        self.parts.iter().any(is_time)
    }

    /// The text, if it has no variables.
    pub fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text for a request, as bytes of whatever kind: a decoded path may hold any.
    pub fn render<'a>(&'a self, facts: &Facts<'a>) -> Cow<'a, [u8]> {
        self.render_groups(facts, &|group, out| out.extend_from_slice(group))
    }

    /// The text for a request, with a say in how groups are written.
    pub fn render_groups<'a>(
        &'a self,
        facts: &Facts<'a>,
        write: &dyn Fn(&[u8], &mut Vec<u8>),
    ) -> Cow<'a, [u8]> {
        if let Some(text) = self.constant() {
            return Cow::Borrowed(text.as_bytes());
        }
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Group(number) => write(group(facts, *number), &mut out),
                Part::Set(number) => {
                    let script = facts.script.as_ref();
                    out.extend_from_slice(script.map_or(&b""[..], |script| script.value(*number)));
                }
                Part::Variable(variable) => variable.render(facts, &mut out),
            }
        }
        Cow::Owned(out)
    }

    /// The text for a header: control characters, which a decoded path may hold, are percent-escaped, so
    /// that no client can start a header line of its own.
    pub fn render_header<'a>(&'a self, facts: &Facts<'a>) -> Cow<'a, [u8]> {
        escape_if(self.render(facts), |byte| byte.is_ascii_control() && *byte != b'\t')
    }

    /// The text for the target of a request: as for a header, and without blanks.
    pub fn render_target<'a>(&'a self, facts: &Facts<'a>) -> Cow<'a, [u8]> {
        escape_if(self.render(facts), |byte| byte.is_ascii_control() || *byte == b' ')
    }
}

/// Percent-escapes some bytes.
fn escape_if(text: Cow<'_, [u8]>, escapes: fn(&u8) -> bool) -> Cow<'_, [u8]> {
    if !text.iter().any(escapes) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    for byte in text.iter() {
        if escapes(byte) {
            escape_byte(*byte, &mut out);
        } else {
            out.push(*byte);
        }
    }
    Cow::Owned(out)
}

/// The name at the beginning of `text`, in braces or not, and what follows it.
fn variable_name(text: &str) -> (&str, &str) {
    if let Some(braced) = text.strip_prefix('{')
        && let Some((name, rest)) = braced.split_once('}')
        && !name.is_empty()
        && name.bytes().all(is_name_byte)
    {
        return (name, rest);
    }
    // A group is one digit, as in nginx: `$10` is the first group and a zero.
    let length = match text.bytes().next() {
        Some(first) if first.is_ascii_digit() => 1,
        _ => text.bytes().take_while(|byte| is_name_byte(*byte)).count(),
    };
    text.split_at_checked(length).unwrap_or(("", text))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn group<'a>(facts: &'a Facts<'_>, number: usize) -> &'a [u8] {
    // The last match of a script goes before that of the rule.
    if let Some(group) = facts.script.as_ref().and_then(|script| script.group(number)) {
        return group;
    }
    match facts.selected.map(|selected| selected.path_match) {
        Some(PathMatch::Expression(groups)) => groups.get(&facts.path, number),
        _ => &[],
    }
}

impl Variable {
    fn named(name: &str) -> Result<Self, UnknownVariable> {
        Ok(match name {
            "args" | "query_string" => Variable::Args,
            "best_http_host" => Variable::BestHttpHost,
            "escaped_request_uri" => Variable::EscapedRequestUri,
            "document_uri" | "uri" => Variable::Uri,
            "content_length" => Variable::Header("content-length".into()),
            "content_type" => Variable::Header("content-type".into()),
            "host" => Variable::Host,
            "https" => Variable::Https,
            "proxy_add_x_forwarded_for" => Variable::ForwardedFor,
            "proxy_host" | "proxy_upstream_name" => Variable::UpstreamName,
            "server_name" => Variable::ServerName,
            "http_host" => Variable::Header(":authority".into()),
            "ingress_name" => Variable::IngressName,
            "is_args" => Variable::IsArgs,
            "location_path" => Variable::LocationPath,
            "msec" => Variable::Msec,
            "namespace" => Variable::Namespace,
            "pass_access_scheme" => Variable::PassAccessScheme,
            "pass_port" => Variable::PassPort,
            "remote_addr" | "the_real_ip" => Variable::RemoteAddr,
            "remote_user" => Variable::RemoteUser,
            "req_id" => Variable::ReqId,
            "request_id" => Variable::RequestId,
            "request_method" => Variable::RequestMethod,
            "request_uri" => Variable::RequestUri,
            "scheme" => Variable::Scheme,
            "server_port" => Variable::ServerPort,
            "service_name" => Variable::ServiceName,
            "service_port" => Variable::ServicePort,
            _ => {
                if let Some(header) = name.strip_prefix("http_") {
                    Variable::Header(header.to_ascii_lowercase().replace('_', "-").into())
                } else if let Some(argument) = name.strip_prefix("arg_") {
                    Variable::Argument(argument.into())
                } else if let Some(cookie) = name.strip_prefix("cookie_") {
                    Variable::Cookie(cookie.into())
                } else if let Some(offset) = name.strip_prefix("date_").and_then(seconds) {
                    Variable::Date(offset)
                } else {
                    return Err(UnknownVariable { name: name.to_owned() });
                }
            }
        })
    }

    fn render(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let request = facts.request;
        let rule = facts.selected.map(|selected| selected.rule);
        let ingress = rule.and_then(|rule| rule.ingress.split_once('/'));
        let service = rule.and_then(|rule| {
            let (name, port) = rule.action.service()?.rsplit_once(':')?;
            Some((name.split_once('/')?.1, port))
        });
        match self {
            Variable::Args => out.extend_from_slice(facts.args()),
            Variable::BestHttpHost => out.extend_from_slice(facts.client.host),
            Variable::EscapedRequestUri => escape_component(request.target(), out),
            Variable::Host => out.extend_from_slice(&crate::router::canonical_host(request.authority())),
            Variable::Date(offset) => date(request.now_ms, *offset, out),
            Variable::ForwardedFor => {
                if let Some(before) = request.joined_header("x-forwarded-for").filter(|line| !line.is_empty())
                {
                    out.extend_from_slice(&before);
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(&facts.client.address);
            }
            Variable::Https => {
                if request.connection.scheme == Scheme::Https {
                    out.extend_from_slice(b"on");
                }
            }
            Variable::ServerName => {
                let host = facts.selected.map_or("", |selected| &*selected.host.name);
                out.extend_from_slice(if host == "*" { "_" } else { host }.as_bytes());
            }
            Variable::UpstreamName => {
                let namespace = ingress.unwrap_or_default().0;
                let (service, port) = service.unwrap_or_default();
                for part in [namespace, "-", service, "-", port] {
                    out.extend_from_slice(part.as_bytes());
                }
            }
            Variable::IngressName => out.extend_from_slice(ingress.unwrap_or_default().1.as_bytes()),
            Variable::IsArgs => {
                if !facts.args().is_empty() {
                    out.push(b'?');
                }
            }
            Variable::LocationPath => {
                out.extend_from_slice(rule.map_or(&b""[..], |rule| rule.path.as_bytes()))
            }
            Variable::Msec => {
                let (seconds, milliseconds) = (request.now_ms / 1000, request.now_ms % 1000);
                out.extend_from_slice(format!("{seconds}.{milliseconds:03}").as_bytes());
            }
            Variable::Namespace => out.extend_from_slice(ingress.unwrap_or_default().0.as_bytes()),
            Variable::PassAccessScheme => out.extend_from_slice(facts.client.scheme),
            Variable::PassPort => out.extend_from_slice(&facts.client.port),
            Variable::RemoteAddr => out.extend_from_slice(&facts.client.address),
            Variable::RemoteUser => out.extend_from_slice(&remote_user(request)),
            Variable::ReqId => out.extend_from_slice(&facts.req_id()),
            Variable::RequestId => out.extend_from_slice(&facts.request_id()),
            Variable::RequestMethod => out.extend_from_slice(request.method()),
            Variable::RequestUri => out.extend_from_slice(request.target()),
            Variable::Scheme => out.extend_from_slice(request.connection.scheme.as_str().as_bytes()),
            Variable::ServerPort => out.extend_from_slice(request.connection.port.to_string().as_bytes()),
            Variable::ServiceName => out.extend_from_slice(service.unwrap_or_default().0.as_bytes()),
            Variable::ServicePort => out.extend_from_slice(service.unwrap_or_default().1.as_bytes()),
            Variable::Uri => out.extend_from_slice(&facts.path),
            Variable::Header(name) => out.extend_from_slice(&request.joined_header(name).unwrap_or_default()),
            Variable::Argument(name) => out.extend_from_slice(argument(facts.args(), name)),
            Variable::Cookie(name) => out.extend_from_slice(cookie(request, name).unwrap_or_default()),
        }
    }
}

/// The user that the client names for basic authentication, whether or not anybody asks for it.
fn remote_user(request: &crate::decision::RequestView<'_>) -> Vec<u8> {
    let credentials = request.header("authorization").and_then(super::basic_auth::decode);
    let mut user = credentials.unwrap_or_default();
    match user.iter().position(|byte| *byte == b':') {
        Some(colon) => user.truncate(colon),
        None => user.clear(),
    }
    user
}

/// Escapes everything but letters, digits and `-._~`, as `set_escape_uri` of nginx's set-misc module does.
fn escape_component(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(*byte);
        } else {
            escape_byte(*byte, out);
        }
    }
}

/// `plus_SECONDS` or `minus_SECONDS`.
fn seconds(text: &str) -> Option<i64> {
    match text.strip_prefix("plus_") {
        Some(seconds) => seconds.parse::<u32>().ok().map(i64::from),
        None => {
            text.strip_prefix("minus_")?.parse::<u32>().ok().map(|seconds| i64::from(seconds).wrapping_neg())
        }
    }
}

/// A date as HTTP has it (RFC 9110, section 5.6.7), some seconds after a time in milliseconds since 1970.
fn date(now_ms: u64, offset: i64, out: &mut Vec<u8>) {
    const DAYS: &[&str; 7] = &["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: &[&str; 12] =
        &["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let now = (now_ms / 1000).min(1 << 40);
    let time = now.saturating_add_signed(offset);
    let (days, rest) = (time / 86_400, time % 86_400);
    // Years begin with March here, so that the odd day is the last one of a year. 719468 days lie between the
    // first of March of the year 0 and 1970.
    let day = days.saturating_add(719_468);
    let (era, of_era) = (day / 146_097, day % 146_097);
    let leap = (of_era / 1_460).saturating_add(of_era / 146_096);
    let year = of_era.saturating_add(of_era / 36_524).saturating_sub(leap) / 365;
    let of_year =
        of_era.saturating_sub(year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100));
    let month = of_year.saturating_mul(5).saturating_add(2) / 153;
    let of_month = of_year.saturating_sub(month.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let year = era.saturating_mul(400).saturating_add(year).saturating_add(u64::from(month > 9));
    let two = |number: u64| {
        [b'0'.saturating_add((number / 10 % 10) as u8), b'0'.saturating_add((number % 10) as u8)]
    };
    out.extend_from_slice(word(DAYS, days % 7).as_bytes());
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(of_month));
    out.push(b' ');
    out.extend_from_slice(word(MONTHS, month).as_bytes());
    out.push(b' ');
    out.extend_from_slice(year.to_string().as_bytes());
    for (sign, number) in [(b' ', rest / 3600), (b':', rest / 60 % 60), (b':', rest % 60)] {
        out.push(sign);
        out.extend_from_slice(&two(number));
    }
    out.extend_from_slice(b" GMT");
}

fn word(words: &'static [&'static str], at: u64) -> &'static str {
    usize::try_from(at).ok().and_then(|at| words.get(at).copied()).unwrap_or_default()
}

/// The first argument of a name in a query; names compare without case, as in nginx.
fn argument<'a>(query: &'a [u8], name: &str) -> &'a [u8] {
    query
        .split(|byte| *byte == b'&')
        .find_map(|pair| {
            let (key, rest) = pair.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b"=")?;
            key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
        .unwrap_or_default()
}

/// The first cookie of a name; names compare without case, as in nginx.
pub(super) fn cookie<'a>(request: &crate::decision::RequestView<'a>, name: &str) -> Option<&'a [u8]> {
    let lines = request.headers.iter().filter(|(header, _)| *header == b"cookie");
    lines.flat_map(|(_, line)| line.split(|byte| *byte == b';')).find_map(|pair| {
        let (key, rest) = pair.trim_ascii_start().split_at_checked(name.len())?;
        let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::decision::{Connection, HeaderLine, RequestView, Scheme};
    use crate::policy::ClientAddress;

    fn render(text: &str) -> String {
        let headers: [HeaderLine<'_>; 7] = [
            (b":method", b"GET"),
            (b":path", b"/a%20b?x=1&Y=2&empty="),
            (b":authority", b"Web.Example:8080"),
            (b"user-agent", b"curl"),
            (b"x-two", b"1"),
            (b"x-two", b"2"),
            (b"cookie", b"a=1; session=s%3d; b=2"),
        ];
        let connection = Connection { scheme: Scheme::Http, port: 8080, peer: b"10.0.0.9" };
        let request = RequestView { headers: &headers, connection, now_ms: 1_700_000_000_042, random: 0xabc };
        let client = ClientAddress::compile(&<_>::default()).expect("compiles").resolve(&request);
        let target = crate::router::path::parse_target(request.target()).expect("parses");
        let facts = Facts {
            request: &request,
            path: target.path,
            query: target.query,
            client,
            selected: None,
            certificate: None,
            is_error_page: false,
            answer: None,
            script: None,
            admission: None,
            no_request_id: false,
        };
        let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        String::from_utf8_lossy(&template.render(&facts)).into_owned()
    }

    #[test]
    fn variables_are_put_in() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("a$", "a$"),
            ("$$", "$"),
            ("$$host$$$host", "$host$web.example"),
            ("${host", "${host"),
            ("$-", "$-"),
            ("$host", "web.example"),
            ("${host}x", "web.examplex"),
            ("$http_host", "Web.Example:8080"),
            ("$scheme://$best_http_host$request_uri", "http://Web.Example:8080/a%20b?x=1&Y=2&empty="),
            ("$uri", "/a b"),
            ("$escaped_request_uri", "%2Fa%2520b%3Fx%3D1%26Y%3D2%26empty%3D"),
            ("$args|$query_string", "x=1&Y=2&empty=|x=1&Y=2&empty="),
            ("$is_args", "?"),
            ("$arg_x$arg_y$arg_empty$arg_none", "12"),
            ("$http_user_agent,$http_x_two,$http_none", "curl,1, 2,"),
            ("$cookie_session$cookie_SESSION$cookie_sess", "s%3ds%3d"),
            ("$remote_addr $server_port $request_method", "10.0.0.9 8080 GET"),
            ("t=${msec}", "t=1700000000.042"),
            ("$date_plus_0", "Tue, 14 Nov 2023 22:13:20 GMT"),
            ("$date_plus_9244000", "Thu, 29 Feb 2024 22:00:00 GMT"),
            ("$date_plus_9251200", "Fri, 01 Mar 2024 00:00:00 GMT"),
            ("$date_plus_9251199", "Thu, 29 Feb 2024 23:59:59 GMT"),
            ("$date_minus_1700000000", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("$https|$server_name|$remote_user", "||"),
            ("$proxy_add_x_forwarded_for", "10.0.0.9"),
            ("$req_id", "00000000000000000000000000000abc"),
            ("$1$10", "0"),
        ];
        for (text, expected) in cases {
            assert_eq!(render(text), expected, "{text}");
        }
    }

    #[test]
    fn unknown_variables_are_refused() {
        for (text, name) in
            [("$nothing", "nothing"), ("a${upstream_addr}b", "upstream_addr"), ("$Host", "Host")]
        {
            assert_eq!(Template::parse(text), Err(UnknownVariable { name: name.into() }), "{text}");
        }
    }
}
