//! Compiles the tree of a pattern into a program for the backtracking matcher.
//!
//! Counted repetitions of groups are written out, as PCRE does; repetitions of a single byte are one
//! instruction. What can be known beforehand, such as the bytes that can begin a branch, comes from
//! [`super::analysis`]. Knows nothing of subjects.

use super::error::{Error, ErrorKind};
use super::parse::{Assert, Kind, Node, Parsed, UNBOUNDED};
use super::set::ByteSet;
use super::{MAX_LITERALS, MAX_PROGRAM};

/// Stands for "none" where an index is stored.
pub(super) const NONE: u16 = u16::MAX;
/// Up to how many sets are kept; a guard that needs one more is left out.
const MAX_GUARDS: usize = 512;

/// A test of one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum One {
    Byte(u8),
    /// Every byte but this.
    Not(u8),
    Any,
    /// Index into [`Program::sets`].
    Set(u16),
}

/// One step of a program. Numbers that name a place are indices into [`Program::insts`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Inst {
    One(One),
    /// A run of [`Program::literals`].
    Literal {
        start: u16,
        len: u16,
    },
    /// The same in either case; the literal is in lower case.
    Folded {
        start: u16,
        len: u16,
    },
    /// Index into [`Program::repeats`].
    Repeat(u16),
    /// Tries `first`, then `second`. The guards are sets without which a branch need not be tried.
    Split {
        first: u16,
        second: u16,
        first_guard: u16,
        second_guard: u16,
        memo: u16,
    },
    Jump(u16),
    /// Stores the position in a slot.
    Save(u16),
    /// Copies a slot: the start of a group counts when the group closes.
    Copy {
        from: u16,
        to: u16,
    },
    /// Begins a turn of a loop whose body may match nothing; the slot keeps where.
    LoopStart(u16),
    /// Ends such a turn, and the loop too if the turn matched nothing.
    LoopEnd {
        slot: u16,
        exit: u16,
    },
    Assert(Assert),
    /// Begins a look-around. A negative one goes on at `next` when its body fails.
    Look {
        negative: bool,
        next: u16,
    },
    /// The body of a positive look-around matched.
    LookEnd,
    /// The body of a negative look-around matched: fail.
    LookNot,
    Atomic,
    AtomicEnd,
    /// Steps back so many bytes.
    Behind(u32),
    Backref {
        group: u16,
        fold: bool,
    },
    Match,
}

/// A repetition of one byte.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat {
    pub(super) one: One,
    pub(super) kind: Kind,
    pub(super) min: u32,
    pub(super) max: u32,
    /// The set of what can follow.
    pub(super) guard: u16,
    /// Where it remembers: each turn, or where it began if the number of turns is bounded. [`NONE`] if there
    /// is no choice.
    pub(super) memo: u16,
}

/// A place where the matcher remembers that it has been there.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemoPoint {
    /// Number of states before this place.
    pub(super) base: u32,
    /// Inside how many loops that watch for empty turns.
    pub(super) depth: u16,
}

/// A compiled pattern. The vectors have no room to spare: there are thousands of programs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) insts: Vec<Inst>,
    pub(super) literals: Vec<u8>,
    /// The first one is [`ByteSet::ANY`].
    pub(super) sets: Vec<ByteSet>,
    pub(super) repeats: Vec<Repeat>,
    pub(super) memo: Vec<MemoPoint>,
    /// Number of states that [`Self::memo`] distinguishes at one position.
    pub(super) memo_states: u32,
    /// Whether what follows depends on place and position alone, so that remembering is sound: no
    /// back-reference, look-around or atomic group.
    pub(super) pure: bool,
    /// Number of groups, the whole match included. Group `n` has the slots `2n` and `2n + 1`.
    pub(super) groups: u16,
    /// The first slot of a loop; the slot of a loop is this plus its depth.
    pub(super) loop_slots: u16,
    pub(super) slots: u16,
    /// Set of what can begin a match.
    pub(super) first: u16,
    /// Every match begins at the start of the subject.
    pub(super) anchored: bool,
}

