//! The four-letter words: which exist, which are allowed, and what each answers.
//!
//! Pure: a [`View`] of plain values goes in, text comes out. The texts are those of ZooKeeper 3.9, byte for
//! byte, because status scripts and exporters parse them; numbers with a fraction are printed as Java prints
//! a double. This file knows no socket: that a connection whose first four bytes are a word is a command
//! connection, and that it is closed after the answer, is the connection's business.

use std::fmt::{self, Display, Write as _};
use std::net::{IpAddr, SocketAddr};

/// The four bytes a telnet client sends when it is interrupted; they count as a word.
const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// Every command that the first four bytes of a connection can be. The list is ZooKeeper 3.9's, complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // A word's name is its variant; what each answers is stated in `answer`.
pub enum Word {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    Wchc,
    Wchp,
    Wchs,
    TelnetClose,
}

impl Word {
    /// All words, in the order of their names; a word's place here is its bit in a [`Whitelist`].
    pub const ALL: [Word; 19] = [
        Word::Conf,
        Word::Cons,
        Word::Crst,
        Word::Dirs,
        Word::Dump,
        Word::Envi,
        Word::Gtmk,
        Word::Hash,
        Word::Isro,
        Word::Mntr,
        Word::Ruok,
        Word::Srst,
        Word::Srvr,
        Word::Stat,
        Word::Stmk,
        Word::Wchc,
        Word::Wchp,
        Word::Wchs,
        Word::TelnetClose,
    ];

    /// The word that a new connection begins with; `None`: the four bytes are the length of a packet.
    ///
    /// Exact and case-sensitive, as in ZooKeeper: `RUOK` is no word.
    pub fn parse(bytes: [u8; 4]) -> Option<Word> {
        if bytes == TELNET_CLOSE {
            return Some(Word::TelnetClose);
        }
        Word::ALL.into_iter().find(|word| word.name().as_bytes() == bytes)
    }

    /// The word as it is typed, and as a refusal names it.
    pub fn name(self) -> &'static str {
        match self {
            Word::Conf => "conf",
            Word::Cons => "cons",
            Word::Crst => "crst",
            Word::Dirs => "dirs",
            Word::Dump => "dump",
            Word::Envi => "envi",
            Word::Gtmk => "gtmk",
            Word::Hash => "hash",
            Word::Isro => "isro",
            Word::Mntr => "mntr",
            Word::Ruok => "ruok",
            Word::Srst => "srst",
            Word::Srvr => "srvr",
            Word::Stat => "stat",
            Word::Stmk => "stmk",
            Word::Wchc => "wchc",
            Word::Wchp => "wchp",
            Word::Wchs => "wchs",
            Word::TelnetClose => "telnet close",
        }
    }

    /// Whether [`answer`] needs the [`View`] for this word. The others are answered without collecting one.
    pub fn needs_view(self) -> bool {
        matches!(self, Word::Conf | Word::Dirs | Word::Hash | Word::Isro | Word::Mntr | Word::Srvr | Word::Stat)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The words that clients may use.
///
/// Invariant: `srvr` is always among them, because ZooKeeper's own status script depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whitelist {
    words: u32,
}

impl Whitelist {
    /// `srvr` alone: ZooKeeper's default when `4lw.commands.whitelist` is not set.
    pub const SRVR: Whitelist = Whitelist { words: 1 << Word::Srvr as u32 };

    /// These words and `srvr`.
    pub fn of(words: &[Word]) -> Whitelist {
        Whitelist { words: words.iter().fold(Self::SRVR.words, |bits, word| bits | word.bit()) }
    }

    /// Reads `4lw.commands.whitelist`: names between commas, blanks around them dropped, `*` for all. What
    /// is no word is handed to `stranger` and otherwise ignored, as ZooKeeper ignores it.
    pub fn parse<'a>(text: &'a str, mut stranger: impl FnMut(&'a str)) -> Whitelist {
        let mut list = Self::SRVR;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match Word::ALL.into_iter().find(|word| word.name() == name) {
                Some(word) if word != Word::TelnetClose => list.words |= word.bit(),
                _ if name == "*" => list = Whitelist::of(&Word::ALL),
                _ => stranger(name),
            }
        }
        list
    }

    /// Whether `word` may be answered.
    pub fn allows(self, word: Word) -> bool {
        self.words & word.bit() != 0
    }
}

