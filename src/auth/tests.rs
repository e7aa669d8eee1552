//! The tables of `semantics.md` 4 and of `client-protocol.md` 9.7, 9.21, 12.1 and 16; what the reference answers was asked of
//! ZooKeeper 3.9.5.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zorilla_proto::client::{Acl, AclVec};
use zorilla_proto::jute;

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BOB: &str = "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=";
const SUPER: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
static RULES: Rules = Rules::open();

type Entry<'a> = (i32, Option<&'a str>, Option<&'a str>);

fn raw(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, text: Option<&str>| jute::put_buffer(out, text.map(str::as_bytes));
    for (perms, scheme, id) in entries {
        jute::put_i32(&mut out, *perms);
        put(&mut out, *scheme);
        put(&mut out, *id);
    }
    out
}

fn entry(perms: i32, scheme: &str, id: &str) -> Vec<u8> {
    raw(&[(perms, Some(scheme), Some(id))])
}

fn read(raw: &[u8]) -> Vec<(i32, String, String)> {
    let text = |text: Option<Cow<'_, str>>| text.expect("not null").into_owned();
    let entries = AclVec::from_raw(raw).expect("a list");
    entries.iter().map(|entry| (entry.perms, text(entry.scheme), text(entry.id))).collect()
}

fn check_of(rules: &Rules, entries: &[Entry<'_>], who: &Identities) -> Result<(), AclFault> {
    let raw = raw(entries);
    rules.check(Some(&AclVec::from_raw(&raw).expect("a list")), who)
}

fn stored(rules: &Rules, entries: &[(i32, &str, &str)], who: &Identities) -> Vec<(i32, String, String)> {
    let given: Vec<Acl<'_>> = entries.iter().map(|(perms, scheme, id)| Acl::new(*perms, scheme, id)).collect();
    let mut buffer = Vec::new();
    let acl = AclVec::build(&mut buffer, &given);
    assert_eq!(rules.check(Some(&acl), who), Ok(()), "{entries:?}");
    let mut out = b"of an earlier request".to_vec();
    let canonical = rules.canonical(&acl, who, &mut out);
    assert_eq!(canonical.iter().count(), canonical.len());
    read(canonical.raw())
}

fn nobody() -> Identities {
    Identities::of_peer(PEER)
}

fn with(rules: &Rules, credentials: &[&str]) -> Identities {
    let mut who = nobody();
    for credential in credentials {
        let outcome = rules.authenticate(&mut who, Some("digest"), Some(credential.as_bytes()), PEER);
        assert_eq!(outcome, AuthOutcome::Ok, "{credential}");
    }
    who
}

fn names(who: &Identities) -> Vec<(&str, &str)> {
    who.iter().map(|identity| (identity.scheme(), identity.id())).collect()
}

fn rules(change: impl FnOnce(&mut AuthSettings)) -> Rules {
    let mut settings = AuthSettings::default();
    change(&mut settings);
    Rules::new(&settings, false, None)
}

// ---- identities and credentials --------------------------------------------------------------------------

#[test]
fn a_connection_begins_with_the_address_of_its_peer() {
    for (address, text) in [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("fe80::a:0:bc", "fe80:0:0:0:0:a:0:bc"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
    ] {
        let who = Identities::of_peer(address.parse().expect("an address"));
        assert_eq!(names(&who), [("ip", text)]);
        assert_eq!(who.whoami(&RULES).collect::<Vec<_>>(), [("ip", text)]);
        assert!(!who.is_super() && who.has_scheme("ip") && !who.has_scheme("digest"));
    }
}

#[test]
fn every_digest_credential_gives_an_identity() {
    for (credential, id) in [
        (&b"bob:secret"[..], BOB),
        (b"bob", "bob:SBgazSKz7a68ikR4aKfffOYpkgo="),
        (b"", ":2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        (b":", ":BaefBs8/Z/cm2uaNGKIpD2yaUMk="),
        (b":p", ":LlDE5iroUDDm9zdvmLsfjkUvn0k="),
        (b"a:", "a:faqErSBWcv9/lZW1ERCcDsnNQLg="),
        (b"a:b:c", "a:cLzgnoJ6mP5qz3w+mwvPE2vDgu0="),
        (b"a\0b:c", "a\0b:K5LQelXvWRlglzOWOWZFUmLrWBY="),
        ("ü:ö".as_bytes(), "ü:O84ILhFNJimzTsVS2edPcW6gGs8="),
        // What is not UTF-8 is hashed as the text that it reads as.
        (b"a\xff:b\xc3", "a\u{fffd}:cn0mstfGHqrcAvciSj47XA4XoeQ="),
        (b"\xed\xa0\x80:x", "\u{fffd}:MRJvuUNgOr/X35TrsstivNIZKtg="),
    ] {
        let mut who = nobody();
        assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(credential), PEER), AuthOutcome::Ok);
        let ids: Vec<&str> = who.iter().filter(|one| one.scheme() == "digest").map(Identity::id).collect();
        assert_eq!(ids, [id], "{credential:?}");
        let user = id.split(':').next().expect("a first part");
        assert!(who.whoami(&RULES).any(|info| info == ("digest", user)));
        assert!(!who.is_super());
    }
}

#[test]
fn digest_hashes_as_it_is_told() {
    use DigestAlg::*;
    for (alg, id) in [
        (Md5, "bob:pasriMfeJxH/y5wk/opUWg=="),
        (Sha1, BOB),
        (Sha224, "bob:5/BxB7nGacUX3CA0wafV2XS7GbQ54deqor/oXg=="),
        (Sha256, "bob:huAluaVu3uER4LIpielGv9Qqk5x3YVDr6I2R/mXf2wE="),
        (Sha384, "bob:sK3FknlHR28F5XDVFyv279SPFI+mcaciCe23ZtSFn7CeJGi9j80tCAbRDiVejZ6K"),
        (Sha512, "bob:MON49O1q1UU4gzHRH8XFfdstQyTRtQRoDT+8dvk+qrZdXJegJxeoYDJfch4LeWUjXjSWIiqnKXpFYZi7tC1AZw=="),
        (Sha512_224, "bob:yTt2wxbXBJcyMOIehFa5UplgRq0T/nu9skYVcw=="),
        (Sha512_256, "bob:Og/IurIw/GdzbFYQ/Z98uLvNTACkWBakgqXV2r5V1Zw="),
        (Sha3_224, "bob:RWLJ9PCRZyjMaWsFPHvSpbY168zfDgTW8akZzQ=="),
        (Sha3_256, "bob:ukO6WgYOvbjGYGRnCevsZ2T9tQ3ynirMDLl7Q45X6Rc="),
        (Sha3_384, "bob:lez47SW3dbfkQSe7psLgnTgaeQNC8V3Q/V4KUvBZqSyP5PYFdLx1bSgbREtiqWkT"),
        (Sha3_512, "bob:WISyoZv7veYA99eCjRXIryiJS6naNSmdMrE6AO9lJ90NPVr/4b/DbXgizNO6W+B2kcZO9YDhjZzAnIXD1CvxdA=="),
    ] {
        let rules = rules(|settings| settings.digest_alg = alg);
        assert!(with(&rules, &["bob:secret"]).contains(b"digest", id.as_bytes()), "{alg:?}");
        let other = if alg == Md5 { BOB } else { "bob:pasriMfeJxH/y5wk/opUWg==" };
        assert!(!with(&rules, &["bob:secret"]).contains(b"digest", other.as_bytes()), "{alg:?}");
    }
}

#[test]
fn the_same_identity_is_kept_once_and_different_ones_all() {
    let who = with(&RULES, &["bob:secret", "bob:other", "bob:secret"]);
    assert_eq!(who.iter().count(), 3);
    let mut again = who.clone();
    assert_eq!(RULES.authenticate(&mut again, Some("ip"), None, PEER), AuthOutcome::Ok);
    assert_eq!(again, who);
}

#[test]
fn a_request_keeps_the_identities_of_the_moment_it_was_read() {
    let mut connection = nobody();
    let request = connection.clone();
    assert_eq!(RULES.authenticate(&mut connection, Some("digest"), Some(b"a:b"), PEER), AuthOutcome::Ok);
    assert!(!request.has_scheme("digest") && connection.has_scheme("digest"));
    assert_ne!(request, connection);
}

#[test]
fn identities_stand_in_the_order_of_the_reference() {
    let mut who = nobody();
    for (index, users) in [
        "u0 127.0.0.1",
        "u0 u1 127.0.0.1",
        "u2 u0 u1 127.0.0.1",
        "u2 u3 u0 u1 127.0.0.1",
        "u2 u3 u0 u1 127.0.0.1 u4",
        "u2 u3 u0 u1 u5 127.0.0.1 u4",
        "u2 u3 u0 u1 u6 u5 127.0.0.1 u4",
        "u2 u3 u0 u1 u6 u5 u7 127.0.0.1 u4",
        "u2 u3 u8 u0 u1 u6 u5 u7 127.0.0.1 u4",
        "u2 u3 u8 u0 u1 u6 u5 u7 127.0.0.1 u4 u9",
        "u3 u5 u7 127.0.0.1 u9 u2 u8 u0 u1 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u9 u2 u8 u0 u1 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u9 u2 u8 u12 u0 u1 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u9 u2 u8 u12 u0 u1 u13 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u14 u9 u2 u8 u12 u0 u1 u13 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u14 u9 u15 u2 u8 u12 u0 u1 u13 u6 u4 u10",
        "u3 u5 u7 u11 127.0.0.1 u14 u9 u15 u2 u8 u12 u0 u1 u13 u6 u16 u4 u10",
    ]
    .into_iter()
    .enumerate()
    {
        let credential = format!("u{index}:p");
        let outcome = RULES.authenticate(&mut who, Some("digest"), Some(credential.as_bytes()), PEER);
        assert_eq!(outcome, AuthOutcome::Ok);
        assert_eq!(who.whoami(&RULES).map(|(_, user)| user).collect::<Vec<_>>().join(" "), users);
        assert_eq!(who.whoami(&RULES).len(), index + 2);
    }
}

#[test]
fn schemes_and_credentials_that_are_refused() {
    for (scheme, credential) in [
        (Some("digest"), None),
        (Some("Digest"), Some(&b"a:b"[..])),
        (Some("world"), Some(b"anyone")),
        (Some("auth"), Some(b"")),
        (Some("super"), Some(b"")),
        (Some("sasl"), Some(b"x")),
        (Some("x509"), Some(b"CN=a")),
        (Some("ensemble"), Some(b"")),
        (Some("key"), Some(b"10")),
        (Some(""), Some(b"")),
        (None, Some(b"x")),
        (None, None),
    ] {
        let mut who = nobody();
        let outcome = RULES.authenticate(&mut who, scheme, credential, PEER);
        assert_eq!((outcome, who), (AuthOutcome::Failed, nobody()), "{scheme:?} {credential:?}");
    }
    for credential in [None, Some(&b""[..]), Some(b"9.9.9.9")] {
        let mut who = nobody();
        assert_eq!(RULES.authenticate(&mut who, Some("ip"), credential, PEER), AuthOutcome::Ok);
        assert_eq!(who, nobody());
    }
}

#[test]
fn without_digest_nobody_gets_one_and_no_acl_names_one() {
    let rules = rules(|settings| {
        settings.digest_enabled = false;
        settings.super_digest = Some(SUPER.to_owned());
    });
    let mut who = nobody();
    assert_eq!(rules.authenticate(&mut who, Some("digest"), Some(b"super:test"), PEER), AuthOutcome::Failed);
    assert_eq!(check_of(&rules, &[(31, Some("digest"), Some("a:b"))], &who), Err(AclFault::Invalid));
    assert_eq!(check_of(&rules, &[(31, Some("auth"), Some(""))], &who), Err(AclFault::Invalid));
    // One that was stored before grants nothing, not even to who had the identity.
    assert!(!rules.allows(&entry(31, "digest", BOB), READ, &with(&RULES, &["bob:secret"])));
}

#[test]
fn the_super_digest_may_do_everything() {
    let rules = rules(|settings| settings.super_digest = Some(SUPER.to_owned()));
    let who = with(&rules, &["super:test", "super:test"]);
    assert_eq!(names(&who), [("super", ""), ("ip", "127.0.0.1"), ("digest", SUPER)]);
    assert_eq!(who.whoami(&rules).collect::<Vec<_>>(), [("super", ""), ("ip", "127.0.0.1"), ("digest", "super")]);
    assert!(who.is_super());
    assert!(rules.allows(&entry(0, "digest", BOB), ADMIN, &who));
    // `super` does not stand behind `auth`.
    assert_eq!(stored(&rules, &[(31, "auth", "")], &who), [(31, "digest".to_owned(), SUPER.to_owned())]);
    for other in ["super:tesT", "super", "bob:secret"] {
        assert!(!with(&rules, &[other]).is_super(), "{other}");
    }
    assert!(!with(&RULES, &["super:test"]).is_super());
}

#[test]
fn the_ensemble_provider_closes_on_a_wrong_name() {
    let named = rules(|settings| settings.ensemble_names = Some(vec!["one".to_owned(), "two".to_owned()]));
    let unnamed = rules(|settings| settings.ensemble_names = Some(Vec::new()));
    for (credential, by_named) in [
        (Some(&b"one"[..]), AuthOutcome::Ok),
        (Some(b"two"), AuthOutcome::Ok),
        (Some(b""), AuthOutcome::Ok),
        (None, AuthOutcome::Ok),
        (Some(b" two"), AuthOutcome::CloseSilently),
        (Some(b"one,two"), AuthOutcome::CloseSilently),
        (Some(b"ONE"), AuthOutcome::CloseSilently),
        (Some(b"\xff"), AuthOutcome::CloseSilently),
    ] {
        let mut who = nobody();
        assert_eq!(named.authenticate(&mut who, Some("ensemble"), credential, PEER), by_named, "{credential:?}");
        assert_eq!(unnamed.authenticate(&mut who, Some("ensemble"), credential, PEER), AuthOutcome::Ok);
        assert_eq!(who, nobody());
    }
    for id in [Some("one"), Some(""), None] {
        assert_eq!(check_of(&named, &[(31, Some("ensemble"), id)], &nobody()), Err(AclFault::Invalid));
    }
    assert!(!named.allows(&entry(31, "ensemble", "one"), READ, &nobody()));
}

#[test]
fn the_key_provider_takes_multiples_of_the_key() {
    let rules = rules(|settings| settings.key_enabled = true);
    assert!(rules.needs_key(Some("key")) && !rules.needs_key(Some("digest")) && !rules.needs_key(None));
    assert!(!RULES.needs_key(Some("key")));
    let ok = |key: Option<&str>, credential: Option<&str>| {
        let mut who = nobody();
        let (key, credential) = (key.map(str::as_bytes), credential.map(str::as_bytes));
        match rules.authenticate_by_key(&mut who, credential, key) {
            AuthOutcome::Ok => {
                assert!(who.contains(b"key", b"") && who.whoami(&rules).any(|info| info == ("key", "")));
                true
            }
            AuthOutcome::Failed => {
                assert_eq!(who, nobody());
                false
            }
            AuthOutcome::CloseSilently => panic!("a key is no ensemble"),
        }
    };
    for credential in ["10", "+10", "-10", "0", "2147483645"] {
        assert!(ok(Some("5"), Some(credential)), "{credential}");
    }
    for credential in ["11", "", "x", "99999999999", " 5"] {
        assert!(!ok(Some("5"), Some(credential)), "{credential}");
    }
    assert!(ok(None, Some("x")) && ok(None, Some("")) && !ok(None, None) && !ok(Some("5"), None));
    assert!(ok(Some("0"), Some("7")) && !ok(Some("0"), Some("x")));
    assert!(!ok(Some("x"), Some("10")) && !ok(Some(""), Some("10")));
    assert!(ok(Some("-1"), Some("-2147483648")) && ok(Some("+5"), Some("10")));
    let mut who = nobody();
    assert_eq!(rules.authenticate(&mut who, Some("key"), Some(b"10"), PEER), AuthOutcome::Failed);
    assert_eq!(RULES.authenticate_by_key(&mut who, Some(b"10"), None), AuthOutcome::Failed);

    assert_eq!(rules.authenticate_by_key(&mut who, Some(b"10"), None), AuthOutcome::Ok);
    assert!(rules.allows(&entry(READ, "key", ""), READ, &who) && !rules.allows(&entry(READ, "key", "x"), READ, &who));
    assert!(!rules.allows(&entry(READ, "key", ""), READ, &nobody()));
    assert_eq!(stored(&rules, &[(31, "auth", ""), (1, "key", "x")], &who).len(), 2);
    assert_eq!(check_of(&rules, &[(31, Some("key"), None)], &who), Err(AclFault::Undecodable));
}

#[test]
fn enforced_schemes_are_satisfied_by_one_of_them() {
    let schemes = |schemes: &[&str]| schemes.iter().map(|scheme| (*scheme).to_owned()).collect::<Vec<_>>();
    let enforcing = |list: &[&str]| Rules::new(&AuthSettings::default(), false, Some(&schemes(list)));
    let bob = with(&RULES, &["bob:secret"]);
    for (list, nobody_may, bob_may) in [
        (&["digest"][..], false, true),
        (&["sasl", "digest"], false, true),
        (&["sasl"], false, false),
        (&["ip"], true, true),
        (&[], false, false),
    ] {
        let rules = enforcing(list);
        assert_eq!(rules.satisfies_enforced(&nobody()), nobody_may, "{list:?}");
        assert_eq!(rules.satisfies_enforced(&bob), bob_may, "{list:?}");
    }
    assert!(RULES.satisfies_enforced(&nobody()));
}

#[test]
fn a_connection_cannot_gather_identities_without_end() {
    let mut who = nobody();
    for index in 1..limits::IDENTITIES_MAX {
        let credential = format!("u{index}:p");
        assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(credential.as_bytes()), PEER), AuthOutcome::Ok);
    }
    assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(b"u1:p"), PEER), AuthOutcome::Ok);
    assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(b"one:more"), PEER), AuthOutcome::Failed);
    assert_eq!(who.iter().count(), limits::IDENTITIES_MAX);

    let mut who = nobody();
    let long = "u".repeat(limits::IDENTITY_BYTES_MAX - 100);
    assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(long.as_bytes()), PEER), AuthOutcome::Ok);
    assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(b"a:b"), PEER), AuthOutcome::Ok);
    assert_eq!(RULES.authenticate(&mut who, Some("digest"), Some(b"c:d"), PEER), AuthOutcome::Failed);
}

