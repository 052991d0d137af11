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
        let accused: Vec<&Rejection> = suspects.values().copied().collect();
        let has_good = |object: &ObjectRef| changes.get(object).is_some_and(Option::is_some);
        suspects.retain(|object, _| store.can_withhold(object, has_good(object)));
        match suspects.len() {
            // Those that are left out by now may have been all.
            0 if self.refused.keys().any(|object| store.is_withheld(object)) => {}
            0 => {
                let all: BTreeSet<_> =
                    accused.into_iter().flat_map(|one| unexplained(one, &changes)).collect();
                self.unexplained.extend(all);
            }
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
                    let earlier = changes.remove(object).flatten();
                    store.withhold(object, earlier);
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
        let message = rejection.message.trim().to_owned();
        if store.is_withheld(&object) {
            // Not even the earlier version is taken, by an Envoy that was started anew perhaps.
            if let Some(refused) = self.refused.get_mut(&object).filter(|refused| refused.has_good) {
                store.withhold_earlier(&object);
                *refused = Refused { what, message, has_good: false };
            }
            return;
        }
        let has_good = changes.get(&object).is_some_and(Option::is_some);
        if !store.can_withhold(&object, has_good) {
            self.unexplained.extend(unexplained(rejection, changes));
            return;
        }
        store.withhold(&object, changes.remove(&object).flatten());
        tracing::warn!(%object, message, "left out, since Envoy refuses it");
        self.refused.insert(object, Refused { what, message, has_good });
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

    /// A diagnostic is about the lack of something that is there, but left out, or about what stands in for it.
    pub fn hides(&self, diagnostic: &Diagnostic) -> bool {
        let about = diagnostic.object.as_ref();
        let lacks =
            |object: &ObjectRef| diagnostic.consequence.starts_with(&format!("{object} does not exist"));
        let of_stand_in = |object: &ObjectRef| object.kind == Kind::Ingress && about == Some(object);
        self.refused.iter().any(|(object, refused)| lacks(object) || !refused.has_good && of_stand_in(object))
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

    const NGINX: &str = "nginx.ingress.kubernetes.io";

    /// A loop with an Envoy that refuses timeouts, and does not say of whom.
    struct Site {
        store: Store,
        quarantine: Quarantine,
        open: Changes,
        bad: BTreeSet<String>,
        trials: usize,
    }

    impl Site {
        fn new(bad: &[&str]) -> Site {
            Site {
                store: Store::new(Options::default(), AnnotationsPrefix::new(NGINX), false),
                quarantine: Quarantine::default(),
                open: Changes::new(),
                bad: bad.iter().map(|timeout| (*timeout).to_owned()).collect(),
                trials: 0,
            }
        }

        fn put(&mut self, name: &str, timeout: &str) {
            let value = json!({
                "metadata": {"name": name, "namespace": "d", "resourceVersion": timeout,
                             "annotations": {format!("{NGINX}/proxy-read-timeout"): timeout}},
                "spec": {"ingressClassName": "nginx", "rules": [{"host": name, "http": {"paths": [
                    {"path": "/", "pathType": "Prefix",
                     "backend": {"service": {"name": "web", "port": {"number": 80}}}},
                ]}}]},
            });
            let raw: Raw = serde_json::from_value(value).expect("an object");
            let resource = ApiResource::erase::<Ingress>(&());
            let (name, identity, loaded) = raw.decode(&resource, &AnnotationsPrefix::new(NGINX));
            self.store.take(News::There { kind: Kind::Ingress, name, identity, loaded });
        }

        /// The timeout of each Ingress as it was translated, or that it is closed.
        fn translated(&self) -> BTreeMap<String, String> {
            let view = self.store.view().expect("it was translated");
            let timeout = |annotations: &BTreeMap<String, ingress_wasm_translate::objects::Annotation>| {
                let of = |name: &str| annotations.get(&format!("{NGINX}/{name}"));
                let closed = of("auth-secret").map(|_| "closed".to_owned());
                closed.or_else(|| of("proxy-read-timeout").map(|found| found.value.clone()))
            };
            let all = view.snapshot.ingresses.iter();
            all.map(|(name, ingress)| {
                (name.name.clone(), timeout(&ingress.metadata.annotations).unwrap_or_default())
            })
            .collect()
        }

        /// Publishes until nothing is left to do. Gives what is served then.
        fn settle(&mut self) -> String {
            loop {
                self.trials += 1;
                assert!(self.trials < 1000, "it does not end");
                let translation = self.store.translate();
                let mut changes = self.store.changes();
                changes.append(&mut self.open);
                self.store.changed();
                let served = self.translated();
                if served.values().all(|timeout| !self.bad.contains(timeout)) {
                    self.quarantine.accepted(&mut self.store);
                    if !self.store.changed().objects {
                        let words = served.iter().map(|(name, timeout)| format!("{name}={timeout}"));
                        return words.collect::<Vec<_>>().join(" ");
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
        let bad = [3, 11, 12];
        let mut site = Site::new(&["3", "11", "12"]);
        for number in 0..20 {
            site.put(&format!("i{number:02}"), &number.to_string());
        }
        let served = site.settle();
        let of = |number| if bad.contains(&number) { "closed".to_owned() } else { number.to_string() };
        let expected: Vec<String> = (0..20).map(|number| format!("i{number:02}={}", of(number))).collect();
        assert_eq!(served, expected.join(" "));
        assert_eq!(site.told(), "i03 i11 i12");
        assert!(site.trials <= 40, "{} trials", site.trials);
        assert!(!site.quarantine.is_searching() && site.quarantine.is_settled());
    }

    /// The rules of one that was never good answer 503: they do not leave their requests to rules of others.
    #[test]
    fn what_stands_in_is_closed() {
        let mut site = Site::new(&["9"]);
        site.put("a", "9");
        assert_eq!(site.settle(), "a=closed");
        let translation = site.store.translate();
        let host = translation.config.hosts.iter().find(|host| host.name == "a").expect("its host is there");
        let denied = host.rules.iter().filter(|rule| rule.path == "/").all(|rule| {
            let policies = translation.config.policies.get(rule.policies);
            policies.is_some_and(|policies| policies.denied.is_some())
        });
        assert!(denied && !host.rules.is_empty(), "{host:?}");
        assert!(!translation.diagnostics.is_empty());
        assert!(translation.diagnostics.iter().all(|diagnostic| site.quarantine.hides(diagnostic)));
        assert!(translation.rejected.is_empty(), "no version that was accepted before stands in for it");
    }

    #[test]
    fn the_last_good_version_goes_on_until_it_is_mended() {
        let mut site = Site::new(&["8", "9"]);
        site.put("a", "1");
        site.put("b", "2");
        assert_eq!(site.settle(), "a=1 b=2");
        site.put("a", "9");
        site.put("b", "3");
        assert_eq!(site.settle(), "a=1 b=3");
        assert_eq!(site.told(), "a");
        let said = site.quarantine.diagnostics(&site.store);
        assert!(
            said.first().is_some_and(|first| first.consequence.contains("last good version")),
            "{said:?}"
        );
        // Others change meanwhile, and it is not tried again for that.
        site.trials = 0;
        site.put("b", "4");
        assert_eq!(site.settle(), "a=1 b=4");
        assert_eq!(site.trials, 1);
        site.put("a", "8");
        assert_eq!(site.settle(), "a=1 b=4");
        site.put("a", "5");
        assert_eq!(site.settle(), "a=5 b=4");
        assert_eq!(site.told(), "");
        site.put("a", "9");
        assert_eq!(site.settle(), "a=5 b=4");
        site.store.take(News::Gone { kind: Kind::Ingress, name: ObjectName::new("d", "a") });
        assert_eq!(site.settle(), "b=4");
        assert_eq!((site.told(), site.quarantine.len()), (String::new(), 0));
    }
}