/// Numbers of one measured quantity, in whatever whole unit its name says. All zero when `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The smallest sample.
    pub min: u64,
    /// The largest sample.
    pub max: u64,
    /// How many samples.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// Half of the samples are at most this.
    pub p50: u64,
    /// 95 in 100 are at most this.
    pub p95: u64,
    /// 99 in 100 are at most this.
    pub p99: u64,
    /// 999 in 1,000 are at most this.
    pub p999: u64,
}

/// The sizes of the replies sent to clients, in bytes; −1 each before the first, as ZooKeeper prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ReplyBytes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for ReplyBytes {
    fn default() -> ReplyBytes {
        ReplyBytes { last: -1, min: -1, max: -1 }
    }
}

/// One open connection as `stat` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// The client's address.
    pub peer: SocketAddr,
    /// What the server waits for on it: 1 reading, 4 writing, 5 both, 0 nothing (a paused or a command
    /// connection).
    pub interest: u8,
    /// Requests accepted and not yet answered.
    pub queued: u64,
    /// Packets received since it was opened.
    pub received: u64,
    /// Packets sent since it was opened.
    pub sent: u64,
}

/// The configuration in force, as `conf` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfView {
    /// The bound client port; `None` (printed −1) when there is no plain listener.
    pub client_port: Option<u16>,
    /// Absolute path of the directory that holds snapshots.
    pub data_dir: String,
    /// Bytes of its regular files.
    pub data_dir_bytes: u64,
    /// Absolute path of the directory that holds the log.
    pub data_log_dir: String,
    /// Bytes of its regular files.
    pub data_log_dir_bytes: u64,
    /// Milliseconds of a tick.
    pub tick_ms: u32,
    /// Connections allowed per client address; 0 means no limit.
    pub max_client_cnxns: u32,
    /// The shortest session timeout that is granted.
    pub session_timeout_ms_min: u32,
    /// The longest.
    pub session_timeout_ms_max: u32,
    /// The listen backlog asked for; −1: the default.
    pub client_port_listen_backlog: i32,
    /// This server's number in its ensemble; 0 for a standalone server.
    pub server_id: i64,
}

