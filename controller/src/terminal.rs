//! Messages for people: short, with colour on a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use ingress_wasm_translate::diagnostic::{Diagnostic, Severity};

use crate::cli::ColorChoice;

/// Where messages go and how.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    color: bool,
}

/// The colours in use, as ANSI sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Errors.
    Red,
    /// Warnings.
    Yellow,
    /// What went well.
    Green,
    /// Notes and labels.
    Cyan,
    /// What matters in a line.
    Bold,
    /// What matters less.
    Dim,
}

impl Terminal {
    /// Colour as the command line and the environment want it.
    pub fn new(choice: ColorChoice) -> Self {
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::io::stderr().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Terminal { color }
    }

    /// For standard output, which may be a file while standard error is a terminal.
    pub fn for_stdout(self) -> Self {
        Terminal { color: self.color && std::io::stdout().is_terminal() }
    }

    /// Shows what parts of the program log: warnings and errors.
    pub fn take_log(&self) {
        // There is none before: this is called once, by `main`.
        if log::set_logger(Box::leak(Box::new(*self))).is_ok() {
            log::set_max_level(log::LevelFilter::Warn);
        }
    }

    /// Text in a colour.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match style {
            Style::Red => "1;31",
            Style::Yellow => "1;33",
            Style::Green => "1;32",
            Style::Cyan => "1;36",
            Style::Bold => "1",
            Style::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a line to standard error. A closed standard error is no reason to stop.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Writes a line that begins with a verb, as cargo does.
    pub fn progress(&self, verb: &str, text: &str) {
        self.line(&format!("{} {text}", self.paint(Style::Green, &format!("{verb:>12}"))));
    }

    /// Writes an error that ends the command.
    pub fn failure(&self, error: &anyhow::Error) {
        let mut text = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Some errors tell their cause themselves.
            if !text.contains(&cause) {
                text.push_str(": ");
                text.push_str(&cause);
            }
        }
        self.line(&format!("{}: {text}", self.paint(Style::Red, "error")));
    }

    /// Writes diagnostics and a line that counts them. Unless `verbose`, notes on how something that works is
    /// done differently are only counted: they would drown what matters.
    pub fn diagnostics(&self, diagnostics: &[Diagnostic], verbose: bool) {
        let text = self.summary(diagnostics, verbose);
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn summary(&self, diagnostics: &[Diagnostic], verbose: bool) -> String {
        let (left_out, shown): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
            diagnostics.iter().partition(|diagnostic| !verbose && is_background(diagnostic));
        let mut text = String::new();
        for diagnostic in &shown {
            text.push_str(&self.diagnostic(diagnostic));
        }
        if !shown.is_empty() {
            let _ = writeln!(text, "{}", count(shown.iter().copied()));
        }
        match left_out.len() {
            0 => {}
            1 => text.push_str("1 note was left out: `ingress-wasm check` shows it\n"),
            number => {
                let _ = writeln!(text, "{number} notes were left out: `ingress-wasm check` shows them");
            }
        }
        text
    }

    /// A diagnostic, in the form of a compiler's message.
    pub fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let style = match diagnostic.severity {
            Severity::Error => Style::Red,
            Severity::Warning => Style::Yellow,
            Severity::Note => Style::Cyan,
        };
        let head = format!("{}[{}]", diagnostic.severity, diagnostic.code);
        let mut text =
            format!("{}: {}\n", self.paint(style, &head), self.paint(Style::Bold, &diagnostic.consequence));
        let mut field = |label: &str, value: String| {
            let _ = writeln!(text, "  {} {value}", self.paint(Style::Cyan, label));
        };
        if let Some(source) = &diagnostic.source {
            field("-->", source.to_string());
        }
        if let Some(object) = &diagnostic.object {
            field("  = object:", object.to_string());
        }
        if !diagnostic.field.is_empty() {
            let found = if diagnostic.found.is_empty() {
                String::new()
            } else {
                format!(" = {:?}", diagnostic.found)
            };
            field("  = field: ", format!("{}{found}", diagnostic.field));
        }
        if !diagnostic.remedy.is_empty() {
            field("  = help:  ", diagnostic.remedy.clone());
        }
        text.push('\n');
        text
    }

    /// The exit status for what was found in the input.
    pub fn exit_code(&self, diagnostics: &[Diagnostic]) -> ExitCode {
        let errors = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        if errors { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// A note on something that works, or that is not for us.
fn is_background(diagnostic: &Diagnostic) -> bool {
    const CODES: [&str; 5] =
        ["annotation-differs", "annotation-no-effect", "option-differs", "option-no-effect", "kind-ignored"];
    diagnostic.severity == Severity::Note && CODES.contains(&diagnostic.code)
}

impl log::Log for Terminal {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Libraries have their own idea of what matters to a user.
        metadata.level() <= log::Level::Warn && metadata.target().starts_with("ingress_wasm")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let style = if record.level() == log::Level::Error { Style::Red } else { Style::Yellow };
            let label =
                self.paint(style, if record.level() == log::Level::Error { "error" } else { "warning" });
            self.line(&format!("{label}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// How many there are of each kind, in words.
pub fn count<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic> + Clone) -> String {
    let count = |severity, one: &str| {
        let number =
            diagnostics.clone().into_iter().filter(|diagnostic| diagnostic.severity == severity).count();
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {one}{plural}"))
    };
    let kinds =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning"), count(Severity::Note, "note")];
    kinds.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_on_what_works_are_counted_and_not_shown() {
        let terminal = Terminal { color: false };
        let differs = Diagnostic::note("annotation-differs", "otherwise");
        let cases: [(Vec<Diagnostic>, bool, &str); 7] = [
            (vec![], false, ""),
            (vec![differs.clone()], false, "1 note was left out: `ingress-wasm check` shows it\n"),
            (
                vec![differs.clone(), Diagnostic::note("kind-ignored", "x")],
                false,
                "2 notes were left out: `ingress-wasm check` shows them\n",
            ),
            (vec![differs.clone()], true, "note[annotation-differs]: otherwise\n\n1 note\n"),
            (
                vec![Diagnostic::error("e", "bad"), differs],
                false,
                "error[e]: bad\n\n1 error\n1 note was left out: `ingress-wasm check` shows it\n",
            ),
            (
                vec![Diagnostic::note("last-good-version", "x")],
                false,
                "note[last-good-version]: x\n\n1 note\n",
            ),
            // The code alone does not hide what is graver than a note.
            (
                vec![Diagnostic::warning("option-differs", "x")],
                false,
                "warning[option-differs]: x\n\n1 warning\n",
            ),
        ];
        for (diagnostics, verbose, expected) in cases {
            assert_eq!(terminal.summary(&diagnostics, verbose), expected, "{diagnostics:?}, {verbose}");
        }
    }
}
