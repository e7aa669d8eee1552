//! The real binary over real sockets and real directories: what survives a kill, what refuses to start and how it says so,
//! what hostile and slow clients can do, and what happens when the disk is full.
//!
//! Needs root for the tests that mount a small file system; they fail, and say why, where mounting is not possible.

mod common {
    pub mod client;
    pub mod observe;
    pub mod scratch;
    pub mod server;
    pub mod wire;
}

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::client::{Client, Session, get, set};
use common::scratch::Scratch;
use common::server::{PATIENCE, Server, free_port, zoo_cfg};
use zorilla::limits::{MAILBOX_BYTES_MAX, OUTPUT_BYTES_MAX};
use zorilla_proto::client::{PathWatchRequest, Request, WatcherEvent, XID_NOTIFICATION};
use zorilla_proto::code::Code;
use zorilla_proto::ids::SessionId;
use zorilla_proto::jute::Reader;

/// A small file system in memory.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(path: &Path, options: &str) -> Mounted {
        std::fs::create_dir_all(path).expect("a place to mount at");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "cannot mount a tmpfs at {}: {status:?}. This test needs root, and a kernel that lets it mount.",
            path.display()
        );
        Mounted(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Server {
    fn start(home: &Arc<Scratch>, data: &Path, more: &str) -> Server {
        Server::launch(home, data, &format!("4lw.commands.whitelist=ruok,srvr,stat,mntr,conf,isro\n{more}"))
    }

    /// Waits until the server has said something.
    fn says(&self, words: &str) {
        let begun = Instant::now();
        while !self.text().contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{words:?} is not in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("the killed server is gone");
    }

    fn terminate(mut self) -> (ExitStatus, String) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "SIGTERM could not be sent");
        (wait(&mut self.child), self.text())
    }

    fn rss_mib(&self) -> u64 {
        self.memory_kib("VmRSS") / 1024
    }

    fn connect(&self) -> Client {
        self.resume(Session::NEW).expect("a session")
    }

    /// A connection for this session; an error if it is not valid.
    fn resume(&self, session: Session) -> io::Result<Client> {
        let client = Client::begin(self.socket(), session, 8000)?;
        if client.session.id == SessionId::NONE {
            return Err(io::Error::other("the session is not valid"));
        }
        Ok(client)
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the server's state") {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "the server does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The server has ended the connection, in order or not.
fn is_ended(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 65536]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

const NO_NODE: Result<(Vec<u8>, i32), i32> = Err(Code::NoNode.raw());

/// Every arrangement of threads.
const ARRANGEMENTS: [&str; 4] = [
    "zorilla.driver=folded\nzorilla.workers=1",
    "zorilla.driver=folded\nzorilla.workers=2",
    "zorilla.driver=dedicated\nzorilla.workers=1",
    "zorilla.driver=dedicated\nzorilla.workers=2",
];

#[test]
fn what_was_acknowledged_survives_kill_9_and_an_orderly_stop() {
    for arrangement in ARRANGEMENTS {
        println!("{arrangement}");
        let scratch = Scratch::new("kill");
        let data = scratch.join("data");
        let server = Server::start(&scratch, &data, arrangement);
        let mut writer = server.connect();
        let mut watcher = server.connect();
        writer.create("/a", b"0", 0).expect("created");
        let watched = Request::GetData(PathWatchRequest { path: Some("/a".into()), watch: true });
        assert_eq!(watcher.ask(watched).code, 0);
        for number in 1..=20 {
            assert_eq!(writer.set("/a", format!("{number}").as_bytes()), 0);
        }
        let event = watcher.reply().expect("an event");
        assert_eq!(event.xid, XID_NOTIFICATION);
        let event = WatcherEvent::decode(&mut Reader::new(&event.body)).expect("an event's record");
        assert_eq!((event.kind, &*event.path), (3, "/a"));
        assert_eq!(writer.create("/a/s-", b"", 2).as_deref(), Ok("/a/s-0000000000"));
        assert_eq!(writer.create("/a/e", b"mine", 1).as_deref(), Ok("/a/e"));
        let session = writer.session;
        server.kill();

        let server = Server::start(&scratch, &data, arrangement);
        server.says("(not closed in order");
        let mut reader = server.connect();
        assert_eq!(reader.get("/a"), Ok((b"20".to_vec(), 20)));
        assert_eq!(reader.get("/a/e"), Ok((b"mine".to_vec(), 0)), "its session may come back");
        assert_eq!(reader.create("/a/s-", b"", 2).as_deref(), Ok("/a/s-0000000002"), "no number is given out twice");
        let mut writer = server.resume(session).expect("the session goes on");
        assert_eq!(writer.get("/a/e"), Ok((b"mine".to_vec(), 0)));
        assert_eq!(writer.close(), 0);
        assert_eq!(reader.get("/a/e"), NO_NODE, "an ephemeral ends with its session");
        assert!(server.resume(session).is_err(), "a closed session is not valid");
        let (status, said) = server.terminate();
        assert_eq!(status.code(), Some(0), "{said}");

        let server = Server::start(&scratch, &data, arrangement);
        server.says("(closed in order");
        let mut reader = server.connect();
        assert_eq!(reader.get("/a"), Ok((b"20".to_vec(), 20)));
        assert_eq!(reader.get("/a/e"), NO_NODE);
        assert_eq!(reader.get("/a/s-0000000002"), Ok((vec![], 0)));
    }
}

/// The value of a counter.
fn counter(server: &Server, name: &str) -> u64 {
    let text = server.word("mntr");
    let value = text.lines().find_map(|line| line.strip_prefix("zk_")?.strip_prefix(name)?.strip_prefix('\t'));
    value.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().expect("a number")
}

/// Waits until a counter is as large.
fn reaches(server: &Server, name: &str, least: u64) {
    let begun = Instant::now();
    while counter(server, name) < least {
        assert!(begun.elapsed() < PATIENCE, "{name} is {} after a minute", counter(server, name));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_start_maps_the_state_and_replays_only_the_tail_of_the_log() {
    for arrangement in [ARRANGEMENTS[0], ARRANGEMENTS[3]] {
        println!("{arrangement}");
        let scratch = Scratch::new("snapshots");
        let data = scratch.join("data");
        let more = format!("zorilla.snapshot.txns=50\npreAllocSize=8192\n{arrangement}");
        let server = Server::start(&scratch, &data, &more);
        let mut conn = server.connect();
        let mut owner = server.connect();
        owner.create("/mine", b"", 1).expect("created");
        conn.create("/n", b"", 0).expect("created");
        for number in 0..600 {
            conn.create(&format!("/n/{number}"), format!("{number}").as_bytes(), 0).expect("created");
            assert_eq!(conn.set("/n", format!("{number}").as_bytes()), 0);
        }
        reaches(&server, "zorilla_flushes", 3);
        reaches(&server, "zorilla_merges", 1);
        for number in 0..600 {
            let (value, version) = conn.get(&format!("/n/{number}")).expect("it is there");
            assert_eq!((value, version), (format!("{number}").into_bytes(), 0), "{number}");
        }
        let session = owner.session;
        server.kill();

        let server = Server::start(&scratch, &data, &more);
        // The port is open before the line is written.
        server.says("replica ");
        let said = server.text();
        let words: Vec<&str> = said.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "then").expect("it says what was replayed");
        let replayed: u64 = words[at + 1].parse().expect("a number");
        assert!(replayed < 900 && !said.contains("state 0x0,"), "{said}");
        let mut conn = server.connect();
        for number in 0..600 {
            assert_eq!(conn.get(&format!("/n/{number}")).expect("it is there").0, format!("{number}").as_bytes());
        }
        assert_eq!(conn.get("/n").expect("it is there"), (b"599".to_vec(), 600));
        // The session and its znode were in a run.
        assert_eq!(conn.get("/mine").expect("its session lives"), (vec![], 0));
        let owner = server.resume(session).expect("the session is valid");
        assert_eq!(owner.close(), 0);
        assert_eq!(conn.get("/mine"), NO_NODE);
    }
}

#[test]
fn a_state_that_is_damaged_or_missing_is_refused_by_name() {
    let scratch = Scratch::new("damaged");
    let data = scratch.join("data");
    let server = Server::start(&scratch, &data, "zorilla.snapshot.quietMs=50");
    let mut conn = server.connect();
    for number in 0..60 {
        conn.create(&format!("/{number}"), b"x", 0).expect("created");
    }
    // A head that the log does not name yet may be passed over: everything must be settled.
    reaches(&server, "zorilla_flushes", 1);
    while counter(&server, "zorilla_overlay_entries") != 0 || counter(&server, "zorilla_frozen_entries") != 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, said) = server.terminate();
    assert!(status.success(), "{said}");
    let state = data.join("zorilla-state");
    let of = |kind: &str| {
        let entries = std::fs::read_dir(&state).expect("the state's folder").map(|entry| entry.expect("a file").path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().contains(kind)).collect();
        files.sort();
        files.pop().expect("there is one")
    };
    for kind in ["head.", "run."] {
        let file = of(kind);
        let name = file.file_name().expect("a name").to_str().expect("in UTF-8");
        let good = std::fs::read(&file).expect("a file");
        let mut bad = good.clone();
        bad[16] ^= 1;
        std::fs::write(&file, &bad).expect("it can be damaged");
        let cfg = zoo_cfg(&scratch, &data, free_port(), "");
        refused(&scratch, &cfg, 3, &[name, "backup"]);
        std::fs::remove_file(&file).expect("it can be removed");
        refused(&scratch, &cfg, 3, &[name, "backup"]);
        std::fs::write(&file, &good).expect("it can be put back");
    }
    let server = Server::start(&scratch, &data, "");
    assert!(server.connect().get("/59").is_ok(), "nothing was changed by the refusals");
}

#[test]
fn a_disk_without_room_for_the_state_keeps_nobody_from_writing() {
    let scratch = Scratch::new("full-state");
    let mount = scratch.join("disk");
    let _mounted = Mounted::tmpfs(&mount, "size=2m");
    let log = scratch.join("log");
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1; (2 << 20) - (16 << 10)]).expect("ballast");
    let more = format!("dataLogDir={}\nzorilla.snapshot.txns=50", log.display());
    let server = Server::start(&scratch, &mount.join("data"), &more);
    let mut conn = server.connect();
    let mut numbers = 0..;
    while counter(&server, "zorilla_flushes_given_up") == 0 {
        let number = numbers.next().expect("numbers do not end");
        conn.create(&format!("/{number}"), &[7; 300], 0).expect("it is written all the same");
    }
    server.says("tried again every");
    std::fs::remove_file(&ballast).expect("the ballast goes");
    reaches(&server, "zorilla_flushes", 1);
    server.says("can be written to");
    let last = format!("/{}", numbers.next().expect("numbers do not end") - 1);
    server.kill();
    let server = Server::start(&scratch, &mount.join("data"), &more);
    assert_eq!(server.connect().get(&last).expect("acknowledged, so it is there").0, [7; 300]);
}

