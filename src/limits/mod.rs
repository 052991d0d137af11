//! Counting requests of clients: how fast they come, and how many are under way. What is counted lies in a table
//! that all workers share. It has a fixed number of *slots*, byte strings that hold a bounded number of entries
//! each, so that no number of clients makes it grow. A slot goes in, a slot comes out: the functions here are
//! pure, and whoever owns the table sees to it that no change is lost.
//!
//! Deliberately knows nothing of the host, of configuration and of answers. Time and the names of workers are
//! handed in.

pub mod connections;
pub mod rate;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

pub use rate::Rate;

/// Slots of either table. With [`rate::ENTRIES`] in each, 131,072 clients are remembered at a time.
pub const SLOTS: u16 = 8192;

/// Who is counted: a client of an Ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The client with this address at this Ingress, `namespace/name`. An address that is none of IP is taken as
    /// the text it is. All workers compute the same; two clients are confused once in 2⁶⁴ pairs.
    pub fn new(ingress: &str, address: Result<IpAddr, &[u8]>) -> Self {
        let mut hasher = DefaultHasher::new();
        ingress.hash(&mut hasher);
        match address {
            Ok(IpAddr::V4(address)) => address.octets().hash(&mut hasher),
            Ok(IpAddr::V6(address)) => address.octets().hash(&mut hasher),
            Err(text) => text.hash(&mut hasher),
        }
        Key(hasher.finish())
    }

    /// The slot that the entry is in.
    pub fn slot(self) -> u16 {
        // The remainder is below `SLOTS`.
        u16::try_from(self.0.checked_rem(u64::from(SLOTS)).unwrap_or(0)).unwrap_or(0)
    }
}

/// A number within an entry; 0 where the entry ends before, which it never does.
fn read<const N: usize>(entry: &[u8], at: usize) -> [u8; N] {
    let bytes = entry.get(at..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn keys_tell_clients_and_ingresses_apart() {
        let ip = |text: &str| Ok(text.parse::<IpAddr>().expect(text));
        let keys = [
            Key::new("n/a", ip("10.0.0.1")),
            Key::new("n/a", ip("10.0.0.2")),
            Key::new("n/b", ip("10.0.0.1")),
            Key::new("n/a", ip("::1")),
            Key::new("n/a", Err(b"10.0.0.1")),
            Key::new("n/a", Err(b"")),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(key.slot() < SLOTS);
            for other in keys.get(index + 1..).unwrap_or_default() {
                assert_ne!(key, other);
            }
        }
        assert_eq!(Key::new("n/a", ip("10.0.0.1")), Key::new("n/a", ip("10.0.0.1")));
    }
}
