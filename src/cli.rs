//! The command line: what was typed becomes a [`Command`], or a sentence and an exit code.
//!
//! Decides nothing about a configuration file, a flag or a port: those texts go to `config`, which knows what they
//! may be. Prints nothing and ends nothing: `main` does what an [`Exit`] says.

mod date;
pub mod snapshot;
mod tool;
pub mod txnlog;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::compat::command::{Export, Import};
use crate::config::Flag;

pub use self::tool::Streams;

/// The exit codes of the process, with the Java server's meanings.
pub mod exit_code {
    /// Nothing went wrong.
    pub const OK: u8 = 0;
    /// Anything that has no code of its own.
    pub const OTHER: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const BAD_CONFIG: u8 = 2;
    /// The data directory cannot be used.
    pub const DATA_DIRECTORY: u8 = 3;
}

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Server {
        /// Where the configuration comes from.
        source: Server,
        /// The flags, in the order in which they were typed.
        flags: Vec<Flag>,
    },
    /// Look at what a Java server left.
    Import(Import),
    /// Write the state as a Java server's directory.
    Export(Export),
    /// Print, sum up or check a snapshot of a Java server; `snapshot` reads the arguments.
    Snapshot(Vec<OsString>),
    /// Print, check, repair or cut a log of a Java server; `txnlog` reads the arguments.
    TxnLog(Vec<OsString>),
    /// Print the version.
    Version,
}

/// Where a server's configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// Nowhere: the embedded default.
    Embedded,
    /// From a file.
    File {
        /// The file as it was typed.
        path: PathBuf,
        /// Whether a key that nobody knows is a fault.
        strict: bool,
    },
    /// From the arguments themselves; `config` checks them.
    Arguments {
        /// The client port.
        port: OsString,
        /// The data directory.
        data_dir: OsString,
        /// Milliseconds of a tick.
        tick_ms: Option<OsString>,
        /// Connections per client address.
        max_client_cnxns: Option<OsString>,
    },
}

/// Why the process ends before it does anything, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What to print: on standard output when `code` is [`exit_code::OK`], on standard error otherwise.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

#[derive(Parser)]
#[command(
    name = "zorilla",
    about = "Zorilla: an Apache ZooKeeper server",
    after_help = "A first look:  zorilla server   and in another terminal:  echo srvr | nc 127.0.0.1 2181",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Typed {
    #[command(subcommand)]
    command: TypedCommand,
}

#[derive(Subcommand)]
enum TypedCommand {
    /// Serve ZooKeeper clients until SIGTERM or SIGINT
    Server(TypedServer),
    /// Show what would be taken over from a Java server's directories
    Import(Import),
    /// Write the state as a Java server's directory
    Export(Export),
    /// Print, sum up or check a snapshot of a Java server: format [-d] FILE | summary FILE ZNODE DEPTH | verify FILE
    #[command(disable_help_flag = true)]
    Snapshot(Tool),
    /// Print, check, repair or cut a log of a Java server: -h says how
    #[command(name = "txnlog", disable_help_flag = true)]
    TxnLog(Tool),
    /// Print the version
    Version,
}

/// A tool that reads its arguments itself, as the Java server's tool does.
#[derive(Args)]
struct Tool {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

#[derive(Args)]
#[command(
    override_usage = "zorilla server [-Dname=value …] [--strict] [CONFIG | PORT DATADIR [TICKTIME] [MAXCNXNS]]",
    after_help = "Without arguments: client port 2181 on loopback only, data in ./zorilla-data.\n\n\
                  -Dname=value  sets a property, as for a JVM; of two equal names the last counts, and a line of \
                  CONFIG overrides both\n\n\
                  CONFIG    a zoo.cfg; docs/configuration.md says what each key means here\n\
                  PORT      the client port, on every IPv4 interface\n\
                  DATADIR   where log and state are kept\n\
                  TICKTIME  milliseconds of a tick, 3000 unless given\n\
                  MAXCNXNS  connections per client address, without limit unless given\n\n\
                  Exit codes: 0 stopped by a signal; 2 wrong arguments or configuration; 3 the data directory cannot \
                  be used; 1 anything else."
)]
struct TypedServer {
    /// Refuse a configuration file that has keys nobody knows, instead of warning
    #[arg(long)]
    strict: bool,
    // The help text of an option would show a blank after the `-D`, and there is none.
    #[arg(short = 'D', hide = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
    #[arg(hide = true)]
    arguments: Vec<OsString>,
}

impl TypedServer {
    fn check(self) -> Result<Command, Exit> {
        let flag = |text: OsString| match text.into_string() {
            Ok(text) => Ok(Flag::of(&text)),
            Err(text) => Err(refused(&format!("-D{} is no Unicode.", text.to_string_lossy()))),
        };
        let flags = self.flags.into_iter().map(flag).collect::<Result<_, _>>()?;
        Ok(Command::Server { source: source(self.strict, self.arguments)?, flags })
    }
}

/// Reads the command line; the first of `arguments` is the name of the program.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // A JVM knows no `-D name=value`; taking it apart like other options would swallow the name of the file.
    if arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "-D") {
        return Err(refused("-D is followed by name=value without a blank."));
    }
    let typed = Typed::try_parse_from(arguments).map_err(|error| Exit {
        text: error.to_string(),
        code: match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit_code::OK,
            _ => exit_code::BAD_CONFIG,
        },
    })?;
    match typed.command {
        TypedCommand::Version => Ok(Command::Version),
        TypedCommand::Import(import) => Ok(Command::Import(import)),
        TypedCommand::Export(export) => Ok(Command::Export(export)),
        TypedCommand::Snapshot(tool) => Ok(Command::Snapshot(tool.arguments)),
        TypedCommand::TxnLog(tool) => Ok(Command::TxnLog(tool.arguments)),
        TypedCommand::Server(typed) => typed.check(),
    }
}

