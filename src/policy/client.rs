//! Who the client is: the address, and with trusted forwarded headers scheme, host and port too.
//!
//! The rules are those of nginx's realip module with `real_ip_recursive on`, and of ingress-nginx's rewrite
//! phase (`lua_ingress.lua`).

use std::borrow::Cow;
use std::net::IpAddr;

use super::network::NetworkSet;
use crate::config::Forwarded;
use crate::decision::{RequestView, Scheme};

/// Whose word about the client is taken.
#[derive(Debug)]
pub struct ClientAddress {
    trust_headers: bool,
    trusted: NetworkSet,
    /// In lower case.
    address_header: Box<str>,
    append: bool,
    proxy_protocol: bool,
}

/// What is believed of the client of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client<'a> {
    /// The address: nginx's `$remote_addr`.
    pub address: Cow<'a, [u8]>,
    /// `$pass_access_scheme`.
    pub scheme: &'a [u8],
    /// `$pass_port`.
    pub port: Cow<'a, [u8]>,
    /// `$best_http_host`.
    pub host: &'a [u8],
    /// Value of X-Forwarded-For for the backend.
    pub forwarded_for: Cow<'a, [u8]>,
    /// The header of the request that names the client, as it came: `$http_x_forwarded_for`.
    pub original_forwarded_for: Option<Cow<'a, [u8]>>,
}

impl ClientAddress {
    /// Compiles the settings.
    ///
    /// # Errors
    ///
    /// The position of the network that cannot be read, and why.
    pub fn compile(forwarded: &Forwarded) -> Result<Self, (usize, String)> {
        Ok(ClientAddress {
            trust_headers: forwarded.trust_headers,
            trusted: NetworkSet::parse(&forwarded.trusted_proxies)?,
            address_header: forwarded.address_header.to_ascii_lowercase().into(),
            append: forwarded.append,
            proxy_protocol: forwarded.proxy_protocol,
        })
    }

    /// Scheme, host and port are taken from forwarded headers.
    pub fn trusts_headers(&self) -> bool {
        self.trust_headers
    }

    /// Finds out who sent a request.
    pub fn resolve<'a>(&self, request: &RequestView<'a>) -> Client<'a> {
        let connection = request.connection;
        let original_forwarded_for = request.joined_header(&self.address_header);
        let mut told = connection.peer.splitn(3, |byte| *byte == b',');
        let peer = told.next().unwrap_or_default();
        // By the PROXY protocol: nginx's `$proxy_protocol_addr` and `$proxy_protocol_server_port`.
        let (client, server_port) = (told.next().unwrap_or(peer), told.next());
        let address = match self.proxy_protocol {
            true => self.address(peer, Some(client)),
            false => self.address(peer, original_forwarded_for.as_deref()),
        };
        let appended = if self.proxy_protocol { client } else { peer };
        let forwarded_for = match &original_forwarded_for {
            Some(list) if self.append && !list.is_empty() => {
                let mut list = list.to_vec();
                list.extend_from_slice(b", ");
                list.extend_from_slice(appended);
                Cow::Owned(list)
            }
            _ => address.clone(),
        };
        let mut scheme = connection.scheme.as_str().as_bytes();
        // ingress-nginx says 443 on its TLS listener, whatever port it listens on.
        let mut port = match connection.scheme {
            Scheme::Https => Cow::Borrowed(&b"443"[..]),
            Scheme::Http => Cow::Owned(connection.port.to_string().into_bytes()),
        };
        let mut host = request.authority();
        if self.trust_headers {
            scheme = request.header("x-forwarded-proto").unwrap_or(scheme);
            if let (Scheme::Http, Some(forwarded)) = (connection.scheme, request.header("x-forwarded-port")) {
                port = Cow::Borrowed(forwarded);
            }
            if let Some(forwarded) = request.header("x-forwarded-host") {
                let first = forwarded.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                // An empty one would take the Host away from the backend.
                if !first.is_empty() {
                    host = first;
                }
            }
        }
        if self.proxy_protocol && server_port == Some(b"443") {
            scheme = b"https";
        }
        Client { address, scheme, port, host, forwarded_for, original_forwarded_for }
    }

    /// Walks the list from its end, as long as the address that named the next one is trusted.
    fn address<'a>(&self, peer: &'a [u8], list: Option<&[u8]>) -> Cow<'a, [u8]> {
        let Some(list) = list else { return Cow::Borrowed(peer) };
        let Some(mut current) = parse_address(peer) else { return Cow::Borrowed(peer) };
        let mut found = false;
        for entry in list.rsplit(|byte| *byte == b',') {
            if !self.trusted.contains(current) {
                break;
            }
            let Some(address) = parse_address(entry.trim_ascii()) else { break };
            current = address;
            found = true;
        }
        if found { Cow::Owned(current.to_string().into_bytes()) } else { Cow::Borrowed(peer) }
    }
}

impl Client<'_> {
    /// The address as a number; none where it is not of IP. The zone of a link-local one is left out.
    pub fn ip(&self) -> Option<IpAddr> {
        parse_address(self.address.split(|byte| *byte == b'%').next().unwrap_or_default())
    }
}

