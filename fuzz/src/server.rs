//! What the server itself reads: its configuration, words, credentials, ACL entries, quotas and paths.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use zorilla::auth::{self, AuthOutcome, Identities, Rules};
use zorilla::config::{Config, Flag};
use zorilla::ops::four_letter::{Whitelist, Word};
use zorilla::settings::{AuthSettings, DigestAlg};
use zorilla::tree::path;
use zorilla::tree::quota::Track;
use zorilla_proto::client::{Acl, AclVec, AuthPacket};
use zorilla_proto::jute::{self, Jute, Reader};

use crate::random::Source;
use crate::{Group, Outcome, Target, ip, properties};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));

/// Keys with values that they may have.
const LINES: &[&str] = &[
    "tickTime=2000",
    "dataDir=/data",
    "dataLogDir=/log",
    "clientPort=2181",
    "clientPortAddress=127.0.0.1",
    "clientPortListenBacklog=128",
    "minSessionTimeout=4000",
    "maxSessionTimeout=40000",
    "maxClientCnxns=60",
    "4lw.commands.whitelist=ruok, srvr,mntr",
    "4lw.commands.whitelist=*",
    "preAllocSize=65536",
    "jute.maxbuffer=1048575",
    "initLimit=10",
    "syncLimit=5",
    "autopurge.purgeInterval=1",
    "autopurge.snapRetainCount=3",
    "globalOutstandingLimit=1000",
    "maxCnxns=0",
    "extendedTypesEnabled=true",
    "enforceQuota=true",
    "skipACL=no",
    "enforce.auth.enabled=true",
    "enforce.auth.schemes=digest,ip",
    "znode.container.checkIntervalMs=1000",
    "znode.container.maxPerMinute=10000",
    "largeRequestThreshold=-1",
    "largeRequestMaxBytes=104857600",
    "connection_throttle_tokens=10",
    "connection_throttle_decrease_ratio=0.5",
    "request_throttle_max_requests=100",
    "DigestAuthenticationProvider.digestAlg=SHA-256",
    "DigestAuthenticationProvider.superDigest=super:UdxDQl4f9v5oITwcAsO9bmWgHSI=",
    "zorilla.driver=folded",
    "zorilla.workers=2",
    "server.1=host:2888:3888;2181",
    "standaloneEnabled=true",
    "reconfigEnabled=false",
];

/// All of them.
pub fn targets() -> Vec<Target> {
    let text = |name: &str, make: fn(&mut Source), run: fn(&[u8]) -> Outcome| Target {
        encodes: false,
        ..Target::new(Group::Server, name, make, run)
    };
    vec![
        text("properties", file, |bytes| Outcome::of(properties::parse(bytes).is_ok(), false)),
        // The nearest key to one that nobody knows is found by a comparison with every key there is, and each character
        // that was typed takes a row of memory in each: some 75 KiB in all, little of it at once.
        Target { allocates: (1 << 17, 1 << 20), repair: repair_file, ..text("zoo.cfg", file, zoo_cfg) },
        Target {
            allocates: (1 << 17, 1 << 20),
            repair: repair_flag,
            ..Target::new(Group::Server, "-Dname=value", flag, flags)
        },
        Target::new(Group::Server, "four-letter word", word, first_four),
        text("4lw.commands.whitelist", whitelist, |bytes| {
            let text = jute::text(bytes);
            let mut strangers = 0;
            let list = Whitelist::parse(&text, |name| {
                assert!(!name.is_empty() && !name.contains(','));
                strangers += 1;
            });
            assert!(list.allows(Word::Srvr));
            Outcome::of(strangers == 0, false)
        }),
        Target { allocates: (256, 2048), ..Target::new(Group::Server, "ACL list", acls, acl_list()) },
        text("ACL entry ip", address, |bytes| {
            let entry = jute::text(bytes);
            let is_valid = ip::is_valid(&entry);
            let matches = ip::matches(PEER, &entry) || ip::matches(IpAddr::from([0; 16]), &entry);
            assert!(is_valid || !matches, "an address outside every block matches one");
            Outcome::of(is_valid, false)
        }),
        Target { allocates: (64, 16_384), ..text("credential", credential, |_| Outcome::Refused).with(credentials()) },
        Target::new(Group::Server, "quota Track", track, |bytes| {
            let Some(read) = Track::parse(bytes) else { return Outcome::Refused };
            let text = read.text();
            // Written as the reference writes it: what follows the bytes is read again, up to an empty key.
            let again = Track::parse(text.as_bytes()).expect("what was written can be read");
            assert_eq!((again.count, again.bytes), (read.count, read.bytes));
            assert_eq!((again.count_hard(), again.bytes_hard()), (read.count_hard(), read.bytes_hard()));
            Outcome::of(true, text.as_bytes() == bytes)
        }),
        text("path", paths, |bytes| {
            let text = jute::text(bytes);
            let is_full = path::check_full(&text);
            if is_full {
                assert!(path::check_rough_create(&text) && text.starts_with('/'));
                let (parent, name) = path::split(&text).expect("it has a slash");
                assert_eq!(format!("{parent}/{name}"), text);
                assert!(parent.is_empty() || path::check_full(parent));
            }
            let numbered = path::check_sequential(&text);
            assert_eq!(numbered, path::check_full(&format!("{text}0000000001")));
            Outcome::of(is_full, false)
        }),
    ]
}

