//! What can be known of a program before it runs: the bytes that can come next, whether it is anchored, and
//! the literal text it begins with. Every answer errs on the safe side.

use super::parse::Assert;
use super::program::{Inst, One, Program};
use super::set::ByteSet;

/// Up to how many places are looked at for one question.
const MAX_PLACES: usize = 64;
/// How much of a counted repetition goes into a literal prefix.
const MAX_REPEATED: u32 = 64;

impl Program {
    fn inst(&self, at: u16) -> Option<Inst> {
        self.insts.get(usize::from(at)).copied()
    }

    fn literal(&self, start: u16, len: u16) -> &[u8] {
        self.literals
            .get(usize::from(start)..usize::from(start).saturating_add(usize::from(len)))
            .unwrap_or_default()
    }

    /// The bytes that `one` takes.
    pub(super) fn one_set(&self, one: One) -> ByteSet {
        let mut set = ByteSet::NONE;
        match one {
            One::Byte(byte) | One::Not(byte) => set.insert(byte),
            One::Any => {}
            One::Set(index) => return self.sets.get(usize::from(index)).copied().unwrap_or(ByteSet::ANY),
        }
        if matches!(one, One::Byte(_)) { set } else { set.complement() }
    }

    /// What can come next if the program is to succeed from `at`.
    pub(super) fn first_set(&self, at: u16) -> ByteSet {
        self.explore(at, false).unwrap_or(ByteSet::ANY)
    }

    /// Follows every way from `at` up to what takes a byte, and gives the bytes and ends that can come
    /// there; `None` if that is not to be known. When `anchored` is asked for, a way may only end in
    /// [`Assert::Start`], and anything else gives `None`.
    pub(super) fn explore(&self, at: u16, anchored: bool) -> Option<ByteSet> {
        let mut set = ByteSet::NONE;
        let mut places = vec![at];
        let mut seen = 0usize;
        while let Some(&place) = places.get(seen) {
            if places.len() > MAX_PLACES {
                return None;
            }
            let known = places.iter().take(seen).any(|&other| other == place);
            seen = seen.wrapping_add(1);
            if known {
                continue;
            }
            let next = place.wrapping_add(1);
            match self.inst(place)? {
                Inst::Assert(Assert::Start) if anchored => {}
                Inst::Save(_) | Inst::Copy { .. } | Inst::LoopStart(_) | Inst::Atomic => places.push(next),
                Inst::Split { first, second, .. } => places.extend([first, second]),
                Inst::LoopEnd { exit, .. } => places.extend([next, exit]),
                // What a look-around asks for can only narrow what follows it.
                Inst::Jump(target) | Inst::Look { next: target, .. } => places.push(target),
                _ if anchored => return None,
                Inst::One(one) => set.union(&self.one_set(one)),
                Inst::Literal { start, len } | Inst::Folded { start, len } => {
                    let byte = *self.literal(start, len).first()?;
                    set.insert(byte);
                    if matches!(self.inst(place), Some(Inst::Folded { .. })) {
                        set.insert(byte.to_ascii_uppercase());
                    }
                }
                Inst::Repeat(index) => {
                    let repeat = self.repeats.get(usize::from(index))?;
                    set.union(&self.one_set(repeat.one));
                    if repeat.min == 0 {
                        places.push(next);
                    }
                }
                Inst::Assert(Assert::End) => set.end = true,
                Inst::Assert(Assert::EndOrNewline | Assert::LineEnd) => {
                    set.end = true;
                    set.insert(b'\n');
                }
                Inst::Assert(_) => places.push(next),
                // An atomic group keeps to its first way even if what follows fails, so what follows must
                // not prune the ways within. The same goes for a look-around.
                Inst::AtomicEnd
                | Inst::LookEnd
                | Inst::LookNot
                | Inst::Behind(_)
                | Inst::Backref { .. }
                | Inst::Match => return None,
            }
        }
        Some(set)
    }

    /// Whether nothing can fail from `at` on.
    pub(super) fn succeeds(&self, at: u16) -> bool {
        let mut at = at;
        while let Some(Inst::Save(_)) = self.inst(at) {
            at = at.wrapping_add(1);
        }
        matches!(self.inst(at), Some(Inst::Match))
    }

    /// The text that follows the place where every match begins. With `caseless` it is in lower case;
    /// without, it ends where the pattern begins to ignore case.
    pub(super) fn literal_prefix(&self, caseless: bool) -> Vec<u8> {
        let mut prefix = Vec::new();
        let mut at = 0u16;
        // A program's jumps forward only end at its end; backward ones are behind a split.
        while let Some(inst) = self.inst(at) {
            at = at.wrapping_add(1);
            match inst {
                Inst::One(One::Byte(byte)) => prefix.push(byte),
                Inst::Literal { start, len } => prefix.extend(self.literal(start, len)),
                Inst::Folded { start, len } if caseless => prefix.extend(self.literal(start, len)),
                Inst::Repeat(index) => {
                    let Some(repeat) = self.repeats.get(usize::from(index)) else { break };
                    let One::Byte(byte) = repeat.one else { break };
                    prefix.extend((0..repeat.min.min(MAX_REPEATED)).map(|_| byte));
                    if repeat.min != repeat.max || repeat.min > MAX_REPEATED {
                        break;
                    }
                }
                Inst::Look { next, .. } => at = next,
                Inst::Save(_)
                | Inst::Copy { .. }
                | Inst::LoopStart(_)
                | Inst::Assert(_)
                | Inst::Atomic
                | Inst::AtomicEnd => {}
                _ => break,
            }
        }
        if caseless {
            prefix.make_ascii_lowercase();
        }
        prefix
    }
}
