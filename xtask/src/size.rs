//! `cargo xtask size`: what the filter module is made of. Its size is start-up time, since Envoy compiles
//! it whole before it serves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::args::Args;
use crate::{product, repository, tools, ui};

const HELP: &str = "\
Builds the filter and prints the size of its module by section.

Usage: cargo xtask size";

/// `cargo xtask size`
pub fn run(args: Args) -> Result<bool> {
    if args.help_only("size", HELP)? {
        return Ok(true);
    }
    tools::targets()?;
    let module = product::build_filter()?;
    let bytes = fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    let mut rows: Vec<Vec<String>> =
        sections(&bytes)?.into_iter().map(|(name, size)| vec![name, ui::bytes(size)]).collect();
    rows.push(vec!["whole module".to_owned(), ui::bytes(bytes.len() as u64)]);
    ui::heading(&repository::shown(&module));
    ui::table(&rows);
    Ok(true)
}

/// The size of a file in bytes.
pub fn of(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("read {}", file.display()))?.len())
}

/// The sections of a module in order, each with the bytes that it takes, its head included.
fn sections(module: &[u8]) -> Result<Vec<(String, u64)>> {
    const NAMES: [&str; 14] = [
        "custom",
        "types",
        "imports",
        "functions",
        "tables",
        "memories",
        "globals",
        "exports",
        "start",
        "elements",
        "code",
        "data",
        "data count",
        "tags",
    ];
    let mut rest = module.strip_prefix(b"\0asm\x01\0\0\0").context("not a WebAssembly module")?;
    let mut sections = Vec::new();
    while let Some((&id, after)) = rest.split_first() {
        let (size, body) = number(after).context("a section without a size")?;
        let Some((content, next)) = body.split_at_checked(size) else { bail!("a section is cut off") };
        let name = match (id, NAMES.get(usize::from(id))) {
            (0, _) => format!("custom {}", custom_name(content).unwrap_or_default()),
            (_, Some(name)) => (*name).to_owned(),
            (_, None) => format!("section {id}"),
        };
        sections.push((name, (rest.len() - next.len()) as u64));
        rest = next;
    }
    Ok(sections)
}

fn custom_name(content: &[u8]) -> Option<String> {
    let (length, rest) = number(content)?;
    Some(String::from_utf8_lossy(rest.get(..length)?).into_owned())
}

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_sections() {
        let module = b"\0asm\x01\0\0\0\x01\x02ab\x00\x05\x04namex\x0b\x81\x00d";
        // The size of the custom section leaves one byte out: it is the next section's id.
        assert!(sections(module).is_err());
        let module = b"\0asm\x01\0\0\0\x01\x02ab\x00\x06\x04namex\x0b\x81\x00d";
        let expected = [("types", 4), ("custom name", 8), ("data", 4)];
        let found = sections(module).unwrap();
        let found: Vec<(&str, u64)> = found.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn refuses_what_is_no_module() {
        for bytes in [&b""[..], b"\x7fELF", b"\0asm\x01\0\0\0\x01", b"\0asm\x01\0\0\0\x01\x05a"] {
            assert!(sections(bytes).is_err(), "{bytes:?}");
        }
    }
}
