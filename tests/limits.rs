//! The limits that operators set, as clients of a real server run into them.

mod common {
    pub mod client;
    pub mod observe;
    pub mod scratch;
    pub mod server;
    pub mod wire;
}

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use common::client::{Client, Session, get, set};
use common::scratch::Scratch;
use common::server::{PATIENCE, Server};
use zorilla_proto::client::{PathWatchRequest, Request};
use zorilla_proto::code::Code;
use zorilla_proto::ids::SessionId;

/// One worker with the replica, and several with a replica of its own.
const ARRANGEMENTS: [&str; 2] =
    ["zorilla.driver=folded\nzorilla.workers=1\n", "zorilla.driver=dedicated\nzorilla.workers=3\n"];

impl Server {
    fn start(lines: &str) -> Server {
        let home = Scratch::new("limits");
        let lines = format!("preAllocSize=8192\n4lw.commands.whitelist=mntr,ruok\n{lines}");
        Server::launch(&home, &home.join("data"), &lines)
    }

    fn session(&self) -> Client {
        self.resume(Session::NEW).expect("a session")
    }

    fn resume(&self, session: Session) -> io::Result<Client> {
        Client::begin(self.socket(), session, 10_000)
    }

    /// A value that `mntr` prints.
    fn mntr(&self, key: &str) -> String {
        let text = self.word("mntr");
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("zk_{key}\t")).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no zk_{key} in {text}"))
    }

    /// Waits until `mntr` prints this.
    #[track_caller]
    fn counts(&self, key: &str, value: &str) {
        let begun = Instant::now();
        while self.mntr(key) != value {
            assert!(begun.elapsed() < PATIENCE, "zk_{key} is {}, not {value}", self.mntr(key));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Client {
    /// How often a znode was written.
    fn version(&mut self, path: &str) -> i32 {
        let reply = self.ask(Request::Exists(PathWatchRequest { path: Some(path.into()), watch: false }));
        // Behind czxid, mzxid, ctime and mtime, each eight bytes.
        i32::from_be_bytes(reply.body[32..36].try_into().expect("four bytes"))
    }
}

/// Whether the server ends this connection without a byte.
#[track_caller]
fn assert_closed_silently(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}"),
    }
    assert!(rest.is_empty(), "closed with {} bytes: {rest:x?}", rest.len());
}

#[test]
fn more_connections_than_max_cnxns_are_closed_without_a_byte() {
    for arrangement in ARRANGEMENTS {
        let server = Server::start(&format!("{arrangement}maxCnxns=3"));
        let begun = Instant::now();
        // The connection that found the port open may not be gone yet.
        let mut held = Vec::new();
        while held.len() < 2 {
            assert!(begun.elapsed() < PATIENCE, "{}", server.text());
            held.extend(server.resume(Session::NEW));
        }
        let third = server.socket();
        // Four-letter words take a connection as well.
        let mut fourth = server.socket();
        let _ = fourth.write_all(b"ruok");
        assert_closed_silently(fourth);
        assert_closed_silently(server.socket());
        drop(third);
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "a place that became free is not given out");
            if server.resume(Session::NEW).is_ok() {
                break;
            }
        }
        for client in &mut held {
            assert_eq!(client.get("/").err(), None, "who is connected is not disturbed");
        }
    }
}

#[test]
fn connecting_without_a_token_is_closed_without_an_answer() {
    for arrangement in ARRANGEMENTS {
        let server = Server::start(&format!(
            "{arrangement}connection_throttle_tokens=2\nconnection_throttle_fill_time=1000000\n\
             connection_throttle_weight_enabled=true\nconnection_throttle_global_session_weight=3\n\
             connection_throttle_renew_session_weight=2\nconnection_throttle_freeze_time=1\n\
             connection_throttle_drop_increase=0.5"
        ));
        // Six tokens: one new session, one that comes back, and one is left, too few for either.
        let first = server.session();
        let session = first.session;
        let mut back = server.resume(session).expect("it comes back");
        for session in [Session::NEW, session] {
            let error = server.resume(session).err().expect("there is no token");
            let kinds = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
            assert!(kinds.contains(&error.kind()), "{error}");
        }
        assert_eq!(back.get("/").err(), None);
        // Words take none.
        server.counts("connection_rejected", "2");
        assert_eq!(server.mntr("connection_request_count"), "2");
        assert_eq!(server.mntr("connection_revalidate_count"), "1");
        assert_eq!(server.mntr("max_connection_token_deficit"), "5");
        assert_eq!(server.mntr("cnt_connection_token_deficit"), "2");
        assert_eq!(server.mntr("connection_drop_probability"), "0.0", "the bucket is not empty");
    }
}

