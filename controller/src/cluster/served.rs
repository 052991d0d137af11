//! What is served, as the rest of this room may know it: the tasks that write status and Events follow a
//! [`tokio::sync::watch`] channel of [`Served`] values.
//!
//! A value is made after each translation and after each answer of Envoy to one. It is cheap to clone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ingress_wasm_translate::diagnostic::Diagnostic;
use ingress_wasm_translate::objects::{ObjectName, Snapshot};
use ingress_wasm_translate::output::Options;

use super::raw::{AnnotationsPrefix, Identity};

/// What is served at one moment.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// The Ingresses that are ours (by class and namespace), with what the API server said of them last: their
    /// uid, version and status.
    pub ingresses: Arc<BTreeMap<ObjectName, Arc<Identity>>>,
    /// Everything there is to say of the objects as they are now.
    pub diagnostics: Arc<Vec<Diagnostic>>,
    /// The generation of the plugin configuration that Envoy has accepted last; empty before the first.
    pub generation: Arc<str>,
    /// The objects that were translated last; none before the first time.
    pub view: Option<Arc<View>>,
}

/// What was translated, and how: for a look at an object that may come.
#[derive(Debug)]
pub struct View {
    /// All objects.
    pub snapshot: Arc<Snapshot>,
    /// How they were translated.
    pub options: Options,
    /// The namespaces that are chosen; none: all.
    pub namespaces: Option<BTreeSet<String>>,
    /// What annotations begin with.
    pub prefix: AnnotationsPrefix,
}

/// The channel in which [`Served`] values come.
pub type Receiver = tokio::sync::watch::Receiver<Served>;
