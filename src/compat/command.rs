//! `zorilla import --dry-run`: what would be taken over, in words and numbers; and `zorilla export` in a module of its own.

mod export;

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};

use clap::Args;

pub use self::export::Export;

use super::progress::Bar;
use super::recover::{Dirs, Options, Recovered, Verdict};
use crate::cli::exit_code;
use crate::config::{Config, Flag};

/// What was typed behind `import`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(
    override_usage = "zorilla import --dry-run [-Dname=value …] CONFIG\n       \
                      zorilla import --dry-run [-Dname=value …] DATADIR [DATALOGDIR]",
    after_help = "CONFIG      a zoo.cfg, for its dataDir and dataLogDir\n\
                  DATADIR     the directory above version-2\n\
                  DATALOGDIR  the same for the logs, if they lie apart\n\n\
                  The import itself is the first start: `zorilla server` takes over what a Java server left, checks it \
                  against the digests in it, and sets the Java server's files aside unchanged.\n\n\
                  Exit codes: 0 it can be imported; 3 it cannot, or nothing is there; 2 wrong arguments or configuration."
)]
pub struct Import {
    /// Only look, and change nothing
    #[arg(long, required = true)]
    dry_run: bool,
    #[arg(short = 'D', hide = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
    #[arg(hide = true)]
    from: PathBuf,
    #[arg(hide = true)]
    data_log_dir: Option<PathBuf>,
}

impl Import {
    /// Looks. What to print, on standard output or, with an exit code, on standard error.
    pub fn run(&self) -> Result<String, (String, u8)> {
        let config = configure(&self.from, self.data_log_dir.as_deref(), &self.flags)
            .map_err(|text| (text, exit_code::BAD_CONFIG))?;
        // Nobody can make paths whose hashes collide who does not know it.
        let seed = RandomState::new().build_hasher().finish();
        let mut options = Options::new(seed, config.jute_maxbuffer);
        options.trust_empty = config.snapshot_trust_empty;
        let dirs = Dirs { data: config.data_dir, log: config.data_log_dir };
        match super::recover(&dirs, &options, &mut Bar::default()) {
            Ok(Some(recovered)) => Ok(describe(&recovered)),
            Ok(None) => {
                let found = format!("{} holds nothing of a Java server.\n", dirs.snapshots().display());
                Err((found, exit_code::DATA_DIRECTORY))
            }
            Err(error) => Err((format!("{error}\n"), exit_code::DATA_DIRECTORY)),
        }
    }
}

/// The directories that were typed: those of a configuration file, or `from` and what may stand behind it.
fn configure(from: &Path, data_log_dir: Option<&Path>, flags: &[OsString]) -> Result<Config, String> {
    let flags = flags.iter().map(|flag| Flag::of(&flag.to_string_lossy())).collect::<Vec<_>>();
    let configured = match data_log_dir {
        None if !from.is_dir() => Config::from_file(from, false, &flags),
        data_log_dir => {
            let mut config = Config::embedded_default();
            config.data_log_dir = data_log_dir.unwrap_or(from).to_path_buf();
            config.data_dir = from.to_path_buf();
            config.with_flags(&flags)
        }
    };
    configured.map(|(config, _)| config).map_err(|error| format!("{error}\n"))
}

/// The report of an import, line by line.
fn describe(recovered: &Recovered) -> String {
    let Recovered { applied, sessions, epochs, report, .. } = recovered;
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:14}{value}").expect("a string takes all");
    match &report.snapshot {
        Some(snapshot) => line("snapshot", snapshot.display().to_string()),
        None => line("snapshot", "none: the logs are replayed from the beginning".to_owned()),
    }
    for log in &report.logs {
        line("log", log.display().to_string());
    }
    line("transactions", format!("{} replayed, up to {applied}", report.txns));
    line("znodes", format!("{}, {} of them ephemeral", report.znodes, report.ephemerals));
    line("sessions", sessions.len().to_string());
    if 0 < report.removed {
        line("removed", format!("{} ephemeral znodes of sessions that are gone, as at every start", report.removed));
    }
    // As the reference prints it.
    let digest = report.digest as i64;
    line(
        "digest",
        match report.verdict {
            Verdict::None => format!("{digest}; the files hold none to compare it with"),
            Verdict::Right { last, compared } => format!("{digest}; right: {compared} compared, the last at {last}"),
            Verdict::Wrong { first, recorded, found, wrong, compared } => format!(
                "{digest}; WRONG: {wrong} of {compared} differ, the first at {first}: recorded {}, found {}",
                recorded as i64, found as i64
            ),
            Verdict::NotReached { at } => format!("{digest}; the logs end before {at}, at which it could be compared"),
        },
    );
    if let Some(epochs) = epochs {
        line("epochs", format!("accepted {}, current {}", epochs.accepted, epochs.current));
    }
    if 0 < report.torn_bytes {
        line("torn", format!("{} bytes at the end of the last log were never acknowledged", report.torn_bytes));
    }
    for warning in &report.warnings {
        line("warning", warning.clone());
    }
    if 0 < report.warnings_more {
        line("warning", format!("and {} more", report.warnings_more));
    }
    text.push_str("\nNothing was changed. The first start of `zorilla server` on these directories takes this over.\n");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::{self, Command};

    fn typed(line: &[&str]) -> Result<Command, cli::Exit> {
        cli::parse(["zorilla", "import"].iter().chain(line).map(OsString::from))
    }

    fn run(line: &[&str]) -> Result<String, (String, u8)> {
        let Ok(Command::Import(import)) = typed(line) else { panic!("{line:?} is an import") };
        import.run()
    }

    #[test]
    fn a_directory_is_described_or_refused() {
        let case = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
            path.to_str().expect("the path of the repository is text").to_owned()
        };
        let text = run(&["--dry-run", &case("quorum-394")]).unwrap();
        for words in ["4 replayed, up to 0x200000009", "66, 1 of them", "right: 5 compared", "accepted 2, current 2"] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        let split = case("split-394");
        assert!(run(&["--dry-run", &split, &format!("{split}/log")]).unwrap().contains("up to 0x30"));
        let text = run(&["--dry-run", "-Dzookeeper.snapshot.trust.empty=true", &case("no-snapshot-394")]).unwrap();
        assert!(text.contains("none: the logs are replayed"), "{text}");
        for (line, code) in [
            (vec!["--dry-run".to_owned(), case("no-snapshot-394")], exit_code::DATA_DIRECTORY),
            (vec!["--dry-run".to_owned(), case("tools-394")], exit_code::DATA_DIRECTORY),
            (vec!["--dry-run".to_owned(), case("missing.cfg")], exit_code::BAD_CONFIG),
        ] {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            assert_eq!(run(&line).unwrap_err().1, code, "{line:?}");
        }
    }

    #[test]
    fn only_a_look_can_be_asked_for() {
        for line in [&["data"][..], &["--dry-run"], &["--dry-run", "a", "b", "c"]] {
            assert_eq!(typed(line).unwrap_err().code, exit_code::BAD_CONFIG, "{line:?}");
        }
    }
}
