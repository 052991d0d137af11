//! Pieces of nginx configuration: text → directives → steps and headers.
//!
//! - [`parse`] reads text as nginx does, with lines,
//! - [`Compiler`] turns directives into what the filter carries out, and says what it cannot,
//! - [`DIRECTIVES`] lists which directives are known,
//! - [`script()`] puts together what holds for a rule or a host.
//!
//! Deliberately knows nothing of annotations and of whether snippets are allowed.

mod ast;
mod compile;
mod directives;
mod docs;
mod headers;
mod lexer;
mod maps;
mod rewrite;
mod script;
#[cfg(test)]
mod tests;

pub use ast::{Directive, SyntaxError, parse, print};
pub use compile::{Compiled, Compiler, Finding, Location, Place};
pub use directives::{DIRECTIVES, Known, Treatment, guards, lookup};
pub use docs::snippets_markdown;
pub use maps::Map;
pub use script::{map_steps, names as mentions, script};

/// The names of all variables that directives set.
pub fn names(directives: &[Directive]) -> Vec<String> {
    let mut compiler = Compiler::new(Place::Location, Vec::new(), &[]);
    compiler.declare(directives);
    compiler.finish().variables
}
