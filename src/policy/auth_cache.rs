//! A memory of what authentication services answered (`auth-cache-key`), bounded in entries and bytes, and the
//! rules of nginx's `proxy_cache` for which answers may be remembered and for how long.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::config::CacheTime;
use crate::decision::{HeaderLine, RequestView};

/// Most answers that are remembered.
const MOST_ENTRIES: usize = 2048;
/// Most bytes of all of them together.
const MOST_BYTES: usize = 512 * 1024;
/// Most bytes of one; a longer answer is not remembered.
const MOST_BYTES_OF_ONE: usize = 16 * 1024;

/// What stands for a key: an HMAC under a key drawn at random, so that no client can choose one, and the memory
/// holds no credentials.
pub type Tag = [u8; 32];

/// The answers that one worker remembers.
pub struct AnswerCache {
    key: [u8; 32],
    bytes: usize,
    /// Oldest first.
    entries: VecDeque<Entry>,
}

struct Entry {
    tag: Tag,
    since_ms: u64,
    until_ms: u64,
    /// The value of Vary, and what stands for the headers of the request that it names.
    variant: Option<(Box<[u8]>, Tag)>,
    answer: Rc<Remembered>,
}

/// Name and value of a header line.
type OwnLine = (Box<[u8]>, Box<[u8]>);

/// An answer as far as it is of use later.
#[derive(Debug, PartialEq, Eq)]
pub struct Remembered {
    /// HTTP status.
    pub status: u16,
    /// The header lines that matter.
    pub headers: Box<[OwnLine]>,
}

impl AnswerCache {
    /// An empty one. The key must be random and secret.
    pub fn new(key: [u8; 32]) -> Self {
        AnswerCache { key, bytes: 0, entries: VecDeque::new() }
    }

    /// What stands for these parts of a key. None where the key is refused, which HMAC does with no key.
    pub fn tag(&self, parts: &[&[u8]]) -> Option<Tag> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(b"auth-url");
        for part in parts {
            // With its length, so that the parts cannot be divided differently.
            mac.update(&u64::try_from(part.len()).ok()?.to_le_bytes());
            mac.update(part);
        }
        Some(mac.finalize().into_bytes().into())
    }

    /// The answer that is remembered for a key. One from the future does not count: the clock was set back.
    pub fn get(&self, tag: &Tag, request: &RequestView<'_>) -> Option<Rc<Remembered>> {
        let entry = self.entries.iter().find(|entry| entry.tag == *tag)?;
        let alive = (entry.since_ms..entry.until_ms).contains(&request.now_ms);
        let same = match &entry.variant {
            None => true,
            Some((vary, variant)) => self.variant(vary, request).as_ref() == Some(variant),
        };
        (alive && same).then(|| Rc::clone(&entry.answer))
    }

    /// Remembers an answer, if its headers allow it. `keeps` says which of them are of use later.
    pub fn remember(
        &mut self,
        tag: Tag,
        request: &RequestView<'_>,
        (status, headers): (u16, &[HeaderLine<'_>]),
        times: &[CacheTime],
        keeps: impl Fn(&[u8]) -> bool,
    ) {
        self.forget(&tag);
        let Some(lifetime_ms) = lifetime_ms(status, headers, times) else { return };
        let variant = match header(headers, b"vary") {
            None => None,
            Some(vary) => match self.variant(vary, request) {
                Some(variant) => Some((vary.into(), variant)),
                None => return,
            },
        };
        let kept = headers.iter().filter(|(name, _)| keeps(name));
        let answer = Remembered { status, headers: kept.map(|(n, v)| ((*n).into(), (*v).into())).collect() };
        let (since_ms, until_ms) = (request.now_ms, request.now_ms.saturating_add(lifetime_ms));
        let entry = Entry { tag, since_ms, until_ms, variant, answer: Rc::new(answer) };
        let size = entry.size();
        if size > MOST_BYTES_OF_ONE {
            return;
        }
        while self.entries.len() >= MOST_ENTRIES || self.bytes.saturating_add(size) > MOST_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.size());
        }
        self.bytes = self.bytes.saturating_add(size);
        self.entries.push_back(entry);
    }

    fn forget(&mut self, tag: &Tag) {
        let mut freed = 0_usize;
        self.entries.retain(|entry| {
            let stays = entry.tag != *tag;
            if !stays {
                freed = freed.saturating_add(entry.size());
            }
            stays
        });
        self.bytes = self.bytes.saturating_sub(freed);
    }

    /// What stands for the headers of a request that Vary names; none where it names all.
    fn variant(&self, vary: &[u8], request: &RequestView<'_>) -> Option<Tag> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for name in vary.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if name == b"*" {
                return None;
            }
            let name = String::from_utf8(name.to_ascii_lowercase()).ok()?;
            parts.push(request.joined_header(&name).unwrap_or_default().into_owned());
        }
        self.tag(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

impl fmt::Debug for AnswerCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AnswerCache({} answers, {} bytes)", self.entries.len(), self.bytes)
    }
}

