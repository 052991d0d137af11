//! Which paths of an Ingress are exempt from parts of its policies: from the redirect to HTTPS
//! (`no-tls-redirect-locations`) and from authentication (`no-auth-locations`), by the beginning of the path.

use std::collections::BTreeMap;

use ingress_wasm::config::PolicySet;

use crate::global::Defaults;
use crate::objects::Ingress;
use crate::policies::Policies;

/// The policies of an Ingress, by path.
#[derive(Debug)]
pub struct PathPolicies<'a> {
    without_redirect: &'a [String],
    without_auth: &'a [String],
    /// Positions in the configuration, by what a path is exempt from.
    positions: BTreeMap<Exemptions, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Exemptions {
    redirect: bool,
    auth: bool,
}

impl<'a> PathPolicies<'a> {
    /// Those that the paths of the Ingress need, and the path for what they do not take.
    pub fn new(set: &PolicySet, ingress: &Ingress, defaults: &'a Defaults, policies: &mut Policies) -> Self {
        let authenticates = set.basic_auth.is_some() || set.api_key.is_some() || set.external_auth.is_some();
        let exempt = |list: &'a [String], asks: bool| if asks { list } else { &[] };
        let mut all = PathPolicies {
            without_redirect: exempt(&defaults.no_tls_redirect_locations, set.tls_redirect.is_some()),
            without_auth: exempt(&defaults.no_auth_locations, authenticates),
            positions: BTreeMap::new(),
        };
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
        for path in paths.filter_map(|path| path.path.as_deref()).chain(["/"]) {
            let exemptions = all.exemptions(path);
            all.positions.entry(exemptions).or_insert_with(|| {
                let mut set = set.clone();
                if exemptions.redirect {
                    set.tls_redirect = None;
                }
                if exemptions.auth {
                    set.basic_auth = None;
                    set.api_key = None;
                    set.external_auth = None;
                }
                policies.position(set)
            });
        }
        all
    }

    /// The position of the policies of a path of the Ingress.
    pub fn position(&self, path: &str) -> usize {
        // Every path of the Ingress was looked at; another would have all policies.
        let all = Exemptions { redirect: false, auth: false };
        let found = self.positions.get(&self.exemptions(path)).or_else(|| self.positions.get(&all));
        found.copied().unwrap_or_default()
    }

    fn exemptions(&self, path: &str) -> Exemptions {
        let begins = |list: &[String]| list.iter().any(|beginning| path.starts_with(beginning));
        Exemptions { redirect: begins(self.without_redirect), auth: begins(self.without_auth) }
    }
}
