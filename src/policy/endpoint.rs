//! The endpoint in an affinity cookie: sealed, so that a client neither reads the address of a pod nor makes one up. The
//! same address always has the same seal, and all replicas can open it: the key comes with the configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of a seal before the address itself.
const TAG: usize = 8;

/// What addresses are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal([u8; 32]);

impl std::fmt::Debug for Seal {
    /// Without the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Seal")
    }
}

impl Seal {
    /// With a key that is derived from this text.
    pub fn new(secret: &str) -> Self {
        Seal(mac(&[0; 32], b"endpoint", secret.as_bytes()))
    }

    /// An address with its port, as text, to the value of a cookie; none for what is no such address.
    pub fn close(&self, address: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = to_bytes(std::str::from_utf8(address).ok()?.parse().ok()?);
        let mut sealed = self.tag(&bytes).to_vec();
        self.mask(&sealed, &mut bytes);
        sealed.append(&mut bytes);
        Some(hexadecimal(&sealed))
    }

    /// The address with its port that was sealed; none for any other value.
    pub fn open(&self, value: &[u8]) -> Option<String> {
        let sealed = from_hexadecimal(value)?;
        let (tag, bytes) = sealed.split_at_checked(TAG)?;
        let mut bytes = bytes.to_vec();
        self.mask(tag, &mut bytes);
        // Who guesses learns nothing but that another endpoint is chosen.
        (self.tag(&bytes) == tag).then_some(())?;
        from_bytes(&bytes).map(|address| address.to_string())
    }

    fn tag(&self, bytes: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        for (to, from) in tag.iter_mut().zip(mac(&self.0, b"tag", bytes)) {
            *to = from;
        }
        tag
    }

    fn mask(&self, tag: &[u8], bytes: &mut [u8]) {
        for (byte, mask) in bytes.iter_mut().zip(mac(&self.0, b"mask", tag)) {
            *byte ^= mask;
        }
    }
}

fn mac(key: &[u8; 32], purpose: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC refuses no key.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(purpose);
    mac.update(&[0]);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn to_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let address = match <[u8; 4]>::try_from(address) {
        Ok(address) => IpAddr::V4(Ipv4Addr::from(address)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hexadecimal(bytes: &[u8]) -> Vec<u8> {
    let digit = |value: u8| DIGITS.get(usize::from(value & 15)).copied().unwrap_or(b'0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn from_hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: &u8| DIGITS.iter().position(|known| known == digit);
    let (pairs, rest) = text.as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from((value(high)? << 4) | value(low)?).ok();
    // No seal is longer.
    (rest.is_empty() && pairs.len() <= 64).then(|| pairs.iter().map(byte).collect())?
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_with_the_same_key_only() {
        let (seal, other) = (Seal::new("a"), Seal::new("b"));
        for address in ["10.0.0.1:80", "127.0.0.1:65535", "[2001:db8::1]:8080", "[::ffff:10.0.0.1]:1"] {
            let value = seal.close(address.as_bytes()).unwrap();
            assert_eq!(seal.open(&value).as_deref(), Some(address));
            assert_eq!(other.open(&value), None, "{address}");
            assert_eq!(seal.close(address.as_bytes()), Some(value.clone()), "{address}: the same each time");
            for position in 0..value.len() {
                let mut changed = value.clone();
                changed[position] = if changed[position] == b'0' { b'1' } else { b'0' };
                assert_eq!(seal.open(&changed), None, "{address} {position}");
            }
            let text = String::from_utf8(value).unwrap();
            assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
        }
    }

    #[test]
    fn other_texts_are_none() {
        let seal = Seal::new("a");
        for address in ["", "/run/socket", "10.0.0.1", "name:80", "\u{e9}"] {
            assert_eq!(seal.close(address.as_bytes()), None, "{address}");
        }
        let long = "0".repeat(4096);
        for value in ["", "0", "zz", "0123456789abcdef", "0123456789abcdef0123456789ab", "AB", &long] {
            assert_eq!(seal.open(value.as_bytes()), None, "{value}");
        }
    }
}
