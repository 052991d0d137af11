//! Runs a program over a subject: backtracking with a stack of its own, within limits.
//!
//! The order in which ways are tried is PCRE's, so the first match found is the one PCRE finds. A match that
//! takes long is started anew with a memory of the places where it has been; it then never tries a place
//! twice, and its time grows with the product of pattern and subject only. A program that must not remember
//! (see [`Program::pure`]) has a step budget instead.

use std::ops::Range;

use super::error::LimitExceeded;
use super::parse::{Assert, Kind, UNBOUNDED};
use super::program::{Inst, One, Program, Repeat};
use super::set::ByteSet;
use super::{MAX_FRAMES, MAX_MEMO_BITS, MAX_STEPS, MAX_STEPS_REMEMBERING, STEPS_BEFORE_REMEMBERING};

/// A slot or frame index that is not set.
const UNSET: u32 = u32::MAX;

/// The memory of a match, to be kept and used again: after a few matches none allocates any more. It holds
/// nothing of a match that the next one reads, so one will do for all expressions of a thread.
#[derive(Debug)]
pub struct Scratch {
    slots: Vec<u32>,
    stack: Vec<Frame>,
    memo: Vec<u32>,
    /// Steps, besides eight for each byte of the subject, before a match begins to remember.
    pub(super) patience: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        let patience = STEPS_BEFORE_REMEMBERING;
        Self { slots: Vec::new(), stack: Vec::new(), memo: Vec::new(), patience }
    }
}

/// Where a match and its groups are. Borrows the [`Scratch`], not the expression.
#[derive(Debug, Clone, Copy)]
pub struct Captures<'r> {
    slots: &'r [u32],
}

impl Captures<'_> {
    /// The bytes that a group matched; group 0 is the whole match. `None` if the group took no part or does
    /// not exist.
    #[must_use]
    pub fn get(&self, group: usize) -> Option<Range<usize>> {
        let at = group.checked_mul(2)?;
        let (&start, &end) = (self.slots.get(at)?, self.slots.get(at.checked_add(1)?)?);
        (end != UNSET).then_some(start as usize..end as usize)
    }

    /// Number of groups, the whole match included.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "group 0 always exists")]
    pub fn len(&self) -> usize {
        self.slots.len() >> 1
    }
}

/// What to do when the current way fails.
#[derive(Debug, Clone, Copy)]
enum Frame {
    /// Go on there.
    Branch { pc: u32, pos: u32 },
    /// Restore a slot and go on failing.
    Undo { slot: u32, old: u32 },
    /// A greedy repetition at `pc` may give back: its end may be any position from `low` to below `high`.
    Give { pc: u32, low: u32, high: u32 },
    /// A lazy repetition at `pc` may take up to `left` bytes more from `pos`.
    Take { pc: u32, pos: u32, left: u32 },
    /// The floor of a look-around or atomic group begun at `pos`; `outer` is the floor below. A negative
    /// look-around goes on at `next`.
    Floor { outer: u32, pos: u32, next: u32 },
}

/// Looks for the first match.
pub(super) fn search<'r>(
    program: &Program,
    subject: &[u8],
    scratch: &'r mut Scratch,
) -> Result<Option<Captures<'r>>, LimitExceeded> {
    if subject.len() >= UNSET as usize {
        return Err(LimitExceeded);
    }
    let first = program.sets.get(usize::from(program.first)).ok_or(LimitExceeded)?;
    let last = if program.anchored { 0 } else { subject.len() };
    if program.anchored && !first.accepts(subject.first()) {
        return Ok(None);
    }
    scratch.slots.clear();
    scratch.slots.resize(usize::from(program.slots), UNSET);
    scratch.stack.clear();
    let memo_bits = (program.memo_states as usize).saturating_mul(subject.len().saturating_add(1));
    let remembers = program.pure && memo_bits <= MAX_MEMO_BITS;
    let patience = match scratch.patience {
        0 => 0,
        steps => steps.saturating_add(subject.len().saturating_mul(8)).min(MAX_STEPS),
    };
    let mut matcher = Matcher {
        program,
        subject,
        slots: &mut scratch.slots,
        stack: &mut scratch.stack,
        memo: &mut scratch.memo,
        remembering: false,
        steps: if remembers { patience } else { MAX_STEPS },
        floor: UNSET,
    };
    let mut start = 0usize;
    while start <= last {
        if first.accepts(subject.get(start)) {
            let outcome = match matcher.run(start) {
                Err(LimitExceeded) if remembers && !matcher.remembering => {
                    matcher.remember(memo_bits);
                    matcher.run(start)
                }
                outcome => outcome,
            };
            if outcome? {
                let slots = scratch.slots.get(..usize::from(program.groups).saturating_mul(2));
                return Ok(Some(Captures { slots: slots.unwrap_or_default() }));
            }
        }
        start = start.wrapping_add(1);
    }
    Ok(None)
}

