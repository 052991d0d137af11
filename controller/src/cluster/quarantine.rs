//! Objects that Envoy refuses are left out, so that the rest is served.
//!
//! A refusal is about what has changed since Envoy accepted something. Where it names what it is about, that object is
//! left out at once. Where it does not, the changed objects are halved: one half waits while the other is tried, until
//! the refusal is about a single one. An object that is left out is served as it was before, if it was; it is tried
//! again when it changes, or anything that it names.
//!
//! Deliberately knows nothing of the protocol and of time: the loop publishes whatever the store translates to.

use std::collections::{BTreeMap, BTreeSet};

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{Kind, ObjectRef};
use ingress_wasm_translate::output::Translation;

use super::culprits::{Blame, blame, left_out, part_of, unexplained, user};
use super::store::{Changes, Store};
use crate::xds::Rejection;

/// How many Ingresses are told that an object that they name is left out.
const TOLD: usize = 50;

/// What is left out, and why.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// Objects that wait until what is tried at present is accepted, group by group.
    waiting: Vec<BTreeSet<ObjectRef>>,
    /// What was said of each that is left out.
    refused: BTreeMap<ObjectRef, Refused>,
    /// What was said of nothing that could be left out.
    unexplained: Vec<Diagnostic>,
    /// Envoy has refused something since it accepted something.
    unsettled: bool,
}

#[derive(Debug)]
struct Refused {
    what: String,
    message: String,
    /// An earlier version of it is served.
    has_good: bool,
}

impl Quarantine {
    /// Takes in a refusal: leaves out what is to blame, or what is to wait. Gives what remains of the changes.
    pub fn refused(
        &mut self,
        store: &mut Store,
        rejections: &[Rejection],
        translation: &Translation,
        mut changes: Changes,
    ) -> Changes {
        self.unsettled = true;
        self.unexplained.clear();
        let mut suspects = BTreeMap::new();
        for rejection in rejections {
            match blame(rejection, translation, &changes) {
                Blame::Certain(objects) => {
                    for (object, what) in objects {
                        self.leave_out(store, object, what, rejection, &mut changes);
                    }
                }
                Blame::Among(objects) => {
                    suspects.extend(objects.into_iter().map(|object| (object, rejection)))
                }
                Blame::Unknown => self.unexplained.extend(unexplained(rejection, &changes)),
            }
        }
        // Those that are left out by now may have been all.
        suspects.retain(|object, _| !store.is_withheld(object));
        match suspects.len() {
            0 => {}
            1 => {
                for (object, rejection) in suspects {
                    let what = part_of(rejection);
                    self.leave_out(store, object, what, rejection, &mut changes);
                }
            }
            several => {
                let later: BTreeSet<ObjectRef> =
                    suspects.into_iter().skip(several.div_ceil(2)).map(|(object, _)| object).collect();
                for object in &later {
                    store.withhold(object, changes.remove(object).flatten());
                }
                tracing::info!(
                    suspects = several,
                    waiting = later.len(),
                    "Envoy does not say which object it refuses: half of those that have changed are tried"
                );
                self.waiting.push(later);
            }
        }
        changes
    }

    fn leave_out(
        &mut self,
        store: &mut Store,
        object: ObjectRef,
        what: String,
        rejection: &Rejection,
        changes: &mut Changes,
    ) {
        let message = rejection.message.clone();
        if store.is_withheld(&object) {
            // Not even the earlier version is taken, by an Envoy that was started anew perhaps.
            if let Some(refused) = self.refused.get_mut(&object).filter(|refused| refused.has_good) {
                store.withhold_all(&object);
                *refused = Refused { what, message, has_good: false };
            }
            return;
        }
        let good = changes.remove(&object).flatten();
        let has_good = good.is_some();
        if store.withhold(&object, good) {
            tracing::warn!(%object, message, "left out, since Envoy refuses it");
            self.refused.insert(object, Refused { what, message, has_good });
        } else {
            self.unexplained.extend(unexplained(rejection, changes));
        }
    }

    /// Takes in that Envoy has accepted what was tried: the next of those that wait are.
    pub fn accepted(&mut self, store: &mut Store) {
        self.unsettled = false;
        self.unexplained.clear();
        self.proceed(store);
    }

    /// Lets the next group in.
    pub fn proceed(&mut self, store: &mut Store) {
        if let Some(group) = self.waiting.pop() {
            group.iter().for_each(|object| store.release(object));
        }
    }

