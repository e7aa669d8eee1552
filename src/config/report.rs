//! What is said about a configuration: warnings, and faults that stop the start.
//!
//! Variants carry facts; the sentences are made here, in one place, so that they keep one shape: place, key,
//! what was expected, what was found, and the Java server's words in parentheses where tools look for them.

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;

use crate::limits::CONFIG_FILE_BYTES_MAX;

/// What a server needs to know about what it was told, without a reason to refuse. Logged once, at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Nobody gives this key a meaning. `--strict` makes it a fault.
    Unknown {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// What was perhaps meant.
        nearest: Option<String>,
    },
    /// ZooKeeper gives this key a meaning that this server does not act on.
    Ignored {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// Why it changes nothing.
        why: &'static str,
    },
    /// The key is set twice in the file; the later line counts.
    SetAgain {
        /// The line that counts.
        place: Place,
        /// The key as typed.
        key: String,
        /// The line that does not.
        earlier_line: usize,
    },
    /// A flag and a line of the file set the same to different values; the line counts, as for the Java server.
    Overruled {
        /// The line that counts.
        place: Place,
        /// The key as typed.
        key: String,
        /// The flag that does not, without its value.
        flag: String,
    },
    /// A switch has a value that says neither on nor off; to the Java server it is off.
    NotASwitch {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// The value as typed.
        found: String,
        /// The word that turns it on, and the one that says off.
        words: [&'static str; 2],
    },
    /// A number that makes no sense, in whose place another is used, as by the Java server.
    Corrected {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// What would make sense.
        expected: &'static str,
        /// The value as typed.
        found: String,
        /// What is used instead.
        used: String,
    },
    /// A path depends on the directory from which the server is started.
    RelativePath {
        /// The path as typed.
        path: PathBuf,
    },
    /// A size was moved to the nearest one that the log can use.
    Adjusted {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// The value as typed.
        found: String,
        /// What is used instead, with its unit.
        used: String,
    },
    /// A name in the list of four-letter words is no such word.
    UnknownWord {
        /// Where it stands.
        place: Place,
        /// The name as typed.
        name: String,
    },
    /// One server is listed: it serves alone, as the Java server then does.
    OnlyOneServer,
    /// Neither `clientPort` nor a client address in the only `server.N` line: nobody can connect.
    NoClientPort,
    /// The file begins with a byte order mark, which was skipped.
    ByteOrderMark {
        /// The file.
        file: PathBuf,
    },
}

/// Where something was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the command line: an argument, or a flag whose key has its `-D` before it.
    CommandLine,
    /// In a file.
    Line {
        /// The file as it was named.
        file: PathBuf,
        /// The first line is 1.
        line: usize,
    },
}

/// Why a configuration cannot be served. The process ends with exit code 2.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file as it was named.
        file: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is larger than any configuration.
    TooLarge {
        /// The file as it was named.
        file: PathBuf,
    },
    /// A `\u` without four hexadecimal digits.
    BadEscape {
        /// Where it stands.
        place: Place,
        /// What follows the `\u`.
        found: String,
    },
    /// A value that its key cannot have.
    BadValue {
        /// Where it stands.
        place: Place,
        /// The key, or the argument's name.
        key: Box<str>,
        /// What can stand there.
        expected: Box<str>,
        /// What stands there.
        found: Box<str>,
        /// The Java server's words for this fault, for tools that look for them.
        java: Option<Box<str>>,
    },
    /// Lines that are right one by one and wrong together, or a line that is missing.
    Contradiction {
        /// The file as it was named.
        file: PathBuf,
        /// The Java server's words for this fault.
        java: String,
        /// The facts, and what to change.
        advice: String,
    },
    /// What is asked for is not served yet, and starting without it would do harm.
    NotServed {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// What is missing and why that matters.
        why: String,
    },
    /// A key that nobody knows, with `--strict`.
    Unknown {
        /// Where it stands.
        place: Place,
        /// The key as typed.
        key: String,
        /// What was perhaps meant.
        nearest: Option<String>,
    },
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::CommandLine => f.write_str("command line"),
            Place::Line { file, line } => write!(f, "{} line {line}", file.display()),
        }
    }
}

fn write_unknown(f: &mut fmt::Formatter<'_>, place: &Place, key: &str, nearest: Option<&str>) -> fmt::Result {
    match place {
        Place::CommandLine => write!(f, "{place}: {key}: no such setting")?,
        Place::Line { .. } => write!(f, "{place}: {key}: no such key")?,
    }
    match nearest {
        Some(nearest) => write!(f, "; did you mean {nearest}?"),
        None => f.write_str("."),
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Unknown { place, key, nearest } => {
                write_unknown(f, place, key, nearest.as_deref())?;
                match place {
                    Place::CommandLine => f.write_str(" The flag is ignored."),
                    Place::Line { .. } => f.write_str(" The line is ignored."),
                }
            }
            Warning::Ignored { place, key, why } => {
                write!(f, "{place}: {key} changes nothing: {why}")
            }
            Warning::SetAgain { place, key, earlier_line } => {
                write!(f, "{place}: {key} is set again; line {earlier_line} no longer counts")
            }
            Warning::Overruled { place, key, flag } => {
                write!(f, "{place}: {key} counts, not the flag {flag}: the file is read after the flags")
            }
            Warning::NotASwitch { place, key, found, words: [on, off] } => {
                write!(
                    f,
                    "{place}: {key}: expected {on} or {off}, found {found:?}, which like all but {on} means {off}"
                )
            }
            Warning::Corrected { place, key, expected, found, used } => {
                write!(f, "{place}: {key}: expected {expected}, found {found:?}; {used} is used, as by the Java server")
            }
            Warning::RelativePath { path } => {
                write!(f, "{} is relative. Prepend ./ to indicate that you're sure!", path.display())
            }
            Warning::Adjusted { place, key, found, used } => {
                write!(f, "{place}: {key}: the log uses segments of {used} instead of {found} KiB")
            }
            Warning::UnknownWord { place, name } => {
                write!(f, "{place}: {name:?} in the whitelist is no four-letter word and is ignored")
            }
            Warning::OnlyOneServer => f.write_str("Invalid configuration, only one server specified (ignoring)"),
            Warning::NoClientPort => f.write_str("clientPort is not set: no client can connect"),
            Warning::ByteOrderMark { file } => write!(
                f,
                "{} begins with a byte order mark. It is skipped here; to a Java server it is part of the first key",
                file.display()
            ),
        }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { file, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(f, "{} file is missing", file.display())
            }
            ConfigError::Unreadable { file, source } => {
                write!(f, "{} cannot be read: {source}", file.display())
            }
            ConfigError::TooLarge { file } => write!(
                f,
                "{} is larger than {CONFIG_FILE_BYTES_MAX} bytes; is it a configuration file?",
                file.display()
            ),
            ConfigError::BadEscape { place, found } => {
                write!(f, "{place}: expected four hexadecimal digits after \\u, found {found:?}")
            }
            ConfigError::BadValue { place, key, expected, found, java } => {
                write!(f, "{place}: {key}: expected {expected}, found {found:?}")?;
                java.as_ref().map_or(Ok(()), |java| write!(f, " ({java})"))
            }
            ConfigError::Contradiction { file, java, advice } => {
                write!(f, "{}: {java}: {advice}", file.display())
            }
            ConfigError::NotServed { place, key, why } => write!(f, "{place}: {key}: {why}"),
            ConfigError::Unknown { place, key, nearest } => {
                write_unknown(f, place, key, nearest.as_deref())?;
                f.write_str(" Correct or remove it, or start without --strict.")
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}
