//! The objects of all files at one moment, and the last good version of those that turned bad.
//!
//! This is the one place that says what happens to an object that becomes invalid: its last version that
//! was served goes on serving until it is mended or taken away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm_translate::Translator;
use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::manifest::{Loaded, merge_into, read};
use ingress_wasm_translate::objects::{Ingress, Kind, Object, ObjectName, ObjectRef, Snapshot, Source};
use ingress_wasm_translate::output::{Options, Translation};

use crate::files::Changes;

/// The objects of all files.
#[derive(Debug, Default)]
pub struct Catalog {
    files: BTreeMap<Arc<str>, FileObjects>,
    /// What the files come to, as long as it can be kept up to date file by file.
    gathered: Option<Gathered>,
    /// The last version of each Ingress that was served as it stood.
    accepted: BTreeMap<ObjectName, Arc<Ingress>>,
    /// What was translated last.
    served: Arc<Snapshot>,
    /// Translates what the files say.
    translator: Translator,
    /// Translates it with the versions that stand in for rejected ones.
    mender: Translator,
}

/// The objects of all files, of which no two are the same and none is an earlier version.
#[derive(Debug)]
struct Gathered {
    snapshot: Arc<Snapshot>,
    /// The files of which there is something to say.
    remarkable: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct FileObjects {
    objects: Vec<Object>,
    /// Objects of an earlier version of the file that the present one does not replace, since it is broken.
    kept: Vec<Object>,
    diagnostics: Vec<Diagnostic>,
}

impl Catalog {
    /// Takes over what changed in the files.
    pub fn apply(&mut self, changes: Changes) {
        for file in changes.removed {
            self.take(&file);
        }
        for (file, loaded) in load(changes.read) {
            self.replace(file, loaded);
        }
    }

    /// Takes over what a place holds now: a file, or an object of an API server. Gives whether that is news.
    pub fn put(&mut self, place: Arc<str>, loaded: Loaded) -> bool {
        let held = self.files.get(&place);
        let as_before = held.is_some_and(|held| {
            held.kept.is_empty() && held.objects == loaded.objects && held.diagnostics == loaded.diagnostics
        });
        if !as_before {
            self.replace(place, Ok(loaded));
        }
        !as_before
    }

    /// What a place holds.
    pub fn get(&self, place: &str) -> Option<Loaded> {
        let FileObjects { objects, diagnostics, .. } = self.files.get(place)?;
        let (objects, diagnostics) = (objects.clone(), diagnostics.clone());
        Some(Loaded { objects, diagnostics, ..Loaded::default() })
    }

    /// Takes away what a place held. Gives whether it held something.
    pub fn take(&mut self, place: &str) -> bool {
        let before = self.files.remove(place);
        if let Some(before) = &before {
            self.gathered = self.gathered.take().and_then(|gathered| gathered.without(place, before));
        }
        before.is_some()
    }

    fn replace(&mut self, place: Arc<str>, loaded: Result<Loaded, Diagnostic>) {
        let before = self.files.remove(&place).unwrap_or_default();
        self.gathered = self.gathered.take().and_then(|gathered| gathered.without(&place, &before));
        let now = FileObjects::replacing(before, loaded);
        self.gathered = self.gathered.take().and_then(|gathered| gathered.with(&place, &now));
        self.files.insert(place, now);
    }

    /// All objects.
    pub fn snapshot(&self) -> (Snapshot, Vec<Diagnostic>) {
        if let Some(Gathered { snapshot, remarkable }) = &self.gathered {
            let files = remarkable.iter().filter_map(|file| self.files.get(file));
            let diagnostics = files.flat_map(|file| file.diagnostics.iter().cloned()).collect();
            return (Snapshot::clone(snapshot), diagnostics);
        }
        let mut snapshot = Snapshot::default();
        let mut diagnostics = Vec::new();
        for file in self.files.values() {
            diagnostics.extend(file.diagnostics.iter().cloned());
            diagnostics.extend(merge_into(&mut snapshot, file.objects.clone()));
        }
        // What is kept of a broken file yields to what another file says now: the object may have moved there.
        let mut kept = self.files.values().flat_map(|file| &file.kept).peekable();
        if kept.peek().is_none() {
            return (snapshot, diagnostics);
        }
        let present: BTreeSet<ObjectRef> =
            self.files.values().flat_map(|file| &file.objects).map(Object::reference).collect();
        for object in kept {
            let reference = object.reference();
            if !present.contains(&reference) {
                diagnostics.push(kept_note(reference, object.metadata().source.clone()));
                diagnostics.extend(merge_into(&mut snapshot, vec![object.clone()]));
            }
        }
        (snapshot, diagnostics)
    }