#[test]
fn a_connection_without_a_session_is_closed_after_the_time_that_was_set() {
    let server = Server::start("nio.sessionlessCnxnTimeout=400");
    let mut client = server.session();
    let begun = Instant::now();
    let silent = server.socket();
    let mut half = server.socket();
    half.write_all(&[0, 0, 0, 44, 0, 0]).expect("half a connect can be sent");
    assert_closed_silently(silent);
    assert_closed_silently(half);
    let took = begun.elapsed();
    assert!(Duration::from_millis(390) < took && took < Duration::from_secs(5), "closed after {took:?}");
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(client.get("/").err(), None, "a session may be silent for longer");
}

#[test]
fn a_client_that_vanishes_loses_connection_and_session_after_its_timeout() {
    let server = Server::start("maxSessionTimeout=1000");
    let mut client = server.session();
    let begun = Instant::now();
    // Nothing more is sent, and the connection stays open: so it looks when a network is cut.
    assert_eq!(client.stream.read(&mut [0]).expect("the end"), 0);
    let took = begun.elapsed();
    assert!(Duration::from_millis(990) < took && took < Duration::from_secs(10), "closed after {took:?}");
    let back = server.resume(client.session).expect("an answer");
    assert_eq!(back.session.id, SessionId::NONE, "the session has expired");
}

#[test]
fn a_deep_pipeline_and_others_are_served_within_the_outstanding_limit() {
    for arrangement in ARRANGEMENTS {
        for limit in ["0", "1", "50"] {
            let server = Server::start(&format!("{arrangement}globalOutstandingLimit={limit}"));
            let (mut deep, mut other) = (server.session(), server.session());
            deep.create("/deep", b"", 0).expect("created");
            other.create("/other", b"", 0).expect("created");
            const MANY: i32 = 2000;
            deep.send((0..MANY).map(|at| if at % 4 == 3 { get("/deep") } else { set("/deep", b"x") }));
            for round in 1..=50 {
                assert_eq!(other.set("/other", b"y"), 0, "round {round}");
            }
            for xid in 2..MANY + 2 {
                let reply = deep.reply().expect("a reply");
                assert_eq!((reply.xid, reply.code), (xid, 0), "{arrangement} {limit}");
            }
            assert_eq!((deep.version("/deep"), deep.version("/other")), (MANY / 4 * 3, 50));
        }
    }
}

#[test]
fn requests_that_waited_too_long_are_answered_throttledop_in_order_and_leave_no_trace() {
    const MANY: usize = 3000;
    for arrangement in ARRANGEMENTS {
        let server = Server::start(&format!("{arrangement}request_throttle_max_requests=1\nthrottled_op_wait_time=5"));
        let mut client = server.session();
        client.create("/n", b"", 0).expect("created");
        client.send((0..MANY).map(|at| if at % 10 == 9 { Request::Ping } else { set("/n", b"x") }));
        let (mut done, mut throttled, mut zxid_last) = (0, 0, 0);
        for at in 0..MANY {
            let reply = client.reply().expect("a reply");
            if at % 10 == 9 {
                assert_eq!((reply.xid, reply.code), (-2, 0), "a ping is always answered");
                continue;
            }
            assert_eq!(reply.xid, at as i32 + 2);
            if reply.code == 0 {
                done += 1;
                assert_eq!(reply.zxid, zxid_last.max(reply.zxid));
                zxid_last = reply.zxid;
            } else {
                assert_eq!((reply.code, reply.body.len()), (Code::ThrottledOp.raw(), 0));
                assert!(reply.zxid <= zxid_last.max(2), "it took a zxid");
                throttled += 1;
            }
        }
        assert!(0 < done && 0 < throttled, "{done} done, {throttled} throttled");
        assert_eq!(client.version("/n"), done, "what was refused was not executed, and nothing else was");
        server.counts("throttled_ops", &throttled.to_string());
        println!("{done} done, {throttled} throttled");
        assert_eq!(client.close(), 0);
    }
}