// ---- what an ACL grants ----------------------------------------------------------------------------------

#[test]
fn one_common_bit_of_world_is_enough_and_an_empty_list_grants_everything() {
    assert_eq!(entry(31, "world", "anyone"), OPEN_ACL);
    assert_eq!(entry(READ, "world", "anyone"), READ_ACL);
    let who = nobody();
    assert!(RULES.allows(OPEN_ACL, DELETE, &who));
    assert!(RULES.allows(&[], ADMIN, &who));
    assert!(RULES.allows(READ_ACL, READ, &who) && !RULES.allows(READ_ACL, WRITE, &who));
    assert!(RULES.allows(&entry(READ | WRITE, "world", "anyone"), WRITE | ADMIN, &who));
    assert!(!RULES.allows(&entry(0, "world", "anyone"), 31, &who));
    assert!(!RULES.allows(&entry(31, "world", "other"), READ, &who));
    assert!(!RULES.allows(&entry(64, "world", "anyone"), 31, &who));
    let both = [entry(31, "digest", "a:b"), entry(READ, "world", "anyone")].concat();
    assert!(RULES.allows(&both, READ, &who) && !RULES.allows(&both, CREATE, &who));
}

#[test]
fn digest_grants_to_the_same_identity_only() {
    let list = entry(READ | ADMIN, "digest", BOB);
    let bob = with(&RULES, &["a:b", "bob:secret"]);
    assert!(RULES.allows(&list, READ, &bob) && RULES.allows(&list, READ | WRITE, &bob));
    assert!(!RULES.allows(&list, WRITE, &bob));
    for other in [&["bob:Secret"][..], &["bob"], &[]] {
        assert!(!RULES.allows(&list, READ, &with(&RULES, other)), "{other:?}");
    }
    // Schemes whose text is the same are not the same scheme; nor does `auth` mean anything once it is stored.
    for scheme in ["ip", "super", "auth", "sasl", "Digest", ""] {
        assert!(!RULES.allows(&entry(31, scheme, BOB), READ, &bob), "{scheme}");
    }
}