impl Entry {
    fn size(&self) -> usize {
        let headers = self.answer.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        // About what the allocator and the tables add to each header and each entry.
        let headers = headers.fold(160_usize, |sum, size| sum.saturating_add(size).saturating_add(32));
        headers.saturating_add(self.variant.as_ref().map_or(0, |(vary, _)| vary.len()))
    }
}

/// How long an answer may be remembered; none: not at all. What the service says goes before what is configured,
/// as in nginx.
fn lifetime_ms(status: u16, headers: &[HeaderLine<'_>], times: &[CacheTime]) -> Option<u64> {
    if header(headers, b"set-cookie").is_some() {
        return None;
    }
    let seconds = |text: &[u8]| {
        let seconds: Option<u64> = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok();
        seconds.filter(|seconds| *seconds > 0).map(|seconds| seconds.saturating_mul(1000))
    };
    if let Some(accel) = header(headers, b"x-accel-expires") {
        return seconds(accel);
    }
    let mut shared = None;
    let mut own = None;
    for (_, line) in headers.iter().filter(|(name, _)| *name == b"cache-control") {
        for word in line.to_ascii_lowercase().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let directive = word.split(|byte| *byte == b'=').next().unwrap_or_default();
            if [&b"no-cache"[..], b"no-store", b"private"].contains(&directive) {
                return None;
            }
            if let Some(text) = word.strip_prefix(b"s-maxage=") {
                shared = Some(seconds(text));
            } else if let Some(text) = word.strip_prefix(b"max-age=") {
                own = Some(seconds(text));
            }
        }
    }
    if let Some(told) = shared.or(own) {
        return told;
    }
    // A date: such an answer is asked for anew rather than kept for too long.
    if header(headers, b"expires").is_some() {
        return None;
    }
    times.iter().find(|time| time.status == status || time.status == 0).map(|time| time.ms)
}

