//! Configuration: `zoo.cfg`, the flags and arguments of the command line and the embedded default become one
//! [`Config`].
//!
//! Everything is checked here, once; behind this door nothing is parsed, defaulted or doubted again. A value that
//! cannot be meant stops the start with file, line, what was expected and what was found, and with the words of
//! the Java server where tools look for them. A key that nobody knows is a warning with the nearest known key
//! (or a fault, with `--strict`); a key that ZooKeeper knows and this server does not act on says so in one line.
//! No default ever replaces what somebody typed.
//!
//! Reads one file and resolves one host name; opens no directory and no socket.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::limits::{
    CONFIG_FILE_BYTES_MAX, FRAME_BYTES_MAX, JUTE_MAXBUFFER_BYTES_MAX, JUTE_MAXBUFFER_BYTES_MIN, WORKERS_MAX,
};
use crate::ops::four_letter::{Whitelist, Word};
use crate::settings::Settings;
use crate::store::Policy;

mod flags;
mod keys;
mod members;
mod properties;
mod report;
mod semantics;
mod value;

pub use flags::Flag;
use flags::Meaning;
use keys::{Fate, Form};
use properties::Property;
pub use report::{ConfigError, Place, Warning};
use value::{Value, warn_if_relative};

/// The client port of the embedded default, and of every ZooKeeper client that is not told another.
const CLIENT_PORT: u16 = 2181;
/// The tick of the embedded default, as in ZooKeeper's sample file.
const EMBEDDED_TICK_MS: u32 = 2000;
/// The tick where a file or the arguments do not name one, as in the Java server.
const UNSET_TICK_MS: u32 = 3000;
/// Connections per client address where a file does not name a number, as in the Java server.
const UNSET_CLIENT_CNXNS: u32 = 60;
/// The largest packet a client may send where nothing else is set: the Java server's `jute.maxbuffer`.
const UNSET_JUTE_MAXBUFFER: usize = FRAME_BYTES_MAX;
/// The size of a log segment where nothing else is set: the Java server's `preAllocSize`.
const UNSET_SEGMENT_BYTES: u64 = 64 << 20;
/// Segments are whole blocks, because the log is written past the page cache.
const SEGMENT_BLOCK_BYTES: u64 = 4096;

/// Where a configuration came from. The banner and the log name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// No file and no argument.
    Embedded,
    /// `PORT DATADIR [TICKTIME] [MAXCNXNS]`.
    Arguments,
    /// This file.
    File(PathBuf),
}

/// How the replica and the workers share threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// By the number of CPUs.
    Auto,
    /// The replica runs on the thread of worker 0.
    Folded,
    /// The replica has a thread of its own.
    Dedicated,
}

/// How many threads serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// By the number of CPUs.
    Auto,
    /// This many, at least one.
    Exactly(usize),
}

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where all this came from.
    pub source: Source,
    /// ZooKeeper's basic unit of time, in milliseconds; at least 1.
    pub tick_ms: u32,
    /// Where snapshots live, as it was typed: relative paths are relative to the working directory.
    pub data_dir: PathBuf,
    /// Where the log lives; the same as `data_dir` unless set.
    pub data_log_dir: PathBuf,
    /// Where clients connect; port 0 means any free one. `None`: no client port is opened.
    pub client_addr: Option<SocketAddr>,
    /// Connections allowed per client address; 0 means no limit.
    pub max_client_cnxns: u32,
    /// The shortest session timeout that is granted, in milliseconds.
    pub session_timeout_ms_min: u32,
    /// The longest; at least 1 and never below the shortest.
    pub session_timeout_ms_max: u32,
    /// The four-letter words that are answered.
    pub four_letter: Whitelist,
    /// The size of one segment of the log: `preAllocSize` in bytes, a whole number of blocks, between the limits.
    pub segment_bytes: u64,
    /// The backlog of the listening socket; −1: the platform's default.
    pub client_port_listen_backlog: i32,
    /// The largest payload of a client's frame, in bytes.
    pub jute_maxbuffer: usize,
    /// Logs of a Java server without any snapshot are imported instead of refused.
    pub snapshot_trust_empty: bool,
    /// Whether page faults are counted that wait for a disk while the gate is held.
    pub count_gate_faults: bool,
    /// How the replica and the workers share threads.
    pub driver: Driver,
    /// How many threads serve connections.
    pub workers: Workers,
    /// When the state is written to its folder.
    pub snapshot: Policy,
    /// What changes the meaning of requests, and the limits of clients.
    pub settings: Settings,
}

