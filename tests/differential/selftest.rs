//! The test's own parts, tested without any server.

use zorilla_proto::client::ReplyHeader;
use zorilla_proto::op::Op;
use zorilla_proto::stat::Stat;

use crate::generate::Generator;
use crate::known::excuse;
use crate::norm::Norm;
use crate::profile::PROFILES;
use crate::script::{Field, Request, Stream, read_stream};
use crate::shrink::shrink;
use crate::wire::{Item, read_reply};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("a_stream_is_read_back_from_what_is_printed", a_stream_is_read_back_from_what_is_printed),
    ("the_same_seed_makes_the_same_stream", the_same_seed_makes_the_same_stream),
    ("what_servers_may_differ_in_has_one_name", what_servers_may_differ_in_has_one_name),
    ("what_must_be_equal_shows_when_it_is_not", what_must_be_equal_shows_when_it_is_not),
    ("order_counts_except_where_it_has_no_meaning", order_counts_except_where_it_has_no_meaning),
    ("only_the_listed_differences_are_excused", only_the_listed_differences_are_excused),
    ("every_saved_case_can_be_read", every_saved_case_can_be_read),
    ("shrinking_keeps_what_fails_and_nothing_else", shrinking_keeps_what_fails_and_nothing_else),
];

/// Runs those whose names contain `filter`, and prints what `cargo test` prints.
pub fn run(filter: Option<&str>) -> bool {
    let wanted = TESTS.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)));
    let (mut passed, mut failed) = (0, 0);
    println!("\nrunning {} tests", wanted.clone().count());
    for (name, test) in wanted {
        let is_good = std::panic::catch_unwind(test).is_ok();
        passed += usize::from(is_good);
        failed += usize::from(!is_good);
        println!("test {name} ... {}", if is_good { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed\n");
    failed == 0
}

fn streams() -> impl Iterator<Item = Stream> {
    (0..200).flat_map(|seed| PROFILES.iter().map(move |profile| Generator::stream(seed, profile, &[])))
}

fn a_stream_is_read_back_from_what_is_printed() {
    for stream in streams() {
        let text = stream.to_string();
        let back = read_stream(&text).unwrap_or_else(|what| panic!("{what}\n{text}"));
        assert_eq!(back, stream, "{text}");
    }
}

fn the_same_seed_makes_the_same_stream() {
    assert!(streams().eq(streams()));
}

fn shrinking_keeps_what_fails_and_nothing_else() {
    let mut tried = 0;
    for stream in streams().take(300) {
        // A failure that needs two requests of different steps.
        let fails = |stream: &Stream| {
            let text = stream.to_string();
            text.contains("\n  setData ") && text.contains("\n  delete ")
        };
        if !fails(&stream) {
            continue;
        }
        tried += 1;
        let small = shrink(&stream, fails);
        assert!(fails(&small), "{small}");
        assert!(small.frames() <= 4, "{small}");
    }
    assert!(10 < tried, "{tried} streams had both");
}

/// The reply to an exists of a server whose stream began after zxid `base`, at time `now`.
fn stat_line(base: u64, now: i64, session: i64, change: impl Fn(&mut Stat)) -> Vec<String> {
    let zxid = |more: u64| zorilla_proto::ids::Zxid::from_raw(base + more);
    let mut stat = Stat {
        czxid: zxid(1),
        mzxid: zxid(3),
        pzxid: zxid(2),
        ctime_ms: now,
        mtime_ms: now + 5,
        version: 1,
        cversion: 1,
        ephemeral_owner: session,
        ..Stat::default()
    };
    change(&mut stat);
    let mut body = Vec::new();
    stat.encode(&mut body);
    let mut norm = Norm::new(base as i64);
    norm.name_session(session, "c0");
    let request = Request::new(Op::Exists, vec![Field::Str(Some("$/a".to_owned())), Field::Bool(0)]);
    let header = ReplyHeader { xid: 7, zxid: base as i64 + 3, code: 0 };
    norm.render(&[Item::Reply(read_reply(&request, header, &body))])
}

fn what_servers_may_differ_in_has_one_name() {
    let left = stat_line(0x100, 1_700_000_000_000, 0x1000_0001, |_| {});
    let right = stat_line(0x7_0000, 1_700_000_009_999, 0x2000_0002, |_| {});
    assert_eq!(left, right);
    assert!(left[0].contains("cz=+1 mz=+3 pz=+2") && left[0].contains("owner=<c0>"), "{left:?}");
}

fn what_must_be_equal_shows_when_it_is_not() {
    type Change = fn(&mut Stat);
    let changes: [Change; 9] = [
        |stat| stat.version += 1,
        |stat| stat.cversion += 1,
        |stat| stat.aversion += 1,
        |stat| stat.data_length += 1,
        |stat| stat.num_children += 1,
        |stat| stat.ephemeral_owner = 0,
        |stat| stat.ephemeral_owner += 1,
        |stat| stat.pzxid = stat.mzxid,
        // Created and changed by one transaction, and yet at two times.
        |stat| stat.mzxid = stat.czxid,
    ];
    for (index, change) in changes.iter().enumerate() {
        let right = stat_line(0x7_0000, 1_700_000_009_999, 0x2000_0002, change);
        assert_ne!(stat_line(0x100, 1_700_000_000_000, 0x1000_0001, |_| {}), right, "change {index}");
        if index == 8 {
            assert!(right[0].contains("TWO TIMES"), "{right:?}");
        }
    }
}

fn order_counts_except_where_it_has_no_meaning() {
    let event = |zxid: i64, text: &str| Item::Event { zxid, text: text.to_owned() };
    let render = |norm: &mut Norm, items: &[Item]| norm.render(items);
    let (one, two) = ([event(5, "a"), event(5, "b")], [event(5, "b"), event(5, "a")]);
    let mut plain = Norm::new(0);
    assert_ne!(render(&mut plain, &one), render(&mut plain, &two), "the operations of a multi are in order");
    let mut closing = Norm::new(0);
    closing.unordered(5);
    assert_eq!(render(&mut closing, &one), render(&mut closing, &two), "the ephemerals of a session are not");
    let fenced = [event(5, "b"), Item::Fence { zxid: 5 }, event(5, "a")];
    let other = [event(5, "a"), Item::Fence { zxid: 5 }, event(5, "b")];
    assert_ne!(render(&mut closing, &fenced), render(&mut closing, &other), "nothing moves across a reply");
    let mut window = Norm::new(0);
    window.bound(4);
    window.bound(9);
    assert_eq!([3, 5, 9, 10].map(|zxid| window.zxid(zxid)), ["+3", "w2", "w2", "+1after3"].map(str::to_owned));
    assert_eq!(window.zxid(-1), "-1");
}

fn only_the_listed_differences_are_excused() {
    let profile = &PROFILES[0];
    let cesu = "sync s:\"$\" -> xid=1 zx=+1 err=0 path=\"cesu:/x\"";
    assert_eq!(excuse(profile, cesu, &cesu.replace("cesu:", "")), Some("utf-8"));
    assert_eq!(excuse(profile, cesu, "sync s:\"$\" -> xid=1 zx=+1 err=0 path=\"/y\""), None);
    assert_eq!(excuse(profile, "fence zx=+1", "fence zx=+2"), None);
    let refused = "deleteContainer s:\"x\" -> xid=1 zx=+2 err=";
    assert_eq!(excuse(profile, &format!("{refused}-8"), &format!("{refused}-102")), Some("deleteContainer"));
    assert_eq!(excuse(profile, &format!("{refused}0"), &format!("{refused}-102")), None);
    let other_zxid = "deleteContainer s:\"x\" -> xid=1 zx=+3 err=-102";
    assert_eq!(excuse(profile, &format!("{refused}-8"), other_zxid), None);
    let failed = "multiRead op:end -> xid=1 zx=+1 err=-5";
    assert_eq!(excuse(profile, &format!("{failed} and then results"), failed), Some("multiRead-body"));
    assert_eq!(excuse(profile, failed, &format!("{failed} and then results")), None);
}

fn every_saved_case_can_be_read() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the saved cases").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a readable case");
        let stream = read_stream(&text).unwrap_or_else(|what| panic!("{}: {what}", entry.path().display()));
        assert!(PROFILES.iter().any(|profile| profile.name == stream.profile), "{}", entry.path().display());
        assert_eq!(read_stream(&stream.to_string()), Ok(stream), "{}", entry.path().display());
        count += 1;
    }
    assert!(10 < count, "{count} saved cases");
}