    /// It is not known yet which objects are to be left out.
    pub fn is_searching(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Envoy holds what was published last.
    pub fn is_settled(&self) -> bool {
        !self.unsettled
    }

    /// A diagnostic is about the lack of something that is there, but left out.
    pub fn hides(&self, diagnostic: &Diagnostic) -> bool {
        let lacks =
            |object: &ObjectRef| diagnostic.consequence.starts_with(&format!("{object} does not exist"));
        self.refused.keys().any(lacks)
    }

    /// How many objects are left out.
    pub fn len(&self) -> usize {
        self.refused.len()
    }

    /// What there is to say of objects that are left out, and of refusals that could not be explained.
    pub fn diagnostics(&mut self, store: &Store) -> Vec<Diagnostic> {
        // One that has changed, or is gone, is not left out any more.
        self.refused.retain(|object, _| store.is_withheld(object));
        let mut all = self.unexplained.clone();
        for (object, Refused { what, message, has_good }) in &self.refused {
            all.push(left_out(object, what, message, *has_good));
            if object.kind != Kind::Ingress {
                let users = store.users(object).take(TOLD);
                all.extend(users.map(|ingress| user(&ingress, object, message, *has_good)));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use ingress_wasm_translate::objects::ObjectName;
    use ingress_wasm_translate::output::Options;
    use k8s_openapi::api::networking::v1::Ingress;
    use kube::api::ApiResource;
    use serde_json::json;

    use super::*;
    use crate::cluster::raw::{AnnotationsPrefix, Raw};
    use crate::cluster::watches::News;
    use crate::xds::ResourceType;

    /// A loop with an Envoy that refuses hosts, and does not say which.
    struct Site {
        store: Store,
        quarantine: Quarantine,
        open: Changes,
        bad: BTreeSet<String>,
        trials: usize,
    }

    impl Site {
        fn new(bad: &[&str]) -> Site {
            let prefix = AnnotationsPrefix::new("nginx.ingress.kubernetes.io");
            Site {
                store: Store::new(Options::default(), prefix, false),
                quarantine: Quarantine::default(),
                open: Changes::new(),
                bad: bad.iter().map(|host| (*host).to_owned()).collect(),
                trials: 0,
            }
        }

        fn put(&mut self, name: &str, host: &str) {
            let value = json!({
                "metadata": {"name": name, "namespace": "d", "resourceVersion": host},
                "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": [
                    {"path": "/", "pathType": "Prefix",
                     "backend": {"service": {"name": "web", "port": {"number": 80}}}},
                ]}}]},
            });
            let raw: Raw = serde_json::from_value(value).expect("an object");
            let resource = ApiResource::erase::<Ingress>(&());
            let (name, identity, loaded) =
                raw.decode(&resource, &AnnotationsPrefix::new("nginx.ingress.kubernetes.io"));
            self.store.take(News::There { kind: Kind::Ingress, name, identity, loaded });
        }

        /// Publishes until nothing is left to do. Gives the hosts that are served then.
        fn settle(&mut self) -> String {
            let hosts = |translation: &Translation| {
                let names = translation.config.hosts.iter().map(|host| host.name.clone());
                names.filter(|name| name != "*").collect::<BTreeSet<String>>()
            };
            loop {
                self.trials += 1;
                assert!(self.trials < 1000, "it does not end");
                let translation = self.store.translate();
                let mut changes = self.store.changes();
                changes.append(&mut self.open);
                let served = hosts(&translation);
                self.store.changed();
                if served.is_disjoint(&self.bad) {
                    self.quarantine.accepted(&mut self.store);
                    if !self.store.changed().objects {
                        return served.into_iter().collect::<Vec<_>>().join(" ");
                    }
                } else {
                    let rejection = Rejection {
                        kind: ResourceType::Route,
                        names: vec!["routes".to_owned()],
                        by_name: false,
                        message: "no".to_owned(),
                    };
                    self.open = self.quarantine.refused(&mut self.store, &[rejection], &translation, changes);
                }
            }
        }

        /// Who is told that it was refused.
        fn told(&mut self) -> String {
            let all = self.quarantine.diagnostics(&self.store);
            let names = all.iter().filter_map(|diagnostic| diagnostic.object.as_ref());
            names.map(|object| object.name.name.clone()).collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn those_that_are_refused_are_found_among_many() {
        let mut site = Site::new(&["h03", "h11", "h12"]);
        for number in 0..20 {
            site.put(&format!("i{number:02}"), &format!("h{number:02}"));
        }
        let served = site.settle();
        let expected: Vec<String> =
            (0..20).filter(|n| ![3, 11, 12].contains(n)).map(|n| format!("h{n:02}")).collect();
        assert_eq!(served, expected.join(" "));
        assert_eq!(site.told(), "i03 i11 i12");
        assert!(site.trials <= 40, "{} trials", site.trials);
        assert!(!site.quarantine.is_searching() && site.quarantine.is_settled());
    }

    #[test]
    fn the_last_good_version_goes_on_until_it_is_mended() {
        let mut site = Site::new(&["bad", "worse"]);
        site.put("a", "good");
        site.put("b", "other");
        assert_eq!(site.settle(), "good other");
        site.put("a", "bad");
        site.put("b", "another");
        assert_eq!(site.settle(), "another good");
        assert_eq!(site.told(), "a");
        let said = site.quarantine.diagnostics(&site.store);
        assert!(
            said.first().is_some_and(|first| first.consequence.contains("last good version")),
            "{said:?}"
        );
        // Others change meanwhile, and it is not tried again for that.
        site.trials = 0;
        site.put("b", "last");
        assert_eq!(site.settle(), "good last");
        assert_eq!(site.trials, 1);
        site.put("a", "worse");
        assert_eq!(site.settle(), "good last");
        site.put("a", "mended");
        assert_eq!(site.settle(), "last mended");
        assert_eq!(site.told(), "");
        site.put("a", "bad");
        assert_eq!(site.settle(), "last mended");
        site.store.take(News::Gone { kind: Kind::Ingress, name: ObjectName::new("d", "a") });
        assert_eq!(site.settle(), "last");
        assert_eq!((site.told(), site.quarantine.len()), (String::new(), 0));
    }
}
