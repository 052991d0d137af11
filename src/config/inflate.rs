//! Decompression of DEFLATE streams (RFC 1951), bit by bit.
//!
//! Why not `miniz_oxide`, with which they are made: it is made for speed and costs 14 kB of the module, this a third.
//! A test holds both against each other.

/// The bytes that a stream unpacks to; none where it is no stream, or where they are more than `limit`.
pub fn inflate(stream: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut bits = Bits { bytes: stream.iter(), buffer: 0, count: 0 };
    let mut out = Vec::new();
    loop {
        let last = bits.take(1)?;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut out, limit)?,
            1 => {
                let mut lengths = [8_u8; 288];
                lengths.get_mut(144..256)?.fill(9);
                lengths.get_mut(256..280)?.fill(7);
                block(&mut bits, &Code::new(&lengths), &Code::new(&[5; 30]), &mut out, limit)?;
            }
            2 => {
                let (literals, distances) = codes(&mut bits)?;
                block(&mut bits, &literals, &distances, &mut out, limit)?;
            }
            _ => return None,
        }
        if last == 1 {
            return Some(out);
        }
    }
}

struct Bits<'b> {
    bytes: std::slice::Iter<'b, u8>,
    buffer: u32,
    count: u32,
}

impl Bits<'_> {
    /// The next bits, at most 16, the first one in the lowest place.
    fn take(&mut self, wanted: u32) -> Option<u32> {
        while self.count < wanted {
            self.buffer |= u32::from(*self.bytes.next()?) << self.count;
            self.count = self.count.wrapping_add(8);
        }
        let found = self.buffer & (1_u32 << wanted).wrapping_sub(1);
        self.buffer >>= wanted;
        self.count = self.count.wrapping_sub(wanted);
        Some(found)
    }
}

/// A Huffman code: how many symbols there are of each length, and the symbols in the order of their codes.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0_u16; 16];
        let mut symbols = Vec::with_capacity(lengths.len());
        for (wanted, count) in (0_u8..).zip(&mut counts).skip(1) {
            let of_length = (0_u16..).zip(lengths).filter(|(_, length)| **length == wanted);
            let before = symbols.len();
            symbols.extend(of_length.map(|(symbol, _)| symbol));
            *count = u16::try_from(symbols.len().wrapping_sub(before)).unwrap_or(0);
        }
        Code { counts, symbols }
    }

    fn next(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code |= bits.take(1)?;
            let count = u32::from(*count);
            let offset = code.checked_sub(first)?;
            if offset < count {
                return self.symbols.get(usize::try_from(index.wrapping_add(offset)).ok()?).copied();
            }
            index = index.wrapping_add(count);
            first = first.wrapping_add(count) << 1;
            code <<= 1;
        }
        None
    }
}

fn stored(bits: &mut Bits<'_>, out: &mut Vec<u8>, limit: usize) -> Option<()> {
    // The rest of the byte is of no concern.
    bits.take(bits.count % 8)?;
    let length = bits.take(16)?;
    if bits.take(16)? != length ^ 0xffff {
        return None;
    }
    for _ in 0..length {
        push(out, u8::try_from(bits.take(8)?).ok()?, limit)?;
    }
    Some(())
}

/// The codes that a block brings along, themselves in a code.
fn codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literals = usize::try_from(bits.take(5)?).ok()?.checked_add(257)?;
    let distances = usize::try_from(bits.take(5)?).ok()?.checked_add(1)?;
    let count = usize::try_from(bits.take(4)?).ok()?.checked_add(4)?;
    let mut of_lengths = [0_u8; 19];
    for place in ORDER.iter().take(count) {
        *of_lengths.get_mut(*place)? = u8::try_from(bits.take(3)?).ok()?;
    }
    let of_lengths = Code::new(&of_lengths);
    let all = literals.checked_add(distances)?;
    let mut lengths: Vec<u8> = Vec::with_capacity(all);
    while lengths.len() < all {
        let (length, times) = match of_lengths.next(bits)? {
            16 => (*lengths.last()?, bits.take(2)?.wrapping_add(3)),
            17 => (0, bits.take(3)?.wrapping_add(3)),
            18 => (0, bits.take(7)?.wrapping_add(11)),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.extend((0..times).map(|_| length));
    }
    if lengths.len() != all {
        return None;
    }
    let (literals, distances) = lengths.split_at_checked(literals)?;
    Some((Code::new(literals), Code::new(distances)))
}

