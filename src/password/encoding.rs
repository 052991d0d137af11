//! The base64 of `crypt(3)`: another alphabet, and (but for DES) three bytes from the lowest bits up.

/// The alphabet, in order of value.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The character of the lowest six bits.
pub(super) fn character(value: u32) -> u8 {
    let index = usize::try_from(value & 63).unwrap_or_default();
    ALPHABET.get(index).copied().unwrap_or(b'.')
}

/// The value of a character.
pub(super) fn value(character: u8) -> Option<u32> {
    let index = ALPHABET.iter().position(|candidate| *candidate == character)?;
    u32::try_from(index).ok()
}

/// Whether a text is of the given length and of the alphabet.
pub(super) fn is_encoded(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| value(byte).is_some())
}

/// Encodes the bytes of a digest in an order of groups of three, the highest first. An index beyond the digest
/// stands for no byte; the characters that it would fill are cut off by `length`.
pub(super) fn encode(digest: &[u8], order: &[[u8; 3]], length: usize) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(length.saturating_add(3));
    for group in order {
        let bits = group.iter().fold(0u32, |bits, index| {
            (bits << 8) | u32::from(digest.get(usize::from(*index)).copied().unwrap_or_default())
        });
        encoded.extend([bits, bits >> 6, bits >> 12, bits >> 18].map(character));
    }
    encoded.truncate(length);
    encoded
}