#[test]
fn what_waits_for_room_is_dropped_with_its_client_or_executed_as_the_operator_says() {
    const MANY: i32 = 2000;
    for arrangement in ARRANGEMENTS {
        for keep in [false, true] {
            let check = if keep { "request_stale_connection_check=false" } else { "" };
            let server = Server::start(&format!("{arrangement}request_throttle_max_requests=1\n{check}"));
            let (mut watcher, mut leaving) = (server.session(), server.session());
            watcher.create("/n", b"", 0).expect("created");
            // Fits what the server reads while the first one waits.
            leaving.send((0..MANY / 2).map(|_| set("/n", b"")));
            leaving.stream.shutdown(Shutdown::Write).expect("one side can be closed");
            let mut answered = 0;
            while leaving.reply().is_ok() {
                answered += 1;
            }
            let version = watcher.version("/n");
            assert_eq!(version, answered, "what was executed was answered");
            if keep {
                assert_eq!(answered, MANY / 2);
            }
            let dropped = if answered < MANY / 2 { "1" } else { "0" };
            server.counts("stale_requests_dropped", dropped);
            println!("{arrangement:?} {keep}: {answered} of {}", MANY / 2);
        }
    }
}

#[test]
fn many_clients_get_their_turn_while_few_requests_are_in_process() {
    for arrangement in ARRANGEMENTS {
        let server = Server::start(&format!("{arrangement}request_throttle_max_requests=2"));
        let mut clients: Vec<_> = (0..8).map(|_| server.session()).collect();
        clients[0].create("/n", b"", 0).expect("created");
        clients[0].send((0..3000).map(|_| set("/n", b"x")));
        let begun = Instant::now();
        for client in &mut clients[1..] {
            for _ in 0..10 {
                assert_eq!(client.set("/n", b"y"), 0);
            }
        }
        println!("{arrangement:?}: 70 writes beside a flood took {:?}", begun.elapsed());
        for _ in 0..3000 {
            assert_eq!(clients[0].reply().expect("a reply").code, 0);
        }
    }
}

#[test]
fn large_requests_beyond_their_budget_close_their_connection() {
    let server = Server::start("largeRequestThreshold=1000\nlargeRequestMaxBytes=100000");
    let mut client = server.session();
    client.create("/n", b"", 0).expect("created");
    for _ in 0..20 {
        assert_eq!(client.set("/n", &[1; 60_000]), 0, "one after the other they fit");
        assert_eq!(client.set("/n", &[1; 500]), 0);
    }
    let bystander = server.session();
    let mut flood = server.session();
    let big = vec![2; 60_000];
    // Written by another thread, for the connection may be closed before all is sent.
    let mut stream = flood.stream.try_clone().expect("another handle");
    let writer = std::thread::spawn(move || {
        let mut out = Vec::new();
        (0..200).for_each(|xid| set("/n", &big).encode_frame(xid, &mut out));
        let _ = stream.write_all(&out);
    });
    while flood.reply().is_ok() {}
    writer.join().expect("the writer ends");
    drop(bystander);
    assert_eq!(server.mntr("large_requests_rejected"), "1");
    // More than all together may have is refused by its length alone.
    client.stream.write_all(&100_001i32.to_be_bytes()).expect("a length can be sent");
    assert_closed_silently(client.stream);
    server.counts("large_requests_rejected", "2");
    let mut client = server.session();
    assert_eq!(client.set("/n", &[3; 99_900]), 0, "everything was given back");
}

#[test]
fn connections_that_end_are_counted() {
    let server = Server::start("");
    let before: u64 = server.mntr("connection_drop_count").parse().expect("a number");
    for _ in 0..5 {
        drop(server.session());
    }
    let begun = Instant::now();
    // The connections of the words themselves end in order.
    while server.mntr("connection_drop_count").parse::<u64>().expect("a number") < before + 5 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.mntr("connection_drop_count"));
    }
}

#[test]
fn an_idle_connection_with_a_session_costs_less_than_ten_kib() {
    // With those of this process they fit the thousand descriptors that a shell allows.
    const MANY: u64 = 700;
    let server = Server::start("zorilla.driver=folded\nzorilla.workers=1\nmaxSessionTimeout=60000");
    // Warm: what the first ones bring is not theirs alone.
    let mut held: Vec<_> = (0..100).map(|_| server.session()).collect();
    let before_kib = server.memory_kib("RssAnon");
    for _ in 0..MANY {
        held.push(server.session());
    }
    // Every one has been used, not only opened.
    for client in &mut held {
        client.send((0..20).map(|_| get("/zookeeper")));
    }
    for client in &mut held {
        for _ in 0..20 {
            assert_eq!(client.reply().expect("a reply").code, 0);
        }
    }
    let grown_kib = server.memory_kib("RssAnon") - before_kib;
    println!("an idle connection: {} bytes", grown_kib * 1024 / MANY);
    assert!(grown_kib <= 10 * MANY, "{MANY} idle connections cost {grown_kib} KiB");
}
