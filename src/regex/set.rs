//! A set of bytes, with room for "the subject ends here".

/// Which bytes may come next. `end` tells whether the end of the subject may come as well; in a character
/// class it is always false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet {
    bits: [u32; 8],
    pub(super) end: bool,
}

impl ByteSet {
    pub(super) const NONE: Self = Self { bits: [0; 8], end: false };
    /// Every byte and the end.
    pub(super) const ANY: Self = Self { bits: [u32::MAX; 8], end: true };

    /// The bytes for which `is` holds.
    pub(super) fn of(is: fn(u8) -> bool) -> Self {
        let mut set = Self::NONE;
        for byte in 0..=u8::MAX {
            if is(byte) {
                set.insert(byte);
            }
        }
        set
    }

    pub(super) fn insert(&mut self, byte: u8) {
        if let Some(word) = self.bits.get_mut(usize::from(byte >> 5)) {
            *word |= 1u32.wrapping_shl(u32::from(byte));
        }
    }

    #[inline]
    pub(super) fn contains(&self, byte: u8) -> bool {
        self.bits.get(usize::from(byte >> 5)).is_some_and(|word| word.wrapping_shr(u32::from(byte)) & 1 != 0)
    }

    /// Whether what comes next, a byte or the end, is in the set.
    #[inline]
    pub(super) fn accepts(&self, next: Option<&u8>) -> bool {
        next.map_or(self.end, |&byte| self.contains(byte))
    }

    pub(super) fn union(&mut self, other: &Self) {
        for (word, more) in self.bits.iter_mut().zip(other.bits) {
            *word |= more;
        }
        self.end |= other.end;
    }

    /// The bytes that are not in the set.
    pub(super) fn complement(&self) -> Self {
        Self { bits: self.bits.map(|word| !word), end: false }
    }

    /// Whether a byte is in both sets; the ends do not count.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.bits.iter().zip(other.bits).any(|(word, more)| word & more != 0)
    }

    /// The number of bytes in the set.
    pub(super) fn len(&self) -> u32 {
        self.bits.iter().fold(0, |sum, word| word.count_ones().saturating_add(sum))
    }

    /// The smallest byte of the set.
    pub(super) fn first(&self) -> Option<u8> {
        (0..=u8::MAX).find(|&byte| self.contains(byte))
    }
}
