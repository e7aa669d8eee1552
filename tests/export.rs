//! What is exported is what a Java server 3.9.5 serves, and what comes back when it is imported again.
//!
//! ```text
//! JAVA_CP=$(clients/java/run --provision) cargo test --test export -- --nocapture
//! ```
//!
//! The states are those of `tests/corpus/` that can be recovered. Without a class path no Java server is started, and the test
//! says so.

#[path = "common/client.rs"]
#[expect(dead_code, reason = "not all of it is needed here")]
mod client;
#[path = "common/java.rs"]
mod java;
#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/wire.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod wire;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, Session};
use scratch::Scratch;
use zorilla::compat::export::{State, in_place, to_folder};
use zorilla::compat::progress::Quiet;
use zorilla::compat::{self, Dirs, Mark, Options, Recovered, SENTINEL, Verdict};
use zorilla::tree::{NodeVersion, Tree};
use zorilla_proto::client::{PathRequest, PathWatchRequest, Request, Response};
use zorilla_proto::{Op, Reader};

/// The cases that hold every kind of znode, ACL, session and epoch between them.
const CASES: [&str; 6] = ["basic-394", "basic-380", "fuzzy-394", "quorum-394", "split-394", "two-logs-394"];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn together(data: PathBuf) -> Dirs {
    Dirs { log: data.clone(), data }
}

fn recover(dirs: &Dirs) -> Result<Option<Recovered>, compat::ImportError> {
    compat::recover(dirs, &Options::new(5, 0xf_ffff), &mut Quiet)
}

fn state(recovered: Recovered) -> State {
    let Recovered { tree, applied, sessions, epochs, .. } = recovered;
    State { tree, applied, sessions, epochs }
}

/// Path, version, data and ACL.
type Node = (String, NodeVersion, Option<Vec<u8>>, Vec<u8>);

/// Everything about a tree that can be compared.
fn nodes(tree: &Tree) -> Vec<Node> {
    let mut nodes = Vec::new();
    tree.for_each(|path, node| {
        nodes.push((
            path.to_owned(),
            node.version(),
            node.data().map(std::borrow::Cow::into_owned),
            node.acl().raw.to_vec(),
        ));
    });
    nodes.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    nodes
}

#[test]
fn there_and_back_again_is_the_identity() {
    let scratch = Scratch::new("export");
    let mut count = 0;
    for entry in fs::read_dir(corpus()).unwrap() {
        let case = entry.unwrap().path();
        if !case.join("version-2").is_dir() {
            continue;
        }
        let data = scratch.join(case.file_name().unwrap());
        copy(&case, &data);
        let log = if data.join("log").is_dir() { data.join("log") } else { data.clone() };
        // What a Java server would refuse is not exported.
        let Ok(Some(recovered)) = recover(&Dirs { data, log }) else { continue };
        let state = state(recovered);
        let folder = scratch.join(format!("{}-out", case.file_name().unwrap().to_str().unwrap()));
        let exported = to_folder(&state, &folder).unwrap();
        assert_eq!(exported.bytes, fs::metadata(&exported.snapshot).unwrap().len());
        let back = recover(&together(folder.clone())).unwrap().expect("it was exported");
        let case = case.display();
        // Before the first transaction there is no digest.
        let is_right = matches!(back.report.verdict, Verdict::Right { .. }) || state.applied.raw() == 0;
        assert!(is_right, "{case}: {:?}", back.report.verdict);
        assert_eq!(nodes(&back.tree), nodes(&state.tree), "{case}");
        assert_eq!((back.applied, back.tree.digest()), (state.applied, state.tree.digest()), "{case}");
        assert_eq!((&back.sessions, back.epochs), (&state.sessions, state.epochs), "{case}");
        assert!(back.report.warnings.is_empty(), "{case}: {:?}", back.report.warnings);
        let taken = to_folder(&state, &folder).unwrap_err().to_string();
        assert!(taken.contains("it holds") && taken.contains("empty directory"), "{taken}");
        count += 1;
    }
    assert!(30 <= count, "only {count} cases were exported");
}

