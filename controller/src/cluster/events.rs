//! Events on Ingresses: `Sync` when one comes or changes, and a warning for each diagnostic, as `kubectl describe`
//! shows them. Written by the replica that leads.
//!
//! The name of an Event is made from what it says: the next that leads finds those that are there already, and
//! nothing is said twice. What was mended and comes again counts up the Event that is there.
//!
//! Deliberately knows nothing of how diagnostics come about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress_wasm_translate::diagnostic::{Diagnostic, Severity};
use ingress_wasm_translate::objects::{Kind, ObjectName};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::activity::Activity;
use super::leader::Leadership;
use super::raw::Identity;
use super::served::{Receiver, Served};

/// Who the Events are from.
const CONTROLLER: &str = "ingress-wasm.io/controller";

/// The pause between two Events.
const SPACING: Duration = Duration::from_millis(20);

/// The pause between two looks at what there is to say.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause after a failure.
const DISTRESS: Duration = Duration::from_secs(5);

/// How many warnings an Ingress gets at most.
const WARNINGS: usize = 20;

/// How many Events are written before it is looked again what there is to say.
const BATCH: usize = 100;

/// The longest note that the API server takes is 1024 bytes.
const NOTE: usize = 1000;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the task works with.
pub struct Events {
    /// The client of the API server.
    pub client: Client,
    /// This replica.
    pub identity: String,
    /// What there is to say.
    pub served: Receiver,
    /// Whether this replica says it.
    pub leadership: Leadership,
    /// Told what is written.
    pub activity: Arc<Activity>,
}

/// What was said of an Ingress.
#[derive(Debug, Default)]
struct Said {
    uid: String,
    /// Its content then.
    content: String,
    /// How often each Event was to be said, by its name, and whether it is still to be said.
    mentions: BTreeMap<String, Mention>,
}

#[derive(Debug, Clone, Copy)]
struct Mention {
    count: i32,
    present: bool,
}

/// An Event to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    ingress: ObjectName,
    uid: String,
    name: String,
    is_warning: bool,
    reason: String,
    note: String,
    /// The how manieth time it is.
    count: i32,
    /// Found when this replica began to lead: another may have said it.
    inherited: bool,
    /// The content of the Ingress that it announces.
    content: Option<String>,
}

/// What there is to say, compared with what was said.
#[derive(Debug, Default)]
struct Book {
    said: BTreeMap<ObjectName, Said>,
    begun: bool,
}

