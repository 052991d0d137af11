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

    /// Visits the places that can be reached from `at`, as `step` names what follows each. Stops and says
    /// no when `step` does, or when there are too many places.
    fn visit(&self, at: u16, mut step: impl FnMut(u16, Inst, &mut Vec<u16>) -> bool) -> bool {
        let mut places = vec![at];
        let mut seen = 0usize;
        while let Some(&place) = places.get(seen) {
            seen = seen.saturating_add(1);
            if places.iter().take(seen.saturating_sub(1)).any(|&other| other == place) {
                continue;
            }
            let Some(inst) = self.inst(place) else { return false };
            if places.len() > MAX_PLACES || !step(place, inst, &mut places) {
                return false;
            }
        }
        true
    }

    /// What can come next if the program is to succeed from `at`.
    pub(super) fn first_set(&self, at: u16) -> ByteSet {
        let mut set = ByteSet::NONE;
        let known = self.visit(at, |place, inst, places| {
            let next = place.saturating_add(1);
            match inst {
                Inst::One(one) => set.union(&self.one_set(one)),
                Inst::Literal { start, len } => {
                    self.literal(start, len).iter().take(1).for_each(|&byte| set.insert(byte));
                }
                Inst::Folded { start, len } => {
                    for byte in self.literal(start, len).iter().take(1) {
                        set.insert(*byte);
                        set.insert(byte.to_ascii_uppercase());
                    }
                }
                Inst::Repeat(index) => {
                    let Some(repeat) = self.repeats.get(usize::from(index)) else { return false };
                    set.union(&self.one_set(repeat.one));
                    if repeat.min == 0 {
                        places.push(next);
                    }
                }
                Inst::Split { first, second, .. } => places.extend([first, second]),
                Inst::Jump(target) => places.push(target),
                Inst::LoopEnd { exit, .. } => places.extend([next, exit]),
                Inst::Assert(Assert::End) => set.end = true,
                Inst::Assert(Assert::EndOrNewline | Assert::LineEnd) => {
                    set.end = true;
                    set.insert(b'\n');
                }
                // What a look-around asks for can only narrow what follows it.
                Inst::Look { next, .. } => places.push(next),
                Inst::Save(_) | Inst::Copy { .. } | Inst::LoopStart(_) | Inst::Assert(_) | Inst::Atomic => {
                    places.push(next)
                }
                // An atomic group keeps to its first way even if what follows fails, so what follows must
                // not prune the ways within. The same goes for a look-around.
                Inst::AtomicEnd
                | Inst::LookEnd
                | Inst::LookNot
                | Inst::Behind(_)
                | Inst::Backref { .. }
                | Inst::Match => {
                    return false;
                }
            }
            true
        });
        if known { set } else { ByteSet::ANY }
    }

    /// Whether nothing can fail from `at` on.
    pub(super) fn succeeds(&self, at: u16) -> bool {
        let mut at = at;
        while let Some(Inst::Save(_)) = self.inst(at) {
            at = at.saturating_add(1);
        }
        matches!(self.inst(at), Some(Inst::Match))
    }

    /// Whether every way through the program asks for the start of the subject before anything else.
    pub(super) fn is_anchored(&self) -> bool {
        self.visit(0, |place, inst, places| {
            let next = place.saturating_add(1);
            match inst {
                Inst::Assert(Assert::Start) => {}
                Inst::Split { first, second, .. } => places.extend([first, second]),
                Inst::Jump(target) | Inst::Look { next: target, .. } => places.push(target),
                Inst::LoopEnd { exit, .. } => places.extend([next, exit]),
                Inst::Save(_) | Inst::Copy { .. } | Inst::LoopStart(_) | Inst::Assert(_) | Inst::Atomic => {
                    places.push(next);
                }
                _ => return false,
            }
            true
        })
    }

    /// The text that follows the place where every match begins. With `caseless` it is in lower case;
    /// without, it ends where the pattern begins to ignore case.
    pub(super) fn literal_prefix(&self, caseless: bool) -> Vec<u8> {
        let mut prefix = Vec::new();
        let mut at = 0u16;
        // A program's jumps forward only end at its end; backward ones are behind a split.
        while let Some(inst) = self.inst(at) {
            at = at.saturating_add(1);
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