/// Compiles a tree.
pub(super) fn compile(parsed: &Parsed) -> Result<Program, Error> {
    let groups = parsed.groups.wrapping_add(1);
    let mut referenced = Vec::new();
    for (group, _) in &parsed.references {
        if !referenced.contains(group) {
            referenced.push(*group);
        }
    }
    let captures = groups.saturating_mul(2);
    let loop_slots = captures.saturating_add(referenced.len() as u16);
    let mut compiler = Compiler {
        parsed,
        referenced,
        loop_depth: 0,
        program: Program {
            insts: Vec::new(),
            literals: Vec::new(),
            sets: vec![ByteSet::ANY],
            repeats: Vec::new(),
            memo: Vec::new(),
            memo_states: 0,
            pure: true,
            groups,
            loop_slots,
            slots: loop_slots,
            first: 0,
            anchored: false,
        },
    };
    compiler.node(&parsed.root)?;
    compiler.push(Inst::Match)?;
    Ok(compiler.finish())
}

struct Compiler<'p> {
    parsed: &'p Parsed,
    /// The groups that back-references name.
    referenced: Vec<u16>,
    loop_depth: u16,
    program: Program,
}

const TOO_LARGE: Error = Error::new(0, ErrorKind::TooLarge);

impl Compiler<'_> {
    fn here(&self) -> u16 {
        self.program.insts.len() as u16
    }

    fn push(&mut self, inst: Inst) -> Result<u16, Error> {
        if self.program.insts.len() >= MAX_PROGRAM {
            return Err(TOO_LARGE);
        }
        let at = self.here();
        self.program.insts.push(inst);
        Ok(at)
    }

    /// Points the open end of an instruction here.
    fn land(&mut self, at: u16) {
        let here = self.here();
        match self.program.insts.get_mut(usize::from(at)) {
            Some(Inst::Split { second: target, .. }) if *target == NONE => *target = here,
            Some(
                Inst::Split { first: target, .. }
                | Inst::Jump(target)
                | Inst::LoopEnd { exit: target, .. }
                | Inst::Look { next: target, .. },
            ) => *target = here,
            _ => {}
        }
    }

    /// A choice between what comes next and a place to be named by [`Self::land`]; `lazy` tries that place
    /// first.
    fn split(&mut self, lazy: bool) -> Result<u16, Error> {
        let memo = self.memo_point();
        let next = self.here().wrapping_add(1);
        let (first, second) = if lazy { (NONE, next) } else { (next, NONE) };
        self.push(Inst::Split { first, second, first_guard: 0, second_guard: 0, memo })
    }

    fn memo_point(&mut self) -> u16 {
        let (base, depth) = (self.program.memo_states, self.loop_depth);
        let at = self.program.memo.len() as u16;
        self.program.memo.push(MemoPoint { base, depth });
        self.program.memo_states = base.saturating_add(u32::from(depth)).wrapping_add(1);
        at
    }

    /// The index of a set, which is added if need be; `None` when there are too many.
    fn set(&mut self, set: ByteSet, limit: usize) -> Option<u16> {
        let known = self.program.sets.iter().take(MAX_GUARDS).position(|other| *other == set);
        let at = known.unwrap_or(self.program.sets.len());
        if known.is_none() {
            if at >= limit {
                return None;
            }
            self.program.sets.push(set);
        }
        Some(at as u16)
    }

    fn one(&mut self, node: &Node) -> Option<One> {
        let set = match node {
            Node::Byte { byte, fold: false } => return Some(One::Byte(*byte)),
            Node::Byte { byte, .. } => {
                let mut both = ByteSet::NONE;
                both.insert(*byte);
                both.insert(byte.to_ascii_uppercase());
                both
            }
            Node::Set(set) => **set,
            _ => return None,
        };
        match set.len() {
            256 => Some(One::Any),
            255 => set.complement().first().map(One::Not),
            _ => self.set(set, usize::from(NONE)).map(One::Set),
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), Error> {
        match node {
            Node::Empty => {}
            Node::Byte { .. } => self.sequence(std::slice::from_ref(node))?,
            Node::Set(_) => {
                let one = self.one(node).ok_or(TOO_LARGE)?;
                self.push(Inst::One(one))?;
            }
            Node::Assert(assert) => {
                self.push(Inst::Assert(*assert))?;
            }
            Node::Keep => {
                self.push(Inst::Save(0))?;
            }
            Node::Capture(group, node) => self.capture(*group, node)?,
            Node::Cat(items) => self.sequence(items)?,
            Node::Alt(branches) => self.alternatives(branches, false, 0)?,
            Node::Repeat { node, min, max, kind } => self.repeat(node, *min, *max, *kind)?,
            Node::Look { node, behind, negative, at } => self.look(node, *behind, *negative, *at)?,
            Node::Atomic(node) => self.atomic(|compiler| compiler.node(node))?,
            Node::Backref(index) => {
                self.program.pure = false;
                if let Some(&(group, fold)) = self.parsed.references.get(usize::from(*index)) {
                    self.push(Inst::Backref { group, fold })?;
                }
            }
        }
        Ok(())
    }

    /// Items in a row; literal bytes are gathered into runs of one way to compare.
    fn sequence(&mut self, items: &[Node]) -> Result<(), Error> {
        let mut rest = items;
        while let Some((item, after)) = rest.split_first() {
            let Node::Byte { .. } = item else {
                self.node(item)?;
                rest = after;
                continue;
            };
            let start = self.program.literals.len();
            let mut run_folds = None;
            while let Some((&Node::Byte { byte, fold }, after)) = rest.split_first() {
                if byte.is_ascii_alphabetic() && *run_folds.get_or_insert(fold) != fold {
                    break;
                }
                self.program.literals.push(byte);
                rest = after;
            }
            let len = self.program.literals.len().saturating_sub(start) as u16;
            if self.program.literals.len() > MAX_LITERALS {
                return Err(TOO_LARGE);
            }
            let start = start as u16;
            let inst = match (run_folds, self.program.literals.last()) {
                (Some(true), _) => Inst::Folded { start, len },
                (_, Some(&byte)) if len == 1 => {
                    self.program.literals.pop();
                    Inst::One(One::Byte(byte))
                }
                _ => Inst::Literal { start, len },
            };
            self.push(inst)?;
        }
        Ok(())
    }

    fn capture(&mut self, group: u16, node: &Node) -> Result<(), Error> {
        let start = group.saturating_mul(2);
        // A back-reference inside the group still sees the text of the turn before, so the new start waits.
        let waiting = self
            .referenced
            .iter()
            .position(|&other| other == group)
            .map(|rank| self.program.groups.saturating_mul(2).saturating_add(rank as u16));
        self.push(Inst::Save(waiting.unwrap_or(start)))?;
        self.node(node)?;
        if let Some(from) = waiting {
            self.push(Inst::Copy { from, to: start })?;
        }
        self.push(Inst::Save(start.wrapping_add(1)))?;
        Ok(())
    }

    /// Branches in order; in a look-behind each steps back its own length first.
    fn alternatives(&mut self, branches: &[Node], behind: bool, at: usize) -> Result<(), Error> {
        let mut ends = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            let last = index.wrapping_add(1) == branches.len();
            let split = if last { None } else { Some(self.split(false)?) };
            if behind {
                self.behind(branch, at)?;
            }
            self.node(branch)?;
            if let Some(split) = split {
                ends.push(self.push(Inst::Jump(NONE))?);
                self.land(split);
            }
        }
        for end in ends {
            self.land(end);
        }
        Ok(())
    }

    fn behind(&mut self, branch: &Node, at: usize) -> Result<(), Error> {
        let (min, max) = branch.lengths();
        if min != max {
            return Err(Error::new(at, ErrorKind::LookbehindLength));
        }
        self.push(Inst::Behind(min))?;
        Ok(())
    }

    fn look(&mut self, node: &Node, behind: bool, negative: bool, at: usize) -> Result<(), Error> {
        self.program.pure = false;
        let look = self.push(Inst::Look { negative, next: NONE })?;
        match node {
            Node::Alt(branches) => self.alternatives(branches, behind, at)?,
            _ => {
                if behind {
                    self.behind(node, at)?;
                }
                self.node(node)?;
            }
        }
        self.push(if negative { Inst::LookNot } else { Inst::LookEnd })?;
        self.land(look);
        Ok(())
    }

    fn atomic(&mut self, body: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        self.program.pure = false;
        self.push(Inst::Atomic)?;
        body(self)?;
        self.push(Inst::AtomicEnd)?;
        Ok(())
    }

    fn repeat(&mut self, node: &Node, min: u32, max: u32, kind: Kind) -> Result<(), Error> {
        if max == 0 {
            // Compiled for its errors only.
            let end = self.program.insts.len();
            self.node(node)?;
            self.program.insts.truncate(end);
            return Ok(());
        }
        if (min, max, kind) != (1, 1, Kind::Possessive)
            && let Some(one) = self.one(node)
        {
            let memo = if min == max { NONE } else { self.memo_point() };
            let at = self.program.repeats.len() as u16;
            self.program.repeats.push(Repeat { one, kind, min, max, guard: 0, memo });
            self.push(Inst::Repeat(at))?;
            return Ok(());
        }
        match (kind, node) {
            // Looking on and on at the same place is of no use; PCRE2 looks once more than it must.
            (_, Node::Look { .. }) if max == UNBOUNDED => {
                self.copies(node, min, min.wrapping_add(1), kind == Kind::Lazy)
            }
            (Kind::Possessive, _) => self.atomic(|compiler| compiler.copies(node, min, max, false)),
            _ => self.copies(node, min, max, kind == Kind::Lazy),
        }
    }

    /// Writes a repetition out: `x{2,4}` as `xx(x(x)?)?`, `x{2,}` as `xx+`.
    fn copies(&mut self, node: &Node, min: u32, max: u32, lazy: bool) -> Result<(), Error> {
        let unbounded = max == UNBOUNDED;
        for _ in 0..min.saturating_sub(u32::from(unbounded)) {
            let before = self.here();
            self.node(node)?;
            if self.here() == before {
                return Ok(()); // Nothing any number of times is nothing.
            }
        }
        if unbounded {
            return self.endless(node, min == 0, lazy);
        }
        let mut ends = Vec::new();
        for _ in min..max {
            ends.push(self.split(lazy)?);
            self.node(node)?;
        }
        for end in ends {
            self.land(end);
        }
        Ok(())
    }

    /// A loop without an upper bound. A turn that matched nothing ends it.
    fn endless(&mut self, node: &Node, skippable: bool, lazy: bool) -> Result<(), Error> {
        let head = self.here();
        let skip = if skippable { Some(self.split(lazy)?) } else { None };
        let slot = (node.lengths().0 == 0).then(|| self.program.loop_slots.saturating_add(self.loop_depth));
        if let Some(slot) = slot {
            self.loop_depth = self.loop_depth.wrapping_add(1);
            self.program.slots = self.program.slots.max(slot.wrapping_add(1));
            self.push(Inst::LoopStart(slot))?;
        }
        self.node(node)?;
        let mut empty = None;
        if let Some(slot) = slot {
            self.loop_depth = self.loop_depth.wrapping_sub(1);
            empty = Some(self.push(Inst::LoopEnd { slot, exit: NONE })?);
        }
        if let Some(skip) = skip {
            self.push(Inst::Jump(head))?;
            self.land(skip);
        } else {
            let split = self.split(lazy)?;
            let here = self.here();
            if let Some(Inst::Split { first, second, .. }) = self.program.insts.get_mut(usize::from(split)) {
                (*first, *second) = if lazy { (here, head) } else { (head, here) };
            }
        }
        if let Some(empty) = empty {
            self.land(empty);
        }
        Ok(())
    }

    /// Adds what the analysis finds.
    fn finish(mut self) -> Program {
        for at in 0..self.here() {
            match self.program.insts.get(usize::from(at)) {
                Some(&Inst::Split { first, second, .. }) => {
                    let (one, two) = (self.guard(first), self.guard(second));
                    if let Some(Inst::Split { first_guard, second_guard, .. }) =
                        self.program.insts.get_mut(usize::from(at))
                    {
                        (*first_guard, *second_guard) = (one, two);
                    }
                }
                Some(&Inst::Repeat(index)) => self.follow(index, at.wrapping_add(1)),
                _ => {}
            }
        }
        let first = self.guard(0);
        let mut program = self.program;
        program.first = first;
        program.anchored = program.explore(0, true).is_some();
        program.insts.shrink_to_fit();
        program.literals.shrink_to_fit();
        program.sets.shrink_to_fit();
        program.repeats.shrink_to_fit();
        program.memo.shrink_to_fit();
        program
    }

    fn guard(&mut self, at: u16) -> u16 {
        let set = self.program.first_set(at);
        self.set(set, MAX_GUARDS).unwrap_or(0)
    }

    /// Gives a repetition the guard of what follows. One that could only give back what cannot follow, or
    /// that is followed by success, gives nothing back.
    fn follow(&mut self, index: u16, next: u16) {
        let guard = self.guard(next);
        let set = self.program.sets.get(usize::from(guard)).copied().unwrap_or(ByteSet::ANY);
        let success = self.program.succeeds(next);
        let Some(repeat) = self.program.repeats.get(usize::from(index)).copied() else { return };
        let own = self.program.one_set(repeat.one);
        if let Some(repeat) = self.program.repeats.get_mut(usize::from(index)) {
            repeat.guard = guard;
            if repeat.kind == Kind::Greedy && (success || !own.meets(&set)) {
                repeat.kind = Kind::Possessive;
            }
        }
    }
}