#[test]
fn many_identities_grant_what_each_of_them_does() {
    let credentials: Vec<String> = (0..100).map(|index| format!("u{index}:p")).collect();
    let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
    let who = with(&RULES, &credentials);
    for credential in &credentials {
        let one = with(&RULES, &[credential]);
        let id = one.iter().find(|one| one.scheme() == "digest").expect("it was added").id().to_owned();
        assert!(RULES.allows(&entry(READ, "digest", &id), READ, &who), "{id}");
        assert!(!RULES.allows(&entry(READ, "ip", &id), READ, &who), "{id}");
        assert!(!RULES.allows(&entry(READ, "digest", &id[1..]), READ, &who), "{id}");
    }
    assert!(RULES.allows(&entry(READ, "ip", "127.0.0.1"), READ, &who));
}

#[test]
fn blocks_of_addresses_grant_to_who_is_in_them() {
    let v4 = nobody();
    let v6 = Identities::of_peer(IpAddr::V6(Ipv6Addr::LOCALHOST));
    for (block, to_v4, to_v6) in [
        ("127.0.0.1", true, false),
        ("127.0.0.2", false, false),
        ("127.255.0.1/8", true, false),
        ("127.0.0.0/31", true, false),
        ("127.0.0.3/31", false, false),
        ("128.0.0.1/1", false, false),
        ("128.0.0.1/0", true, false),
        ("0.0.0.0/0", true, false),
        ("127.0.0.1/+32", true, false),
        ("+127.00.0.1", true, false),
        ("::/0", false, true),
        ("0:0:0:0:0:ffff:7f00:1", false, false),
        ("::1", false, true),
        ("0:0:0:0:0:0:0:1", false, true),
        ("-0::1", false, true),
        ("::2/127", false, false),
        ("::2/126", false, true),
        ("8000::/1", false, false),
        ("::1/128", false, true),
        // These were never accepted; a snapshot may hold anything.
        ("127.0.0.1/33", false, false),
        ("127.0.0.1/", false, false),
        ("::1/129", false, false),
        ("", false, false),
    ] {
        let list = entry(READ, "ip", block);
        assert_eq!(RULES.allows(&list, READ, &v4), to_v4, "{block} to IPv4");
        assert_eq!(RULES.allows(&list, READ, &v6), to_v6, "{block} to IPv6");
        assert!(!RULES.allows(&list, WRITE, &v4) && !RULES.allows(&list, WRITE, &v6));
    }
    let mapped = Identities::of_peer("::ffff:127.0.0.1".parse().expect("an address"));
    assert!(RULES.allows(&entry(READ, "ip", "127.0.0.1"), READ, &mapped));
}

