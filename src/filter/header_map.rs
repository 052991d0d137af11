//! The form in which headers cross the border: a number of pairs, then the sizes of each name and value,
//! then the texts, each with a NUL behind it; numbers are 32 bits, little-endian.

/// Reads all pairs. None where the bytes are not of that form, which a host never sends.
pub fn decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let Some((count, rest)) = number(bytes) else { return bytes.is_empty().then(Vec::new) };
    let (sizes, mut texts) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut pairs = Vec::with_capacity(count);
    for size in sizes.chunks_exact(8) {
        let (name, rest) = number(size)?;
        let (value, _) = number(rest)?;
        let (name, rest) = text(texts, name)?;
        let (value, rest) = text(rest, value)?;
        pairs.push((name, value));
        texts = rest;
    }
    Some(pairs)
}

/// Writes pairs.
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(pairs: &[(N, V)]) -> Vec<u8> {
    let texts: usize = pairs.iter().map(|(name, value)| size_of(name, value)).sum();
    let mut bytes = Vec::with_capacity(texts.saturating_add(pairs.len().saturating_mul(8)).saturating_add(4));
    let push = |bytes: &mut Vec<u8>, size: usize| {
        bytes.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes());
    };
    push(&mut bytes, pairs.len());
    for (name, value) in pairs {
        push(&mut bytes, name.as_ref().len());
        push(&mut bytes, value.as_ref().len());
    }
    for (name, value) in pairs {
        bytes.extend_from_slice(name.as_ref());
        bytes.push(0);
        bytes.extend_from_slice(value.as_ref());
        bytes.push(0);
    }
    bytes
}

fn size_of(name: &impl AsRef<[u8]>, value: &impl AsRef<[u8]>) -> usize {
    name.as_ref().len().saturating_add(value.as_ref().len()).saturating_add(2)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// A text of a size, and what follows its NUL.
fn text(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(size)?;
    Some((text, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    type Pairs = &'static [(&'static [u8], &'static [u8])];

    #[test]
    fn pairs_are_written_as_the_host_writes_them() {
        let cases: [(Pairs, &[u8]); 3] = [
            (&[], b"\0\0\0\0"),
            (&[(b"a", b"bc")], b"\x01\0\0\0\x01\0\0\0\x02\0\0\0a\0bc\0"),
            (
                &[(b"", b""), (b"\xff\0", b"\n")],
                b"\x02\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\0\0\xff\0\0\n\0",
            ),
        ];
        for (pairs, bytes) in cases {
            assert_eq!(encode(pairs), bytes, "{pairs:?}");
            assert_eq!(decode(bytes).as_deref(), Some(pairs), "{bytes:?}");
        }
        assert_eq!(decode(b"").as_deref(), Some(&[][..]), "an empty map may have no bytes at all");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = encode(&[(b"name".as_slice(), b"value".as_slice()), (b"n", b"v")]);
        for length in 1..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "{length} bytes");
        }
        let sizes = [u32::MAX, u32::MAX / 8, 1 << 29, 3];
        for size in sizes {
            let mut count = whole.clone();
            count[..4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(decode(&count), None, "{size} pairs");
            let mut name = whole.clone();
            name[4..8].copy_from_slice(&size.saturating_add(99).to_le_bytes());
            assert_eq!(decode(&name), None, "a name of {size} bytes");
        }
    }
}