/// The least length or distance of a symbol, and how many bits come on top. Each further pair or group of four
/// symbols has one bit more.
fn base(symbol: u32, group: u32, first: u32) -> Option<(u32, u32)> {
    let per = 1_u32 << group;
    if symbol < per.wrapping_mul(2) {
        return Some((first.wrapping_add(symbol), 0));
    }
    let extra = (symbol >> group).checked_sub(1)?;
    let within = symbol & per.wrapping_sub(1);
    let base = per.wrapping_add(within).checked_shl(extra)?;
    Some((first.wrapping_add(base), extra))
}

fn block(
    bits: &mut Bits<'_>,
    literals: &Code,
    distances: &Code,
    out: &mut Vec<u8>,
    limit: usize,
) -> Option<()> {
    loop {
        let symbol = u32::from(literals.next(bits)?);
        if let Ok(literal) = u8::try_from(symbol) {
            push(out, literal, limit)?;
            continue;
        }
        let (length, extra) = match symbol {
            256 => return Some(()),
            285 => (258, 0),
            257..285 => base(symbol.wrapping_sub(257), 2, 3)?,
            _ => return None,
        };
        let length = length.wrapping_add(bits.take(extra)?);
        let symbol = u32::from(distances.next(bits)?);
        if symbol > 29 {
            return None;
        }
        let (distance, extra) = base(symbol, 1, 1)?;
        let distance = distance.wrapping_add(bits.take(extra)?);
        for _ in 0..length {
            let from = out.len().checked_sub(usize::try_from(distance).ok()?)?;
            push(out, *out.get(from)?, limit)?;
        }
    }
}

fn push(out: &mut Vec<u8>, byte: u8, limit: usize) -> Option<()> {
    (out.len() < limit).then(|| out.push(byte))
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use miniz_oxide::deflate::compress_to_vec;
    use miniz_oxide::inflate::decompress_to_vec;

    use super::*;

    /// Text with repetitions near and far, and noise.
    fn sample(random: &mut fastrand::Rng) -> Vec<u8> {
        let mut text: Vec<u8> = Vec::new();
        for _ in 0..random.usize(0..200) {
            match random.u8(0..3) {
                0 => text.extend((0..random.usize(0..300)).map(|_| random.u8(..))),
                1 => text.extend(b"\"cluster\":\"outbound|80||".repeat(random.usize(0..20))),
                _ if text.is_empty() => {}
                _ => {
                    let start = random.usize(0..text.len());
                    let end = random.usize(start..=text.len());
                    text.extend_from_within(start..end.min(start + 1000));
                }
            }
        }
        text
    }

    #[test]
    fn unpacks_what_another_packs() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..250_u8 {
            let text = sample(&mut random);
            let packed = compress_to_vec(&text, round % 11);
            assert!(inflate(&packed, text.len()).as_deref() == Some(&text), "round {round}");
            if let Some(less) = text.len().checked_sub(1) {
                assert_eq!(inflate(&packed, less), None, "round {round}: one byte too many");
            }
        }
    }

    #[test]
    fn damage_is_found_or_gives_what_another_reads() {
        let mut random = fastrand::Rng::with_seed(8);
        for round in 0..250_u8 {
            let mut packed = compress_to_vec(&sample(&mut random), round % 11);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..packed.len());
                packed[at] ^= 1 << random.u8(0..8);
            }
            packed.truncate(random.usize(0..=packed.len()));
            // The other also refuses codes with gaps, which do no harm here.
            if let Ok(other) = decompress_to_vec(&packed) {
                assert!(inflate(&packed, other.len()) == Some(other), "round {round}");
            }
            let _ = inflate(&packed, 1 << 20);
        }
    }
}