#[test]
fn a_stop_answers_what_is_under_way() {
    let scratch = Scratch::new("stop");
    let data = scratch.join("data");
    let server = Server::start(&scratch, &data, "");
    let mut conn = server.connect();
    conn.create("/n", b"", 0).expect("created");
    let payload = vec![7; 1000];
    for _ in 0..500 {
        conn.send([set("/n", &payload)]);
    }
    let (status, said) = server.terminate();
    assert_eq!(status.code(), Some(0), "{said}");
    let mut acknowledged = 0;
    while let Ok(reply) = conn.reply() {
        assert_eq!(reply.code, 0);
        acknowledged += 1;
    }
    let server = Server::start(&scratch, &data, "");
    let (_, version) = server.connect().get("/n").expect("the znode is there");
    assert_eq!(version, acknowledged, "what is in the log was answered, and the other way round");
}

/// A start that has to fail: its exit code, and what stands on standard error.
fn refused(scratch: &Arc<Scratch>, cfg: &Path, code: i32, words: &[&str]) {
    // Ends with this function if it does not by itself.
    let mut server = Server::spawn(scratch, cfg, 0);
    println!("{}", std::fs::read_to_string(cfg).unwrap_or_default());
    let status = wait(&mut server.child);
    let said = std::fs::read_to_string(server.out.join("stderr")).expect("standard error");
    assert_eq!(status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_start_that_cannot_succeed_says_why() {
    let scratch = Scratch::new("refused");
    let data = scratch.join("data");
    let server = Server::start(&scratch, &data, "");
    // The directory is in use.
    let cfg = zoo_cfg(&scratch, &data, free_port(), "");
    refused(&scratch, &cfg, 3, &[data.to_str().expect("a path in UTF-8")]);
    // The port is.
    let cfg = zoo_cfg(&scratch, &scratch.join("other"), server.address.port(), "");
    refused(&scratch, &cfg, 1, &["Address already in use", &server.address.to_string()]);
    assert_eq!(server.word("ruok"), "imok", "the first server is not disturbed");

    // A file where the directory should be, and one where its parent should be.
    let file = scratch.join("file");
    std::fs::write(&file, b"not a directory").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let cfg = zoo_cfg(&scratch, &path, free_port(), "");
        refused(&scratch, &cfg, 3, &[path.to_str().expect("a path in UTF-8")]);
    }
    assert_eq!(std::fs::read(&file).expect("the file"), b"not a directory");

    // A directory that cannot be written.
    let read_only = scratch.join("read-only");
    let _mounted = Mounted::tmpfs(&read_only, "ro,size=1m");
    let cfg = zoo_cfg(&scratch, &read_only, free_port(), "");
    refused(&scratch, &cfg, 3, &[read_only.to_str().expect("a path in UTF-8"), "Read-only"]);

    // Values that make no sense.
    for (line, words) in [
        ("tickTime=1O", &["tickTime", "1O", "line"][..]),
        ("maxClientCnxns=many", &["maxClientCnxns", "many"]),
        ("minSessionTimeout=9000\nmaxSessionTimeout=8000", &["SessionTimeout", "9000"]),
        ("zorilla.driver=turbo", &["zorilla.driver", "turbo"]),
        ("zorilla.workers=0", &["zorilla.workers", "0"]),
        ("preAllocSize=64M", &["preAllocSize", "64M"]),
    ] {
        let cfg = zoo_cfg(&scratch, &scratch.join("never"), free_port(), line);
        refused(&scratch, &cfg, 2, words);
    }
    refused(&scratch, &scratch.join("missing.cfg"), 2, &["missing.cfg"]);
    assert!(!scratch.join("never").exists(), "a refused configuration leaves nothing behind");
}

#[test]
fn four_letter_words() {
    let scratch = Scratch::new("words");
    let server = Server::start(&scratch, &scratch.join("data"), "");
    let mut conn = server.connect();
    conn.create("/w", b"x", 0).expect("created");
    assert_eq!(server.word("ruok"), "imok");
    assert_eq!(server.word("isro"), "rw");
    let srvr = server.word("srvr");
    assert!(srvr.starts_with("Zookeeper version: ") && srvr.contains("Mode: standalone\n"), "{srvr}");
    assert!(srvr.contains("Zxid: 0x2\n") && srvr.contains("Node count: 6\n"), "{srvr}");
    let stat = server.word("stat");
    assert!(stat.contains("Clients:\n") && stat.contains("/127.0.0.1:"), "{stat}");
    let mntr = server.word("mntr");
    assert!(mntr.contains("zk_znode_count\t6\n") && mntr.contains("zk_server_state\tstandalone\n"), "{mntr}");
    let conf = server.word("conf");
    assert!(
        conf.contains(&format!("clientPort={}\n", server.address.port())) && conf.contains("tickTime=500"),
        "{conf}"
    );
    let dump = server.word("dump");
    assert!(dump.contains("dump is not executed because it is not in the whitelist."), "{dump}");
    assert_eq!(conn.get("/w"), Ok((b"x".to_vec(), 0)));
}

#[test]
fn frames_that_are_none_end_their_connection_and_no_other() {
    let scratch = Scratch::new("frames");
    let server = Server::start(&scratch, &scratch.join("data"), "zorilla.workers=2");
    let mut bystander = server.connect();
    bystander.create("/mine", b"1", 1).expect("created");
    let bad: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff, 1, 2, 3],
        &[0, 0x10, 0, 1],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 0],
    ];
    for bytes in bad {
        // Instead of a connect, and on an open session with a write under way.
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("bytes can be sent");
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
        assert!(ended.is_ok() || ended.is_err_and(|error| reset(&error)), "{bytes:x?} did not end the connection");
        assert!(rest.is_empty(), "{bytes:x?} instead of a connect was answered: {rest:x?}");

        let mut conn = server.connect();
        conn.send([set("/mine", b"2")]);
        conn.stream.write_all(bytes).expect("bytes can be sent");
        assert!(is_ended(&mut conn.stream), "{bytes:x?} did not end the connection");
        let back = server.resume(conn.session).expect("the session lives on");
        assert_eq!(back.close(), 0);
    }
    // Random bytes, and frames of random content.
    let mut state = 1u64;
    for round in 0..200 {
        let mut junk = Vec::new();
        for _ in 0..40 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            junk.extend((state >> 20).to_be_bytes());
        }
        if round % 2 == 0 {
            let bytes = (junk.len() - 4) as u32;
            junk[..4].copy_from_slice(&bytes.to_be_bytes());
        }
        match round % 4 {
            0 | 1 => {
                let mut stream = TcpStream::connect(server.address).expect("a connection");
                let _ = stream.write_all(&junk);
            }
            _ => {
                let mut conn = server.connect();
                let _ = conn.stream.write_all(&junk);
            }
        }
        assert_eq!(bystander.set("/mine", format!("{round}").as_bytes()), 0, "round {round}");
    }
    assert_eq!(bystander.get("/mine").expect("it is there").0, b"199");
    // A frame that never ends is no reason to wait for anybody else, nor to forget the session.
    let mut half = server.connect();
    half.stream.write_all(&[0, 0, 1, 0, 0, 0, 0, 9]).expect("half a frame can be sent");
    assert_eq!(bystander.set("/mine", b"end"), 0);
}

