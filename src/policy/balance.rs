//! Which Service gets a request, and by which hash Envoy chooses among its endpoints: what ingress-nginx does
//! in `balancer.lua`.

use super::affinity;
use super::{Facts, template};
use crate::decision::{SessionChange, SessionPlan, Split, SplitBy};
use crate::router::{
    CompiledAffinity, CompiledBalancing, CompiledCanary, CompiledHashBy, EndpointInCookie, HeaderRule,
    Scratch,
};

/// Where a request goes.
pub struct Choice<'a> {
    /// The Envoy cluster.
    pub cluster: &'a str,
    /// What Envoy hashes to choose an endpoint, in hexadecimal digits; none: endpoints take turns.
    pub hash: Option<[u8; 16]>,
    /// A Set-Cookie for the answer.
    pub cookie: Option<Vec<u8>>,
    /// The endpoint to which the client is bound, with its port.
    pub endpoint: Option<String>,
    /// A Set-Cookie that depends on which endpoint answers.
    pub session: Option<SessionPlan>,
    /// How the canary was decided upon.
    pub split: Option<Split>,
}

impl<'a> Choice<'a> {
    /// Any endpoint of a cluster.
    fn of(cluster: &'a str) -> Self {
        Choice { cluster, hash: None, cookie: None, endpoint: None, session: None, split: None }
    }
}

/// Chooses for a request whose rule names `cluster`.
pub fn choose<'a>(
    balancing: Option<&'a CompiledBalancing>,
    cluster: &'a str,
    facts: &Facts<'a>,
    scratch: &mut Scratch,
) -> Choice<'a> {
    let Some(balancing) = balancing else { return Choice::of(cluster) };
    let affinity = balancing.affinity.as_ref();
    let canary = balancing.canary.as_ref();
    let split = canary.map(|canary| split(canary, affinity, facts, scratch));
    let mut choice = match canary.filter(|_| split.is_some_and(|split| split.canary)) {
        Some(canary) => among(&canary.cluster, canary.affinity.as_ref(), canary.hash_by.as_ref(), facts),
        None => among(cluster, affinity, balancing.hash_by.as_ref(), facts),
    };
    choice.split = split;
    choice
}

/// Chooses among the endpoints of one Service.
fn among<'a>(
    cluster: &'a str,
    affinity: Option<&'a CompiledAffinity>,
    hash_by: Option<&'a CompiledHashBy>,
    facts: &Facts<'a>,
) -> Choice<'a> {
    let mut choice = Choice::of(cluster);
    match (affinity, hash_by) {
        (Some(affinity), _) => bind(&mut choice, affinity, facts),
        (None, Some(CompiledHashBy { value, subsets })) => {
            let hash = fnv(&value.render(facts));
            let subset = usize::try_from(jump(hash, u32::try_from(subsets.len()).unwrap_or(0)));
            match subset.ok().and_then(|subset| subsets.get(subset)) {
                Some(subset) => choice.cluster = subset,
                None => choice.hash = Some(hexadecimal(hash)),
            }
        }
        (None, None) => {}
    }
    choice
}

/// Chooses the endpoint that a client is bound to: by the hash of the text in its cookie, or the one that stands there.
fn bind(choice: &mut Choice<'_>, affinity: &CompiledAffinity, facts: &Facts<'_>) {
    let session = affinity::session(affinity, facts);
    let key = session.as_ref().map(|session| session.key);
    if !affinity.endpoint.as_ref().is_some_and(|endpoint| endpoint.persistent) {
        let hash = match key {
            Some(key) => fnv(key),
            None => {
                let key = hexadecimal(mix(facts.request.random));
                choice.cookie = affinity::set_cookie(affinity, &key, facts);
                fnv(&key)
            }
        };
        choice.hash = Some(hexadecimal(hash));
    }
    let Some(EndpointInCookie { seal, persistent, change_on_failure }) = &affinity.endpoint else { return };
    choice.endpoint = key.and_then(|key| seal.open(key));
    let when = match (persistent, change_on_failure) {
        (true, false) if choice.endpoint.is_some() => SessionChange::Gone,
        (true, _) => SessionChange::Other,
        (false, _) => SessionChange::Failed,
    };
    let around = affinity::around_key(affinity, facts);
    choice.session = around.map(|around| SessionPlan {
        seal: seal.clone(),
        around,
        when,
        otherwise: choice.cookie.take(),
    });
}