#[test]
fn in_place_of_the_sentinel_and_back() {
    let scratch = Scratch::new("export-in-place");
    for case in ["two-logs-394", "split-394"] {
        let data = scratch.join(case);
        copy(&corpus().join(case), &data);
        let log = if data.join("log").is_dir() { data.join("log") } else { data.clone() };
        let dirs = Dirs { data: data.clone(), log: log.clone() };
        let mut options = Options::new(5, 0xf_ffff);
        let mut taken = None;
        let mut import = |options: &Options| {
            compat::import(&data, &log, options, &mut Quiet, &mut |recovered| {
                taken = Some(recovered);
                Ok(())
            })
        };
        import(&options).unwrap().expect("there was a Java server");
        let state = state(taken.take().unwrap());
        assert!(data.join("version-2").join(SENTINEL).exists());
        let exported = in_place(&state, &dirs).unwrap();
        assert!(exported.snapshot.exists() && !data.join("version-2").join(SENTINEL).exists());
        assert!(!log.join("version-2").join(SENTINEL).exists());
        assert_eq!(Mark::read(&dirs).unwrap().unwrap().zxid, state.applied);
        assert_eq!(nodes(&recover(&dirs).unwrap().unwrap().tree), nodes(&state.tree));
        // Nobody ran in between: the files are known, and set aside again.
        options.native = Some(state.applied);
        let import = |options: &Options| {
            compat::import(&data, &log, options, &mut Quiet, &mut |_| Err("nothing is to be imported".to_owned()))
        };
        assert_eq!(import(&options).unwrap(), None);
        assert!(data.join("version-2").join(SENTINEL).exists() && log.join("version-2").join(SENTINEL).exists());
        // It can be done again, over the sentinel, and is refused over files of a Java server.
        in_place(&state, &dirs).unwrap();
        let refused = in_place(&state, &dirs).unwrap_err().to_string();
        assert!(refused.contains("version-2"), "{refused}");
        // A Java server that ran on it leaves other files.
        fs::write(data.join("version-2/snapshot.ffff"), fs::read(&exported.snapshot).unwrap()).unwrap();
        assert!(import(&options).is_err(), "it must be imported, and the test refuses to publish");
    }
}

/// What a znode of the Java server is: its stat, data, ACL and children as it answers.
fn ask(client: &mut Client, path: &str) -> (zorilla_proto::stat::Stat, Option<Vec<u8>>, Vec<u8>, Vec<String>) {
    let watch = || PathWatchRequest { path: Some(path.into()), watch: false };
    let get = client.ask(Request::GetData(watch()));
    let acl = client.ask(Request::GetAcl(PathRequest { path: Some(path.into()) }));
    let list = client.ask(Request::GetChildren2(watch()));
    assert_eq!((get.code, acl.code, list.code), (0, 0, 0), "{path}");
    let Ok(Response::GetData(got)) = Response::decode(Op::GetData, &mut Reader::new(&get.body)) else {
        panic!("{path} is answered with {:?}", get.body)
    };
    let mut names = Vec::new();
    let mut reader = Reader::new(&list.body);
    for _ in 0..reader.i32().unwrap() {
        names.push(reader.string().unwrap().unwrap().into_owned());
    }
    names.sort();
    // The elements behind the count, without the stat at the end.
    let acl = acl.body[4..acl.body.len() - zorilla_proto::stat::Stat::BYTES].to_vec();
    (got.stat, got.data.map(<[u8]>::to_vec), acl, names)
}

#[test]
fn a_java_server_serves_what_was_exported() {
    let Some(class_path) = java::class_path() else {
        println!("no Java server was started: JAVA_CP is not set");
        return;
    };
    for case in CASES {
        let scratch = Scratch::new(&format!("export-{case}"));
        let data = scratch.join("in");
        copy(&corpus().join(case), &data);
        let log = if data.join("log").is_dir() { data.join("log") } else { data.clone() };
        let state = state(recover(&Dirs { data, log }).unwrap().expect("a Java server was there"));
        let out = scratch.join("out");
        to_folder(&state, &out).unwrap();
        let java = java::start(&class_path, &scratch.join(""), &out, &out, &["-Dzookeeper.skipACL=yes"])
            .unwrap_or_else(|said| panic!("{case}: Java refuses: {said}"));
        let srvr = &java.srvr;
        // The root counts twice there.
        let znodes = format!("Node count: {}\n", state.tree.len() + 1);
        assert!(srvr.contains(&format!("Zxid: {:#x}\n", state.applied.raw())) && srvr.contains(&znodes), "{srvr}");
        let stream = || {
            let stream = TcpStream::connect(("127.0.0.1", java.port)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        };
        let mut client = Client::begin(stream(), Session::NEW, 30_000).unwrap();
        let mut compared = 0;
        let mut paths = Vec::new();
        state.tree.for_each(|path, _| paths.push(path.to_owned()));
        for path in paths {
            let node = state.tree.find(&path).unwrap();
            let (stat, data, acl, names) = ask(&mut client, &path);
            let mut ours: Vec<String> = node.children().map(str::to_owned).collect();
            ours.sort();
            assert_eq!(names, ours, "{case}: children of {path}");
            assert_eq!(stat, node.version().stat(), "{case}: stat of {path}");
            assert_eq!(data, node.data().map(std::borrow::Cow::into_owned), "{case}: data of {path}");
            assert_eq!(acl, node.acl().raw, "{case}: ACL of {path}");
            compared += 1;
        }
        let mut resumed = 0;
        for (id, timeout_ms) in &state.sessions {
            let session = Session { id: *id, password: id.password() };
            let client = Client::begin(stream(), session, *timeout_ms as i32).unwrap();
            assert_eq!(client.session.id, *id, "{case}: session {id} goes on");
            resumed += 1;
        }
        let said = fs::read_to_string(scratch.join("java.out")).unwrap();
        assert!(!said.contains("mismatch"), "{case}: Java finds another digest:\n{said}");
        println!("{case}: Java serves {compared} znodes as exported, {resumed} sessions go on, no digest mismatch");
    }
}
