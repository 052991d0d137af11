//! Hosts in several documents: the table that each comes to, and how they serve together. A host without aliases
//! is in the part that the hash of its name tells, so that a request looks into one part only; a part is taken
//! over as it is where another document changes.

use std::rc::Rc;

use super::hosts::{HostMatch, Hosts};
use super::table::{CompiledHost, CompiledRule, Fault, RoutingTable};

/// How many parts a configuration may have.
pub const MOST_PARTS: usize = 512;
/// How many numbers the rules of one document have.
pub(super) const RULE_NUMBERS: u32 = 1 << 22;

/// The part, of so many, that a host is in: by its name, of a wildcard by what follows the `*`.
pub fn part_of(name: &[u8], parts: usize) -> usize {
    let hash =
        name.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).ok().and_then(|hash| hash.checked_rem(parts)).unwrap_or(0)
}

/// What [`part_of`] is asked for the name of a host entry.
pub fn part_key(name: &str) -> &[u8] {
    name.strip_prefix('*').filter(|suffix| suffix.starts_with('.')).unwrap_or(name).as_bytes()
}

/// The hosts of one document.
#[derive(Debug)]
pub(super) struct HostTable {
    pub(super) names: Hosts,
    /// Names that there is a certificate for.
    pub(super) certificates: Hosts,
    pub(super) hosts: Box<[CompiledHost]>,
    pub(super) faults: Vec<Fault>,
    pub(super) needs_clock: bool,
    pub(super) counts_connections: bool,
}

/// The hosts of a document that is a part of a configuration.
#[derive(Debug)]
pub struct Part {
    /// Its number, from 0.
    pub number: u32,
    /// Names its content.
    pub generation: Box<str>,
    /// How many parts there are.
    pub(super) of: u32,
    pub(super) hosts: HostTable,
}

impl Part {
    /// How many hosts it has.
    pub fn hosts(&self) -> usize {
        self.hosts.hosts.len()
    }

    /// As [`RoutingTable::faults`].
    pub fn faults(&self) -> &[Fault] {
        &self.hosts.faults
    }
}

/// What a document comes to.
#[derive(Debug)]
pub enum Document {
    /// All that is served, once the parts that it names are there.
    Whole(Box<Draft>),
    /// A part of another.
    Part(Rc<Part>),
}

/// A table whose parts have yet to be put in.
#[derive(Debug)]
pub struct Draft {
    pub(super) table: RoutingTable,
    pub(super) parts: Box<[Box<str>]>,
}

impl Draft {
    /// The generations of the parts, by their numbers.
    pub fn parts(&self) -> &[Box<str>] {
        &self.parts
    }

    /// Names the content of the whole.
    pub fn generation(&self) -> &str {
        &self.table.generation
    }

    /// As [`RoutingTable::faults`].
    pub fn faults(&self) -> &[Fault] {
        self.table.faults()
    }

    /// The table; none while it lacks a part. `parts` gives those that there are, by number and generation.
    ///
    /// # Errors
    ///
    /// The draft, unchanged.
    pub fn complete(
        mut self: Box<Self>,
        mut parts: impl FnMut(usize, &str) -> Option<Rc<Part>>,
    ) -> Result<RoutingTable, Box<Draft>> {
        let count = self.parts.len();
        let fits = |part: &Rc<Part>| usize::try_from(part.of) == Ok(count);
        let found: Option<Box<[Rc<Part>]>> = (0..)
            .zip(&self.parts)
            .map(|(number, generation)| parts(number, generation).filter(fits))
            .collect();
        match found {
            None => Err(self),
            Some(parts) => {
                self.table.needs_clock |= parts.iter().any(|part| part.hosts.needs_clock);
                self.table.hosts.parts = parts;
                Ok(self.table)
            }
        }
    }
}

/// The hosts of a configuration.
#[derive(Debug)]
pub(super) struct HostTables {
    pub(super) own: HostTable,
    pub(super) parts: Box<[Rc<Part>]>,
}

impl HostTables {
    pub(super) fn all(&self) -> impl Iterator<Item = &HostTable> {
        std::iter::once(&self.own).chain(self.parts.iter().map(|part| &part.hosts))
    }

    /// The host entry for the Host of a request.
    pub(super) fn find(&self, authority: &[u8]) -> Option<(&CompiledHost, HostMatch)> {
        let (part, index, how) = self.entry(authority, |hosts| &hosts.names)?;
        let hosts = match part {
            None => &self.own,
            Some(part) => &self.parts.get(part)?.hosts,
        };
        hosts.hosts.get(index).map(|host| (host, how))
    }

    pub(super) fn has_certificate(&self, authority: &[u8]) -> bool {
        self.entry(authority, |hosts| &hosts.certificates).is_some()
    }

    fn entry<'t>(
        &'t self,
        authority: &[u8],
        names: impl Fn(&'t HostTable) -> &'t Hosts,
    ) -> Option<(Option<usize>, usize, HostMatch)> {
        names(&self.own).find_beside(authority, |name| {
            let part = part_of(name, self.parts.len());
            self.parts.get(part).map(|found| (part, names(&found.hosts)))
        })
    }

    /// The rule with this number. Each document has numbers of its own, from 1 in the order in which the rules
    /// stand there.
    pub(super) fn rule(&self, number: u32) -> Option<&CompiledRule> {
        let document = usize::try_from(number.checked_div(RULE_NUMBERS)?).ok()?;
        let hosts = &self.all().nth(document)?.hosts;
        let after = hosts.partition_point(|host| host.first_rule <= number);
        let host = hosts.get(after.checked_sub(1)?)?;
        let position = usize::try_from(number.checked_sub(host.first_rule)?).ok()?;
        host.rules.get(position)
    }
}