struct Matcher<'a> {
    program: &'a Program,
    subject: &'a [u8],
    slots: &'a mut Vec<u32>,
    stack: &'a mut Vec<Frame>,
    /// One bit for each state and position where the match has been, while `remembering`.
    memo: &'a mut Vec<u32>,
    remembering: bool,
    /// Steps left.
    steps: usize,
    /// Index of the innermost [`Frame::Floor`].
    floor: u32,
}

impl Matcher<'_> {
    fn remember(&mut self, bits: usize) {
        self.memo.clear();
        self.memo.resize(bits.div_ceil(32), 0);
        self.remembering = true;
        self.steps = MAX_STEPS_REMEMBERING;
    }

    /// Marks a memo point at a position; true if the match has been there in the same state, in vain.
    fn been(&mut self, point: u16, pos: usize) -> bool {
        let Some(point) = self.program.memo.get(usize::from(point)) else { return false };
        // What follows depends on which of the enclosing loops are in a turn that matched nothing yet.
        // Those are always the innermost ones.
        let first = usize::from(self.program.loop_slots);
        let turns = self.slots.get(first..first.saturating_add(usize::from(point.depth))).unwrap_or_default();
        let empty = turns.iter().rev().take_while(|&&start| start as usize == pos).count();
        let state = (point.base as usize).saturating_add(empty);
        let bit = state.saturating_mul(self.subject.len().saturating_add(1)).saturating_add(pos);
        let Some(word) = self.memo.get_mut(bit >> 5) else { return false };
        let mask = 1u32.wrapping_shl(bit as u32);
        let been = *word & mask != 0;
        *word |= mask;
        been
    }

    fn spend(&mut self, steps: usize) -> Result<(), LimitExceeded> {
        self.steps = self.steps.checked_sub(steps).ok_or(LimitExceeded)?;
        Ok(())
    }

    fn push(&mut self, frame: Frame) -> Result<(), LimitExceeded> {
        if self.stack.len() >= MAX_FRAMES {
            return Err(LimitExceeded);
        }
        self.stack.push(frame);
        Ok(())
    }

    /// Sets a slot, and has it restored if this way fails. With an empty stack there is no other way.
    fn store(&mut self, slot: u16, value: u32) -> Result<(), LimitExceeded> {
        let Some(place) = self.slots.get_mut(usize::from(slot)) else { return Ok(()) };
        let old = std::mem::replace(place, value);
        if self.stack.is_empty() {
            return Ok(());
        }
        self.push(Frame::Undo { slot: u32::from(slot), old })
    }

    fn slot(&self, slot: u16) -> u32 {
        self.slots.get(usize::from(slot)).copied().unwrap_or(UNSET)
    }

    fn accepts(&self, set: u16, pos: usize) -> bool {
        set == 0
            || self.program.sets.get(usize::from(set)).is_some_and(|set| set.accepts(self.subject.get(pos)))
    }

    #[inline]
    fn takes(&self, one: One, pos: usize) -> bool {
        let Some(&byte) = self.subject.get(pos) else { return false };
        match one {
            One::Byte(wanted) => byte == wanted,
            One::Not(unwanted) => byte != unwanted,
            One::Any => true,
            One::Set(index) => self.set(index).contains(byte),
        }
    }

    fn set(&self, index: u16) -> &ByteSet {
        self.program.sets.get(usize::from(index)).unwrap_or(&ByteSet::NONE)
    }

    /// How many bytes from `pos`, at most `max`, a repetition takes.
    fn scan(&self, one: One, pos: usize, max: u32) -> usize {
        let rest = self.subject.get(pos..).unwrap_or_default();
        let rest = rest.get(..max as usize).unwrap_or(rest);
        let end = match one {
            One::Byte(wanted) => rest.iter().position(|&byte| byte != wanted),
            One::Not(unwanted) => rest.iter().position(|&byte| byte == unwanted),
            One::Any => None,
            One::Set(index) => {
                let set = self.set(index);
                rest.iter().position(|&byte| !set.contains(byte))
            }
        };
        end.unwrap_or(rest.len())
    }

    /// Tries to match at `start` and nowhere else.
    fn run(&mut self, start: usize) -> Result<bool, LimitExceeded> {
        self.stack.clear();
        self.slots.fill(UNSET);
        self.floor = UNSET;
        if let Some(slot) = self.slots.first_mut() {
            *slot = start as u32;
        }
        let program = self.program;
        let (mut pc, mut pos) = (0usize, start);
        loop {
            self.spend(1)?;
            let next = pc.wrapping_add(1);
            let Some(inst) = program.insts.get(pc) else { return Ok(false) };
            // Where to go on, or none if this way fails.
            let to = match *inst {
                Inst::One(one) => self.takes(one, pos).then(|| (next, pos.wrapping_add(1))),
                Inst::Literal { start, len } | Inst::Folded { start, len } => {
                    let folded = matches!(inst, Inst::Folded { .. });
                    self.literal(start, len, folded, pos)?.map(|end| (next, end))
                }
                Inst::Repeat(index) => match program.repeats.get(usize::from(index)) {
                    Some(repeat) => self.repeat(repeat, pc, pos)?.map(|end| (next, end)),
                    None => None,
                },
                Inst::Split { first, second, first_guard, second_guard, memo } => {
                    if self.remembering && self.been(memo, pos) {
                        None
                    } else if !self.accepts(first_guard, pos) {
                        Some((usize::from(second), pos))
                    } else {
                        if self.accepts(second_guard, pos) {
                            self.push(Frame::Branch { pc: u32::from(second), pos: pos as u32 })?;
                        }
                        Some((usize::from(first), pos))
                    }
                }
                Inst::Jump(target) => Some((usize::from(target), pos)),
                Inst::Save(slot) | Inst::LoopStart(slot) => {
                    self.store(slot, pos as u32)?;
                    Some((next, pos))
                }
                Inst::Copy { from, to } => {
                    self.store(to, self.slot(from))?;
                    Some((next, pos))
                }
                Inst::LoopEnd { slot, exit } => {
                    let empty = self.slot(slot) as usize == pos;
                    Some((if empty { usize::from(exit) } else { next }, pos))
                }
                Inst::Assert(assert) => self.holds(assert, pos).then_some((next, pos)),
                Inst::Look { negative, next: after } => {
                    self.raise(pos, if negative { u32::from(after) } else { UNSET })?;
                    Some((next, pos))
                }
                Inst::Atomic => {
                    self.raise(pos, UNSET)?;
                    Some((next, pos))
                }
                Inst::LookEnd => self.settle().map(|begun| (next, begun)),
                Inst::AtomicEnd => self.settle().map(|_| (next, pos)),
                Inst::LookNot => {
                    self.drop_floor();
                    None
                }
                Inst::Behind(len) => pos.checked_sub(len as usize).map(|pos| (next, pos)),
                Inst::Backref { group, fold } => self.again(group, fold, pos)?.map(|end| (next, end)),
                Inst::Match => {
                    if let Some(slot) = self.slots.get_mut(1) {
                        *slot = pos as u32;
                    }
                    return Ok(true);
                }
            };
            (pc, pos) = match to {
                Some(to) => to,
                None => match self.backtrack()? {
                    Some(to) => to,
                    None => return Ok(false),
                },
            };
        }
    }

    /// The end of a literal that stands at `pos`.
    fn literal(
        &mut self,
        start: u16,
        len: u16,
        folded: bool,
        pos: usize,
    ) -> Result<Option<usize>, LimitExceeded> {
        let (start, len) = (usize::from(start), usize::from(len));
        let end = pos.saturating_add(len);
        let (Some(wanted), Some(found)) =
            (self.program.literals.get(start..start.saturating_add(len)), self.subject.get(pos..end))
        else {
            return Ok(None);
        };
        self.spend(len >> 4)?;
        let same = if folded { found.eq_ignore_ascii_case(wanted) } else { found == wanted };
        Ok(same.then_some(end))
    }

    /// The end of what a group matched, if it stands at `pos` again.
    fn again(&mut self, group: u16, fold: bool, pos: usize) -> Result<Option<usize>, LimitExceeded> {
        let slot = group.saturating_mul(2);
        let (start, end) = (self.slot(slot), self.slot(slot.saturating_add(1)));
        let Some(text) = self.subject.get(start as usize..end as usize) else { return Ok(None) };
        self.spend(text.len() >> 4)?;
        let end = pos.saturating_add(text.len());
        let Some(found) = self.subject.get(pos..end) else { return Ok(None) };
        let same = if fold { found.eq_ignore_ascii_case(text) } else { found == text };
        Ok(same.then_some(end))
    }

    /// Begins a repetition of one byte; gives where it ends first.
    fn repeat(&mut self, repeat: &Repeat, pc: usize, pos: usize) -> Result<Option<usize>, LimitExceeded> {
        let endless = repeat.max == UNBOUNDED;
        if self.remembering && !endless && self.been(repeat.memo, pos) {
            return Ok(None);
        }
        let mut low = pos;
        if repeat.min > 0 {
            low = pos.saturating_add(self.scan(repeat.one, pos, repeat.min));
            if low.saturating_sub(pos) < repeat.min as usize {
                return Ok(None);
            }
        }
        let left = if endless { UNBOUNDED } else { repeat.max.saturating_sub(repeat.min) };
        if repeat.kind == Kind::Lazy {
            self.spend(low.saturating_sub(pos) >> 4)?;
            return self.take(repeat, pc, low, left);
        }
        let mut high = low;
        let mut been = false;
        if endless && self.remembering {
            loop {
                been = self.been(repeat.memo, high);
                if been || !self.takes(repeat.one, high) {
                    break;
                }
                high = high.wrapping_add(1);
            }
        } else {
            high = low.saturating_add(self.scan(repeat.one, low, left));
        }
        self.spend(high.saturating_sub(pos) >> 4)?;
        if repeat.kind == Kind::Possessive {
            return Ok((!been).then_some(high));
        }
        // Where it has been before is not an end to try.
        let end = if been { high } else { high.wrapping_add(1) };
        self.give(repeat, pc, low, end)
    }

    /// Picks the last position from `low` to below `high` where what follows a repetition may begin.
    fn give(
        &mut self,
        repeat: &Repeat,
        pc: usize,
        low: usize,
        high: usize,
    ) -> Result<Option<usize>, LimitExceeded> {
        let mut end = high;
        while end > low {
            end = end.wrapping_sub(1);
            if self.accepts(repeat.guard, end) {
                if end > low {
                    self.push(Frame::Give { pc: pc as u32, low: low as u32, high: end as u32 })?;
                }
                self.spend(high.wrapping_sub(end) >> 3)?;
                return Ok(Some(end));
            }
        }
        self.spend(high.wrapping_sub(low) >> 3)?;
        Ok(None)
    }

    /// Picks the first position from `pos` where what follows a lazy repetition may begin; on the way the
    /// repetition takes up to `left` bytes.
    fn take(
        &mut self,
        repeat: &Repeat,
        pc: usize,
        pos: usize,
        left: u32,
    ) -> Result<Option<usize>, LimitExceeded> {
        let (mut pos, mut left) = (pos, left);
        let mut work = 0usize;
        loop {
            if self.remembering && left == UNBOUNDED && self.been(repeat.memo, pos) {
                return Ok(None);
            }
            if self.accepts(repeat.guard, pos) {
                if left > 0 {
                    self.push(Frame::Take { pc: pc as u32, pos: pos as u32, left })?;
                }
                break;
            }
            if left == 0 || !self.takes(repeat.one, pos) {
                return Ok(None);
            }
            pos = pos.wrapping_add(1);
            work = work.wrapping_add(1);
            if left != UNBOUNDED {
                left = left.wrapping_sub(1);
            }
        }
        self.spend(work >> 3)?;
        Ok(Some(pos))
    }

    /// Undoes the last steps up to the next way that is left.
    fn backtrack(&mut self) -> Result<Option<(usize, usize)>, LimitExceeded> {
        let program = self.program;
        let repeat_at = |pc: u32| match program.insts.get(pc as usize) {
            Some(&Inst::Repeat(index)) => program.repeats.get(usize::from(index)),
            _ => None,
        };
        while let Some(frame) = self.stack.pop() {
            match frame {
                Frame::Branch { pc, pos } => return Ok(Some((pc as usize, pos as usize))),
                Frame::Undo { slot, old } => self.restore(slot, old),
                Frame::Give { pc, low, high } => {
                    let Some(repeat) = repeat_at(pc) else { continue };
                    if let Some(end) = self.give(repeat, pc as usize, low as usize, high as usize)? {
                        return Ok(Some(((pc as usize).wrapping_add(1), end)));
                    }
                }
                Frame::Take { pc, pos, left } => {
                    let Some(repeat) = repeat_at(pc) else { continue };
                    let pos = pos as usize;
                    if !self.takes(repeat.one, pos) {
                        continue;
                    }
                    let left = if left == UNBOUNDED { left } else { left.wrapping_sub(1) };
                    if let Some(end) = self.take(repeat, pc as usize, pos.wrapping_add(1), left)? {
                        return Ok(Some(((pc as usize).wrapping_add(1), end)));
                    }
                }
                Frame::Floor { outer, pos, next } => {
                    self.floor = outer;
                    if next != UNSET {
                        return Ok(Some((next as usize, pos as usize)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn restore(&mut self, slot: u32, old: u32) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = old;
        }
    }

    /// Lays the floor of a look-around or atomic group.
    fn raise(&mut self, pos: usize, next: u32) -> Result<(), LimitExceeded> {
        let floor = self.stack.len() as u32;
        self.push(Frame::Floor { outer: self.floor, pos: pos as u32, next })?;
        self.floor = floor;
        Ok(())
    }

    /// Ends a look-around or atomic group that matched: the ways left in it are dropped, its captures stay
    /// and can still be undone. Gives where it began.
    fn settle(&mut self) -> Option<usize> {
        let floor = self.floor as usize;
        let Some(&Frame::Floor { outer, pos, .. }) = self.stack.get(floor) else { return None };
        self.floor = outer;
        // With nothing below the floor there is no way left that would want the old captures.
        let mut kept = floor;
        if floor > 0 {
            for index in floor.wrapping_add(1)..self.stack.len() {
                if matches!(self.stack.get(index), Some(Frame::Undo { .. })) {
                    self.stack.swap(kept, index);
                    kept = kept.wrapping_add(1);
                }
            }
        }
        self.stack.truncate(kept);
        Some(pos as usize)
    }

    /// Ends a negative look-around whose body matched, with all that was done in it.
    fn drop_floor(&mut self) {
        while let Some(frame) = self.stack.pop() {
            match frame {
                Frame::Undo { slot, old } => self.restore(slot, old),
                Frame::Floor { outer, .. } => {
                    self.floor = outer;
                    return;
                }
                _ => {}
            }
        }
    }

    fn holds(&self, assert: Assert, pos: usize) -> bool {
        let next = self.subject.get(pos);
        let before = pos.checked_sub(1).and_then(|at| self.subject.get(at));
        let is_word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        match assert {
            Assert::Start => pos == 0,
            Assert::LineStart => pos == 0 || (before == Some(&b'\n') && next.is_some()),
            Assert::End => next.is_none(),
            Assert::EndOrNewline => {
                next.is_none() || (next == Some(&b'\n') && self.subject.len().saturating_sub(pos) == 1)
            }
            Assert::LineEnd => next.is_none_or(|&byte| byte == b'\n'),
            Assert::WordBoundary => is_word(before) != is_word(next),
            Assert::NotWordBoundary => is_word(before) == is_word(next),
        }
    }
}