#[test]
fn without_permission_checks_everything_is_granted_and_lists_are_still_checked() {
    let rules = Rules::new(&AuthSettings::default(), true, None);
    assert!(rules.allows(&entry(0, "digest", BOB), ADMIN, &nobody()));
    assert_eq!(check_of(&rules, &[(31, Some("nope"), Some("x"))], &nobody()), Err(AclFault::Invalid));
}

#[test]
fn a_list_cut_short_grants_nothing() {
    for list in [entry(READ, "world", "anyone"), entry(READ, "digest", BOB), entry(READ, "ip", "127.0.0.1")] {
        let who = with(&RULES, &["bob:secret"]);
        assert!(RULES.allows(&list, READ, &who));
        for cut in 1..list.len() {
            assert!(!RULES.allows(&list[..cut], READ, &who), "{cut} bytes of an entry granted READ");
        }
    }
    let nulls = raw(&[(31, None, Some("anyone")), (31, Some("world"), None), (31, Some("digest"), None)]);
    assert!(!RULES.allows(&nulls, READ, &nobody()));
    let nulls_and_world = [nulls, entry(READ, "world", "anyone")].concat();
    assert!(RULES.allows(&nulls_and_world, READ, &nobody()));
}

// ---- which lists are accepted ----------------------------------------------------------------------------

