//! The `zorilla` binary: reads the command line, starts what it asks for, and says how it ended.

use std::ffi::OsString;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zorilla::cli::{self, Command, Streams, exit_code};
use zorilla::config::{Config, Flag, Source, Warning};
use zorilla::ops::four_letter;
use zorilla::server::{Server, ServerError};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(Command::Version) => {
            println!("Apache ZooKeeper, version {}", four_letter::version());
            ExitCode::SUCCESS
        }
        Ok(Command::Import(import)) => tell(import.run()),
        Ok(Command::Export(export)) => tell(export.run()),
        Ok(Command::Snapshot(arguments)) => tool(cli::snapshot::run, &arguments),
        Ok(Command::TxnLog(arguments)) => tool(cli::txnlog::run, &arguments),
        Ok(Command::Server { source, flags }) => match serve(&source, &flags) {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("{}", fault.text);
                ExitCode::from(fault.code)
            }
        },
        Err(exit) if exit.code == exit_code::OK => {
            print!("{}", exit.text);
            ExitCode::SUCCESS
        }
        Err(exit) => {
            eprint!("{}", exit.text);
            ExitCode::from(exit.code)
        }
    }
}

/// Prints what a command has to say.
fn tell(said: Result<String, (String, u8)>) -> ExitCode {
    match said {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err((text, code)) => {
            eprint!("{text}");
            ExitCode::from(code)
        }
    }
}

/// Runs a tool with the streams of the process.
fn tool(run: fn(&[OsString], &mut Streams<'_>) -> u8, arguments: &[OsString]) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut streams =
        Streams { input: &mut std::io::stdin().lock(), out: &mut out, err: &mut std::io::stderr().lock() };
    ExitCode::from(run(arguments, &mut streams))
}

/// Why the process ends, for whoever reads standard error, and how.
struct Fault {
    text: String,
    code: u8,
}

fn serve(source: &cli::Server, flags: &[Flag]) -> Result<(), Fault> {
    tracing_subscriber::fmt()
        .with_ansi(std::io::stdout().is_terminal())
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .init();
    let (config, warnings) = configure(source, flags)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    // Before any thread starts: each of them inherits what is blocked here.
    let mut signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Fault { text: format!("cannot wait for signals: {error}"), code: exit_code::OTHER })?;
    let embedded = config.source == Source::Embedded;
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let server = Server::start(config).map_err(|error| {
        tracing::error!("{error}");
        let code = match error {
            ServerError::Directory { .. }
            | ServerError::Log(_)
            | ServerError::State(_)
            | ServerError::Misfit { .. }
            | ServerError::Import(_) => exit_code::DATA_DIRECTORY,
            ServerError::Bind { .. } | ServerError::System { .. } => exit_code::OTHER,
        };
        Fault { text: format!("{error}\nExiting abnormally"), code }
    })?;
    let recovered = server.recovered();
    let threads = recovered.arrangement;
    tracing::info!(
        "recovered up to {}: state {}, then {} transactions of the log ({}{}); log: {}; {} worker(s), replica {}",
        recovered.zxid,
        recovered.snapshot,
        recovered.txns,
        if recovered.sealed { "closed in order" } else { "not closed in order" },
        match recovered.dropped_bytes {
            0 => String::new(),
            bytes => format!(", {bytes} bytes at the end were never acknowledged and are dropped"),
        },
        recovered.log,
        threads.workers,
        if threads.folded { "folded into the first" } else { "on a thread of its own" },
    );
    if let Some(address) = server.client_address() {
        tracing::info!("binding to port {address}");
    }
    if embedded && let Some(address) = server.client_address() {
        banner(address, &data);
    }
    let signal = signals.forever().next();
    tracing::info!("stopping on signal {}", signal.unwrap_or(SIGTERM));
    server.stop();
    tracing::info!("stopped: every acknowledged write is in the log, and the log is closed");
    Ok(())
}

fn configure(source: &cli::Server, flags: &[Flag]) -> Result<(Config, Vec<Warning>), Fault> {
    let configured = match source {
        cli::Server::Embedded => Config::embedded_default().with_flags(flags),
        cli::Server::File { path, strict } => Config::from_file(path, *strict, flags),
        cli::Server::Arguments { port, data_dir, tick_ms, max_client_cnxns } => {
            Config::from_args(port, data_dir, tick_ms.as_deref(), max_client_cnxns.as_deref())
                .and_then(|config| config.with_flags(flags))
        }
    };
    configured.map_err(|error| {
        tracing::error!("Invalid config, exiting abnormally: {error}");
        Fault { text: format!("Invalid config, exiting abnormally\n{error}"), code: exit_code::BAD_CONFIG }
    })
}

/// What somebody sees who just typed `zorilla server`.
fn banner(address: std::net::SocketAddr, data: &std::path::Path) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the server serves all the same.
    let _ = writeln!(
        out,
        "\n  Zorilla {version}, an Apache ZooKeeper server\n\n\
         \x20 clients   {address}   (this machine only: name a zoo.cfg to serve others)\n\
         \x20 data      {data}\n\
         \x20 stop      Ctrl-C; start again and everything acknowledged is there\n\n\
         \x20 Next, in another terminal:\n\n\
         \x20   echo srvr | nc {ip} {port}\n\
         \x20   pip install kazoo && python3 -c \"from kazoo.client import KazooClient as K; \
         k = K('{address}'); k.start(); print(k.create('/hello', b'world'))\"\n",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
        ip = address.ip(),
        port = address.port(),
    );
}
