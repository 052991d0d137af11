//! The root context: one per worker and document. It loads the document and makes the contexts of the requests.
//!
//! A configuration of many hosts comes in several documents: see [`super::parts`]. The table of a new one is served
//! when the last of them is there, and until then what was served before.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use log::{error, info, warn};

use super::counters::{self, Counters};
use super::http::{Http, now_ms};
use super::{host, limits, parts};
use crate::config::{self, ConfigError, SCHEMA_VERSION};
use crate::limits::connections::BEAT_MS;
use crate::policy::State;
use crate::router::{Document, Draft, Fault, Part, RoutingTable, compile_document};
use crate::{COMMIT, VERSION};

/// Faults named in the log for one configuration: a broken one must not flood it.
const LOGGED_FAULTS: usize = 20;
/// How long a VM that crashed waits until it looks again for parts that others leave for it.
const RETRY_MS: u64 = 1000;

/// What the requests of one worker share.
#[derive(Debug)]
pub struct Shared {
    /// The rules.
    pub table: RoutingTable,
    /// What outlives a request.
    pub state: RefCell<State>,
    /// Random numbers for identifiers of requests.
    pub random: RefCell<Random>,
    /// What is counted in Envoy's statistics.
    pub counters: Counters,
    /// Tells this VM from those of other workers.
    pub vm: u64,
}

thread_local! {
    /// What was completed last in this VM, which has one thread.
    static LAST: RefCell<Option<Rc<Shared>>> = const { RefCell::new(None) };
}

/// The root context.
pub struct Root {
    loaded: RefCell<Loaded>,
    /// It is woken time and again.
    ticks: Cell<bool>,
}

/// What the document comes to.
enum Loaded {
    /// There is none, or it was refused.
    Nothing,
    /// A part of another, held for it.
    Part(#[expect(dead_code, reason = "kept alive")] Rc<Part>),
    /// Parts are missing, or were when they were looked for last.
    Waiting(Box<Draft>, Option<Tried>),
    /// It is served.
    Served(Rc<Shared>),
}

/// When parts were looked for in vain.
#[derive(Clone, Copy)]
struct Tried {
    /// After so many changes to those that are known.
    changes: u64,
    at_ms: u64,
}

impl Root {
    pub fn new() -> Self {
        Root { loaded: RefCell::new(Loaded::Nothing), ticks: Cell::new(false) }
    }

    /// What requests are decided with.
    fn shared(&self) -> Option<Rc<Shared>> {
        let mut loaded = self.loaded.borrow_mut();
        if let Loaded::Waiting(..) = &*loaded {
            let before = std::mem::replace(&mut *loaded, Loaded::Nothing);
            *loaded = complete(before);
            if let Loaded::Served(shared) = &*loaded {
                self.beat(shared);
            }
        }
        match &*loaded {
            Loaded::Nothing | Loaded::Part(_) => None,
            Loaded::Waiting(..) => LAST.with_borrow(Clone::clone),
            Loaded::Served(shared) => {
                // A document that comes back finds its root context as it was, if that still has requests.
                LAST.with_borrow_mut(|last| {
                    if !last.as_ref().is_some_and(|last| Rc::ptr_eq(last, shared)) {
                        *last = Some(shared.clone());
                    }
                });
                Some(shared.clone())
            }
        }
    }
}

/// Serves a document that waits, if its parts are there by now.
fn complete(loaded: Loaded) -> Loaded {
    let Loaded::Waiting(draft, tried) = loaded else { return loaded };
    // Where something is served the parts are on their way. Otherwise this VM may never be given them: it is
    // the successor of one that crashed. What others leave for it may come at any time, without a word.
    let may_lack = LAST.with_borrow(Option::is_none) || parts::is_successor();
    let (changes, at_ms) = (parts::changes(), if may_lack { now_ms() } else { 0 });
    if let Some(tried) = tried
        && tried.changes == changes
        && (!may_lack || tried.at_ms.abs_diff(at_ms) < RETRY_MS)
    {
        return Loaded::Waiting(draft, Some(tried));
    }
    // One that is not there is not the only one: no need to read the others.
    let mut missing = false;
    let completed = draft.complete(|number, generation| {
        let found = match (missing, may_lack) {
            (true, _) => None,
            (false, true) => parts::find_or_load(number, generation),
            (false, false) => parts::find(number, generation),
        };
        missing = found.is_none();
        found
    });
    match completed {
        Err(draft) => Loaded::Waiting(draft, Some(Tried { changes, at_ms })),
        Ok(table) => Loaded::Served(serve(table)),
    }
}

/// Serves a table.
fn serve(table: RoutingTable) -> Rc<Shared> {
    info!("configuration {} is served: {} hosts", table.generation, table.hosts().count());
    let shared = Shared::new(table);
    limits::name_worker(shared.vm);
    let shared = Rc::new(shared);
    LAST.set(Some(shared.clone()));
    shared
}

/// Tells what of a document cannot be honoured.
fn tell(faults: &[Fault]) {
    for fault in faults.iter().take(LOGGED_FAULTS) {
        warn!("at {}: {}", fault.path, fault.reason);
    }
}

impl Root {
    /// Has this root context woken where requests under way are counted.
    fn beat(&self, shared: &Shared) {
        if shared.table.counts_connections() {
            match host::set_tick_period(Duration::from_millis(BEAT_MS)) {
                Ok(()) => self.ticks.set(true),
                Err(status) => error!("there is no clock that wakes this worker: status {status:?}"),
            }
        }
    }