#[test]
fn a_client_that_hangs_up_is_answered_and_let_go_at_once() {
    let scratch = Scratch::new("hangup");
    let server = Server::start(&scratch, &scratch.join("data"), "4lw.commands.whitelist=ruok");
    // Bytes and their end in one packet: the end is announced with them, and never again.
    let mut word = TcpStream::connect(server.address).expect("a connection");
    word.write_all(b"ruok").expect("a word can be sent");
    word.shutdown(Shutdown::Write).expect("one side can be closed");
    let mut text = String::new();
    word.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "imok");
    let begun = Instant::now();
    for half_a_frame in [false, true] {
        let mut conn = server.connect();
        conn.create(&format!("/hangup-{half_a_frame}"), b"x", 0).expect("a znode");
        let mut out = Vec::new();
        get("/hangup-false").encode_frame(7, &mut out);
        let whole = out.len();
        if half_a_frame {
            out.extend_from_slice(&[0, 0, 0, 99, 1]);
        }
        conn.stream.write_all(&out).expect("a request can be sent");
        conn.stream.shutdown(Shutdown::Write).expect("one side can be closed");
        assert_eq!(conn.reply().expect("what was asked is answered").xid, 7, "after {whole} bytes");
        assert!(is_ended(&mut conn.stream));
    }
    let mut silent = TcpStream::connect(server.address).expect("a connection");
    silent.write_all(&[0, 0, 0, 44, 0, 0]).expect("half a connect can be sent");
    silent.shutdown(Shutdown::Write).expect("one side can be closed");
    assert_eq!(silent.read(&mut [0]).expect("the end"), 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "let go after {:?}", begun.elapsed());
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let scratch = Scratch::new("silent");
    let server = Server::start(&scratch, &scratch.join("data"), "");
    let begun = Instant::now();
    let mut silent = TcpStream::connect(server.address).expect("a connection");
    let mut half = TcpStream::connect(server.address).expect("a connection");
    half.write_all(&[0, 0, 0, 44, 0, 0]).expect("half a connect can be sent");
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    }
    let took = begun.elapsed();
    assert!(Duration::from_secs(9) < took && took < Duration::from_secs(21), "closed after {took:?}");
}