impl Config {
    /// What `zorilla server` without arguments serves: this machine only, data below the working directory, and
    /// the words that a first look needs.
    pub fn embedded_default() -> Config {
        Config {
            source: Source::Embedded,
            client_addr: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT))),
            four_letter: Whitelist::of(&[
                Word::Conf,
                Word::Dirs,
                Word::Isro,
                Word::Mntr,
                Word::Ruok,
                Word::Srvr,
                Word::Stat,
            ]),
            ..Config::unset("./zorilla-data".into(), EMBEDDED_TICK_MS)
        }
    }

    /// `PORT DATADIR [TICKTIME] [MAXCNXNS]`, with the Java server's defaults for these: ticks of 3,000 ms and no
    /// limit of connections per client address.
    pub fn from_args(
        port: &OsStr,
        data_dir: &OsStr,
        tick_ms: Option<&OsStr>,
        max_client_cnxns: Option<&OsStr>,
    ) -> Result<Config, ConfigError> {
        let port_text = text(port, "PORT")?;
        let port = Value { place: &Place::CommandLine, key: "PORT", found: &port_text }.port()?;
        if data_dir.is_empty() {
            return Err(Value { place: &Place::CommandLine, key: "DATADIR", found: "" }.expected("a path", None));
        }
        let tick_ms = match tick_ms {
            Some(typed) => {
                Value { place: &Place::CommandLine, key: "TICKTIME", found: &text(typed, "TICKTIME")? }.tick_ms()?
            }
            None => UNSET_TICK_MS,
        };
        let max_client_cnxns = match max_client_cnxns {
            Some(typed) => Value { place: &Place::CommandLine, key: "MAXCNXNS", found: &text(typed, "MAXCNXNS")? }
                .client_cnxns()?,
            None => 0,
        };
        Ok(Config {
            source: Source::Arguments,
            client_addr: Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            max_client_cnxns,
            ..Config::unset(data_dir.into(), tick_ms)
        })
    }

    /// This configuration with the flags of the command line. What only a file or the arguments can set, such
    /// as the directory of the data, no flag changes.
    pub fn with_flags(mut self, flags: &[Flag]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        let lines = Lines::new(Path::new(""), flags, Vec::new(), false, &mut warnings)?;
        lines.check_keys(false, &mut warnings)?;
        lines.set_properties(&mut self, &mut warnings)?;
        Ok((self, warnings))
    }

    /// Reads a `zoo.cfg`, which overrides the `flags`. `strict` makes keys and flags that nobody knows a fault.
    pub fn from_file(path: &Path, strict: bool, flags: &[Flag]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if CONFIG_FILE_BYTES_MAX < bytes.len() as u64 {
            return Err(ConfigError::TooLarge { file: path.to_owned() });
        }
        Config::from_bytes(path, &bytes, strict, flags)
    }

    /// Like [`Config::from_file`], for bytes that were read elsewhere; `file` is what messages call them.
    pub fn from_bytes(
        file: &Path,
        bytes: &[u8],
        strict: bool,
        flags: &[Flag],
    ) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut warnings = Vec::new();
        warn_if_relative(file, &mut warnings);
        let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) => {
                warnings.push(Warning::ByteOrderMark { file: file.to_owned() });
                rest
            }
            None => bytes,
        };
        let properties = properties::parse(bytes).map_err(|fault| ConfigError::BadEscape {
            place: Place::Line { file: file.to_owned(), line: fault.line },
            found: fault.found,
        })?;
        let lines = Lines::new(file, flags, properties, strict, &mut warnings)?;
        lines.check_keys(strict, &mut warnings)?;
        let client_addr = lines.client_addr(&mut warnings)?;
        let config = lines.config(client_addr, &mut warnings)?;
        Ok((config, warnings))
    }

    /// The values of everything that nobody set.
    fn unset(data_dir: PathBuf, tick_ms: u32) -> Config {
        Config {
            source: Source::Embedded,
            tick_ms,
            data_log_dir: data_dir.clone(),
            data_dir,
            client_addr: None,
            max_client_cnxns: UNSET_CLIENT_CNXNS,
            session_timeout_ms_min: 2 * tick_ms,
            session_timeout_ms_max: 20 * tick_ms,
            four_letter: Whitelist::SRVR,
            segment_bytes: UNSET_SEGMENT_BYTES,
            client_port_listen_backlog: -1,
            jute_maxbuffer: UNSET_JUTE_MAXBUFFER,
            snapshot_trust_empty: false,
            count_gate_faults: false,
            driver: Driver::Auto,
            workers: Workers::Auto,
            snapshot: Policy::default(),
            settings: Settings::default(),
        }
    }
}