impl Events {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut book = Book::default();
        loop {
            if !self.leadership.holds() {
                // What others say meanwhile is not known.
                book = Book::default();
                self.leadership.changed().await;
                continue;
            }
            let served = self.served.borrow_and_update().clone();
            let pause = if served.generation.is_empty() {
                PAUSE
            } else {
                let pending = book.pending(&served);
                let more = pending.len() > BATCH;
                match self.write(&mut book, pending.into_iter().take(BATCH)).await {
                    Ok(()) if more => continue,
                    Ok(()) => PAUSE,
                    Err(()) => {
                        tokio::time::sleep(DISTRESS).await;
                        continue;
                    }
                }
            };
            tokio::select! {
                Ok(()) = self.served.changed() => {}
                () = self.leadership.changed() => {}
            }
            // What changes quickly is not told step by step.
            tokio::time::sleep(pause).await;
        }
    }

    async fn write(&self, book: &mut Book, pending: impl Iterator<Item = Pending>) -> Result<(), ()> {
        for one in pending {
            let began = Instant::now();
            let write = tokio::time::timeout(PATIENCE, self.write_one(&one));
            let outcome = match self.leadership.while_held(write).await {
                None => return Err(()),
                Some(Ok(outcome)) => outcome,
                Some(Err(_)) => {
                    self.activity.event("failed");
                    tracing::warn!(ingress = %one.ingress, "no answer to an Event in time: it is tried again");
                    return Err(());
                }
            };
            match outcome {
                Ok(outcome) => self.activity.event(outcome),
                Err(kube::Error::Api(status)) if (400..429).contains(&status.code) => {
                    // Not to be had by trying again: a namespace that is about to end, or a right that is missing.
                    self.activity.event("failed");
                    tracing::debug!(ingress = %one.ingress, error = %status, "an Event is refused");
                    if status.code == 403 && !status.message.contains("terminated") {
                        tracing::warn!(
                            error = %status,
                            "Events are forbidden: grant create and patch of events in events.k8s.io"
                        );
                    }
                }
                Err(error) => {
                    self.activity.event("failed");
                    tracing::warn!(ingress = %one.ingress, %error, "cannot write an Event: it is tried again");
                    return Err(());
                }
            }
            book.done(&one);
            tokio::time::sleep(SPACING.saturating_sub(began.elapsed())).await;
        }
        Ok(())
    }

    async fn write_one(&self, one: &Pending) -> Result<&'static str, kube::Error> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &one.ingress.namespace);
        match events.create(&PostParams::default(), &self.event(one)).await {
            Ok(_) => Ok("written"),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                if one.inherited {
                    return Ok("known");
                }
                let series =
                    EventSeries { count: one.count.max(2), last_observed_time: MicroTime(Timestamp::now()) };
                let patch = Patch::Merge(json!({ "series": series }));
                events.patch(&one.name, &PatchParams::default(), &patch).await?;
                Ok("written")
            }
            Err(error) => Err(error),
        }
    }

    fn event(&self, one: &Pending) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(one.name.clone()),
                namespace: Some(one.ingress.namespace.clone()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            // No longer than the API server takes it.
            reporting_instance: Some(self.identity.chars().take(128).collect()),
            action: Some(if one.is_warning { "Translate" } else { "Sync" }.to_owned()),
            reason: Some(one.reason.clone()),
            regarding: Some(ObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: Some("Ingress".to_owned()),
                namespace: Some(one.ingress.namespace.clone()),
                name: Some(one.ingress.name.clone()),
                uid: Some(one.uid.clone()),
                ..ObjectReference::default()
            }),
            note: Some(one.note.clone()),
            type_: Some(if one.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

impl Book {
    /// What is to be said now. [`Book::done`] says that it was.
    fn pending(&mut self, served: &Served) -> Vec<Pending> {
        let inherited = !self.begun;
        self.begun = true;
        self.said.retain(|name, _| served.ingresses.contains_key(name));
        let mut warnings: BTreeMap<&ObjectName, Vec<&Diagnostic>> = BTreeMap::new();
        for diagnostic in served.diagnostics.iter().filter(|found| found.severity != Severity::Note) {
            if let Some(object) = diagnostic.object.as_ref().filter(|object| object.kind == Kind::Ingress) {
                warnings.entry(&object.name).or_default().push(diagnostic);
            }
        }
        let mut pending = Vec::new();
        for (name, identity) in served.ingresses.iter() {
            let warnings = warnings.get(name).map(Vec::as_slice).unwrap_or_default();
            self.of_ingress(name, identity, warnings, inherited, &mut pending);
        }
        pending
    }

    fn of_ingress(
        &mut self,
        name: &ObjectName,
        identity: &Identity,
        warnings: &[&Diagnostic],
        inherited: bool,
        pending: &mut Vec<Pending>,
    ) {
        let said = self.said.entry(name.clone()).or_default();
        if said.uid != identity.uid {
            *said = Said { uid: identity.uid.clone(), ..Said::default() };
        }
        let event = |is_warning, reason: String, note: String| Pending {
            name: event_name(name, &identity.uid, &reason, &note),
            ingress: name.clone(),
            uid: identity.uid.clone(),
            is_warning,
            reason,
            note,
            count: 1,
            inherited,
            content: (!is_warning).then(|| identity.content.clone()),
        };
        let mut wanted = Vec::new();
        if said.content != identity.content {
            // What was there before this replica led was announced by others, or is old.
            if inherited {
                said.content.clone_from(&identity.content);
            } else {
                wanted.push(event(false, "Sync".to_owned(), "Scheduled for sync".to_owned()));
            }
        }
        let mut warnings = warnings.to_vec();
        warnings.sort();
        warnings.dedup();
        let more = warnings.len().saturating_sub(WARNINGS);
        let of_diagnostics = warnings.iter().take(WARNINGS);
        let mut all: Vec<Pending> =
            of_diagnostics.map(|found| event(true, reason(found.code), note(found))).collect();
        if more > 0 {
            let text = format!("{more} more: `ingress-wasm check` lists all of them, and so does the log");
            all.push(event(true, "MoreDiagnostics".to_owned(), text));
        }
        for (mention, held) in &mut said.mentions {
            held.present &= all.iter().any(|one| one.name == *mention);
        }
        all.retain(|one| said.mentions.get(&one.name).is_none_or(|held| !held.present));
        wanted.append(&mut all);
        for mut one in wanted {
            one.count = said.mentions.get(&one.name).map_or(1, |held| held.count.saturating_add(1));
            pending.push(one);
        }
        // Mended ones are remembered for their count, within bounds.
        if said.mentions.len() > 3 * WARNINGS {
            said.mentions.retain(|_, held| held.present);
        }
    }

    fn done(&mut self, one: &Pending) {
        let Some(said) = self.said.get_mut(&one.ingress).filter(|said| said.uid == one.uid) else { return };
        if let Some(content) = &one.content {
            said.content.clone_from(content);
        }
        // A change that comes is to be said again.
        said.mentions.insert(one.name.clone(), Mention { count: one.count, present: one.is_warning });
    }
}

/// A name by what is said: at most 253 characters, in lower case.
fn event_name(ingress: &ObjectName, uid: &str, reason: &str, note: &str) -> String {
    let mut hash = Sha256::new();
    for part in [uid, reason, note] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash = hash.finalize();
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name: String = ingress.name.chars().take(230).collect();
    format!("{}.{hash}", name.trim_end_matches(['-', '.']))
}

/// `annotation-unsupported` as `AnnotationUnsupported`.
fn reason(code: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    code.split('-').map(word).collect()
}

/// What a diagnostic says, in one line.
pub fn note(diagnostic: &Diagnostic) -> String {
    let Diagnostic { field, found, consequence, remedy, .. } = diagnostic;
    let place = match (field.is_empty(), found.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!("{field}: "),
        (false, false) => format!("{field} = {found:?}: "),
    };
    let remedy = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
    shortened(format!("{place}{consequence}{remedy}"), NOTE)
}

/// A text of at most so many bytes.
pub fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use ingress_wasm_translate::objects::ObjectRef;

    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new("shop", text)
    }

    fn warning(ingress: &str, code: &'static str, consequence: &str) -> Diagnostic {
        let object = ObjectRef { kind: Kind::Ingress, name: name(ingress) };
        Diagnostic::warning(code, consequence).object(object, None)
    }

    fn served(ingresses: &[(&str, &str)], diagnostics: Vec<Diagnostic>) -> Served {
        let identity = |content: &str| Identity {
            uid: "u".to_owned(),
            content: content.to_owned(),
            ..Identity::default()
        };
        let ingresses =
            ingresses.iter().map(|(ingress, content)| (name(ingress), Arc::new(identity(content))));
        Served {
            ingresses: Arc::new(ingresses.collect()),
            diagnostics: Arc::new(diagnostics),
            generation: "g".into(),
            ..Served::default()
        }
    }

    /// What is to be said, and that it was.
    fn said(book: &mut Book, served: &Served) -> String {
        let pending = book.pending(served);
        pending.iter().for_each(|one| book.done(one));
        let text = |one: &Pending| format!("{} {} {}", one.ingress.name, one.reason, one.count);
        pending.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_is_said_and_when() {
        let mut book = Book::default();
        let odd = || warning("a", "annotation-unsupported", "x");
        assert_eq!(said(&mut book, &served(&[("a", "1")], vec![odd()])), "a AnnotationUnsupported 1");
        assert_eq!(said(&mut book, &served(&[("a", "1")], vec![odd()])), "", "unchanged");
        assert_eq!(said(&mut book, &served(&[("a", "2")], vec![odd()])), "a Sync 1", "changed");
        assert_eq!(said(&mut book, &served(&[("a", "2"), ("b", "3")], vec![odd()])), "b Sync 1", "a new one");
        assert_eq!(said(&mut book, &served(&[("a", "4"), ("b", "3")], vec![])), "a Sync 2", "mended");
        let again = said(&mut book, &served(&[("a", "4"), ("b", "3")], vec![odd()]));
        assert_eq!(again, "a AnnotationUnsupported 2", "and again");
        assert_eq!(said(&mut book, &served(&[("b", "3")], vec![odd()])), "", "of one that is gone");
        let note = Diagnostic { severity: Severity::Note, ..odd() };
        assert_eq!(said(&mut book, &served(&[("b", "3")], vec![note])), "", "notes");
    }

    #[test]
    fn warnings_are_bounded() {
        let mut book = Book::default();
        let many = (0..50).map(|n| warning("a", "annotation-invalid", &format!("fault {n:02}"))).collect();
        let pending = book.pending(&served(&[("a", "1")], many));
        assert_eq!(pending.len(), WARNINGS + 1);
        let last = pending.last().expect("one more");
        assert!(last.note.starts_with("30 more"), "{}", last.note);
    }

    #[test]
    fn notes_and_names_fit() {
        let long = "ä".repeat(900);
        let diagnostic = warning("a", "x", &long).field("spec.x", "v").remedy("do this");
        let text = note(&diagnostic);
        assert!(text.len() <= NOTE && text.ends_with('…'), "{}", text.len());
        assert_eq!(
            note(&warning("a", "x", "it is so").field("f", "v").remedy("r")),
            "f = \"v\": it is so; r"
        );
        let long = event_name(&ObjectName::new("n", "a".repeat(253)), "u", "r", "n");
        assert!(long.len() <= 253 && long.starts_with('a'), "{long}");
        let of_uid = |uid| event_name(&name("a"), uid, "r", "n");
        assert_ne!(of_uid("u"), of_uid("v"));
    }
}