#[test]
fn a_slow_reader_slows_only_itself() {
    const BIG: usize = 512 << 10;
    const ASKED: usize = 600;
    for arrangement in ARRANGEMENTS {
        println!("{arrangement}");
        let scratch = Scratch::new("slow");
        let server = Server::start(&scratch, &scratch.join("data"), arrangement);
        let mut bystander = server.connect();
        bystander.create("/big", &vec![0x42; BIG], 0).expect("created");
        bystander.create("/small", b"", 0).expect("created");
        let before_mib = server.rss_mib();
        // 300 MiB of answers that nobody takes. The requests fit the socket's buffers.
        let mut slow = server.connect();
        for _ in 0..ASKED {
            slow.send([get("/big")]);
        }
        // Behind a write, reads travel with it and cannot be held back one by one.
        let mut slower = server.connect();
        for _ in 0..ASKED {
            slower.send([set("/small", b"x")]);
            slower.send([get("/big")]);
        }
        let mut most_mib = 0;
        for round in 0..100 {
            let begun = Instant::now();
            assert_eq!(bystander.set("/small", format!("{round}").as_bytes()), 0);
            assert!(bystander.get("/big").is_ok());
            assert!(begun.elapsed() < Duration::from_secs(5), "a bystander waited for {:?}", begun.elapsed());
            most_mib = server.rss_mib().max(most_mib);
            std::thread::sleep(Duration::from_millis(5));
        }
        let grown_mib = most_mib.saturating_sub(before_mib);
        println!("grew by {grown_mib} MiB");
        // What waits for one client, in a buffer that doubles as it grows, and what waits for its worker.
        let most_mib = (2 * OUTPUT_BYTES_MAX + MAILBOX_BYTES_MAX) as u64 >> 20;
        assert!(grown_mib < most_mib + 64, "the server grew by {grown_mib} MiB for two slow readers");
        // Who reads at last gets everything that was asked at once; the other may have been given up.
        for _ in 0..ASKED {
            let reply = slow.reply().expect("a reply");
            assert_eq!((reply.code, reply.body.len()), (0, 4 + BIG + 68));
        }
        let mut taken = 0;
        while taken < 2 * ASKED {
            let Ok(reply) = slower.reply() else { break };
            assert_eq!(reply.code, 0);
            taken += 1;
        }
        println!("the reader behind writes got {taken} of {} replies", 2 * ASKED);
        assert_eq!(bystander.set("/small", b"end"), 0);
    }
}