/// The lines of a file and the flags that count, by their real keys.
struct Lines<'a> {
    file: &'a Path,
    /// Flags, then lines in the order of the file; every key once.
    lines: Vec<Line>,
}

struct Line {
    /// The key that its text means.
    key: String,
    place: Place,
    /// The key as typed; of a flag, with the `-D`.
    typed: String,
    value: String,
}

impl Line {
    fn value(&self) -> Value<'_> {
        Value { place: &self.place, key: &self.typed, found: &self.value }
    }
}

impl<'a> Lines<'a> {
    fn new(
        file: &'a Path,
        flags: &[Flag],
        properties: Vec<Property>,
        strict: bool,
        warnings: &mut Vec<Warning>,
    ) -> Result<Lines<'a>, ConfigError> {
        let mut lines: Vec<Line> = Vec::with_capacity(flags.len() + properties.len());
        for flag in flags {
            let (place, typed) = (Place::CommandLine, flag.typed());
            match flags::meaning(&flag.name) {
                Meaning::Key(key) => {
                    // As for a JVM, the last of two equal flags counts: scripts append what overrides.
                    lines.retain(|earlier| earlier.key != key);
                    lines.push(Line { key, place, typed, value: flag.value.clone() });
                }
                Meaning::FileOnly => {
                    let why = "no flag sets it, neither here nor for a Java server, only the file does";
                    warnings.push(Warning::Ignored { place, key: typed, why });
                }
                Meaning::Unknown(nearest) if strict => return Err(ConfigError::Unknown { place, key: typed, nearest }),
                Meaning::Unknown(nearest) => warnings.push(Warning::Unknown { place, key: typed, nearest }),
                Meaning::Foreign => {}
            }
        }
        for property in properties {
            let key = keys::meant(&property.key).to_owned();
            let place = Place::Line { file: file.to_owned(), line: property.line };
            if let Some(index) = lines.iter().position(|line| line.key == key) {
                let earlier = lines.remove(index);
                let (place, key) = (place.clone(), property.key.clone());
                match earlier.place {
                    Place::Line { line, .. } => warnings.push(Warning::SetAgain { place, key, earlier_line: line }),
                    Place::CommandLine if earlier.value == property.value => {}
                    Place::CommandLine => warnings.push(Warning::Overruled { place, key, flag: earlier.typed }),
                }
            }
            lines.push(Line { key, place, typed: property.key, value: property.value });
        }
        Ok(Lines { file, lines })
    }

    fn value(&self, key: &str) -> Option<Value<'_>> {
        self.lines.iter().find(|line| line.key == key).map(Line::value)
    }

    /// Every key: known or not, acted on or not; and the form of the values that nobody looks at afterwards.
    fn check_keys(&self, strict: bool, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
        for line in &self.lines {
            let (place, key) = (line.place.clone(), line.typed.clone());
            let Some(known) = keys::find(&line.key) else {
                let nearest = keys::nearest(&key, |_| true).map(str::to_owned);
                if strict {
                    return Err(ConfigError::Unknown { place, key, nearest });
                }
                warnings.push(Warning::Unknown { place, key, nearest });
                continue;
            };
            let value = line.value();
            match known.form {
                Form::Number => drop(value.number()?),
                Form::Truth => drop(value.truth()?),
                Form::Switch if !matches!(known.fate, Fate::Ignored(_)) => {
                    warnings.extend(value.doubted(["true", "false"]));
                }
                Form::Text | Form::OfFile | Form::Switch => {}
            }
            match line.key.as_str() {
                "electionAlg" if value.number()? != 3 => {
                    return Err(value.expected("3", Some("Invalid electionAlg value. Only 3 is supported.".into())));
                }
                "peerType" if !["observer", "participant"].contains(&value.found.to_lowercase().as_str()) => {
                    let java = format!("Unrecognised peertype: {}", value.found);
                    return Err(value.expected("observer or participant", Some(java)));
                }
                _ => {}
            }
            let is_asked_for = known.form != Form::Switch || value.switch();
            match known.fate {
                Fate::Acts | Fate::EnsembleOnly => {}
                Fate::Ignored(why) => warnings.push(Warning::Ignored { place, key, why }),
                Fate::Refused(why) if is_asked_for => {
                    return Err(ConfigError::NotServed { place, key, why: why.into() });
                }
                Fate::Refused(_) => {}
            }
        }
        Ok(())
    }

    /// Where clients connect: `clientPort` with `clientPortAddress`, or the client part of the only `server.N`.
    fn client_addr(&self, warnings: &mut Vec<Warning>) -> Result<Option<SocketAddr>, ConfigError> {
        let of_member = self.only_member(warnings)?;
        let port = self.value("clientPort").map(|value| value.port()).transpose()?;
        match (self.value("clientPortAddress"), port) {
            (Some(_), None) => Err(self.contradiction(
                "clientPortAddress is set but clientPort is not set",
                "add a line `clientPort=2181`, or take out clientPortAddress",
            )),
            (Some(host), Some(port)) => host.resolve(port).map(Some),
            (None, Some(port)) => Ok(Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))),
            (None, None) => Ok(of_member),
        }
        .and_then(|addr| match (addr, of_member) {
            (Some(addr), Some(of_member)) if !agree(addr, of_member) => Err(self.contradiction(
                &format!(
                    "client address in static config file is {addr} is different from client address found in \
                     dynamic file: {of_member}"
                ),
                "let clientPort and the part of the server line after its `;` say the same, or take one out",
            )),
            (None, _) => {
                warnings.push(Warning::NoClientPort);
                Ok(None)
            }
            (Some(addr), _) => Ok(Some(addr)),
        })
    }

    /// Refuses an ensemble; of a single `server.N` line, the client address in it.
    fn only_member(&self, warnings: &mut Vec<Warning>) -> Result<Option<SocketAddr>, ConfigError> {
        let mut participants = Vec::new();
        let mut observers = 0_usize;
        for line in self.lines.iter().filter(|line| members::is_member(&line.key)) {
            match members::parse(&line.value(), &line.key)? {
                members::Member { is_participant: true, client } => participants.push((line, client)),
                members::Member { is_participant: false, .. } => observers += 1,
            }
        }
        let standalone_enabled = self.value("standaloneEnabled").map_or(Ok(true), |value| value.truth())?;
        match participants.as_slice() {
            [] if 0 < observers => Err(self.contradiction(
                "Observers w/o participants is an invalid configuration",
                "give at least one server line the role participant",
            )),
            [] if !standalone_enabled => Err(self.contradiction(
                "standaloneEnabled = false then number of participants should be >0",
                "take out standaloneEnabled: a server without server lines serves alone",
            )),
            [] => Ok(None),
            [_] if standalone_enabled && 0 < observers => Err(self.contradiction(
                "Observers w/o quorum is an invalid configuration",
                "take out the server lines: ensembles are not served yet",
            )),
            [(_, client)] if standalone_enabled => {
                warnings.push(Warning::OnlyOneServer);
                Ok(*client)
            }
            [.., (last, _)] => Err(last.value().not_served(format!(
                "the file describes an ensemble of {} voting servers, and ensembles are not served yet: this server \
                 would answer alone and its data would part from that of the others",
                participants.len()
            ))),
        }
    }

    fn config(&self, client_addr: Option<SocketAddr>, warnings: &mut Vec<Warning>) -> Result<Config, ConfigError> {
        let Some(data_dir) = self.value("dataDir") else {
            return Err(self.contradiction("dataDir is not set", "add a line `dataDir=` with the path of a directory"));
        };
        let data_dir = data_dir.path(warnings)?;
        let tick_ms = self.value("tickTime").map_or(Ok(UNSET_TICK_MS), |value| value.tick_ms())?;
        let mut config =
            Config { source: Source::File(self.file.to_owned()), client_addr, ..Config::unset(data_dir, tick_ms) };
        if let Some(value) = self.value("dataLogDir") {
            config.data_log_dir = value.path(warnings)?;
        }
        if let Some(value) = self.value("maxClientCnxns") {
            config.max_client_cnxns = value.client_cnxns()?;
        }
        if let Some(ms) = self.value("minSessionTimeout").map(|value| value.session_timeout_ms(0)).transpose()? {
            config.session_timeout_ms_min = ms.unwrap_or(config.session_timeout_ms_min);
        }
        if let Some(ms) = self.value("maxSessionTimeout").map(|value| value.session_timeout_ms(1)).transpose()? {
            config.session_timeout_ms_max = ms.unwrap_or(config.session_timeout_ms_max);
        }
        if config.session_timeout_ms_max < config.session_timeout_ms_min {
            return Err(self.contradiction(
                "minSessionTimeout must not be larger than maxSessionTimeout",
                &format!(
                    "with tickTime={tick_ms} they are {} and {} (unset, they are 2 and 20 ticks)",
                    config.session_timeout_ms_min, config.session_timeout_ms_max
                ),
            ));
        }
        if let Some(value) = self.value("clientPortListenBacklog") {
            config.client_port_listen_backlog = match value.number()? {
                backlog @ -1.. => backlog,
                _ => {
                    return Err(value.expected("-1 (the platform's default) or a number of connections", None));
                }
            };
        }
        self.set_properties(&mut config, warnings)?;
        Ok(config)
    }

    /// What a flag can set as well as a line of the file.
    fn set_properties(&self, config: &mut Config, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
        if let Some(value) = self.value("4lw.commands.whitelist") {
            config.four_letter = Whitelist::parse(value.found, |name| {
                warnings.push(Warning::UnknownWord { place: value.place.clone(), name: name.to_owned() });
            });
        }
        // As for the Java server, which compares this one switch letter by letter: whoever may be asked whether it is
        // read-only answers.
        if self.value("readonlymode.enabled").is_some_and(|value| value.found == "true") {
            let is_answered = |word: &Word| *word == Word::Isro || config.four_letter.allows(*word);
            let words: Vec<Word> = Word::ALL.into_iter().filter(is_answered).collect();
            config.four_letter = Whitelist::of(&words);
        }
        if let Some(value) = self.value("preAllocSize") {
            config.segment_bytes = value.segment_bytes(warnings)?;
        }
        if let Some(value) = self.value("jute.maxbuffer") {
            config.jute_maxbuffer = value.bytes(JUTE_MAXBUFFER_BYTES_MIN..=JUTE_MAXBUFFER_BYTES_MAX)?;
        }
        config.snapshot_trust_empty = self.value("snapshot.trust.empty").is_some_and(|value| value.switch());
        config.count_gate_faults = self.value("zorilla.countGateFaults").is_some_and(|value| value.switch());
        if let Some(value) = self.value("zorilla.driver") {
            config.driver = match value.found {
                "auto" => Driver::Auto,
                "folded" => Driver::Folded,
                "dedicated" => Driver::Dedicated,
                _ => return Err(value.expected("auto, folded or dedicated", None)),
            };
        }
        if let Some(value) = self.value("zorilla.workers") {
            config.workers = match (value.found, value.found.parse()) {
                ("auto", _) => Workers::Auto,
                (_, Ok(count)) if (1..=WORKERS_MAX).contains(&count) => Workers::Exactly(count),
                _ => {
                    return Err(value.expected(&format!("auto or a number of threads from 1 to {WORKERS_MAX}"), None));
                }
            };
        }
        if let Some(value) = self.value("zorilla.snapshot.txns") {
            config.snapshot.txns = value.amount("transactions")?;
        }
        if let Some(value) = self.value("zorilla.snapshot.bytes") {
            config.snapshot.bytes = value.amount("bytes")?;
        }
        if let Some(value) = self.value("zorilla.snapshot.quietMs") {
            config.snapshot.quiet_ns = value.amount("milliseconds")?.saturating_mul(1_000_000);
        }
        config.settings = semantics::settings(self, warnings)?;
        Ok(())
    }

    fn contradiction(&self, java: &str, advice: &str) -> ConfigError {
        ConfigError::Contradiction { file: self.file.to_owned(), java: java.to_owned(), advice: advice.to_owned() }
    }
}

/// Whether a client address of the static file and one of a server line mean the same.
fn agree(static_addr: SocketAddr, of_member: SocketAddr) -> bool {
    static_addr.port() == of_member.port() && (static_addr.ip().is_unspecified() || static_addr.ip() == of_member.ip())
}

/// An argument as text; one that is no Unicode cannot be a number either.
fn text(argument: &OsStr, name: &'static str) -> Result<String, ConfigError> {
    match argument.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => {
            let found = argument.to_string_lossy();
            Err(Value { place: &Place::CommandLine, key: name, found: &found }.expected("a whole number", None))
        }
    }
}

#[cfg(test)]
mod tests;