impl Target {
    /// The same with another decoder, one that keeps something between its executions.
    fn with(self, run: impl Fn(&[u8]) -> Outcome + 'static) -> Target {
        Target { run: Box::new(run), ..self }
    }
}

// ---- configuration ---------------------------------------------------------------------------------------

fn file(source: &mut Source) {
    source.raw(b"dataDir=/d\nclientPort=2181\n");
    for _ in 0..source.below(4) {
        match source.below(24) {
            0 => {
                source.one_of(&["# comment", "!", "   ", "\\", "a\\u0041=b\\u00e9", "x\\", "key value", "=", "a\\=b:c"])
            }
            1 => {
                let line = *source.pick(LINES);
                let (key, _) = line.split_once('=').unwrap_or((line, ""));
                source.raw(key.as_bytes());
                source.one_of(&["=", ":", " ", "\\\n=", "=\\\n "]);
                source.one_of(&[
                    "0",
                    "-1",
                    "1O",
                    "",
                    "2147483648",
                    "99999999999999999999",
                    "true",
                    "NaN",
                    "1e9",
                    "\u{e9}",
                ]);
            }
            _ => source.one_of(LINES),
        }
        source.one_of(&["\n", "\n", "\n", "\r\n", "\r", "", "\\\n"]);
    }
}

/// The keys of [`LINES`].
fn keys() -> impl Iterator<Item = &'static str> {
    LINES.iter().filter_map(|line| Some(line.split_once('=')?.0))
}

/// Drops the lines whose key is none: the search for the nearest one would leave no time for their values.
fn repair_file(bytes: &mut Vec<u8>) {
    let whole = std::mem::take(bytes);
    for line in whole.split_inclusive(|byte| *byte == b'\n') {
        let end = line.iter().position(|byte| b"=: \\\r\n".contains(byte)).unwrap_or(line.len());
        if end == 0 || keys().any(|key| key.as_bytes() == &line[..end]) {
            bytes.extend_from_slice(line);
        }
    }
}

/// Puts a key in the place of a name that is none.
fn repair_flag(bytes: &mut Vec<u8>) {
    let end = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
    let name = &bytes[..end];
    let name = name.strip_prefix(b"zookeeper.").unwrap_or(name);
    if !keys().any(|key| key.as_bytes() == name) {
        let key = keys().nth(end % LINES.len()).unwrap_or_default();
        bytes.splice(..end, [b"zookeeper.", key.as_bytes()].concat());
    }
}

/// Whether reading this would ask the resolver for the address of a name, which no fuzzer should.
fn asks_the_resolver(key: &str, value: &str) -> bool {
    let key = key.to_lowercase();
    if key.contains("address") {
        return value.parse::<IpAddr>().is_err();
    }
    key.contains("server.") && value.split_once(';').is_some_and(|(_, client)| client.parse::<u16>().is_err())
}

