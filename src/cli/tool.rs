//! What the tools for Java's files share: where they read and print, and how they end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use crate::compat::Fault;

/// The standard streams of a tool.
pub struct Streams<'a> {
    /// Answers to its questions.
    pub input: &'a mut dyn BufRead,
    /// What it prints.
    pub out: &'a mut dyn Write,
    /// Its messages.
    pub err: &'a mut dyn Write,
}

/// Why a tool ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// With this message and exit code.
    Said(String, u8),
    /// Nobody reads what it prints, or that cannot be written.
    Print(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Said(fault.to_string(), 1)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Print(error)
    }
}

/// Runs `tool`; the exit code of the process.
pub(super) fn ended(streams: &mut Streams<'_>, tool: impl FnOnce(&mut Streams<'_>) -> Result<u8, Stop>) -> u8 {
    let result = tool(streams).and_then(|code| Ok(streams.out.flush().map(|()| code)?));
    let (text, code) = match result {
        Ok(code) => return code,
        Err(Stop::Said(text, code)) => match streams.out.flush() {
            Ok(()) => (text, code),
            Err(error) => (format!("{text}\ncannot print: {error}"), 1),
        },
        Err(Stop::Print(error)) => (format!("cannot print: {error}"), 1),
    };
    // Where messages cannot be written either, the exit code is all that is left.
    let _ = writeln!(streams.err, "{text}");
    code
}

/// Opens a file for reading; `unreadable` is said where that is refused or it is a directory.
pub(super) fn open(path: &Path, unreadable: impl FnOnce() -> Stop) -> Result<BufReader<File>, Stop> {
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(BufReader::new(file)),
        _ => Err(unreadable()),
    }
}

/// Turns an error of the operating system about `file` into what is said.
pub(super) fn fault(what: &'static str, file: &Path) -> impl Fn(io::Error) -> Stop {
    move |source| Fault::Io { what, file: file.to_path_buf(), source }.into()
}
