//! What a file becomes, what is said about it, and what is refused in which words.

use super::*;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

fn read(file: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
    Config::from_bytes(Path::new("/etc/zoo.cfg"), file.as_bytes(), false, &[])
}

/// The configuration of a file that nobody has anything to say about.
#[track_caller]
fn config(file: &str) -> Config {
    let (config, warnings) = read(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    assert_eq!(warnings, [], "{file:?}");
    config
}

#[track_caller]
fn warned(file: &str) -> Vec<String> {
    let (_, warnings) = read(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    warnings.iter().map(Warning::to_string).collect()
}

/// The fault found in the lines after two that are right.
#[track_caller]
fn fault(lines: &str) -> String {
    match read(&format!("dataDir=/d\ntickTime=2000\n{lines}")) {
        Ok((config, _)) => panic!("{lines:?} became {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_minimal_file_gets_the_java_servers_defaults() {
    let config = config("dataDir=/var/lib/zookeeper\nclientPort=2181\n");
    assert_eq!(config.source, Source::File("/etc/zoo.cfg".into()));
    assert_eq!(config.tick_ms, 3000);
    assert_eq!(config.data_dir, Path::new("/var/lib/zookeeper"));
    assert_eq!(config.data_log_dir, config.data_dir);
    assert_eq!(config.client_addr, Some("0.0.0.0:2181".parse().unwrap()));
    assert_eq!(config.max_client_cnxns, 60);
    assert_eq!((config.session_timeout_ms_min, config.session_timeout_ms_max), (6000, 60000));
    assert_eq!(config.four_letter, Whitelist::SRVR);
    assert_eq!(config.segment_bytes, 64 << 20);
    assert_eq!(config.client_port_listen_backlog, -1);
    assert_eq!(config.jute_maxbuffer, 1_048_575);
    assert_eq!((config.driver, config.workers), (Driver::Auto, Workers::Auto));
}

#[test]
fn every_key_that_is_acted_on_acts() {
    let config = config(
        "tickTime=1000\ndataDir=/d\ndataLogDir=/l\nclientPort=0\nclientPortAddress=127.0.0.1\nmaxClientCnxns=7\n\
         minSessionTimeout=1500\nmaxSessionTimeout=9000\n4lw.commands.whitelist=ruok, mntr\npreAllocSize=8192\n\
         clientPortListenBacklog=300\njute.maxbuffer=0x200000\nzorilla.driver=folded\nzorilla.workers=2\n\
         zorilla.countGateFaults=TRUE\nstandaloneEnabled=TRUE\ninitLimit=10\nsyncLimit=5\n",
    );
    assert_eq!(config.tick_ms, 1000);
    assert_eq!(config.data_log_dir, Path::new("/l"));
    assert_eq!(config.client_addr, Some("127.0.0.1:0".parse().unwrap()));
    assert_eq!(config.max_client_cnxns, 7);
    assert_eq!((config.session_timeout_ms_min, config.session_timeout_ms_max), (1500, 9000));
    assert_eq!(config.four_letter, Whitelist::of(&[Word::Ruok, Word::Mntr]));
    assert_eq!(config.segment_bytes, 8 << 20);
    assert_eq!(config.client_port_listen_backlog, 300);
    assert_eq!(config.jute_maxbuffer, 2 << 20);
    assert_eq!((config.driver, config.workers), (Driver::Folded, Workers::Exactly(2)));
    assert!(config.count_gate_faults);
}

#[test]
fn minus_one_means_the_computed_session_timeouts() {
    let config = config("dataDir=/d\nclientPort=1\ntickTime=10\nminSessionTimeout=-1\nmaxSessionTimeout=-1");
    assert_eq!((config.session_timeout_ms_min, config.session_timeout_ms_max), (20, 200));
}

#[test]
fn no_limit_of_connections_is_zero_or_less() {
    for typed in ["0", "-1"] {
        assert_eq!(config(&format!("dataDir=/d\nclientPort=1\nmaxClientCnxns={typed}")).max_client_cnxns, 0);
    }
}

#[test]
fn faults_name_file_line_expectation_and_what_was_found() {
    assert_eq!(
        fault("clientPort=21b1"),
        "/etc/zoo.cfg line 3: clientPort: expected a whole number, found \"21b1\" (For input string: \"21b1\")"
    );
    assert_eq!(
        fault("\n\nmaxClientCnxns=1O"),
        "/etc/zoo.cfg line 5: maxClientCnxns: expected a whole number, found \"1O\" (For input string: \"1O\")"
    );
    assert_eq!(
        fault("zorilla.workers=0"),
        format!(
            "/etc/zoo.cfg line 3: zorilla.workers: expected auto or a number of threads from 1 to {WORKERS_MAX}, \
             found \"0\""
        )
    );
    assert_eq!(
        fault("initLimit=1O"),
        "/etc/zoo.cfg line 3: initLimit: expected a whole number, found \"1O\" (For input string: \"1O\")"
    );
}

#[test]
fn faults_carry_the_words_that_tools_look_for() {
    for (lines, words) in [
        ("clientPort=99999", "port out of range:99999"),
        ("clientPort=-1", "port out of range:-1"),
        ("clientPortAddress=127.0.0.1", "clientPortAddress is set but clientPort is not set"),
        ("clientPort=1\nclientPortAddress=no.such.host.invalid", "no.such.host.invalid: Name or service not known"),
        ("minSessionTimeout=99999\nmaxSessionTimeout=5", "minSessionTimeout must not be larger than maxSessionTimeout"),
        ("maxSessionTimeout=3999", "minSessionTimeout must not be larger than maxSessionTimeout"),
        ("reconfigEnabled=yes", "Invalid option yes for reconfigEnabled. Choose 'true' or 'false.'"),
        ("electionAlg=0", "Invalid electionAlg value. Only 3 is supported."),
        ("peerType=foo", "Unrecognised peertype: foo"),
        ("tickTime=0", "tickTime is not set"),
        ("dataDir=", "dataDir is not set"),
        ("server.x=a:1:2", "For input string: \"x\""),
        ("server.1=a:1", "a:1 does not have the form server_config or server_config;client_config where"),
        ("server.1=[::1:1:2", "does not have the form server_config"),
        ("server.1=a:1:1", "Client and election port must be different!"),
        ("server.1=a:1:2:boss", "Unrecognised peertype: boss"),
        ("server.1=a:1:2:observer", "Observers w/o participants is an invalid configuration"),
        ("server.1=a:1:2\nserver.2=b:1:2:Observer", "Observers w/o quorum is an invalid configuration"),
        ("standaloneEnabled=false", "standaloneEnabled = false then number of participants should be >0"),
        ("server.1=a:1:2;3000\nclientPort=3001", "is different from client address found in dynamic file"),
    ] {
        let message = fault(lines);
        assert!(message.contains(words), "{lines:?}: {message}");
        assert!(message.starts_with("/etc/zoo.cfg"), "{message}");
    }
    let message = read("clientPort=1").unwrap_err().to_string();
    assert!(message.contains("dataDir is not set"), "{message}");
}

#[test]
fn numbers_outside_their_range_are_refused() {
    for lines in [
        "tickTime=-1",
        "tickTime=107374183",
        "minSessionTimeout=-2",
        "maxSessionTimeout=0",
        "maxSessionTimeout=2147483648",
        "clientPortListenBacklog=-2",
        "preAllocSize=0",
        "preAllocSize=-5",
        "preAllocSize=64M",
        "jute.maxbuffer=1",
        "jute.maxbuffer=99999999999",
        "jute.maxbuffer=0x+fffff",
        "zorilla.driver=Folded",
        "zorilla.workers=1000000",
    ] {
        assert!(fault(lines).contains(": expected "), "{lines}");
    }
}

#[test]
fn an_ensemble_is_refused_with_the_reason() {
    let message = fault("server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888:participant;2181");
    assert!(message.starts_with("/etc/zoo.cfg line 5: server.3: the file describes an ensemble of 3 voting servers"));
    assert!(message.contains("not served yet"), "{message}");
    assert!(fault("standaloneEnabled=false\nserver.1=a:2888:3888").contains("ensembles are not served yet"));
    assert!(fault("dynamicConfigFile=/etc/zoo.cfg.dynamic").contains("ensembles are not served yet"));
}

#[test]
fn a_single_server_line_is_a_standalone_server_and_may_name_the_client_port() {
    for (line, expected) in [
        ("server.1=a:2888:3888;2181", "0.0.0.0:2181"),
        ("server.1=a:2888:3888:PARTICIPANT;127.0.0.1:2181", "127.0.0.1:2181"),
        ("server.1=[2001:db8::1]:2888:3888;[::1]:2181", "[::1]:2181"),
        ("server.1=a:2888:3888|b:2889:3889;2181", "0.0.0.0:2181"),
        ("server.1=a:2888:3888;127.0.0.1:2181\nclientPort=2181", "0.0.0.0:2181"),
    ] {
        let (config, warnings) = read(&format!("dataDir=/d\n{line}")).unwrap();
        assert_eq!(config.client_addr, Some(expected.parse().unwrap()), "{line}");
        assert_eq!(warnings, [Warning::OnlyOneServer]);
    }
}

#[test]
fn what_is_not_served_and_matters_for_safety_is_refused() {
    assert!(fault("secureClientPort=2281").contains("TLS is not served yet"));
    assert!(fault("zookeeper.sessionRequireClientSASLAuth=true").contains("SASL is not served yet"));
    assert_eq!(warned("dataDir=/d\nclientPort=1\nenforce.auth.enabled=false"), Vec::<String>::new());
}

#[test]
fn the_policy_of_snapshots_is_three_amounts() {
    let policy = config(
        "dataDir=/d\nclientPort=1\nzorilla.snapshot.txns=7\nzorilla.snapshot.bytes=4096\nzorilla.snapshot.quietMs=20",
    )
    .snapshot;
    assert_eq!((policy.txns, policy.bytes, policy.quiet_ns), (7, 4096, 20_000_000));
    for bad in ["zorilla.snapshot.txns=0", "zorilla.snapshot.bytes=32m", "zorilla.snapshot.quietMs=-1"] {
        let refused = fault(bad);
        assert!(refused.contains("at least 1"), "{refused}");
    }
}

#[test]
fn what_is_known_and_not_acted_on_says_so_in_one_line() {
    assert_eq!(
        warned("dataDir=/d\nclientPort=1\nforceSync=no\nadmin.enableServer=false\nzookeeper.snapCount=1000"),
        [
            "/etc/zoo.cfg line 3: forceSync changes nothing: every acknowledged write is synced; there is no way to \
             turn that off",
            "/etc/zoo.cfg line 4: admin.enableServer changes nothing: there is no AdminServer yet; use the \
             four-letter words",
            "/etc/zoo.cfg line 5: zookeeper.snapCount changes nothing: a snapshot writes only what has changed; \
             zorilla.snapshot.txns and .bytes say how often there is one",
        ]
    );
}

#[test]
fn an_unknown_key_is_a_warning_with_a_suggestion_and_a_fault_when_strict() {
    let file = "dataDir=/d\nclientPort=1\ntickTme=1\nqwertzuiop=2\n";
    assert_eq!(
        warned(file),
        [
            "/etc/zoo.cfg line 3: tickTme: no such key; did you mean tickTime? The line is ignored.",
            "/etc/zoo.cfg line 4: qwertzuiop: no such key. The line is ignored.",
        ]
    );
    let error = Config::from_bytes(Path::new("/etc/zoo.cfg"), file.as_bytes(), true, &[]).unwrap_err();
    assert!(error.to_string().starts_with("/etc/zoo.cfg line 3: tickTme: no such key; did you mean tickTime?"));
    let known = b"dataDir=/d\nclientPort=1\nforceSync=yes\n";
    assert!(
        Config::from_bytes(Path::new("/etc/zoo.cfg"), known, true, &[]).is_ok(),
        "strict is about unknown keys only"
    );
}

#[test]
fn the_last_of_two_lines_counts_and_is_reported() {
    let file = "dataDir=/d\nclientPort=1\nzookeeper.preAllocSize=4096\npreAllocSize=8192\n";
    assert_eq!(warned(file), ["/etc/zoo.cfg line 4: preAllocSize is set again; line 3 no longer counts"]);
    assert_eq!(read(file).unwrap().0.segment_bytes, 8 << 20);
}

#[test]
fn a_segment_size_for_the_java_server_only_is_moved_and_reported() {
    for (typed, bytes) in [("64", SEGMENT_BYTES_MIN), ("99999999999999999", SEGMENT_BYTES_MAX), ("9001", 9004 << 10)] {
        let file = format!("dataDir=/d\nclientPort=1\npreAllocSize={typed}");
        assert_eq!(read(&file).unwrap().0.segment_bytes, bytes);
        let expected = format!(
            "/etc/zoo.cfg line 3: preAllocSize: the log uses segments of {} KiB instead of {typed} KiB",
            bytes / 1024
        );
        assert_eq!(warned(&file), [expected]);
    }
}

#[test]
fn numbers_of_properties_may_be_hexadecimal_or_octal() {
    for (typed, kib) in [("0x2000", 8192), ("#2000", 8192), ("020000", 8192), ("+8192", 8192)] {
        assert_eq!(config(&format!("dataDir=/d\nclientPort=1\npreAllocSize={typed}")).segment_bytes, kib << 10);
    }
}

#[test]
fn relative_paths_and_strange_words_and_a_missing_port_are_mentioned() {
    assert_eq!(
        warned("dataDir=data\ndataLogDir=./log\n4lw.commands.whitelist=ruok,kill"),
        [
            "clientPort is not set: no client can connect",
            "data is relative. Prepend ./ to indicate that you're sure!",
            "/etc/zoo.cfg line 3: \"kill\" in the whitelist is no four-letter word and is ignored",
        ]
    );
}

#[test]
fn a_byte_order_mark_is_skipped_and_mentioned() {
    let (config, warnings) = read("\u{feff}dataDir=/d\nclientPort=1").unwrap();
    assert_eq!(config.data_dir, Path::new("/d"));
    assert_eq!(warnings, [Warning::ByteOrderMark { file: "/etc/zoo.cfg".into() }]);
}

#[test]
fn a_broken_escape_and_a_missing_file_are_faults() {
    assert!(fault("a=\\u12").contains("line 3: expected four hexadecimal digits after \\u, found \"12\""));
    let error = Config::from_file(Path::new("/no/such/zoo.cfg"), false, &[]).unwrap_err();
    assert_eq!(error.to_string(), "/no/such/zoo.cfg file is missing");
    assert!(Config::from_file(Path::new("/"), false, &[]).is_err(), "a directory is no file");
}

#[test]
fn arguments_have_the_java_servers_defaults_and_checks() {
    let from = |port: &str, dir: &str, tick: Option<&str>, cnxns: Option<&str>| {
        Config::from_args(port.as_ref(), dir.as_ref(), tick.map(OsStr::new), cnxns.map(OsStr::new))
    };
    let config = from("2181", "data", None, None).unwrap();
    assert_eq!(config.source, Source::Arguments);
    assert_eq!(config.client_addr, Some("0.0.0.0:2181".parse().unwrap()));
    assert_eq!((config.tick_ms, config.max_client_cnxns), (3000, 0));
    assert_eq!(config.data_log_dir, Path::new("data"));
    let config = from("2181", "data", Some("500"), Some("9")).unwrap();
    assert_eq!((config.tick_ms, config.max_client_cnxns, config.session_timeout_ms_max), (500, 9, 10_000));
    for (faulty, words) in [
        (from("x", "d", None, None), "PORT: expected a whole number, found \"x\""),
        (from("70000", "d", None, None), "port out of range:70000"),
        (from("1", "", None, None), "DATADIR: expected a path"),
        (from("1", "d", Some("0"), None), "TICKTIME: expected a whole number of milliseconds from 1"),
        (from("1", "d", Some("5"), Some("many")), "MAXCNXNS: expected"),
    ] {
        let message = faulty.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn the_embedded_default_serves_this_machine_only() {
    let config = Config::embedded_default();
    assert!(config.client_addr.unwrap().ip().is_loopback());
    assert_eq!(config.client_addr.unwrap().port(), 2181);
    assert_eq!(config.data_dir, Path::new("./zorilla-data"));
    for word in [Word::Ruok, Word::Srvr, Word::Stat, Word::Mntr, Word::Conf, Word::Isro] {
        assert!(config.four_letter.allows(word), "{word:?}");
    }
}

#[test]
fn the_sample_file_is_served_without_a_word() {
    let sample = include_str!("../../conf/zoo_sample.cfg");
    assert_eq!(config(sample).client_addr, Some("0.0.0.0:2181".parse().unwrap()));
    // What the sample offers in comments is right, too: every `#key=value` line taken in.
    let offered: String = sample
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.contains('=') && !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let (_, warnings) = read(&offered).unwrap();
    assert!(warnings.iter().all(|warning| matches!(warning, Warning::SetAgain { .. })), "{warnings:?}");
}