/// An address, with or without a port, IPv6 with or without brackets.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address =
        text.parse::<IpAddr>().or_else(|_| text.parse::<std::net::SocketAddr>().map(|socket| socket.ip()));
    let bare =
        || text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).and_then(|text| text.parse().ok());
    address.ok().or_else(bare).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::decision::{Connection, HeaderLine};

    fn resolve(forwarded: &Forwarded, peer: &str, headers: &[HeaderLine<'_>]) -> [String; 5] {
        let connection = Connection { scheme: Scheme::Http, port: 8080, peer: peer.as_bytes() };
        let request = RequestView { headers, connection, now_ms: 0, random: 0 };
        let client = ClientAddress::compile(forwarded).expect("compiles").resolve(&request);
        [&*client.address, client.scheme, &*client.port, client.host, &*client.forwarded_for]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn nobody_is_believed_by_default() {
        let headers: [HeaderLine<'_>; 5] = [
            (b":authority", b"A.example:81"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-port", b"444"),
            (b"x-forwarded-host", b"evil"),
        ];
        let found = resolve(&Forwarded::default(), "10.0.0.1", &headers);
        assert_eq!(found, ["10.0.0.1", "http", "8080", "A.example:81", "10.0.0.1"]);
        let trusting = Forwarded {
            trust_headers: true,
            trusted_proxies: vec!["10.0.0.0/8".into()],
            append: true,
            ..Forwarded::default()
        };
        let found = resolve(&trusting, "10.0.0.1", &headers);
        assert_eq!(found, ["1.2.3.4", "https", "444", "evil", "1.2.3.4, 10.0.0.1"]);
    }

    #[test]
    fn the_proxy_protocol_names_the_client() {
        // Trusted, switched on, what the listener tells; then address, scheme and X-Forwarded-For.
        let cases = [
            ("10.0.0.0/8", true, "10.0.0.1,1.2.3.4,80", "1.2.3.4", "http", "9.9.9.9, 1.2.3.4"),
            ("10.0.0.0/8", true, "10.0.0.1,1.2.3.4,443", "1.2.3.4", "https", "9.9.9.9, 1.2.3.4"),
            ("10.0.0.0/8", true, "11.0.0.1,1.2.3.4,80", "11.0.0.1", "http", "9.9.9.9, 1.2.3.4"),
            ("::/0", true, "2001:db8::1,2001:db8::2,80", "2001:db8::2", "http", "9.9.9.9, 2001:db8::2"),
            // The listener does not speak it yet: no header stands in for it.
            ("0.0.0.0/0", true, "10.0.0.1", "10.0.0.1", "http", "9.9.9.9, 10.0.0.1"),
            ("0.0.0.0/0", false, "10.0.0.1,1.2.3.4,443", "9.9.9.9", "http", "9.9.9.9, 10.0.0.1"),
        ];
        for (trusted, proxy_protocol, peer, address, scheme, list) in cases {
            let trusted_proxies = vec![trusted.to_owned()];
            let forwarded =
                Forwarded { trusted_proxies, proxy_protocol, append: true, ..Forwarded::default() };
            let found = resolve(&forwarded, peer, &[(b"x-forwarded-for", b"9.9.9.9")]);
            assert_eq!((&*found[0], &*found[1], &*found[4]), (address, scheme, list), "{peer}");
        }
    }

    #[test]
    fn the_list_is_walked_while_it_is_trusted() {
        let cases = [
            (&["0.0.0.0/0"][..], "10.0.0.1", "1.1.1.1, 2.2.2.2", "1.1.1.1"),
            (&["10.0.0.0/8"], "10.0.0.1", "1.1.1.1, 2.2.2.2", "2.2.2.2"),
            (&["10.0.0.0/8", "2.2.2.2"], "10.0.0.1", "1.1.1.1, 2.2.2.2", "1.1.1.1"),
            (&["10.0.0.0/8"], "11.0.0.1", "1.1.1.1", "11.0.0.1"),
            (&["0.0.0.0/0"], "10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"),
            (&["0.0.0.0/0"], "10.0.0.1", "nonsense, 3.3.3.3:80", "3.3.3.3"),
            (&["0.0.0.0/0"], "10.0.0.1", "", "10.0.0.1"),
            (&["0.0.0.0/0"], "::1", "1.1.1.1", "::1"),
            (&["::/0"], "::1", "[2001:db8::1]:443", "2001:db8::1"),
            (&["::/0"], "::1", "[2001:db8::2]", "2001:db8::2"),
            (&["10.0.0.0/8"], "::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
            (&["0.0.0.0/0"], "not an address", "1.1.1.1", "not an address"),
            (&[], "10.0.0.1", "1.1.1.1", "10.0.0.1"),
        ];
        for (trusted, peer, list, expected) in cases {
            let trusted_proxies = trusted.iter().map(|network| (*network).to_owned()).collect();
            let forwarded = Forwarded { trusted_proxies, ..Forwarded::default() };
            let found = resolve(&forwarded, peer, &[(b"x-forwarded-for", list.as_bytes())]);
            assert_eq!(found[0], expected, "{trusted:?} {peer} {list}");
        }
    }
}