#[test]
fn ids_that_a_scheme_can_have() {
    for (scheme, valid, invalid) in [
        (
            "digest",
            &["a:b", ":b", "a:b:", "a:b::", "ü:ö"][..],
            &["a", "a:", "a:b:c", "a::b", "", ":", "::", "::b", ":::"][..],
        ),
        (
            "ip",
            &[
                "127.0.0.1",
                "127.0.0.1/8",
                "127.0.0.1/0",
                "127.0.0.1/32",
                "127.0.0.1/+8",
                "127.0.0.1/08",
                "+1.2.3.4",
                "-0.2.3.4",
                "01.002.3.4",
                "::1",
                "::",
                "::/0",
                "::1/128",
                "fe80::/10",
                "ABCD::ef",
                "1:2:3:4:5:6:7:8",
                "1:2:3:4:5:6:7::",
                "::2:3:4:5:6:7:8",
                "1::3:4:5:6:7:8",
                "0:0:0:0:0:0:0:1",
                "+fff::",
                "-0::",
                "-1::",
            ],
            &[
                "127.0.0.1/33",
                "127.0.0.1/-1",
                "127.0.0.1/",
                "127.0.0.1//",
                "127.0.0.1/8/",
                "127.0.0.1/8/9",
                "127.0.0.1//8",
                "127.0.0.1/ 8",
                "127.0.0.1/x",
                "/8",
                "",
                "1.2.3",
                "1.2.3.4.",
                "1.2.3.4.5",
                "1.2.3.256",
                "1..3.4",
                " 1.2.3.4",
                "::1/129",
                "1:2:3:4:5:6:7",
                "1:2:3:4:5:6:7:",
                "1:2:3:4:5:6:7:8:",
                "1:2:3:4:5:6:7:8::",
                "1:2:3:4:5:6:7:8:9",
                ":1:2:3:4:5:6:7:8",
                "1:2:3:4::5:6:7:8",
                "1::2::3",
                ":::",
                "::1:",
                ":1::",
                "1:::2",
                "12345::",
                "fffff::",
                "g::",
                "::ffff:1.2.3.4",
                "::0.0.0.1",
                "fe80::1%eth0",
                "localhost",
            ],
        ),
        ("world", &["anyone"], &["other", "", "Anyone"]),
        ("auth", &[], &["", "x"]),
        ("super", &[], &["", "x"]),
        ("sasl", &[], &["a"]),
        ("x509", &[], &["CN=a"]),
        ("ensemble", &[], &["one"]),
        ("key", &[], &[""]),
        ("nope", &[], &["x"]),
        ("", &[], &["x", ""]),
    ] {
        for id in valid {
            assert_eq!(check_of(&RULES, &[(31, Some(scheme), Some(id))], &nobody()), Ok(()), "{scheme}:{id}");
        }
        for id in invalid {
            let found = check_of(&RULES, &[(31, Some(scheme), Some(id))], &nobody());
            assert_eq!(found, Err(AclFault::Invalid), "{scheme}:{id}");
            // Wherever it stands.
            let list = [(1, Some("world"), Some("anyone")), (31, Some(scheme), Some(id))];
            assert_eq!(check_of(&RULES, &list, &nobody()), Err(AclFault::Invalid), "{scheme}:{id}");
        }
    }
    assert_eq!(RULES.check(None, &nobody()), Err(AclFault::Invalid));
    assert_eq!(check_of(&RULES, &[], &nobody()), Err(AclFault::Invalid));
}

