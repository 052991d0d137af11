//! The parts of a configuration that this VM has, and those that all VMs share.
//!
//! Each part is a document that Envoy hands to a root context of its own. The root context of the document that
//! names it finds it here. A VM that was started anew after a crash is only configured with the documents of
//! filters that requests pass, and no request passes those of parts; so a part also leaves its document in the
//! data that all VMs share, under a name that never changes.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::host;
use crate::config;
use crate::router::{Document, Part, compile_document};

thread_local! {
    /// Parts of root contexts and tables that live. A VM has one thread.
    static KNOWN: RefCell<Known> = const {
        RefCell::new(Known { parts: Vec::new(), changes: 0, has_loaded: false })
    };
}

struct Known {
    parts: Vec<Weak<Part>>,
    changes: u64,
    /// Some part came out of a document that another VM has left.
    has_loaded: bool,
}

impl Known {
    fn add(&mut self, part: &Rc<Part>) {
        self.parts.retain(|part| part.strong_count() > 0);
        self.parts.push(Rc::downgrade(part));
    }
}

/// Makes a part known, and leaves its document for VMs to come.
pub fn keep(part: &Rc<Part>, document: &[u8]) {
    KNOWN.with_borrow_mut(|known| {
        known.add(part);
        known.changes = known.changes.wrapping_add(1);
    });
    if host::set_shared_data(&name(part.number), document, 0).is_err() {
        log::error!("part {} of the configuration is not kept for a worker that crashes", part.number);
    }
}

/// Grows with every part that is made known.
pub fn changes() -> u64 {
    KNOWN.with_borrow(|known| known.changes)
}

/// The part with this number and generation, if this VM has it.
pub fn find(number: usize, generation: &str) -> Option<Rc<Part>> {
    KNOWN.with_borrow(|known| {
        let is_it =
            |part: &Rc<Part>| usize::try_from(part.number) == Ok(number) && &*part.generation == generation;
        known.parts.iter().rev().filter_map(Weak::upgrade).find(is_it)
    })
}

/// As [`find`], or else out of the document that another VM has left.
pub fn find_or_load(number: usize, generation: &str) -> Option<Rc<Part>> {
    find(number, generation).or_else(|| {
        let (document, _) = host::shared_data(&name(u32::try_from(number).ok()?)).ok()?;
        // It was found good before it was left here.
        let Ok(Document::Part(part)) = compile_document(config::from_slice(&document).ok()?) else {
            return None;
        };
        let part = Some(part).filter(|part| &*part.generation == generation)?;
        // No root context holds it. The table that gets it does, and the next table finds it here.
        KNOWN.with_borrow_mut(|known| {
            known.add(&part);
            known.has_loaded = true;
        });
        Some(part)
    })
}

/// Whether this VM is the successor of one that crashed: it had to look for parts that it was not given.
pub fn is_successor() -> bool {
    KNOWN.with_borrow(|known| known.has_loaded)
}

fn name(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_le_bytes();
    [b'p', a, b, c, d]
}
