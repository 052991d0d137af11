//! The root context: one per worker and configuration. It loads the configuration and makes the contexts of
//! the requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use log::{error, info, warn};
use proxy_wasm::hostcalls::set_tick_period;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use super::counters::{self, Counters};
use super::http::Http;
use super::limits;
use crate::config::{self, ConfigError, SCHEMA_VERSION};
use crate::limits::connections::BEAT_MS;
use crate::policy::State;
use crate::router::{RoutingTable, compile};
use crate::{COMMIT, VERSION};

/// Faults named in the log for one configuration: a broken one must not flood it.
const LOGGED_FAULTS: usize = 20;

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

/// The root context.
pub struct Root {
    shared: Option<Rc<Shared>>,
}

impl Root {
    pub fn new() -> Self {
        Root { shared: None }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        info!("ingress-wasm {VERSION} ({COMMIT}), configuration schema {SCHEMA_VERSION}");
        true
    }

    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match load(&bytes) {
            Ok(table) => {
                info!("configuration {} loaded: {} hosts", table.generation, table.hosts.len());
                for fault in table.faults.iter().take(LOGGED_FAULTS) {
                    warn!("at {}: {}", fault.path, fault.reason);
                }
                counters::configuration("loaded");
                let shared = Shared::new(table);
                limits::name_worker(shared.vm);
                if shared.table.counts_connections
                    && let Err(status) = set_tick_period(Duration::from_millis(BEAT_MS))
                {
                    error!("there is no clock that wakes this worker: status {status:?}");
                }
                self.shared = Some(Rc::new(shared));
                true
            }
            Err(error) => {
                error!("refused: {error}");
                counters::configuration("refused");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        limits::tick();
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn load(bytes: &[u8]) -> Result<RoutingTable, ConfigError> {
    compile(config::from_slice(bytes)?)
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
