//! Counters in Envoy's statistics: which there are, and how they are found again without a name on each request.

use std::cell::RefCell;
use std::collections::HashMap;

use super::host;
use crate::router::RoutingTable;
use crate::statistics::{CONFIGURATION_LABELS, CONFIGURATIONS, REQUEST_LABELS, REQUESTS, counter};

thread_local! {
    /// Envoy's numbers of counters by name. They hold for as long as the VM lives; Envoy makes a new one whenever it
    /// is asked, so each name is asked for once, whatever configurations come and go.
    static DEFINED: RefCell<HashMap<String, u32>> = RefCell::default();
}

/// The counters of one configuration.
#[derive(Debug, Default)]
pub struct Counters {
    /// By rule, status and decision.
    requests: RefCell<HashMap<(u32, u16, &'static str), u32>>,
}

impl Counters {
    /// Counts a request; `rule` is 0 where there is none.
    pub fn request(&self, table: &RoutingTable, rule: u32, status: u16, decision: &'static str) {
        let key = (rule, status, decision);
        let found = self.requests.borrow().get(&key).copied();
        let id = found.or_else(|| {
            let rule = table.rule(rule);
            let ingress = rule.map_or("", |rule| &*rule.ingress);
            let service = rule.and_then(|rule| rule.action.service()).unwrap_or_default();
            let values = [ingress, service, &status.to_string(), decision];
            let id = defined(counter(REQUESTS, REQUEST_LABELS, values))?;
            self.requests.borrow_mut().insert(key, id);
            Some(id)
        });
        if let Some(id) = id {
            host::increment(id);
        }
    }
}

/// Counts a configuration that was loaded or refused.
pub fn configuration(result: &str) {
    if let Some(id) = defined(counter(CONFIGURATIONS, CONFIGURATION_LABELS, [result])) {
        host::increment(id);
    }
}

fn defined(name: String) -> Option<u32> {
    DEFINED.with_borrow_mut(|defined| match defined.get(&name) {
        Some(id) => Some(*id),
        None => {
            let id = host::define_counter(&name).ok()?;
            defined.insert(name, id);
            Some(id)
        }
    })
}