    /// Translates all objects; for an Ingress that is rejected its last good version stands in.
    pub fn translate(&mut self, options: &Options) -> Translation {
        let (snapshot, mut diagnostics) = self.gather();
        let Catalog { translator, mender, accepted, .. } = self;
        let (found, _) = translator.translate(&snapshot, options);
        let rejected = &found.rejected;
        for (name, ingress) in &snapshot.ingresses {
            if accepted.get(name).is_some_and(|held| Arc::ptr_eq(held, ingress)) {
                continue;
            }
            let reference = ObjectRef { kind: Kind::Ingress, name: name.clone() };
            if rejected.binary_search(&reference).is_err() {
                accepted.insert(name.clone(), Arc::clone(ingress));
            }
        }
        if accepted.len() > snapshot.ingresses.len().saturating_sub(rejected.len()) {
            accepted.retain(|name, _| snapshot.ingresses.contains_key(name));
        }
        let mut mended = Arc::clone(&snapshot);
        let mut substituted = BTreeSet::new();
        for reference in rejected {
            let Some(good) = accepted.get(&reference.name) else { continue };
            Arc::make_mut(&mut mended).insert(Object::Ingress(Arc::clone(good)));
            substituted.insert(reference.clone());
        }
        let mut translation = if substituted.is_empty() {
            *mender = Translator::default();
            diagnostics.extend(found.diagnostics.iter().cloned());
            found.clone()
        } else {
            // What was found in the rejected version is what its author has to know; what the good one says
            // was said when it came.
            let of_substituted = |diagnostic: &&Diagnostic| {
                diagnostic.object.as_ref().is_some_and(|object| substituted.contains(object))
            };
            let (good, _) = mender.translate(&mended, options);
            diagnostics.extend(found.diagnostics.iter().filter(of_substituted).cloned());
            let others = good.diagnostics.iter().filter(|diagnostic| !of_substituted(diagnostic));
            diagnostics.extend(others.cloned());
            diagnostics.extend(substituted.iter().map(|object| kept_note(object.clone(), None)));
            Translation { rejected: rejected.clone(), ..good.clone() }
        };
        diagnostics.sort_by(|a, b| (&a.source, &a.object, a).cmp(&(&b.source, &b.object, b)));
        diagnostics.dedup();
        translation.diagnostics = diagnostics;
        self.served = mended;
        translation
    }

    /// All objects, in a form that can be kept up to date where that is possible.
    fn gather(&mut self) -> (Arc<Snapshot>, Vec<Diagnostic>) {
        if let Some(gathered) = &self.gathered {
            let snapshot = Arc::clone(&gathered.snapshot);
            let files = gathered.remarkable.iter().filter_map(|file| self.files.get(file));
            return (snapshot, files.flat_map(|file| file.diagnostics.iter().cloned()).collect());
        }
        let (snapshot, diagnostics) = self.snapshot();
        let snapshot = Arc::new(snapshot);
        let remarkable: BTreeMap<_, _> =
            self.files.iter().filter(|(_, file)| !file.diagnostics.is_empty()).collect();
        let of_files: usize = remarkable.values().map(|file| file.diagnostics.len()).sum();
        let kept = self.files.values().any(|file| !file.kept.is_empty());
        // Else some object is there twice.
        if !kept && of_files == diagnostics.len() {
            let remarkable = remarkable.into_keys().cloned().collect();
            self.gathered = Some(Gathered { snapshot: Arc::clone(&snapshot), remarkable });
        }
        (snapshot, diagnostics)
    }