    /// What is to be done before it goes: Envoy's timer would go on for ever, and one more with each change.
    pub fn on_delete(&self) {
        if self.ticks.get() {
            let _ = host::set_tick_period(Duration::ZERO);
        }
    }

    pub fn on_vm_start(&mut self) -> bool {
        info!("ingress-wasm {VERSION} ({COMMIT}), configuration schema {SCHEMA_VERSION}");
        true
    }

    pub fn on_configure(&mut self, size: usize) -> bool {
        let bytes = host::plugin_configuration(size).unwrap_or_default();
        let loaded = match load(&bytes) {
            Ok(Document::Part(part)) => {
                info!("part {} {} loaded: {} hosts", part.number, part.generation, part.hosts());
                tell(part.faults());
                parts::keep(&part, &bytes);
                Loaded::Part(part)
            }
            Ok(Document::Whole(draft)) => {
                info!("configuration {} loaded: {} parts", draft.generation(), draft.parts().len());
                tell(draft.faults());
                match draft.complete(parts::find) {
                    Ok(table) => {
                        let shared = serve(table);
                        self.beat(&shared);
                        Loaded::Served(shared)
                    }
                    Err(draft) => {
                        // What is served meanwhile counts on, though its root context goes.
                        if let Some(last) = LAST.with_borrow(Clone::clone) {
                            self.beat(&last);
                        }
                        Loaded::Waiting(draft, None)
                    }
                }
            }
            Err(error) => {
                error!("refused: {error}");
                counters::configuration("refused");
                return false;
            }
        };
        counters::configuration("loaded");
        self.loaded = RefCell::new(loaded);
        true
    }

    pub fn on_tick(&mut self) {
        limits::tick();
    }

    pub fn create_http_context(&self) -> Http {
        Http::new(self.shared())
    }
}

fn load(bytes: &[u8]) -> Result<Document, ConfigError> {
    compile_document(config::from_slice(bytes)?)
}

impl Shared {
    fn new(table: RoutingTable) -> Self {
        let mut random = Random::seeded();
        let mut key = [0; 32];
        for chunk in key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        let vm = random.next();
        Shared {
            table,
            state: RefCell::new(State::new(key)),
            random: RefCell::new(random),
            counters: Counters::default(),
            vm,
        }
    }
}

/// Random numbers: SplitMix64, seeded by the host. Good enough to tell requests apart; the key that guards
/// remembered passwords comes from it too, and never leaves the VM.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    fn seeded() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // The one source of the host's random bytes that the standard library offers.
        Random(std::hash::RandomState::new().build_hasher().finish())
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