/// What is known about the server at one moment. Collected by the worker that answers; nothing is read here.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// `standalone`, later `leader`, `follower`, `observer`, `read-only`.
    pub mode: &'static str,
    /// From arrival of a request to the end of its processing, in milliseconds.
    pub latency_ms: Summary,
    /// Packets received, this command included.
    pub received: u64,
    /// Packets sent, this command's answer not included.
    pub sent: u64,
    /// Open connections of the listener that the command came through, its own included.
    pub connections: Vec<ConnectionView>,
    /// Requests accepted and not yet answered.
    pub outstanding: u64,
    /// The last transaction applied.
    pub zxid: u64,
    /// Znodes as ZooKeeper counts them: a fresh tree has five (the root counts twice).
    pub znodes: u64,
    /// Ephemeral znodes among them.
    pub ephemerals: u64,
    /// Watches of all kinds.
    pub watches: u64,
    /// Bytes of all paths and data.
    pub data_bytes: u64,
    /// Sessions known to the server.
    pub sessions: u64,
    /// Milliseconds since the server began to serve.
    pub uptime_ms: u64,
    /// Open file descriptors of the process; `None` (printed −1) where unknown.
    pub descriptors_open: Option<u64>,
    /// How many it may open; `None` (printed −1) where unknown.
    pub descriptors_max: Option<u64>,
    /// Sizes of replies.
    pub reply_bytes: ReplyBytes,
    /// Digests of earlier states, by zxid.
    pub digests: Vec<(u64, u64)>,
    /// The chance that the connection throttle drops a client, from 0 to 1.
    pub drop_probability: f64,
    /// Tokens that its bucket was short of, at each ConnectRequest.
    pub token_deficit: Summary,
    /// The configuration in force.
    pub conf: ConfView,
    /// Running totals by name, without the `zk_` that `mntr` puts before it.
    pub counters: Vec<(&'static str, u64)>,
    /// Measured stages by name, without the `zk_avg_` and so on that `mntr` puts before it.
    pub summaries: Vec<(&'static str, Summary)>,
}

/// Appends the answer to `word`. The connection is closed after it, also where it is empty.
///
/// `view` is `None` while the server is not serving (starting or stopping); words that need it then say so in
/// ZooKeeper's words. It may also be `None` for a word that does not need it ([`Word::needs_view`]). `environment`: what
/// `envi` tells, asked only by it.
pub fn answer(
    word: Word,
    whitelist: Whitelist,
    view: Option<&View>,
    environment: &dyn Fn() -> Vec<(&'static str, String)>,
    out: &mut Vec<u8>,
) {
    if !whitelist.allows(word) {
        put(out, format_args!("{} is not executed because it is not in the whitelist.\n", word.name()));
        return;
    }
    match (word, view) {
        (Word::Ruok, _) => put(out, format_args!("imok")),
        (Word::TelnetClose, _) => {}
        (Word::Isro, Some(_)) => put(out, format_args!("rw")),
        (Word::Isro, None) => put(out, format_args!("null")),
        (Word::Srvr, Some(view)) => srvr(view, false, out),
        (Word::Stat, Some(view)) => srvr(view, true, out),
        (Word::Mntr, Some(view)) => mntr(view, out),
        (Word::Conf, Some(view)) => conf(&view.conf, out),
        (Word::Dirs, Some(view)) => dirs(&view.conf, out),
        (Word::Hash, Some(view)) => {
            // A signed number, as Java shows it.
            view.digests.iter().for_each(|(zxid, digest)| put(out, format_args!("{zxid:x}: {}\n", *digest as i64)));
        }
        (Word::Envi, _) => envi(&environment(), out),
        (word, None) if word.needs_view() => {
            put(out, format_args!("This ZooKeeper instance is not currently serving requests\n"));
        }
        (word, _) => put(out, format_args!("{} is not served by this version of Zorilla yet.\n", word.name())),
    }
}

/// Version and surroundings. Clients read the version from here.
fn envi(environment: &[(&'static str, String)], out: &mut Vec<u8>) {
    put(out, format_args!("Environment:\nzookeeper.version={}\n", version()));
    for (key, value) in environment {
        put(out, format_args!("{key}={value}\n"));
    }
}

/// The version that `srvr`, `stat`, `mntr` and `zorilla version` show.
///
/// Consumers parse it up to the first dash or comma, so the release whose protocols are served comes first.
/// The build says its moment through the environment variable `ZORILLA_BUILT_ON` (`YYYY-MM-DD HH:MM UTC`);
/// without it the epoch is shown, so that one source always makes the same binary.
pub fn version() -> impl Display {
    let built_on = option_env!("ZORILLA_BUILT_ON").unwrap_or("1970-01-01 00:00 UTC");
    Joined(concat!("3.9.5-zorilla-", env!("CARGO_PKG_VERSION"), ", built on "), built_on)
}

struct Joined(&'static str, &'static str);

impl Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        f.write_str(self.1)
    }
}

fn srvr(view: &View, with_clients: bool, out: &mut Vec<u8>) {
    put(out, format_args!("Zookeeper version: {}\n", version()));
    if with_clients {
        put(out, format_args!("Clients:\n"));
        for connection in &view.connections {
            let ConnectionView { peer, interest, queued, received, sent } = connection;
            let peer = JavaAddr(*peer);
            put(out, format_args!(" {peer}[{interest:x}](queued={queued},recved={received},sent={sent})\n"));
        }
        put(out, format_args!("\n"));
    }
    let latency = &view.latency_ms;
    put(
        out,
        format_args!(
            "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {:#x}\n\
             Mode: {}\nNode count: {}\n",
            latency.min,
            JavaDouble(average(latency)),
            latency.max,
            view.received,
            view.sent,
            view.connections.len(),
            view.outstanding,
            view.zxid,
            view.mode,
            view.znodes
        ),
    );
}

fn mntr(view: &View, out: &mut Vec<u8>) {
    let mut line = |key: &str, value: &dyn Display| put(out, format_args!("zk_{key}\t{value}\n"));
    line("version", &version());
    line("server_state", &view.mode);
    line("ephemerals_count", &view.ephemerals);
    line("num_alive_connections", &view.connections.len());
    line("avg_latency", &JavaDouble(average(&view.latency_ms)));
    line("min_latency", &view.latency_ms.min);
    line("max_latency", &view.latency_ms.max);
    line("outstanding_requests", &view.outstanding);
    line("znode_count", &view.znodes);
    line("global_sessions", &view.sessions);
    line("local_sessions", &0);
    line("packets_received", &view.received);
    line("packets_sent", &view.sent);
    line("watch_count", &view.watches);
    line("approximate_data_size", &view.data_bytes);
    line("open_file_descriptor_count", &OrMinusOne(view.descriptors_open));
    line("max_file_descriptor_count", &OrMinusOne(view.descriptors_max));
    line("uptime", &view.uptime_ms);
    line("last_client_response_size", &view.reply_bytes.last);
    line("min_client_response_size", &view.reply_bytes.min);
    line("max_client_response_size", &view.reply_bytes.max);
    line("connection_drop_probability", &JavaDouble(view.drop_probability));
    let deficit = &view.token_deficit;
    line("avg_connection_token_deficit", &JavaDouble(average(deficit)));
    line("min_connection_token_deficit", &deficit.min);
    line("max_connection_token_deficit", &deficit.max);
    line("cnt_connection_token_deficit", &deficit.count);
    line("sum_connection_token_deficit", &deficit.sum);
    // What cannot happen here yet is honestly zero: there is no TLS and no authentication that could fail.
    line("outstanding_tls_handshake", &0);
    line("auth_failed_count", &0);
    line("non_mtls_remote_conn_count", &0);
    line("non_mtls_local_conn_count", &0);
    for (name, total) in &view.counters {
        line(name, total);
    }
    for (name, summary) in &view.summaries {
        put(out, format_args!("zk_avg_{name}\t{}\n", JavaDouble(average(summary))));
        let Summary { min, max, count, sum, p50, p95, p99, p999 } = summary;
        put(
            out,
            format_args!("zk_min_{name}\t{min}\nzk_max_{name}\t{max}\nzk_cnt_{name}\t{count}\nzk_sum_{name}\t{sum}\n"),
        );
        put(
            out,
            format_args!("zk_p50_{name}\t{p50}\nzk_p95_{name}\t{p95}\nzk_p99_{name}\t{p99}\nzk_p999_{name}\t{p999}\n"),
        );
    }
}

fn conf(conf: &ConfView, out: &mut Vec<u8>) {
    put(
        out,
        format_args!(
            "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
             tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\n\
             serverId={}\n",
            OrMinusOne(conf.client_port.map(u64::from)),
            conf.data_dir,
            conf.data_dir_bytes,
            conf.data_log_dir,
            conf.data_log_dir_bytes,
            conf.tick_ms,
            conf.max_client_cnxns,
            conf.session_timeout_ms_min,
            conf.session_timeout_ms_max,
            conf.client_port_listen_backlog,
            conf.server_id
        ),
    );
}

fn dirs(conf: &ConfView, out: &mut Vec<u8>) {
    put(out, format_args!("datadir_size: {}\nlogdir_size: {}\n", conf.data_dir_bytes, conf.data_log_dir_bytes));
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Text<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    Text(out).write_fmt(text).expect("appending to a vector cannot fail, and no value here refuses to print");
}

struct OrMinusOne(Option<u64>);

impl Display for OrMinusOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-1"),
        }
    }
}