    /// The objects that were translated last, with the versions that stood in for rejected ones.
    pub fn served(&self) -> Arc<Snapshot> {
        Arc::clone(&self.served)
    }
}

impl Gathered {
    /// Without what a file held.
    fn without(mut self, place: &str, file: &FileObjects) -> Option<Self> {
        let snapshot = Arc::make_mut(&mut self.snapshot);
        self.remarkable.remove(place);
        (file.kept.is_empty() && file.objects.iter().all(|object| snapshot.remove(object))).then_some(self)
    }

    /// With what a file holds; none where another file holds the same object.
    fn with(mut self, place: &Arc<str>, file: &FileObjects) -> Option<Self> {
        let snapshot = Arc::make_mut(&mut self.snapshot);
        if !file.diagnostics.is_empty() {
            self.remarkable.insert(Arc::clone(place));
        }
        let alone = file.objects.iter().all(|object| snapshot.insert(object.clone()).is_none());
        (file.kept.is_empty() && alone).then_some(self)
    }
}

impl FileObjects {
    fn replacing(before: FileObjects, loaded: Result<Loaded, Diagnostic>) -> Self {
        let loaded = loaded.unwrap_or_else(|diagnostic| Loaded {
            broken: true,
            diagnostics: vec![diagnostic],
            ..Loaded::default()
        });
        let Loaded { objects, diagnostics, broken, rejected } = loaded;
        let present = |reference: &ObjectRef| objects.iter().any(|object| object.reference() == *reference);
        let mut kept = Vec::new();
        // Where a document cannot even be attributed to an object, any that is missing may be meant.
        for object in before.objects.into_iter().chain(before.kept) {
            let reference = object.reference();
            if (broken || rejected.contains(&reference)) && !present(&reference) {
                kept.push(object);
            }
        }
        FileObjects { objects, kept, diagnostics }
    }
}

fn kept_note(object: ObjectRef, source: Option<Source>) -> Diagnostic {
    Diagnostic::note("last-good-version", "the last good version goes on serving until this one is mended")
        .object(object, source)
}

/// Reads the texts, on all cores where there are many.
fn load(texts: Vec<(Arc<str>, Result<String, String>)>) -> Vec<(Arc<str>, Result<Loaded, Diagnostic>)> {
    let load_one = |(file, text): (Arc<str>, Result<String, String>)| {
        let loaded = match text {
            Ok(text) => Ok(read(&file, &text)),
            Err(error) => {
                Err(Diagnostic::error("file-unreadable", format!("the file cannot be read: {error}"))
                    .source(Some(Source { file: file.clone(), line: 0 }))
                    .remedy("check the path and its permissions"))
            }
        };
        (file, loaded)
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = texts.len().div_ceil(threads).max(1);
    let mut texts = texts.into_iter();
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        loop {
            let chunk: Vec<_> = texts.by_ref().take(share).collect();
            if chunk.is_empty() {
                break;
            }
            workers.push(scope.spawn(move || chunk.into_iter().map(load_one).collect::<Vec<_>>()));
        }
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USE_REGEX: &str = "nginx.ingress.kubernetes.io/use-regex: \"true\"";

    /// An Ingress for the host `NAME.example` with one path.
    fn ingress(name: &str, path: &str, annotation: &str) -> String {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations: {{{annotation}}}\n\
             spec:\n  ingressClassName: nginx\n  rules:\n  - host: {name}.example\n    http:\n      paths:\n      \
             - {{path: '{path}', pathType: ImplementationSpecific, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}\n"
        )
    }

    fn write(catalog: &mut Catalog, file: &str, text: &str) {
        catalog.apply(Changes { read: vec![(file.into(), Ok(text.to_owned()))], removed: vec![] });
    }

    fn remove(catalog: &mut Catalog, file: &str) {
        catalog.apply(Changes { read: vec![], removed: vec![file.into()] });
    }

    /// `host path` of all rules of Ingresses that forward or lack their Service, and the codes of what is said.
    fn served(catalog: &mut Catalog) -> (String, String) {
        let translation = catalog.translate(&Options::default());
        let mut rules = Vec::new();
        for host in translation.config.hosts.iter().filter(|host| host.name != "*") {
            let own = host.rules.iter().filter(|rule| rule.path != "/");
            rules.extend(own.map(|rule| format!("{} {}", host.name, rule.path)));
        }
        let mut codes: Vec<&str> = translation.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        codes.retain(|code| !["service-missing", "annotation-differs"].contains(code));
        (rules.join(", "), codes.join(" "))
    }

    fn expect(catalog: &mut Catalog, what: &str, rules: &str, codes: &str) {
        assert_eq!(served(catalog), (rules.to_owned(), codes.to_owned()), "{what}");
        // Asking again changes nothing.
        assert_eq!(served(catalog), (rules.to_owned(), codes.to_owned()), "{what}, asked again");
    }

    #[test]
    fn a_rejected_version_leaves_the_last_good_one() {
        let mut catalog = Catalog::default();
        let bad = ingress("a", "/two(", USE_REGEX);
        // Nothing good was there before: what can be served of it is.
        write(&mut catalog, "a.yaml", &bad);
        expect(&mut catalog, "bad from the beginning", "a.example /two(", "expression-invalid");
        write(&mut catalog, "a.yaml", &ingress("a", "/one", USE_REGEX));
        expect(&mut catalog, "mended", "a.example /one", "");
        write(&mut catalog, "a.yaml", &bad);
        expect(&mut catalog, "bad", "a.example /one", "last-good-version expression-invalid");
        write(&mut catalog, "a.yaml", &ingress("a", "/three(", USE_REGEX));
        expect(&mut catalog, "bad again", "a.example /one", "last-good-version expression-invalid");
        write(&mut catalog, "b.yaml", &ingress("b", "/b", ""));
        expect(
            &mut catalog,
            "another comes",
            "a.example /one, b.example /b",
            "last-good-version expression-invalid",
        );
        write(&mut catalog, "a.yaml", &ingress("a", "/four", USE_REGEX));
        expect(&mut catalog, "mended again", "a.example /four, b.example /b", "");
        write(&mut catalog, "a.yaml", &bad);
        expect(
            &mut catalog,
            "the newest good one counts",
            "a.example /four, b.example /b",
            "last-good-version expression-invalid",
        );
        remove(&mut catalog, "a.yaml");
        expect(&mut catalog, "removed", "b.example /b", "");
        write(&mut catalog, "a.yaml", &bad);
        expect(
            &mut catalog,
            "a removed one is forgotten",
            "a.example /two(, b.example /b",
            "expression-invalid",
        );
    }

    #[test]
    fn endpoints_alone_change_nothing_else() {
        let slice = |addresses: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, labels: \
                 {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\n\
                 endpoints: [{{addresses: [{addresses}]}}]\n"
            )
        };
        let mut catalog = Catalog::default();
        write(&mut catalog, "a.yaml", &ingress("a", "/one", USE_REGEX));
        write(&mut catalog, "web.yaml", &slice("10.0.0.1"));
        expect(&mut catalog, "good", "a.example /one", "");
        write(&mut catalog, "a.yaml", &ingress("a", "/two(", USE_REGEX));
        let before = catalog.translate(&Options::default());
        assert_eq!(before.rejected.len(), 1, "the last good version stands in");
        write(&mut catalog, "web.yaml", &slice("10.0.0.3, 10.0.0.2"));
        let after = catalog.translate(&Options::default());
        let addresses =
            |translation: &Translation| format!("{:?}", translation.clusters["default/web:80"].endpoints);
        assert!(addresses(&before).contains("10.0.0.1"), "{}", addresses(&before));
        assert!(!addresses(&after).contains("10.0.0.1"), "{}", addresses(&after));
        assert!(addresses(&after).contains("10.0.0.2") && addresses(&after).contains("10.0.0.3"));
        let rest =
            |translation: &Translation| Translation { clusters: BTreeMap::new(), ..translation.clone() };
        assert_eq!(rest(&after), rest(&before));
        let served = catalog.served();
        assert_eq!(served.endpoint_slices, catalog.snapshot().0.endpoint_slices);
        assert_ne!(served.ingresses, catalog.snapshot().0.ingresses, "the last good version is among them");
        // Translated as a whole it is the same.
        catalog.translator = Translator::default();
        catalog.mender = Translator::default();
        catalog.gathered = None;
        assert_eq!(catalog.translate(&Options::default()), after);
    }

    #[test]
    fn a_broken_file_keeps_what_it_held() {
        let mut catalog = Catalog::default();
        let (a, b) = (ingress("a", "/a", ""), ingress("b", "/b", ""));
        let both = format!("{a}---\n{b}");
        write(&mut catalog, "f.yaml", &both);
        expect(&mut catalog, "good", "a.example /a, b.example /b", "");
        write(&mut catalog, "f.yaml", "kind: \"Ingress\n");
        expect(
            &mut catalog,
            "no YAML",
            "a.example /a, b.example /b",
            "yaml-syntax last-good-version last-good-version",
        );
        write(&mut catalog, "f.yaml", "kind: [Ingress\n");
        expect(
            &mut catalog,
            "still none",
            "a.example /a, b.example /b",
            "yaml-syntax last-good-version last-good-version",
        );
        write(&mut catalog, "f.yaml", &format!("{}---\nkind: [Ingress\n", ingress("b", "/new", "")));
        expect(&mut catalog, "half of it", "a.example /a, b.example /new", "last-good-version yaml-syntax");
        catalog.apply(Changes { read: vec![("f.yaml".into(), Err("gone".to_owned()))], removed: vec![] });
        expect(
            &mut catalog,
            "unreadable",
            "a.example /a, b.example /new",
            "file-unreadable last-good-version last-good-version",
        );
        write(&mut catalog, "f.yaml", &b);
        expect(&mut catalog, "mended, one is gone", "b.example /b", "");
        remove(&mut catalog, "f.yaml");
        expect(&mut catalog, "removed", "", "");
    }

    #[test]
    fn an_object_that_does_not_decode_keeps_its_last_version() {
        let mut catalog = Catalog::default();
        let (a, b) = (ingress("a", "/a", ""), ingress("b", "/b", ""));
        write(&mut catalog, "f.yaml", &format!("{a}---\n{b}"));
        let slip = a.replace("host:", "Host:");
        write(&mut catalog, "f.yaml", &slip);
        let (rules, codes) = served(&mut catalog);
        assert_eq!(rules, "a.example /a", "the other one was taken away");
        assert!(codes.contains("last-good-version"), "{codes}");
    }

    #[test]
    fn an_object_that_moves_is_the_new_one() {
        let mut catalog = Catalog::default();
        write(&mut catalog, "b.yaml", &ingress("a", "/old", ""));
        // Its old file breaks at the same time; by name it comes after the new one.
        write(&mut catalog, "b.yaml", "kind: [Ingress\n");
        write(&mut catalog, "a.yaml", &ingress("a", "/new", ""));
        expect(&mut catalog, "moved", "a.example /new", "yaml-syntax");
        remove(&mut catalog, "a.yaml");
        expect(&mut catalog, "moved back", "a.example /old", "yaml-syntax last-good-version");
    }

    #[test]
    fn the_later_of_two_files_counts() {
        let mut catalog = Catalog::default();
        write(&mut catalog, "b.yaml", &ingress("a", "/b", ""));
        write(&mut catalog, "a.yaml", &ingress("a", "/a", ""));
        expect(&mut catalog, "by the name of the file", "a.example /b", "object-duplicate");
        remove(&mut catalog, "b.yaml");
        expect(&mut catalog, "one is left", "a.example /a", "");
    }

    #[test]
    fn snapshots_do_not_depend_on_the_order_of_changes() {
        let files = [
            ("a.yaml", ingress("a", "/a", "")),
            ("b.yaml", ingress("b", "/b", "")),
            ("c.yaml", ingress("a", "/c", "")),
        ];
        let (mut forth, mut back) = (Catalog::default(), Catalog::default());
        files.iter().for_each(|(file, text)| write(&mut forth, file, text));
        files.iter().rev().for_each(|(file, text)| write(&mut back, file, text));
        assert_eq!(forth.snapshot(), back.snapshot());
        assert!(forth.snapshot().0.ingresses.contains_key(&ObjectName::new("default", "b")));
    }
}
