//! How large the headers of a request may be: nginx's `large_client_header_buffers`, by which the request line
//! and each header line have to fit into one buffer, and all of them into all buffers.

use std::borrow::Cow;

use super::page;
use crate::decision::{Reply, RequestView};
use crate::router::HeaderBuffers;

/// The answer to a request whose headers are too large; none where they are not.
pub fn check(buffers: HeaderBuffers, request: &RequestView<'_>) -> Option<Reply<'static>> {
    /// What a request line holds besides method and target: two blanks, the version, a line end.
    const VERSION: usize = 12;
    /// What a header line holds besides name and value: a colon, a blank, a line end.
    const SIGNS: usize = 4;
    let line = |parts: [usize; 2], more: usize| parts.into_iter().fold(more, usize::saturating_add);
    let first = line([request.method().len(), request.target().len()], VERSION);
    if first > buffers.bytes {
        return Some(page(414, "target_too_long"));
    }
    let mut all = first;
    for (name, value) in request.headers {
        // Envoy's own names for the parts of the request line, and what it adds.
        let known =
            matches!(*name, b":method" | b":path" | b":scheme") || name.starts_with(b"x-ingress-wasm-");
        if known {
            continue;
        }
        let length = line([name.len(), value.len()], SIGNS);
        all = all.saturating_add(length);
        if length > buffers.bytes {
            return Some(too_large());
        }
    }
    // The first buffer is another, small one.
    (all > buffers.bytes.saturating_mul(buffers.count).saturating_add(1024)).then(too_large)
}

/// nginx's page; its status 494 is 400 to the client.
fn too_large() -> Reply<'static> {
    const BODY: &[u8] =
        b"<html>\r\n<head><title>400 Request Header Or Cookie Too Large</title></head>\r\n<body>\r\n\
        <center><h1>400 Bad Request</h1></center>\r\n<center>Request Header Or Cookie Too Large</center>\r\n\
        <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";
    Reply { body: Cow::Borrowed(BODY), ..page(400, "headers_too_large") }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::decision::{Connection, HeaderLine, Scheme};

    /// The bounds were tried on nginx 1.22.1.
    #[test]
    fn sizes_of_lines_and_of_all() {
        let usual = HeaderBuffers { count: 4, bytes: 8192 };
        // Length of the target, and of the values of headers with a name of four bytes.
        let cases: [(HeaderBuffers, usize, &[usize], u16); 9] = [
            (usual, 8177, &[], 0),
            (usual, 8178, &[], 414),
            (usual, 1, &[8184], 0),
            (usual, 1, &[8185], 400),
            (usual, 1, &[7000, 7000, 7000, 7000], 0),
            (usual, 1, &[7000, 7000, 7000, 7000, 7000, 7000], 400),
            (HeaderBuffers { count: 4, bytes: 16_384 }, 14_000, &[14_000], 0),
            (HeaderBuffers { count: 4, bytes: 16_384 }, 1, &[17_000], 400),
            (HeaderBuffers { count: 1, bytes: 1024 }, 1, &[900, 900, 900], 400),
        ];
        for (buffers, target, values, expected) in cases {
            let target = "/".repeat(target);
            let values: Vec<String> = values.iter().map(|length| "v".repeat(*length)).collect();
            let mut headers: Vec<HeaderLine<'_>> =
                vec![(b":method", b"GET"), (b":path", target.as_bytes()), (b":authority", b"a")];
            headers.extend(values.iter().map(|value| (&b"x-ab"[..], value.as_bytes())));
            let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
            let request = RequestView { headers: &headers, connection, now_ms: 0, random: 0 };
            let status = check(buffers, &request).map_or(0, |reply| reply.status);
            assert_eq!(status, expected, "{buffers:?} {} {:?}", target.len(), values.iter().map(String::len));
        }
    }
}