/// The mean, rounded half-up to four decimal places; 0 without samples.
fn average(summary: &Summary) -> f64 {
    if summary.count == 0 {
        return 0.0;
    }
    let count = u128::from(summary.count);
    let ten_thousandths = (u128::from(summary.sum) * 20_000 + count) / (2 * count);
    ten_thousandths as f64 / 10_000.0
}

/// A socket address as Java writes it: a slash before it, and IPv6 in eight groups without shortening. An
/// IPv4 client of a listener for both families is shown, as Java does, by its IPv4 address.
struct JavaAddr(SocketAddr);

impl Display for JavaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port();
        match self.0.ip().to_canonical() {
            IpAddr::V4(ip) => write!(f, "/{ip}:{port}"),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, g, h, i] = ip.segments();
                write!(f, "/[{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{g:x}:{h:x}:{i:x}]:{port}")
            }
        }
    }
}

/// A finite number as Java's `Double.toString` writes it: the shortest digits that name it, at least one
/// after the point, and an exponent outside 10⁻³ ≤ x < 10⁷.
struct JavaDouble(f64);

impl Display for JavaDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
            return write!(f, "{:?}", self.0);
        }
        let scientific = format!("{:e}", self.0);
        let (digits, exponent) = scientific.split_once('e').expect("the format always has an exponent");
        let fraction = if digits.contains('.') { "" } else { ".0" };
        write!(f, "{digits}{fraction}E{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            mode: "standalone",
            latency_ms: Summary { min: 0, max: 96, count: 27, sum: 210, ..Summary::default() },
            received: 39,
            sent: 43,
            connections: vec![
                ConnectionView {
                    peer: "127.0.0.1:60260".parse().unwrap(),
                    interest: 0,
                    queued: 0,
                    received: 1,
                    sent: 0,
                },
                ConnectionView { peer: "[::1]:43034".parse().unwrap(), interest: 5, queued: 2, received: 28, sent: 32 },
            ],
            outstanding: 0,
            zxid: 0xd,
            znodes: 15,
            ephemerals: 1,
            watches: 1,
            data_bytes: 246,
            sessions: 1,
            uptime_ms: 26614,
            descriptors_open: Some(60),
            descriptors_max: None,
            reply_bytes: ReplyBytes { last: 16, min: 16, max: 140 },
            digests: Vec::new(),
            drop_probability: 0.25,
            token_deficit: Summary { min: 1, max: 3, count: 2, sum: 4, ..Summary::default() },
            conf: ConfView {
                client_port: Some(27105),
                data_dir: "DIR/run/sa/version-2".into(),
                data_dir_bytes: 67109358,
                data_log_dir: "DIR/run/sa/version-2".into(),
                data_log_dir_bytes: 67109358,
                tick_ms: 2000,
                max_client_cnxns: 60,
                session_timeout_ms_min: 4000,
                session_timeout_ms_max: 40000,
                client_port_listen_backlog: -1,
                server_id: 0,
            },
            counters: vec![("snap_count", 0)],
            summaries: vec![(
                "updatelatency",
                Summary { min: 2, max: 96, count: 13, sum: 189, p50: 4, p95: 96, p99: 96, p999: 96 },
            )],
        }
    }

    fn text(word: Word, whitelist: Whitelist, view: Option<&View>) -> String {
        let mut out = Vec::new();
        answer(word, whitelist, view, &|| KEYS.map(|key| (key, "x".to_owned())).to_vec(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn all() -> Whitelist {
        Whitelist::parse("*", |_| ())
    }

    #[test]
    fn words_are_exact_and_case_sensitive() {
        for word in Word::ALL.into_iter().filter(|word| *word != Word::TelnetClose) {
            assert_eq!(Word::parse(word.name().as_bytes().try_into().unwrap()), Some(word));
        }
        assert_eq!(Word::parse(*b"RUOK"), None);
        assert_eq!(Word::parse(*b"kill"), None);
        assert_eq!(Word::parse([0, 0, 0, 44]), None);
        assert_eq!(Word::parse([0xff, 0xf4, 0xff, 0xfd]), Some(Word::TelnetClose));
    }

    #[test]
    fn every_word_has_a_bit_of_its_own_in_the_whitelist() {
        for (index, word) in Word::ALL.into_iter().enumerate() {
            assert_eq!(word.bit(), 1 << index, "{word:?}");
        }
    }

    #[test]
    fn whitelist_keeps_srvr_and_reports_strangers() {
        let mut strangers = Vec::new();
        let list = Whitelist::parse(" ruok ,, Stat,conf,telnet close", |name| strangers.push(name));
        assert_eq!(strangers, ["Stat", "telnet close"]);
        let allowed: Vec<_> = Word::ALL.into_iter().filter(|word| list.allows(*word)).collect();
        assert_eq!(allowed, [Word::Conf, Word::Ruok, Word::Srvr]);
        assert_eq!(Whitelist::parse("", |_| ()), Whitelist::SRVR);
        assert!(Word::ALL.into_iter().all(|word| Whitelist::parse("ruok, *", |_| ()).allows(word)));
    }

    #[test]
    fn a_word_outside_the_whitelist_is_refused_even_when_not_serving() {
        for view in [Some(&view()), None] {
            assert_eq!(
                text(Word::Ruok, Whitelist::SRVR, view),
                "ruok is not executed because it is not in the whitelist.\n"
            );
        }
        assert_eq!(
            text(Word::TelnetClose, Whitelist::SRVR, None),
            "telnet close is not executed because it is not in the whitelist.\n"
        );
        assert_eq!(text(Word::TelnetClose, all(), None), "");
    }

    #[test]
    fn srvr_is_what_java_prints() {
        let expected = format!(
            "Zookeeper version: 3.9.5-zorilla-{}, built on 1970-01-01 00:00 UTC\nLatency min/avg/max: 0/7.7778/96\n\
             Received: 39\nSent: 43\nConnections: 2\nOutstanding: 0\nZxid: 0xd\nMode: standalone\nNode count: 15\n",
            env!("CARGO_PKG_VERSION")
        );
        let expected = match option_env!("ZORILLA_BUILT_ON") {
            Some(built_on) => expected.replace("1970-01-01 00:00 UTC", built_on),
            None => expected,
        };
        assert_eq!(text(Word::Srvr, Whitelist::SRVR, Some(&view())), expected);
    }

    #[test]
    fn the_version_reads_as_the_release_whose_protocols_are_served() {
        let version = version().to_string();
        assert_eq!(version.split(['-', ',']).next(), Some("3.9.5"));
        assert_eq!(version.matches(", built on ").count(), 1);
    }

    #[test]
    fn stat_lists_clients_between_version_and_latency() {
        let answer = text(Word::Stat, all(), Some(&view()));
        let lines: Vec<_> = answer.lines().collect();
        assert_eq!(lines[1], "Clients:");
        assert_eq!(lines[2], " /127.0.0.1:60260[0](queued=0,recved=1,sent=0)");
        assert_eq!(lines[3], " /[0:0:0:0:0:0:0:1]:43034[5](queued=2,recved=28,sent=32)");
        assert_eq!(lines[4], "");
        assert_eq!(lines[5], "Latency min/avg/max: 0/7.7778/96");
    }

    #[test]
    fn an_ipv4_client_of_a_listener_for_both_families_is_shown_as_ipv4() {
        assert_eq!(JavaAddr("[::ffff:10.1.2.3]:7".parse().unwrap()).to_string(), "/10.1.2.3:7");
    }

    #[test]
    fn mntr_is_keys_and_values_with_a_tab_between() {
        let answer = text(Word::Mntr, all(), Some(&view()));
        let entries: Vec<_> = answer.lines().map(|line| line.split_once('\t').expect(line)).collect();
        assert!(entries.iter().all(|(key, value)| key.starts_with("zk_") && !value.is_empty()));
        let mut keys: Vec<_> = entries.iter().map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), entries.len(), "a key is printed twice");
        assert_eq!(entries[0].0, "zk_version");
        assert_eq!(entries[1], ("zk_server_state", "standalone"));
        for expected in [
            ("zk_avg_latency", "7.7778"),
            ("zk_znode_count", "15"),
            ("zk_global_sessions", "1"),
            ("zk_open_file_descriptor_count", "60"),
            ("zk_max_file_descriptor_count", "-1"),
            ("zk_connection_drop_probability", "0.25"),
            ("zk_avg_connection_token_deficit", "2.0"),
            ("zk_max_connection_token_deficit", "3"),
            ("zk_max_client_response_size", "140"),
            ("zk_uptime", "26614"),
            ("zk_snap_count", "0"),
            ("zk_avg_updatelatency", "14.5385"),
            ("zk_cnt_updatelatency", "13"),
            ("zk_sum_updatelatency", "189"),
            ("zk_p50_updatelatency", "4"),
            ("zk_p999_updatelatency", "96"),
        ] {
            assert!(entries.contains(&expected), "{expected:?} is missing in {answer}");
        }
    }

    #[test]
    fn conf_is_what_java_prints() {
        let expected = "clientPort=27105\nsecureClientPort=-1\ndataDir=DIR/run/sa/version-2\ndataDirSize=67109358\n\
             dataLogDir=DIR/run/sa/version-2\ndataLogSize=67109358\ntickTime=2000\nmaxClientCnxns=60\n\
             minSessionTimeout=4000\nmaxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n";
        assert_eq!(text(Word::Conf, all(), Some(&view())), expected);
        assert_eq!(text(Word::Dirs, all(), Some(&view())), "datadir_size: 67109358\nlogdir_size: 67109358\n");
    }

    #[test]
    fn while_not_serving_only_ruok_answers_as_usual() {
        let silent = "This ZooKeeper instance is not currently serving requests\n";
        for word in [Word::Conf, Word::Dirs, Word::Mntr, Word::Srvr, Word::Stat] {
            assert_eq!(text(word, all(), None), silent);
        }
        assert_eq!(text(Word::Isro, all(), None), "null");
        assert_eq!(text(Word::Isro, all(), Some(&view())), "rw");
        assert_eq!(text(Word::Ruok, all(), None), "imok");
    }

    #[test]
    fn hash_shows_digests_as_signed_numbers() {
        let view = View { digests: vec![(0x80, 43_925_929_739), (0x100, u64::MAX)], ..view() };
        assert_eq!(text(Word::Hash, all(), Some(&view)), "80: 43925929739\n100: -1\n");
    }

    const KEYS: [&str; 2] = ["host.name", "os.name"];

    #[test]
    fn envi_begins_with_the_version_that_clients_read() {
        let answer = text(Word::Envi, all(), None);
        let version = format!("Environment:\nzookeeper.version={}\n", version());
        assert_eq!(answer, format!("{version}host.name=x\nos.name=x\n"));
        assert!(answer.contains("=3.9.5-"), "{answer}");
    }

    #[test]
    fn a_word_that_is_not_served_yet_says_so_in_one_line() {
        for word in [Word::Cons, Word::Dump, Word::Wchs, Word::Srst] {
            let answer = text(word, all(), Some(&view()));
            assert_eq!(answer, format!("{} is not served by this version of Zorilla yet.\n", word.name()));
        }
    }

    #[test]
    fn doubles_are_printed_as_java_prints_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (10.4286, "10.4286"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.00012, "1.2E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(JavaDouble(value).to_string(), expected);
        }
    }

    #[test]
    fn averages_round_half_up_to_four_places() {
        let average = |sum, count| average(&Summary { sum, count, ..Summary::default() });
        assert_eq!(average(73, 7), 10.4286);
        assert_eq!(average(1, 32), 0.0313);
        assert_eq!(average(1, 27), 0.037);
        assert_eq!(average(0, 0), 0.0);
        assert_eq!(average(u64::MAX, 1), u64::MAX as f64);
    }
}
