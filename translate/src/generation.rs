//! A name for the content of a configuration, put together host by host, so that a change takes a look at what has changed
//! and not at everything.

use std::collections::HashMap;
use std::io::{self, Write};

use ingress_wasm::config::{Action, Balancing, Host, PluginConfig, PolicySet};
use serde::Serialize;

/// A number for each host's content, and that of what its rules refer to.
pub type Digests = HashMap<String, u64>;

/// Names a configuration that has what its hosts refer to and nothing else. Numbers that are in `known` are taken to be
/// right; all others are added.
pub fn generation(config: &PluginConfig, known: &mut Digests) -> String {
    let PluginConfig { version, global, credentials, api_keys, policies, balancing, hosts, .. } = config;
    let mut referred = Referred {
        policies: (policies, vec![None; policies.len()]),
        balancing: (balancing, vec![None; balancing.len()]),
    };
    let mut whole = Fnv::new();
    whole.add(&(version, global, credentials, api_keys));
    for host in hosts {
        let number = match known.get(&host.name) {
            Some(number) => *number,
            None => {
                let number = referred.number(host);
                known.insert(host.name.clone(), number);
                number
            }
        };
        whole.add(&(&host.name, number));
    }
    format!("{:016x}", whole.0)
}

/// What hosts refer to, with a number for each that was asked for.
struct Referred<'a> {
    policies: (&'a [PolicySet], Vec<Option<u64>>),
    balancing: (&'a [Balancing], Vec<Option<u64>>),
}

impl Referred<'_> {
    /// A number for a host that does not depend on the positions of what it refers to.
    fn number(&mut self, host: &Host) -> u64 {
        let mut host = host.clone();
        let mut referred = Vec::with_capacity(host.rules.len());
        let locations = host.locations.iter_mut().map(|location| &mut location.rule);
        for rule in host.rules.iter_mut().chain(locations) {
            let of_balancing = match &mut rule.action {
                Action::Forward { balancing: Some(position), .. } => {
                    of(&mut self.balancing, std::mem::take(position))
                }
                _ => 0,
            };
            referred.push((of(&mut self.policies, std::mem::take(&mut rule.policies)), of_balancing));
        }
        let mut number = Fnv::new();
        number.add(&(host, referred));
        number.0
    }
}

fn of<T: Serialize>((values, numbers): &mut (&[T], Vec<Option<u64>>), position: usize) -> u64 {
    let (Some(value), Some(number)) = (values.get(position), numbers.get_mut(position)) else { return 0 };
    *number.get_or_insert_with(|| {
        let mut number = Fnv::new();
        number.add(value);
        number.0
    })
}

/// The FNV-1a hash of JSON forms.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, value: &impl Serialize) {
        // Neither the sink nor these types can fail.
        let _ = serde_json::to_writer(self, value);
    }
}

impl Write for &mut Fnv {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
