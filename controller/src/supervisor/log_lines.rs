//! Envoy's log, line by line.

/// The format that Envoy is told to log in.
pub(super) const FORMAT: &str = "%l\t%n\t%v";

/// How serious a line is, in Envoy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// The word for it in `--log-level`.
    pub fn word(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }

    fn from_word(word: &str) -> Option<Level> {
        [Level::Trace, Level::Debug, Level::Info, Level::Warning, Level::Error, Level::Critical]
            .into_iter()
            .find(|level| level.word() == word)
    }
}

/// One line of Envoy's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How serious; further lines of a message are as serious as its first.
    pub level: Level,
    /// The part of Envoy that speaks, as in `--component-log-level`; empty where it is not known.
    pub component: String,
    /// What it says.
    pub text: String,
}

/// Reads lines in order.
#[derive(Debug)]
pub(super) struct Reader {
    level: Level,
    component: String,
}

impl Reader {
    /// What Envoy says before it logs in its format is why it cannot start.
    pub(super) fn new() -> Reader {
        Reader { level: Level::Error, component: String::new() }
    }

    pub(super) fn read(&mut self, line: &str) -> LogLine {
        let mut parts = line.splitn(3, '\t');
        let text = match (parts.next().and_then(Level::from_word), parts.next(), parts.next()) {
            (Some(level), Some(component), Some(text)) => {
                self.level = level;
                component.clone_into(&mut self.component);
                text
            }
            _ => line,
        };
        LogLine { level: self.level, component: self.component.clone(), text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_order() {
        let cases = [
            ("error initializing", Level::Error, "", "error initializing"),
            ("info\tmain\tstarting\twell", Level::Info, "main", "starting\twell"),
            ("  more of it", Level::Info, "main", "  more of it"),
            ("critical\twasm\tplugin", Level::Critical, "wasm", "plugin"),
            ("", Level::Critical, "wasm", ""),
            ("loud\twasm\tplugin", Level::Critical, "wasm", "loud\twasm\tplugin"),
        ];
        let mut reader = Reader::new();
        for (line, level, component, text) in cases {
            let expected = LogLine { level, component: component.to_owned(), text: text.to_owned() };
            assert_eq!(reader.read(line), expected, "{line:?}");
        }
    }
}
