//! What the tasks print: headings, progress with times, tables. Colours only on a terminal, and none where
//! `NO_COLOR` is set.

use std::env;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// How a piece of text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Bold,
    /// Of lesser interest.
    Dim,
    /// As it should be.
    Good,
    /// Wrong.
    Bad,
    /// Worth a look.
    Warning,
}

/// The text in its style, for standard output.
pub fn paint(style: Style, text: &str) -> String {
    coloured(io::stdout().is_terminal(), style, text)
}

fn coloured(terminal: bool, style: Style, text: &str) -> String {
    if !terminal || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    let code = match style {
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Good => "32",
        Style::Bad => "31",
        Style::Warning => "33",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A heading, with an empty line before it.
pub fn heading(text: &str) {
    println!("\n{}", paint(Style::Bold, &format!("== {text}")));
}

/// Something to know, on standard error.
pub fn note(text: &str) {
    eprintln!("{}", coloured(io::stderr().is_terminal(), Style::Warning, text));
}

/// Why the task ends without success, on standard error.
pub fn error(text: &str) {
    eprintln!("{} {text}", coloured(io::stderr().is_terminal(), Style::Bad, "error:"));
}

/// Runs a long step between "what it does …" and how long it took, both on standard error.
pub fn timed<T>(what: &str, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("{what} …");
    let start = Instant::now();
    let result = step()?;
    eprintln!(
        "{}",
        coloured(io::stderr().is_terminal(), Style::Dim, &format!("  {}", seconds(start.elapsed())))
    );
    Ok(result)
}

/// `1.2 s`
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `1234 ms`
pub fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}

/// `452.1 kB`, `1.3 MB`: powers of ten.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}

/// Prints rows in aligned columns; the first column to the left, the others to the right.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(index, (cell, width))| match index {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("  {}", cells.join("   ").trim_end());
    }
}