fn zoo_cfg(bytes: &[u8]) -> Outcome {
    let properties = properties::parse(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).unwrap_or_default();
    if properties.iter().any(|property| asks_the_resolver(&property.key, &property.value)) {
        return Outcome::Refused;
    }
    match Config::from_bytes(Path::new("/etc/zoo.cfg"), bytes, false, &[]) {
        Ok((_, warnings)) => {
            warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
            Outcome::Decoded
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Refused
        }
    }
}

fn flag(source: &mut Source) {
    if !source.once_in(4) {
        source.raw(b"zookeeper.");
    }
    source.one_of(LINES);
}

fn flags(bytes: &[u8]) -> Outcome {
    let text = jute::text(bytes);
    let flag = Flag::of(&text);
    if asks_the_resolver(&flag.name, &flag.value) {
        return Outcome::Refused;
    }
    let is_same = format!("{}={}", flag.name, flag.value).as_bytes() == bytes;
    match Config::embedded_default().with_flags(std::slice::from_ref(&flag)) {
        Ok((_, warnings)) => Outcome::of(warnings.is_empty(), is_same),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Outcome::Refused
        }
    }
}

// ---- words -----------------------------------------------------------------------------------------------

fn word(source: &mut Source) {
    let word = *source.pick(&Word::ALL);
    let name = if word == Word::TelnetClose { b"\xff\xf4\xff\xfd" } else { word.name().as_bytes() };
    source.raw(name);
    if source.is_daring {
        source.noise();
    }
}

fn first_four(bytes: &[u8]) -> Outcome {
    let Some(first) = bytes.first_chunk::<4>() else { return Outcome::Refused };
    match Word::parse(*first) {
        None => Outcome::Refused,
        Some(word) => Outcome::of(true, word.name().as_bytes() == first),
    }
}

fn whitelist(source: &mut Source) {
    for _ in 0..source.below(5) {
        let name = source.pick(&Word::ALL).name();
        source.raw(if name == "telnet close" { b"*" } else { name.as_bytes() });
        source.one_of(&[",", ", ", " ,", ",,"]);
    }
}

// ---- permissions -----------------------------------------------------------------------------------------

fn rules() -> Rules {
    let settings = AuthSettings {
        digest_enabled: true,
        digest_alg: DigestAlg::Sha1,
        super_digest: Some("super:gG7s8t3oDEtIqF6DM9LlI/R+9Ss=".into()),
        ensemble_names: Some(vec!["here".into()]),
        key_enabled: true,
    };
    Rules::new(&settings, false, Some(&["digest".into()]))
}

fn someone(rules: &Rules) -> Identities {
    let mut who = Identities::of_peer(PEER);
    let outcome = rules.authenticate(&mut who, Some("digest"), Some(b"bob:pw"), PEER);
    assert_eq!(outcome, AuthOutcome::Ok);
    who
}

fn acls(source: &mut Source) {
    source.vector(|source| {
        const ENTRIES: &[(&str, &str)] = &[
            ("world", "anyone"),
            ("auth", ""),
            ("digest", "bob:x"),
            ("digest", "\u{e9}:\u{e9}"),
            ("ip", "10.0.0.0/8"),
            ("ip", "::1"),
            ("key", "7"),
        ];
        source.i32();
        let (scheme, mut id) = *source.pick(ENTRIES);
        if source.is_daring && source.once_in(4) {
            id = *source.pick(&["", "bob:", "bob:a:b", "10.0.0.0/33", "anybody"]);
        }
        for text in [scheme, id] {
            source.count(text.len());
            source.raw(text.as_bytes());
        }
    });
}

