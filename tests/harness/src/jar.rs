//! Cookies of one case: enough of RFC 6265 to be a client that a session sticks to.
//!
//! Kept are name, value, host, path and `Secure`; a cookie that has expired is dropped. `Domain` is not
//! looked at: cases talk to one host. `Expires` is no clock's business here; servers that delete a cookie say
//! so with `Max-Age` as well, or with an empty value.

/// The cookies of one client.
#[derive(Debug, Clone, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cookie {
    host: String,
    path: String,
    name: String,
    value: String,
    secure: bool,
}

impl Jar {
    /// Takes a `Set-Cookie` line of an answer from this host to a request for this path.
    pub fn store(&mut self, host: &str, path: &str, line: &str) {
        let mut parts = line.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let mut cookie = Cookie {
            host: host.to_lowercase(),
            path: default_path(path).to_owned(),
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            secure: false,
        };
        let mut expired = cookie.value.is_empty();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key.trim().to_ascii_lowercase().as_str(), value.trim()) {
                ("path", value) if value.starts_with('/') => value.clone_into(&mut cookie.path),
                ("secure", _) => cookie.secure = true,
                ("max-age", value) => expired |= value.parse().is_ok_and(|seconds: i64| seconds <= 0),
                _ => {}
            }
        }
        self.cookies
            .retain(|old| (&old.host, &old.path, &old.name) != (&cookie.host, &cookie.path, &cookie.name));
        if !expired {
            self.cookies.push(cookie);
        }
    }

    /// The value of the `Cookie` header of a request, if there is a cookie for it.
    pub fn header(&self, https: bool, host: &str, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap_or(path);
        let sent = self.cookies.iter().filter(|cookie| {
            cookie.host == host.to_lowercase() && covers(&cookie.path, path) && (https || !cookie.secure)
        });
        let pairs: Vec<_> = sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// The path of a cookie that names none: that of the request up to its last slash.
fn default_path(path: &str) -> &str {
    let path = path.split('?').next().unwrap_or(path);
    match path.rfind('/') {
        Some(slash) if slash > 0 && path.starts_with('/') => path.get(..slash).unwrap_or("/"),
        _ => "/",
    }
}

fn covers(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_go_where_they_belong() {
        let lines = [
            "a=1; Path=/; HttpOnly",
            "b=2; path=/app",
            "c=3; Path=/; Secure",
            "d=4",
            "e=5; Max-Age=60; Path=/",
        ];
        let mut jar = Jar::default();
        for line in lines {
            jar.store("A.example", "/dir/page?x", line);
        }
        let cases = [
            (false, "a.example", "/", Some("a=1; e=5")),
            (true, "a.EXAMPLE", "/", Some("a=1; c=3; e=5")),
            (false, "a.example", "/app", Some("a=1; b=2; e=5")),
            (false, "a.example", "/app/x?y", Some("a=1; b=2; e=5")),
            (false, "a.example", "/apple", Some("a=1; e=5")),
            (false, "a.example", "/dir/other", Some("a=1; d=4; e=5")),
            (false, "b.example", "/", None),
        ];
        for (https, host, path, expected) in cases {
            assert_eq!(jar.header(https, host, path).as_deref(), expected, "{https} {host} {path}");
        }
        jar.store("a.example", "/", "a=9; Path=/");
        jar.store("a.example", "/", "e=; Path=/; Max-Age=0");
        jar.store("a.example", "/", "no pair");
        assert_eq!(jar.header(false, "a.example", "/").as_deref(), Some("a=9"));
    }
}