#[test]
fn permissions_are_not_examined() {
    for perms in [0, -1, 64, i32::MIN] {
        assert_eq!(
            stored(&RULES, &[(perms, "world", "anyone")], &nobody()),
            [(perms, "world".into(), "anyone".into())]
        );
    }
}

#[test]
fn nulls_fail_where_the_reference_stumbles() {
    use AclFault::{Invalid, Undecodable};
    let bob = with(&RULES, &["bob:secret"]);
    let (world, auth, nope) = (Some("world"), Some("auth"), Some("nope"));
    let (anyone, x, empty) = (Some("anyone"), Some("x"), Some(""));
    for (list, who, result) in [
        (&[(31, world, None)][..], &nobody(), Err(Undecodable)),
        (&[(31, Some("digest"), None)], &nobody(), Err(Undecodable)),
        (&[(31, Some("ip"), None)], &nobody(), Err(Undecodable)),
        (&[(31, auth, None)], &nobody(), Err(Invalid)),
        (&[(31, auth, None)], &bob, Ok(())),
        (&[(31, nope, None)], &nobody(), Err(Invalid)),
        (&[(31, Some("super"), None)], &nobody(), Err(Invalid)),
        (&[(31, Some("sasl"), None)], &nobody(), Err(Invalid)),
        (&[(31, None, x)], &nobody(), Err(Invalid)),
        (&[(31, None, None)], &nobody(), Err(Invalid)),
        // Compared with an earlier entry of the same permissions.
        (&[(31, world, anyone), (31, None, x)], &nobody(), Err(Undecodable)),
        (&[(1, world, anyone), (31, None, x)], &nobody(), Err(Invalid)),
        (&[(31, None, x), (31, None, x)], &nobody(), Err(Undecodable)),
        (&[(31, nope, None), (31, nope, None)], &nobody(), Err(Undecodable)),
        (&[(31, nope, x), (31, nope, None)], &nobody(), Err(Undecodable)),
        (&[(31, nope, x), (31, world, None)], &nobody(), Err(Invalid)),
        (&[(31, None, None), (1, world, None)], &nobody(), Err(Invalid)),
        (&[(1, world, None), (31, nope, empty)], &nobody(), Err(Undecodable)),
        (&[(31, auth, None), (31, auth, None)], &bob, Err(Undecodable)),
        (&[(31, auth, empty), (31, auth, None)], &bob, Err(Undecodable)),
        (&[(31, auth, None), (31, auth, empty)], &bob, Ok(())),
        (&[(1, auth, empty), (31, auth, None)], &bob, Ok(())),
    ] {
        assert_eq!(check_of(&RULES, list, who), result, "{list:?} of {who:?}");
    }
}

