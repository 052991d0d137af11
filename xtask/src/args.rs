//! The command line of a task: options, values, and a help text. Small enough not to need a parser crate,
//! which everyone who tries the demo would have to compile first.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// The command line was wrong; the exit status is 2.
#[derive(Debug)]
pub struct Misuse(pub String);

impl fmt::Display for Misuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// The words after the task.
pub struct Args {
    words: VecDeque<String>,
}

/// One word of the command line, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Arg {
    /// `--name`, or `--name=value` whose value [`Args::value`] gives next.
    Option(String),
    /// Anything else.
    Word(String),
}

impl Args {
    /// The words after the task, in order.
    pub fn new(words: Vec<String>) -> Self {
        Args { words: words.into() }
    }

    /// The next word.
    pub fn next(&mut self) -> Option<Arg> {
        let word = self.words.pop_front()?;
        Some(match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                self.words.push_front(value.to_owned());
                Arg::Option(name.to_owned())
            }
            _ if word.starts_with('-') && word.len() > 1 => Arg::Option(word),
            _ => Arg::Word(word),
        })
    }

    /// The value of the option that was just read.
    pub fn value<T: FromStr>(&mut self, option: &str) -> Result<T, Misuse>
    where
        T::Err: fmt::Display,
    {
        let word = self.words.pop_front().ok_or_else(|| Misuse(format!("{option} needs a value")))?;
        word.parse().map_err(|error| Misuse(format!("{option} {word}: {error}")))
    }

    /// For a task without options: true if only its help was asked for.
    pub fn help_only(mut self, task: &str, help: &str) -> Result<bool, Misuse> {
        match self.next() {
            None => Ok(false),
            Some(Arg::Option(name)) if is_help(&name) => {
                println!("{help}");
                Ok(true)
            }
            Some(other) => Err(unknown(task, &other)),
        }
    }
}

/// Whether an option asks for help.
pub fn is_help(option: &str) -> bool {
    matches!(option, "--help" | "-h")
}

/// The answer to a word that a task does not know.
pub fn unknown(task: &str, arg: &Arg) -> Misuse {
    let (Arg::Option(word) | Arg::Word(word)) = arg;
    Misuse(format!("{task} does not know `{word}`; see `cargo xtask {task} --help`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn reads_options_and_words() {
        let mut args = args("--repeats 7 --http=127.0.0.1:1 word --last");
        assert_eq!(args.next(), Some(Arg::Option("--repeats".into())));
        assert_eq!(args.value::<u32>("--repeats").unwrap(), 7);
        assert_eq!(args.next(), Some(Arg::Option("--http".into())));
        assert_eq!(args.value::<String>("--http").unwrap(), "127.0.0.1:1");
        assert_eq!(args.next(), Some(Arg::Word("word".into())));
        assert_eq!(args.next(), Some(Arg::Option("--last".into())));
        assert_eq!(args.next(), None);
    }

    #[test]
    fn a_bad_or_missing_value_is_named() {
        for (line, expected) in
            [("--repeats x", "--repeats x: invalid digit"), ("--repeats", "needs a value")]
        {
            let mut args = args(line);
            args.next();
            let message = args.value::<u32>("--repeats").unwrap_err().to_string();
            assert!(message.contains(expected), "{line}: {message}");
        }
    }
}
