//! Answers of the filter's own, with the pages that nginx shows for them.

use std::borrow::Cow;

use crate::decision::{Edit, Reply};

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
        let (Edit::Set(name, _) | Edit::Add(name, _) | Edit::Remove(name)) = &edit;
        if !matches!(edit, Edit::Add(..)) {
            reply.headers.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        }
        match edit {
            Edit::Set(_, value) if value.is_empty() => {}
            Edit::Set(name, value) | Edit::Add(name, value) => reply.headers.push((name, value)),
            Edit::Remove(_) => {}
        }
    }
}

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
        _ => "Error",
    }
}
