//! `ingress-wasm check`: a migration report. What works, what differs and what is not supported, per Ingress
//! and annotation, from the registry that the translator itself reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use ingress_wasm_translate::annotations::{self, AnnotationSet, Setting};
use ingress_wasm_translate::diagnostic::{Diagnostic, Severity};
use ingress_wasm_translate::objects::{Ingress, Kind, ObjectRef, Source};
use serde::Serialize;

use super::{Format, InputArgs};
use crate::terminal::{Style, Terminal, count};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    input: InputArgs,
    /// How the report is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    summary: Summary,
    ingresses: Vec<IngressReport>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    ingresses: usize,
    annotations: usize,
    /// Number of annotations by level.
    levels: BTreeMap<&'static str, usize>,
    errors: usize,
    warnings: usize,
    notes: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct IngressReport {
    object: ObjectRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    annotations: Vec<AnnotationReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnnotationReport {
    key: String,
    level: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
}

/// Writes the report.
pub fn check(args: &CheckArgs, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let (_, mut catalog) = args.input.load();
    let (snapshot, _) = catalog.snapshot();
    let translation = catalog.translate(&args.input.options());
    let report = report(snapshot.ingresses.values().map(|ingress| &**ingress), translation.diagnostics);
    let bytes = match args.format {
        Format::Json => {
            let mut bytes = serde_json::to_vec_pretty(&report)?;
            bytes.push(b'\n');
            bytes
        }
        Format::Text => text(&report, &terminal.for_stdout()).into_bytes(),
    };
    super::write_output(None, &bytes)?;
    Ok(terminal.exit_code(&report.diagnostics))
}

fn report<'a>(ingresses: impl Iterator<Item = &'a Ingress>, diagnostics: Vec<Diagnostic>) -> Report {
    let ingresses: Vec<IngressReport> = ingresses.map(ingress_report).collect();
    let of = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let mut summary = Summary {
        ingresses: ingresses.len(),
        errors: of(Severity::Error),
        warnings: of(Severity::Warning),
        notes: of(Severity::Note),
        ..Summary::default()
    };
    for annotation in ingresses.iter().flat_map(|ingress| &ingress.annotations) {
        summary.annotations += 1;
        *summary.levels.entry(annotation.level).or_default() += 1;
    }
    Report { summary, ingresses, diagnostics }
}

fn ingress_report(ingress: &Ingress) -> IngressReport {
    let set = AnnotationSet::of(ingress, None);
    let mut reports: Vec<AnnotationReport> = set.iter().map(annotation_report).collect();
    let unknown = ingress.metadata.annotations.keys().filter(|key| {
        annotations::split(key, None).is_some() && !reports.iter().any(|report| report.key == **key)
    });
    let unknown: Vec<AnnotationReport> =
        unknown.map(|key| AnnotationReport { key: key.clone(), level: "unknown", reason: "" }).collect();
    reports.extend(unknown);
    reports.sort_by(|a, b| a.key.cmp(&b.key));
    IngressReport {
        object: ObjectRef { kind: Kind::Ingress, name: ingress.metadata.name.clone() },
        source: ingress.metadata.source.clone(),
        annotations: reports,
    }
}

fn annotation_report(setting: Setting<'_>) -> AnnotationReport {
    let invalid = !setting.text.trim().is_empty() && setting.parse().is_err();
    let refused = setting.entry.is_refused(setting.text);
    let support = setting.entry.support;
    let (level, reason) = match (invalid, refused) {
        (true, _) => ("invalid", ""),
        (false, true) => ("not supported", "this value is not honoured"),
        (false, false) => (support.level(), support.reason()),
    };
    AnnotationReport { key: setting.key.to_owned(), level, reason }
}

fn text(report: &Report, terminal: &Terminal) -> String {
    let mut text = String::new();
    for diagnostic in &report.diagnostics {
        text.push_str(&terminal.diagnostic(diagnostic));
    }
    for ingress in &report.ingresses {
        let source = ingress.source.as_ref().map(|source| format!("  {source}")).unwrap_or_default();
        let name = terminal.paint(Style::Bold, &ingress.object.name.to_string());
        let _ = writeln!(text, "{name}{}", terminal.paint(Style::Dim, &source));
        if ingress.annotations.is_empty() {
            let _ = writeln!(text, "  {} no annotations", terminal.paint(Style::Green, "✓"));
        }
        for annotation in &ingress.annotations {
            let (sign, style) = match annotation.level {
                "exact" => ("✓", Style::Green),
                "no effect" => ("·", Style::Dim),
                "differs" => ("~", Style::Yellow),
                _ => ("✗", Style::Red),
            };
            let reason =
                if annotation.reason.is_empty() { String::new() } else { format!(": {}", annotation.reason) };
            let sign = terminal.paint(style, sign);
            let _ = writeln!(text, "  {sign} {} ({}{reason})", annotation.key, annotation.level);
        }
    }
    let Summary { ingresses, annotations, levels, .. } = &report.summary;
    let levels: Vec<String> = levels.iter().map(|(level, number)| format!("{number} {level}")).collect();
    let levels = if levels.is_empty() { String::new() } else { format!(": {}", levels.join(", ")) };
    let found = count(&report.diagnostics);
    let found = if found.is_empty() { "nothing to report".to_owned() } else { found };
    let _ = writeln!(
        text,
        "\n{ingresses} Ingress{}, {annotations} annotation{}{levels}\n{found}",
        if *ingresses == 1 { "" } else { "es" },
        if *annotations == 1 { "" } else { "s" }
    );
    text
}
