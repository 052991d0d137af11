//! The cookie that binds a client to an endpoint, as ingress-nginx's `balancer/sticky.lua` reads and sets it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Facts;
use crate::decision::{Scheme, SessionChange, SessionPlan};
use crate::router::{CompiledAffinity, CompiledCookie};

/// Separates the parts of the cookie's value.
const DELIMITER: u8 = b'|';

/// What the cookie of a client says.
pub struct Session<'a> {
    /// The text whose hash chooses the endpoint, where it is not a sealed one; any text is good.
    pub key: &'a [u8],
    /// The key of the Service to which the client is bound.
    service: Option<&'a [u8]>,
}

impl Session<'_> {
    /// Whether the client is bound to this Service, rather than to its canary or the other way round.
    pub fn is_bound_to(&self, affinity: &CompiledAffinity) -> bool {
        self.service == Some(affinity.key.as_bytes())
    }
}

/// What the client's cookie says; none where it has none. The name compares with case, and of several the last
/// counts: `lua-resty-cookie`.
pub fn session<'a>(affinity: &CompiledAffinity, facts: &Facts<'a>) -> Option<Session<'a>> {
    let lines = facts.request.headers.iter().filter(|(name, _)| *name == b"cookie");
    let mut value = lines.flat_map(|(_, line)| line.split(|byte| *byte == b';')).filter_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(affinity.cookie.as_bytes())?.strip_prefix(b"=")?;
        value.split(u8::is_ascii_whitespace).next()
    });
    let mut parts = value.next_back()?.split(|byte| *byte == DELIMITER).filter(|part| !part.is_empty());
    Some(Session { key: parts.next()?, service: parts.next() })
}

/// A Set-Cookie with this key; none where the cookie is only read.
pub fn set_cookie(affinity: &CompiledAffinity, key: &[u8], facts: &Facts<'_>) -> Option<Vec<u8>> {
    let (before, after) = around_key(affinity, facts)?;
    Some([&before, key, &after].concat())
}

/// What a Set-Cookie has before its key, and behind it; none where the cookie is only read.
pub fn around_key(affinity: &CompiledAffinity, facts: &Facts<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let CompiledCookie { expires, before_path, path, secure, same_site, same_site_for_some } =
        affinity.set.as_ref()?;
    let rule_path = || facts.selected.map_or("/", |selected| &selected.rule.path);
    let secure = *secure || facts.request.connection.scheme == Scheme::Https;
    let misread =
        *same_site_for_some && misreads_none(facts.request.header("user-agent").unwrap_or_default());
    let expires = expires.map(|seconds| {
        let now = facts.request.now_ms.checked_div(1000).unwrap_or(0);
        cookie_time(now.saturating_add(seconds))
    });
    let after: [&[u8]; 9] = [
        &[DELIMITER],
        affinity.key.as_bytes(),
        if expires.is_some() { b"; Expires=" } else { b"" },
        expires.as_deref().unwrap_or_default().as_bytes(),
        before_path.as_bytes(),
        b"; Path=",
        path.as_deref().unwrap_or_else(rule_path).as_bytes(),
        if secure { b"; Secure; HttpOnly" } else { b"; HttpOnly" },
        if misread { b"" } else { same_site.as_bytes() },
    ];
    Some(([affinity.cookie.as_bytes(), b"="].concat(), after.concat()))
}

/// The Set-Cookie of an answer. `endpoint` is the one that has answered, as Envoy tells it: where it is another than that
/// of the client's cookie. `failed`: one before it has failed.
pub fn session_cookie(
    plan: &SessionPlan,
    endpoint: Option<&[u8]>,
    failed: impl FnOnce() -> bool,
) -> Option<Vec<u8>> {
    let endpoint = endpoint.filter(|_| match plan.when {
        SessionChange::Other => true,
        SessionChange::Gone => !failed(),
        SessionChange::Failed => failed(),
    });
    let sealed = endpoint.and_then(|endpoint| plan.seal.close(&STANDARD.decode(endpoint).ok()?));
    let (before, after) = &plan.around;
    sealed.map(|key| [before, &*key, after].concat()).or_else(|| plan.otherwise.clone())
}

/// Browsers that take `SameSite=None` for `Strict` or drop the cookie (`util/same_site.lua`).
fn misreads_none(user_agent: &[u8]) -> bool {
    let has = |word: &[u8]| user_agent.windows(word.len()).any(|window| window == word);
    let old = [&b"Chrome/4"[..], b"Chrome/5", b"Chrome/6", b"CPU iPhone OS 12", b"iPad; CPU OS 12"];
    old.into_iter().any(has)
        || has(b"Macintosh") && has(b"Intel Mac OS X 10_14") && has(b"Safari") && !has(b"Chrome")
}

/// A time, given in seconds since 1970, as nginx writes it in cookies (`ngx_http_cookie_time`).
fn cookie_time(seconds: u64) -> String {
    const WEEK: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // The year 9999 ends there; no date has more digits.
    let seconds = seconds.min(253_402_300_799);
    let unit = |of: u64, unit: u64| (of.checked_div(unit).unwrap_or(0), of.checked_rem(unit).unwrap_or(0));
    let (days, second_of_day) = unit(seconds, 86_400);
    let (hour, rest) = unit(second_of_day, 3_600);
    let (minute, second) = unit(rest, 60);
    let weekday = WEEK.get(usize::try_from(unit(days, 7).1).unwrap_or(0)).copied().unwrap_or_default();
    let (mut year, mut day) = (1970_u64, days);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day = day.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = "";
    for (name, length) in MONTHS.into_iter().zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        month = name;
        if day < length {
            break;
        }
        day = day.saturating_sub(length);
    }
    let mut text = String::with_capacity(31);
    let two = |text: &mut String, number: u64| {
        if number < 10 {
            text.push('0');
        }
        text.push_str(&number.to_string());
    };
    text.push_str(weekday);
    text.push_str(", ");
    two(&mut text, day.saturating_add(1));
    text.push('-');
    text.push_str(month);
    text.push('-');
    // nginx writes the century only where two digits would be read as the last one.
    two(&mut text, if year > 2037 { year } else { unit(year, 100).1 });
    text.push(' ');
    two(&mut text, hour);
    text.push(':');
    two(&mut text, minute);
    text.push(':');
    two(&mut text, second);
    text.push_str(" GMT");
    text
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn times_are_those_of_nginx() {
        let cases = [
            (0, "Thu, 01-Jan-70 00:00:00 GMT"),
            (951_782_400, "Tue, 29-Feb-00 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29-Feb-24 23:59:59 GMT"),
            (1_767_225_599, "Wed, 31-Dec-25 23:59:59 GMT"),
            (2_145_916_800, "Fri, 01-Jan-2038 00:00:00 GMT"),
            (u64::MAX, "Fri, 31-Dec-9999 23:59:59 GMT"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(cookie_time(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn browsers_that_misread_none() {
        let safari = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605 Version/12 Safari/605";
        let cases = [
            ("", false),
            ("curl/8", false),
            ("Mozilla/5.0 (X11) Chrome/61.0 Safari/537", true),
            ("Mozilla/5.0 (X11) Chrome/120.0 Safari/537", false),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X)", true),
            (safari, true),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) Chrome/99 Safari/605", false),
        ];
        for (agent, expected) in cases {
            assert_eq!(misreads_none(agent.as_bytes()), expected, "{agent}");
        }
    }
}