/// Decides between a Service and its canary (`route_to_alternative_balancer`).
fn split(
    canary: &CompiledCanary,
    main: Option<&CompiledAffinity>,
    facts: &Facts<'_>,
    scratch: &mut Scratch,
) -> Split {
    let is_bound = |affinity: Option<&CompiledAffinity>| {
        affinity.is_some_and(|affinity| {
            affinity::session(affinity, facts).is_some_and(|session| session.is_bound_to(affinity))
        })
    };
    let to = |canary, by| Split { canary, by };
    if is_bound(main) {
        return to(false, SplitBy::Affinity);
    }
    if is_bound(canary.affinity.as_ref()) {
        return to(true, SplitBy::Affinity);
    }
    if let Some((name, rule)) = &canary.header
        && let Some(value) = facts.request.joined_header(name)
        && let Some(canary) = says(rule, &value, scratch)
    {
        return to(canary, SplitBy::Header);
    }
    if let Some(name) = &canary.cookie
        && let Some(canary) = template::cookie(facts.request, name).and_then(word)
    {
        return to(canary, SplitBy::Cookie);
    }
    let drawn = mix(facts.request.random).checked_rem(u64::from(canary.weight_total)).unwrap_or(u64::MAX);
    to(drawn < u64::from(canary.weight), SplitBy::Weight)
}

/// Whether a header's value chooses the canary; none: it says nothing.
fn says(rule: &HeaderRule, value: &[u8], scratch: &mut Scratch) -> Option<bool> {
    match rule {
        HeaderRule::Words => word(value),
        HeaderRule::Value(chosen) => (value == chosen.as_bytes()).then_some(true),
        HeaderRule::Pattern(regex) => match regex.is_match(value, scratch.regex()) {
            Ok(matches) => matches.then_some(true),
            Err(_) => Some(false),
        },
        HeaderRule::Broken => Some(false),
    }
}

fn word(value: &[u8]) -> Option<bool> {
    match value {
        b"always" => Some(true),
        b"never" => Some(false),
        _ => None,
    }
}

/// The FNV-1a hash of a text.
fn fnv(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Random bits of a request, of which none can be told from its X-Request-ID at a glance (the last step of
/// SplitMix64).
fn mix(random: u128) -> u64 {
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    let mixed = half(random) ^ half(random >> 64).rotate_left(32);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef".get((rest & 15) as usize).copied().unwrap_or(b'0');
        rest >>= 4;
    }
    digits
}

/// Which of `buckets` a hash falls into, so that another number of them moves as few hashes as can be (Lamping
/// and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm"). 0 where there are none.
fn jump(hash: u64, buckets: u32) -> u64 {
    let (mut key, mut bucket, mut next) = (hash, 0_u64, 0_u64);
    while next < u64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // (bucket + 1) · 2^31 / (the upper 31 bits + 1), in whole numbers: both are below 2^33.
        let above = (key >> 33).saturating_add(1);
        next = (bucket.saturating_add(1) << 31).checked_div(above).unwrap_or(u64::MAX);
    }
    bucket
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn buckets_are_even_and_stay() {
        let hashes: Vec<u64> = (0..10_000_u32).map(|n| fnv(n.to_string().as_bytes())).collect();
        for buckets in [1_u32, 2, 3, 7, 20] {
            let mut sizes = vec![0_u32; buckets as usize];
            let mut moved = 0_u32;
            for hash in &hashes {
                let bucket = jump(*hash, buckets);
                sizes[bucket as usize] += 1;
                let later = jump(*hash, buckets + 1);
                assert!(later == bucket || later == u64::from(buckets), "{hash}: from {bucket} to {later}");
                moved += u32::from(later != bucket);
            }
            let fair = 10_000 / buckets;
            assert!(sizes.iter().all(|size| size.abs_diff(fair) < fair / 5 + 1), "{buckets}: {sizes:?}");
            assert!(moved.abs_diff(10_000 / (buckets + 1)) < 500, "{buckets}: {moved} moved");
        }
        assert_eq!(jump(7, 0), 0);
    }

    #[test]
    fn chance_is_fair_whichever_half_varies() {
        for shift in [0, 64] {
            let chosen = (0..10_000_u128).filter(|n| mix(n << shift) % 100 < 20).count();
            assert!((1_800..2_200).contains(&chosen), "{shift}: {chosen}");
        }
        assert_eq!(hexadecimal(0x0123_4567_89ab_cdef), *b"0123456789abcdef");
    }
}