// ---- what is stored --------------------------------------------------------------------------------------

#[test]
fn identical_entries_are_reduced_before_auth_is_replaced() {
    let bob = with(&RULES, &["bob:secret"]);
    let digest = |perms: i32| (perms, "digest".to_owned(), BOB.to_owned());
    for (given, kept) in [
        (&[(31, "auth", "")][..], &[digest(31)][..]),
        (&[(0, "auth", "ignored")], &[digest(0)]),
        (&[(31, "auth", ""), (31, "digest", BOB)], &[digest(31), digest(31)]),
        (&[(31, "auth", ""), (31, "auth", "x"), (31, "auth", "")], &[digest(31), digest(31)]),
        (&[(31, "digest", BOB), (31, "auth", ""), (31, "digest", BOB)], &[digest(31), digest(31)]),
        (&[(1, "digest", BOB), (31, "auth", ""), (1, "digest", BOB)], &[digest(1), digest(31)]),
    ] {
        assert_eq!(stored(&RULES, given, &bob), kept, "{given:?}");
    }
    let world = |perms: i32| (perms, "world".to_owned(), "anyone".to_owned());
    let list = [(1, "world", "anyone"), (31, "world", "anyone"), (1, "world", "anyone"), (31, "world", "anyone")];
    assert_eq!(stored(&RULES, &list, &nobody()), [world(1), world(31)]);
    let mut buffer = Vec::new();
    assert_eq!(RULES.canonical(&AclVec::OPEN, &bob, &mut buffer), AclVec::OPEN);
}

#[test]
fn auth_stands_for_every_identity_that_authenticates() {
    let who = with(&RULES, &["u0:p", "u1:p", "u2:p"]);
    let users = |list: &[(i32, String, String)]| -> Vec<String> {
        list.iter().map(|(perms, _, id)| format!("{perms}{}", &id[..2])).collect()
    };
    let list = [(1, "auth", ""), (1, "world", "anyone"), (2, "auth", "")];
    assert_eq!(users(&stored(&RULES, &list, &who)), ["1u2", "1u0", "1u1", "1an", "2u2", "2u0", "2u1"]);
}

#[test]
fn a_null_id_of_auth_is_replaced_like_any_other() {
    let raw = raw(&[(31, Some("auth"), None)]);
    let acl = AclVec::from_raw(&raw).expect("a list");
    let mut buffer = Vec::new();
    let kept = RULES.canonical(&acl, &with(&RULES, &["bob:secret"]), &mut buffer);
    assert_eq!(read(kept.raw()), [(31, "digest".to_owned(), BOB.to_owned())]);
}