/// An ACL list on its whole way: decoded, judged, stored, asked, and shown to others.
fn acl_list() -> impl Fn(&[u8]) -> Outcome {
    let rules = rules();
    let who = someone(&rules);
    let nobody = Identities::of_peer(IpAddr::from([0; 16]));
    move |bytes| {
        let mut reader = Reader::new(bytes);
        let Ok(Some(list)) = <Option<AclVec<'_>>>::decode(&mut reader) else { return Outcome::Refused };
        if rules.check(Some(&list), &who).is_err() {
            return Outcome::Refused;
        }
        let mut buffer = Vec::new();
        let stored = rules.canonical(&list, &who, &mut buffer);
        assert!(!stored.is_empty());
        for permission in [auth::READ, auth::ADMIN] {
            let is_open =
                stored.iter().any(|entry| entry.perms & permission != 0 && entry.scheme.as_deref() == Some("world"));
            assert!(!is_open || rules.allows(stored.raw(), permission, &nobody), "what all may do, nobody may do");
        }
        let mut shown = Vec::new();
        rules.masked(stored.raw(), &mut shown);
        let shown = AclVec::from_raw(&shown).expect("what is shown can be read");
        assert_eq!(shown.len(), stored.len());
        let is_hidden = |entry: Acl<'_>| {
            entry.scheme.as_deref() != Some("digest")
                || entry.id.is_none_or(|id| id.split_once(':').is_none_or(|(_, hash)| hash == "x"))
        };
        assert!(shown.iter().all(is_hidden), "a hash is shown");
        Outcome::of(true, stored.len() == list.len() && stored.raw() == list.raw())
    }
}

fn address(source: &mut Source) {
    if source.once_in(2) {
        source.one_of(&["10", "0", "255", "+1", "007"]);
        for _ in 0..3 {
            source.raw(b".");
            source.one_of(&["1", "255", "0", "256", "-1"]);
        }
        source.one_of(&["", "", "/8", "/32", "/0", "/33", "/+1"]);
    } else {
        source.one_of(&["::", "fe80::1", "1:2:3:4:5:6:7:8", "::ffff", "1::8", "-1::", "0:0:0:0:0:0:0:0", "12345::"]);
        source.one_of(&["", "", "/64", "/128", "/0", "/129"]);
    }
}

fn credential(source: &mut Source) {
    source.i32();
    let scheme = *source.pick(&["digest", "ip", "key", "ensemble", "sasl", "world"]);
    source.count(scheme.len());
    source.raw(scheme.as_bytes());
    let text = *source.pick(&["bob:pw", "super:test", ":", "", "12", "0", "-7", "here", "\u{1f600}:\u{e9}"]);
    source.count(text.len());
    source.raw(text.as_bytes());
}

fn credentials() -> impl Fn(&[u8]) -> Outcome {
    let rules = rules();
    let start = someone(&rules);
    move |bytes| {
        let Ok(packet) = AuthPacket::decode(&mut Reader::new(bytes)) else { return Outcome::Refused };
        let mut who = start.clone();
        let outcome = if rules.needs_key(packet.scheme.as_deref()) {
            rules.authenticate_by_key(&mut who, packet.auth, Some(b"6"))
        } else {
            rules.authenticate(&mut who, packet.scheme.as_deref(), packet.auth, PEER)
        };
        assert!(start.iter().count() <= who.iter().count(), "an identity is lost");
        assert!(rules.satisfies_enforced(&who));
        Outcome::of(outcome == AuthOutcome::Ok, false)
    }
}

// ---- znodes ----------------------------------------------------------------------------------------------

fn track(source: &mut Source) {
    source.raw(b"count=");
    source.one_of(&["5", "-1", "0", "9223372036854775807", "+3"]);
    source.raw(b",bytes=");
    source.one_of(&["100", "-1", "-9223372036854775808"]);
    if source.once_in(2) {
        source.raw(b"=;byteHardLimit=7;countHardLimit=");
        source.one_of(&["9", "-1"]);
    } else if source.once_in(2) {
        source.one_of(&[";", ",", ",,;"]);
        source.one_of(&["x=1", "=", "count=7", "countHardLimit=", "a=b", "bytes=1=2"]);
    }
}

fn paths(source: &mut Source) {
    for _ in 0..=source.below(4) {
        source.raw(b"/");
        source.one_of(&["a", "b-", "\u{e9}\u{65e5}", "...", ".x", " ", "node", "0000000007"]);
    }
    if source.is_daring {
        source.one_of(&["", "/", "/.", "/..", "\0", "\u{1f600}", "\u{e000}", "\u{ffff}", "\u{7f}"]);
    }
}
