//! Answers of the filter's own, with the pages that nginx shows for them.

use std::borrow::Cow;

use crate::decision::{Edit, Reply, begins_with};

/// An error page as nginx writes it (`server_tokens off`).
pub fn page(status: u16, details: &'static str) -> Reply<'static> {
    let title = format!("{status} {}", reason(status));
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    );
    Reply {
        status,
        headers: vec![("content-type".into(), Cow::Borrowed(b"text/html"))],
        body: Cow::Owned(body.into_bytes()),
        details,
    }
}

/// An answer without a body.
pub fn empty(status: u16, details: &'static str) -> Reply<'static> {
    Reply { status, headers: Vec::new(), body: Cow::Borrowed(b""), details }
}

/// A redirect, with nginx's page.
pub fn redirect(status: u16, location: Vec<u8>, details: &'static str) -> Reply<'static> {
    let mut reply = page(status, details);
    reply.headers.push(("location".into(), Cow::Owned(location)));
    reply
}

/// Applies the edits that every answer gets.
pub fn edit<'a>(reply: &mut Reply<'a>, edits: Vec<Edit<'a>>) {
    for edit in edits {
        let edit = match edit {
            Edit::For(answers, edit) => {
                let kind = reply.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
                if !answers.fits(reply.status, kind.map_or(&b""[..], |(_, value)| value)) {
                    continue;
                }
                *edit
            }
            edit => edit,
        };
        match &edit {
            Edit::Set(name, _) | Edit::Remove(name) => {
                reply.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
            }
            Edit::RemoveAll(name) => {
                reply.headers.retain(|(found, _)| !begins_with(found.as_bytes(), name));
            }
            Edit::Add(..) | Edit::For(..) => {}
        }
        match edit {
            Edit::Set(name, value) | Edit::Add(name, value) if !value.is_empty() => {
                reply.headers.push((name, value));
            }
            _ => {}
        }
    }
}

/// Whether nginx has a page for a status.
pub fn has_page(status: u16) -> bool {
    !matches!(status, ..300 | 304 | 418 | 444 | 499) && reason(status) != UNKNOWN
}

/// The words for a status that nginx has none for.
const UNKNOWN: &str = "Error";

/// The words that nginx has for a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Authorization Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => UNKNOWN,
    }
}