fn header<'a>(headers: &[HeaderLine<'a>], name: &[u8]) -> Option<&'a [u8]> {
    headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::decision::{Connection, Scheme};

    const TIMES: &[CacheTime] = &[CacheTime { status: 200, ms: 1000 }, CacheTime { status: 401, ms: 500 }];

    fn request<'a>(headers: &'a [HeaderLine<'a>], now_ms: u64) -> RequestView<'a> {
        let connection = Connection { scheme: Scheme::Http, port: 80, peer: b"::1" };
        RequestView { headers, connection, now_ms, random: 0 }
    }

    #[test]
    fn who_says_how_long() {
        let cases: [(u16, &[HeaderLine<'_>], Option<u64>); 17] = [
            (200, &[], Some(1000)),
            (401, &[], Some(500)),
            (403, &[], None),
            (200, &[(b"set-cookie", b"a=b")], None),
            (200, &[(b"cache-control", b"Private")], None),
            (200, &[(b"cache-control", b"public, no-store")], None),
            (200, &[(b"cache-control", b"no-cache=\"x\"")], None),
            (200, &[(b"cache-control", b"max-age=0")], None),
            (200, &[(b"cache-control", b"max-age=7")], Some(7000)),
            (403, &[(b"cache-control", b"max-age=7")], Some(7000)),
            (200, &[(b"cache-control", b"max-age=7"), (b"cache-control", b"S-MaxAge=9")], Some(9000)),
            (200, &[(b"cache-control", b"max-age=-1")], None),
            (200, &[(b"expires", b"Thu, 01 Jan 2099 00:00:00 GMT")], None),
            (200, &[(b"expires", b"0"), (b"cache-control", b"max-age=2")], Some(2000)),
            (200, &[(b"x-accel-expires", b"3"), (b"cache-control", b"no-store")], Some(3000)),
            (200, &[(b"x-accel-expires", b"0")], None),
            (200, &[(b"x-accel-expires", b"3"), (b"set-cookie", b"a=b")], None),
        ];
        for (status, headers, expected) in cases {
            assert_eq!(lifetime_ms(status, headers, TIMES), expected, "{status} {headers:?}");
        }
        let any = [CacheTime { status: 0, ms: 5 }];
        assert_eq!(lifetime_ms(404, &[], &any), Some(5));
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_key() {
        let mut cache = AnswerCache::new([1; 32]);
        let tag = cache.tag(&[b"host", b"/", b"key"]).expect("tags");
        assert_ne!(tag, cache.tag(&[b"host", b"/k", b"ey"]).expect("tags"));
        assert_ne!(tag, AnswerCache::new([2; 32]).tag(&[b"host", b"/", b"key"]).expect("tags"));
        let answer: &[HeaderLine<'_>] = &[(b"x-user", b"ann"), (b"x-other", b"1")];
        cache.remember(tag, &request(&[], 10_000), (200, answer), TIMES, |name| name == b"x-user");
        for (now, hit) in [(10_000, true), (10_999, true), (11_000, false), (9_999, false)] {
            assert_eq!(cache.get(&tag, &request(&[], now)).is_some(), hit, "{now}");
        }
        let kept = cache.get(&tag, &request(&[], 10_000)).expect("remembered");
        assert_eq!((kept.status, kept.headers.len()), (200, 1));
        // What may not be remembered takes away what was.
        cache.remember(tag, &request(&[], 10_000), (403, answer), TIMES, |_| true);
        assert_eq!(cache.get(&tag, &request(&[], 10_000)), None);
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }

    #[test]
    fn vary_tells_requests_apart() {
        let mut cache = AnswerCache::new([1; 32]);
        let tag = cache.tag(&[b"key"]).expect("tags");
        let ann: &[HeaderLine<'_>] = &[(b"cookie", b"ann")];
        cache.remember(tag, &request(ann, 0), (200, &[(b"vary", b"Accept, Cookie")]), TIMES, |_| false);
        assert!(cache.get(&tag, &request(ann, 1)).is_some());
        assert!(cache.get(&tag, &request(&[(b"cookie", b"bob")], 1)).is_none());
        assert!(cache.get(&tag, &request(&[], 1)).is_none());
        cache.remember(tag, &request(ann, 0), (200, &[(b"vary", b"*")]), TIMES, |_| false);
        assert!(cache.get(&tag, &request(ann, 1)).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let mut cache = AnswerCache::new([1; 32]);
        let long = vec![b'x'; 10_000];
        let remember = |cache: &mut AnswerCache, number: u32, value: &[u8]| {
            let tag = cache.tag(&[&number.to_le_bytes()]).expect("tags");
            cache.remember(tag, &request(&[], 0), (200, &[(b"x-long", value)]), TIMES, |_| true);
            cache.get(&tag, &request(&[], 0)).is_some()
        };
        for number in 0..200 {
            assert!(remember(&mut cache, number, &long), "{number}");
            assert!(cache.bytes <= MOST_BYTES, "{number}: {}", cache.bytes);
        }
        assert!(cache.entries.len() < 60, "{}", cache.entries.len());
        assert!(!remember(&mut cache, 1000, &[b'x'; MOST_BYTES_OF_ONE]), "too long for one");
        for number in 0..5000 {
            assert!(remember(&mut cache, number, b""), "{number}");
        }
        assert!(cache.entries.len() <= MOST_ENTRIES && cache.bytes <= MOST_BYTES, "{cache:?}");
        let sizes: usize = cache.entries.iter().map(Entry::size).sum();
        assert_eq!(cache.bytes, sizes);
    }
}