fn source(strict: bool, arguments: Vec<OsString>) -> Result<Server, Exit> {
    let count = arguments.len();
    let mut rest = arguments.into_iter();
    match (rest.next(), rest.next(), rest.next(), rest.next()) {
        (None, ..) if strict => Err(refused("--strict is about a configuration file, and none is named.")),
        (None, ..) => Ok(Server::Embedded),
        (Some(only), None, ..) if only.is_empty() => Err(refused("The name of the configuration file is empty.")),
        (Some(only), None, ..) => Ok(Server::File { path: only.into(), strict }),
        _ if strict => Err(refused("--strict is about a configuration file, and PORT DATADIR is none.")),
        (Some(port), Some(data_dir), tick_ms, max_client_cnxns) if count <= 4 => {
            Ok(Server::Arguments { port, data_dir, tick_ms, max_client_cnxns })
        }
        _ => Err(refused(&format!("At most four arguments were expected, {count} were found."))),
    }
}

fn refused(sentence: &str) -> Exit {
    Exit {
        text: format!(
            "{sentence}\n\
             Usage: zorilla server [-Dname=value …] [--strict] [CONFIG | PORT DATADIR [TICKTIME] [MAXCNXNS]]\n\
             More: zorilla server --help\n"
        ),
        code: exit_code::BAD_CONFIG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Command, Exit> {
        parse(std::iter::once("zorilla").chain(line.split_whitespace()).map(OsString::from))
    }

    fn server(source: Server) -> Result<Command, Exit> {
        Ok(Command::Server { source, flags: Vec::new() })
    }

    #[test]
    fn a_server_is_configured_by_nothing_a_file_or_arguments() {
        assert_eq!(typed("server"), server(Server::Embedded));
        for (line, strict) in
            [("server zoo.cfg", false), ("server --strict zoo.cfg", true), ("server zoo.cfg --strict", true)]
        {
            assert_eq!(typed(line), server(Server::File { path: "zoo.cfg".into(), strict }));
        }
        let arguments = |tick: Option<&str>, cnxns: Option<&str>| {
            server(Server::Arguments {
                port: "2181".into(),
                data_dir: "/data".into(),
                tick_ms: tick.map(OsString::from),
                max_client_cnxns: cnxns.map(OsString::from),
            })
        };
        assert_eq!(typed("server 2181 /data"), arguments(None, None));
        assert_eq!(typed("server 2181 /data 2000"), arguments(Some("2000"), None));
        assert_eq!(typed("server 2181 /data 2000 60"), arguments(Some("2000"), Some("60")));
        assert_eq!(typed("version"), Ok(Command::Version));
    }

    #[test]
    fn flags_are_taken_as_a_jvm_takes_them() {
        for (line, expected) in [
            ("server -Da=b zoo.cfg", &[("a", "b")][..]),
            ("server -Da.b=c=d -De -Da.b= zoo.cfg", &[("a.b", "c=d"), ("e", ""), ("a.b", "")]),
            ("server -Da=-1 --strict zoo.cfg", &[("a", "-1")]),
            ("server zoo.cfg -D-a=-Db", &[("-a", "-Db")]),
            ("server -Da=b", &[("a", "b")]),
            ("server -Da=b 2181 /data 2000 60", &[("a", "b")]),
        ] {
            let Ok(Command::Server { flags, .. }) = typed(line) else { panic!("{line}: {:?}", typed(line)) };
            let flags: Vec<_> = flags.iter().map(|flag| (flag.name.as_str(), flag.value.as_str())).collect();
            assert_eq!(flags, expected, "{line}");
        }
        let with_blank = parse(["zorilla", "server", "-Da=b c", "zoo.cfg"].map(OsString::from));
        let flags = vec![Flag::of("a=b c")];
        assert_eq!(
            with_blank,
            Ok(Command::Server { source: Server::File { path: "zoo.cfg".into(), strict: false }, flags })
        );
    }

    #[test]
    fn help_is_asked_for_and_no_fault() {
        for line in ["--help", "server --help", "version --help"] {
            let exit = typed(line).unwrap_err();
            assert_eq!(exit.code, exit_code::OK, "{line}");
            assert!(exit.text.contains("Usage: zorilla"), "{}", exit.text);
        }
        let help = typed("server --help").unwrap_err().text;
        for word in [
            "--strict",
            "-Dname=value  sets",
            "CONFIG",
            "PORT",
            "DATADIR",
            "TICKTIME",
            "MAXCNXNS",
            "Exit codes",
            "loopback",
        ] {
            assert!(help.contains(word), "{word} is not in {help}");
        }
        let help = typed("--help").unwrap_err().text;
        assert!(help.contains("server") && help.contains("version"), "{help}");
    }

    #[test]
    fn wrong_arguments_are_a_sentence_and_code_2() {
        for line in [
            "",
            "serve",
            "server a b c d e",
            "server --strict",
            "server --strict 2181 /data",
            "server --lenient",
            "server -D zoo.cfg",
            "server zoo.cfg -D",
            "server -Xmx1g zoo.cfg",
            "-Da=b server zoo.cfg",
            "version 1",
        ] {
            let exit = typed(line).unwrap_err();
            assert_eq!(exit.code, exit_code::BAD_CONFIG, "{line:?}");
            assert!(exit.text.contains("Usage: "), "{line:?}: {}", exit.text);
        }
        assert!(parse(["zorilla", "server", ""].map(OsString::from)).is_err());
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Typed::command().debug_assert();
    }
}