#[test]
fn text_is_stored_as_it_reads() {
    let mut raw = Vec::new();
    jute::put_i32(&mut raw, 31);
    jute::put_buffer(&mut raw, Some(b"digest"));
    jute::put_buffer(&mut raw, Some(b"a:\xff"));
    let acl = AclVec::from_raw(&raw).expect("a list");
    let mut buffer = Vec::new();
    let kept = RULES.canonical(&acl, &nobody(), &mut buffer);
    assert_eq!(kept.raw(), entry(31, "digest", "a:\u{fffd}"));
}

#[test]
fn long_lists_are_reduced_as_short_ones_are() {
    let ids: Vec<String> = (0..limits::ACL_ENTRIES_MAX).map(|index| format!("u{}:x", index % 200)).collect();
    let list: Vec<(i32, &str, &str)> = ids.iter().map(|id| (31, "digest", id.as_str())).collect();
    let kept = stored(&RULES, &list, &nobody());
    assert_eq!(kept.len(), 200);
    assert!(kept.iter().zip(&ids).all(|((_, _, kept), id)| kept == id), "the order is that of first occurrences");
    for count in [15, 16, 17, 18] {
        let list: Vec<_> = (0..count).map(|index| list[index % 15]).collect();
        assert_eq!(stored(&RULES, &list, &nobody()).len(), 15, "{count} entries");
    }
    let long = "u".repeat(limits::ACL_BYTES_MAX);
    let many: Vec<Entry<'_>> = ids.iter().chain(&ids[..1]).map(|id| (31, Some("digest"), Some(id.as_str()))).collect();
    assert_eq!(check_of(&RULES, &many, &nobody()), Err(AclFault::Invalid), "one entry too many");
    let long = [(31, Some("digest"), Some(&*format!("{long}:x")))];
    assert_eq!(check_of(&RULES, &long, &nobody()), Err(AclFault::Invalid), "too many bytes");
}

#[test]
fn auth_cannot_make_a_list_grow_without_end() {
    let credentials: Vec<String> = (1..limits::IDENTITIES_MAX).map(|index| format!("u{index}:p")).collect();
    let credentials: Vec<&str> = credentials.iter().map(String::as_str).collect();
    let who = with(&RULES, &credentials);
    let ids: Vec<String> = (0..200).map(|index| index.to_string()).collect();
    let list: Vec<Entry<'_>> = ids.iter().map(|id| (31, Some("auth"), Some(id.as_str()))).collect();
    assert_eq!(check_of(&RULES, &list, &who), Err(AclFault::Invalid));
    // Identical entries count once, and one always fits.
    let list: Vec<Entry<'_>> = ids.iter().map(|_| (31, Some("auth"), Some(""))).collect();
    assert_eq!(check_of(&RULES, &list, &who), Ok(()));
    let long = "u".repeat(limits::IDENTITY_BYTES_MAX - 100);
    assert_eq!(check_of(&RULES, &list, &with(&RULES, &[&long])), Ok(()));

    let given = raw(&list);
    let acl = AclVec::from_raw(&given).expect("a list");
    let mut buffer = Vec::new();
    let kept = RULES.canonical(&acl, &who, &mut buffer);
    assert_eq!(kept.len(), limits::IDENTITIES_MAX - 1);
    assert!(kept.raw().len() <= given.len() + limits::ACL_GROWTH_BYTES_MAX);
}

#[test]
fn hashes_are_hidden_from_callers_without_admin() {
    for (scheme, id, shown) in [
        ("digest", "bob:secret", "bob:x"),
        ("digest", "a:b:", "a:x"),
        ("digest", ":b", ":x"),
        ("digest", "a\nc:b", "a\nc:x"),
        // The reference shows what follows the end of the line.
        ("digest", "a:b\nc", "a:x"),
        ("digest", "none", "none"),
        ("world", "anyone", "anyone"),
        ("ip", "::1", "::1"),
        ("sasl", "a:b", "a:b"),
    ] {
        let list = [entry(5, scheme, id), entry(31, "digest", BOB), entry(1, "world", "anyone")].concat();
        let mut out = b"before".to_vec();
        RULES.masked(&list, &mut out);
        let expected = [entry(5, scheme, shown), entry(31, "digest", "bob:x"), entry(1, "world", "anyone")].concat();
        assert_eq!(out, [&b"before"[..], &expected].concat(), "{scheme}:{id:?}");
    }
}

#[test]
fn foreign_bytes_are_taken_for_no_list() {
    for seed in 0..2000_u64 {
        let mut list = [entry(31, "digest", BOB), entry(31, "ip", "10.0.0.0/8"), entry(31, "auth", "")].concat();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..4 {
            state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            let at = (state >> 32) as usize % list.len();
            list[at] = state as u8;
        }
        let who = nobody();
        RULES.allows(&list, READ, &who);
        RULES.masked(&list, &mut Vec::new());
        if let Ok(acl) = AclVec::from_raw(&list)
            && RULES.check(Some(&acl), &who).is_ok()
        {
            RULES.canonical(&acl, &who, &mut Vec::new());
        }
    }
}