#[test]
fn many_slow_readers_share_what_there_is() {
    const BIG: usize = 900 << 10;
    let scratch = Scratch::new("many");
    let server = Server::start(&scratch, &scratch.join("data"), ARRANGEMENTS[0]);
    let mut bystander = server.connect();
    bystander.create("/big", &vec![0x42; BIG], 0).expect("created");
    bystander.create("/small", b"", 0).expect("created");
    let mut slow = Vec::new();
    // 40 clients that ask for 90 MiB each, and take nothing.
    for _ in 0..40 {
        let mut conn = server.connect();
        for _ in 0..100 {
            conn.send([set("/small", b"x")]);
            conn.send([get("/big")]);
        }
        slow.push(conn);
    }
    let mut most_mib = 0;
    for round in 0..200 {
        assert_eq!(bystander.set("/small", format!("{round}").as_bytes()), 0);
        most_mib = server.rss_mib().max(most_mib);
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("40 slow readers: {most_mib} MiB");
    assert!(most_mib < 900, "the server grew to {most_mib} MiB for 3,600 MiB that nobody takes");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    for arrangement in [ARRANGEMENTS[0], ARRANGEMENTS[3]] {
        println!("{arrangement}");
        let scratch = Scratch::new("full");
        let mount = scratch.join("disk");
        let mounted = Mounted::tmpfs(&mount, "size=44m");
        // What is freed later. Three segments of 8 MiB fit beside it, a fourth does not.
        let ballast = mount.join("ballast");
        std::fs::write(&ballast, vec![1; 16 << 20]).expect("ballast");
        let data = mount.join("data");
        let more = format!("preAllocSize=8192\n{arrangement}");
        let server = Server::start(&scratch, &data, &more);
        let mut conn = server.connect();
        let mut leaving = server.connect();
        leaving.create("/mine", b"", 1).expect("created");
        conn.create("/n", b"", 0).expect("created");
        let payload = vec![0x37; 100 << 10];
        let mut acknowledged = Vec::new();
        let begun = Instant::now();
        // Fills the log until it is refused.
        let refused = loop {
            let path = format!("/n/{}", acknowledged.len());
            match conn.create(&path, &payload, 0) {
                Ok(path) => acknowledged.push(path),
                Err(code) => break code,
            }
            assert!(begun.elapsed() < PATIENCE && acknowledged.len() < 1000, "the disk never filled");
        };
        println!("{} writes of 100 KiB until the disk was full", acknowledged.len());
        assert_eq!(refused, Code::SystemError.raw());
        assert!(60 < acknowledged.len(), "refused with {} writes in the log", acknowledged.len());
        server.says("no space for the log");
        // Reads go on, sessions may end, and small writes are refused like large ones.
        assert_eq!(conn.get("/n/0").expect("it is there").0, payload);
        assert_eq!(conn.set("/n", b"small"), Code::SystemError.raw());
        assert_eq!(conn.get("/n"), Ok((vec![], 0)));
        assert_eq!(leaving.close(), 0);
        assert_eq!(conn.get("/mine"), NO_NODE);
        assert!(server.resume(Session::NEW).is_err(), "a new session would be a write");
        assert_eq!(server.word("ruok"), "imok");

        // With room again, service resumes by itself.
        std::fs::remove_file(&ballast).expect("the ballast goes");
        let begun = Instant::now();
        while conn.set("/n", b"again") != 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "writes did not resume: {}", server.text());
            std::thread::sleep(Duration::from_millis(20));
        }
        let late = server.connect().create("/late", &payload, 0);
        assert_eq!(late.as_deref(), Ok("/late"));
        server.kill();

        let server = Server::start(&scratch, &data, &more);
        let mut reader = server.connect();
        for path in &acknowledged {
            assert_eq!(reader.get(path).expect("acknowledged, so it is there").0, payload, "{path}");
        }
        assert_eq!(reader.get("/n").expect("it is there"), (b"again".to_vec(), 1));
        assert!(reader.get("/late").is_ok());
        assert_eq!(reader.get("/mine"), NO_NODE);
        assert_eq!(reader.get(&format!("/n/{}", acknowledged.len())), NO_NODE, "a refused write did not happen");
        drop(server);
        drop(mounted);
    }
}
