//! What texts come to, as tables: the text, and the diagnostics by code, line and field.

mod documents;
mod kinds;
mod rules;

use std::sync::Arc;

use super::{Loaded, read};
use crate::diagnostic::Diagnostic;
use crate::objects::{Ingress, Object};

fn load(text: &str) -> Loaded {
    read(&Arc::from("a.yaml"), text)
}

/// `error code line field` of each diagnostic.
fn summary(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics
        .iter()
        .map(|d| {
            let line = d.source.as_ref().map_or(0, |source| source.line);
            format!("{} {} {line} {}", d.severity, d.code, d.field).trim_end().to_owned()
        })
        .collect()
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.objects.iter().map(|object| object.reference().to_string()).collect()
}

/// An Ingress of networking.k8s.io/v1 around a `spec`, whose first line is line 6.
fn v1(spec: &str) -> String {
    let spec = indent(spec, 2);
    format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: web\nspec:\n{spec}")
}

/// The same in networking.k8s.io/v1beta1.
fn v1beta1(spec: &str) -> String {
    v1(spec).replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1")
}

/// One path of an Ingress of v1; the path entry begins in line 9.
fn v1_path(entry: &str) -> String {
    let entry = indent(entry, 6);
    v1(&format!("rules:\n- http:\n    paths:\n    - {}", entry.trim_start()))
}

fn indent(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}

fn ingress(loaded: &Loaded) -> &Ingress {
    match loaded.objects.as_slice() {
        [Object::Ingress(ingress)] => ingress,
        other => panic!("not one Ingress: {other:?} {:#?}", loaded.diagnostics),
    }
}

const BACKEND: &str = "backend: {service: {name: web, port: {number: 80}}}";
