//! Workers that are held to limits. The test is the replica: it says when a request is completed.

use std::collections::VecDeque;

use zorilla_proto::client::{PathRequest, PathWatchRequest, Request, SetDataRequest};

use super::mailbox::{Item, Piece, Posted};
use super::*;
use crate::limits::{INPUT_BYTES_FAIR, INPUT_BYTES_WORKER_MAX, INPUT_SPARE_BYTES_MAX, OUTPUT_BYTES_MAX};
use crate::settings;
use crate::store::Replay;
use crate::wake::{Bell, Sleeper};

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

const TIMEOUT_MS: u32 = 6000;
const OK: i32 = 0;
const THROTTLED: i32 = Code::ThrottledOp.raw();

/// One worker and the requests that it has posted and that were not completed.
struct Bench {
    worker: Worker,
    mailbox: Arc<Mailbox>,
    postbox: Arc<PostBox>,
    posted: VecDeque<Posted>,
    now: Now,
    sessions: i64,
}

fn gate() -> Arc<Gate> {
    Arc::new(Gate::new(Replay::new(1).finish(3000, Now { mono_ns: 0, wall_ms: 0 }).0))
}

fn bounds(change: impl FnOnce(&mut settings::Settings)) -> Bounds {
    let mut settings = settings::Settings::default();
    change(&mut settings);
    Bounds::new(&settings, 1000, 1)
}

fn throttle(limits: &mut settings::RequestLimits) {
    (limits.in_process_max, limits.stall_ms) = (1, 100);
}

impl Bench {
    fn new(change: impl FnOnce(&mut settings::Settings)) -> Bench {
        Bench::with(0, bounds(change))
    }

    fn with(index: u16, bounds: Bounds) -> Bench {
        let mailbox = Mailbox::new(Sleeper::new(Arc::new(Silent)), Zxid::ZERO, 1);
        let postbox = PostBox::new();
        let settings = Settings { bounds, ..Settings::default() };
        let worker = Worker::new(index, settings, gate(), mailbox.clone(), postbox.clone(), Arc::default(), 1);
        let now = Now { mono_ns: 1_000_000_000, wall_ms: 0 };
        Bench { worker, mailbox, postbox, posted: VecDeque::new(), now, sessions: 0 }
    }

    fn accept(&mut self) -> ConnId {
        self.worker.open("127.0.0.1:1".parse().unwrap(), self.now).unwrap()
    }

    /// A connection with a session.
    fn open(&mut self) -> ConnId {
        let conn = self.accept();
        self.turn(&[(conn, &connect())]);
        self.complete(1);
        assert_eq!(self.take_output(conn).len(), 40, "an answer to the connect");
        conn
    }

    /// One turn of a driver that would read these bytes.
    fn turn(&mut self, inputs: &[(ConnId, &[u8])]) {
        self.worker.begin(self.now);
        for (conn, bytes) in inputs {
            assert!(self.worker.wants_input(*conn), "the socket of {conn:?} is not read");
            self.worker.input(*conn, bytes);
        }
        self.worker.finish(true);
        self.worker.drain();
        while let Some(post) = self.postbox.pop() {
            self.posted.extend(post.requests.iter().filter(|posted| posted.ask.is_completed()));
            self.postbox.give_back(post);
        }
    }

    fn later(&mut self, ms: u64) {
        self.now.mono_ns += ms * 1_000_000;
    }

    /// Completes the oldest requests, and runs turns until nothing happens by itself.
    fn complete(&mut self, requests: usize) {
        for _ in 0..requests {
            let Posted { conn, xid, ask, .. } = self.posted.pop_front().expect("a request in process");
            let mut delivery = self.mailbox.blank();
            let (zxid, arrived_ns) = (Zxid::ZERO, self.now.mono_ns);
            delivery.items.push(match ask {
                Ask::Open { timeout_ms } => {
                    self.sessions += 1;
                    Item::Session { conn, session: SessionId::from_raw(self.sessions), attachment: 1, timeout_ms }
                }
                _ => {
                    let code = if let Ask::Answer { code } = ask { code } else { Code::Ok };
                    let body = Piece::since(0, &[]);
                    Item::Outcome { conn, xid, zxid, code, body, write: true, last: false, arrived_ns }
                }
            });
            self.mailbox.push(delivery);
            self.settle();
        }
    }

    fn settle(&mut self) {
        self.turn(&[]);
        for _ in 0..1000 {
            let mut other = false;
            for slot in 0..self.worker.core.connections.len() {
                let conn = ConnId(slot as u32);
                if self.worker.core.connections[slot].is_alive() && self.worker.is_finished(conn) {
                    self.worker.lost(conn);
                    other = true;
                }
            }
            if !self.is_busy() && !other {
                return;
            }
            self.turn(&[]);
        }
        panic!("the worker is busy for ever");
    }

    /// Whether the driver would not sleep, but for output that the test takes when it wants to.
    fn is_busy(&mut self) -> bool {
        while self.worker.next_dirty().is_some() {}
        self.worker.is_busy()
    }

    fn in_process(&self) -> Vec<(ConnId, i32)> {
        self.posted.iter().map(|posted| (posted.conn, posted.xid)).collect()
    }

    fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        let output = self.worker.output(conn).to_vec();
        self.worker.wrote(conn, output.len());
        output
    }

    /// The xids and codes of the replies that wait to be written.
    fn replies(&mut self, conn: ConnId) -> Vec<(i32, i32)> {
        let output = self.take_output(conn);
        let int = |at: usize| i32::from_be_bytes(output[at..at + 4].try_into().unwrap());
        let (mut at, mut replies) = (0, Vec::new());
        while at < output.len() {
            replies.push((int(at + 4), int(at + 16)));
            at += 4 + int(at) as usize;
        }
        replies
    }

    /// Whether the driver is to close the socket.
    fn is_closed(&self, conn: ConnId) -> bool {
        !self.worker.core.connections[conn.0 as usize].is_alive() || self.worker.is_finished(conn)
    }

    fn counted(&self, name: &str) -> u64 {
        let mut totals = crate::ops::metrics::Totals::default();
        self.worker.core.stats.add_to(&mut totals, &mut Stages::default());
        totals.counters().find(|(counter, _)| *counter == name).expect("a counter of this name").1
    }
}

fn connect() -> Vec<u8> {
    let mut out = 44i32.to_be_bytes().to_vec();
    out.extend([0; 12]);
    out.extend((TIMEOUT_MS as i32).to_be_bytes());
    out.extend([0; 8]);
    out.extend(16i32.to_be_bytes());
    out.extend([0; 16]);
    out
}

fn frames(requests: &[(i32, &Request<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (xid, request) in requests {
        request.encode_frame(*xid, &mut out);
    }
    out
}

/// Writes with these xids.
fn sets(xids: std::ops::RangeInclusive<i32>) -> Vec<u8> {
    xids.flat_map(|xid| frames(&[(xid, &set(b""))])).collect()
}

fn set(data: &[u8]) -> Request<'_> {
    Request::SetData(SetDataRequest { path: Some("/a".into()), data: Some(data), version: -1 })
}

fn exists() -> Request<'static> {
    Request::Exists(PathWatchRequest { path: Some("/".into()), watch: false })
}

// ---- globalOutstandingLimit ------------------------------------------------------------------------------

#[test]
fn beyond_the_outstanding_limit_only_connections_with_nothing_in_process_are_read() {
    let mut bench = Bench::new(|settings| settings.limits.outstanding_max = Some(2));
    let (deep, shallow) = (bench.open(), bench.open());
    bench.turn(&[(deep, &sets(1..=6))]);
    assert_eq!(bench.in_process(), [(deep, 1), (deep, 2), (deep, 3)]);
    assert!(!bench.worker.wants_input(deep) && !bench.is_busy() && bench.worker.waits_for_replica(deep));
    // Who has nothing in process is read, however crowded it is: no wait without an end.
    bench.turn(&[(shallow, &sets(1..=2))]);
    assert_eq!(bench.in_process()[3..], [(shallow, 1)]);
    // Four in process, then three: still crowded. Then two.
    bench.complete(1);
    assert_eq!(bench.in_process(), [(deep, 2), (deep, 3), (shallow, 1)]);
    bench.complete(1);
    assert_eq!(bench.posted.len(), 3);
    while !bench.posted.is_empty() {
        bench.complete(1);
    }
    assert_eq!(bench.replies(deep), (1..=6).map(|xid| (xid, OK)).collect::<Vec<_>>());
    assert_eq!(bench.replies(shallow), [(1, OK), (2, OK)]);
}

#[test]
fn a_client_that_sends_no_more_gets_what_it_asked_for_however_crowded_it_is() {
    let mut bench = Bench::new(|settings| settings.limits.outstanding_max = Some(2));
    let conn = bench.open();
    bench.turn(&[(conn, &sets(1..=9))]);
    bench.worker.hung_up(conn);
    bench.settle();
    assert!(!bench.is_closed(conn));
    while !bench.posted.is_empty() {
        bench.complete(1);
    }
    assert_eq!(bench.replies(conn), (1..=9).map(|xid| (xid, OK)).collect::<Vec<_>>());
    assert!(bench.is_closed(conn));
}

#[test]
fn without_a_limit_that_was_set_a_pipeline_is_taken_as_deep_as_our_own_bounds_allow() {
    let mut bench = Bench::new(|_| ());
    let conn = bench.open();
    bench.turn(&[(conn, &sets(1..=1000))]);
    assert_eq!(bench.posted.len(), 1000);
    bench.turn(&[(conn, &sets(1001..=1100))]);
    assert_eq!(bench.posted.len(), CONNECTION_PENDING_MAX as usize);
}

#[test]
fn the_outstanding_limit_counts_over_all_workers() {
    let bounds = bounds(|settings| settings.limits.outstanding_max = Some(2));
    let (mut one, mut other) = (Bench::with(0, bounds.clone()), Bench::with(1, bounds));
    let (deep, late) = (one.open(), other.open());
    one.turn(&[(deep, &sets(1..=9))]);
    other.turn(&[(late, &sets(1..=9))]);
    assert_eq!((one.posted.len(), other.posted.len()), (3, 1));
    one.complete(3);
    other.complete(1);
    assert_eq!(other.replies(late), [(1, OK)]);
}

// ---- the request throttler -------------------------------------------------------------------------------

#[test]
fn requests_wait_in_the_order_of_their_connection_and_connections_take_turns() {
    let mut bench = Bench::new(|settings| throttle(&mut settings.limits));
    let (deep, other) = (bench.open(), bench.open());
    bench.turn(&[(deep, &sets(1..=3)), (other, &sets(1..=1))]);
    assert_eq!(bench.in_process(), [(deep, 1)]);
    assert!(!bench.is_busy(), "nothing can be done before one is completed");
    assert_eq!(bench.worker.deadline_ms(), bench.now.mono_ms() + 100, "but it is looked after");
    assert!(bench.worker.wants_input(deep), "it is read on, to see when requests come and whether the client is there");
    bench.complete(1);
    assert_eq!(bench.in_process(), [(deep, 2)]);
    bench.complete(1);
    assert_eq!(bench.in_process(), [(other, 1)], "its turn, although the other was first with a third");
    // A read waits as well, and one that comes late does not go ahead of those that wait.
    let third = bench.open_waiting();
    bench.turn(&[(other, &frames(&[(2, &exists())]))]);
    bench.complete(1);
    assert_eq!(bench.in_process(), [(deep, 3)]);
    bench.complete(1);
    assert_eq!(bench.in_process(), [(third, 0)], "a ConnectRequest waits like the others");
    bench.complete(1);
    assert_eq!(bench.replies(deep), [(1, OK), (2, OK), (3, OK)]);
    assert_eq!(bench.replies(other), [(1, OK), (2, OK)]);
    assert_eq!(bench.counted("throttled_ops"), 0);
}

impl Bench {
    /// A connection whose ConnectRequest waits.
    fn open_waiting(&mut self) -> ConnId {
        let conn = self.accept();
        self.turn(&[(conn, &connect())]);
        assert!(self.posted.iter().all(|posted| posted.conn != conn));
        conn
    }
}

#[test]
fn what_waited_too_long_is_answered_throttledop_in_its_place_and_not_executed() {
    let mut bench = Bench::new(|settings| {
        throttle(&mut settings.limits);
        settings.limits.throttled_wait_ms = 50;
    });
    let conn = bench.open();
    bench.turn(&[(conn, &sets(1..=2))]);
    bench.later(20);
    bench.turn(&[(conn, &frames(&[(3, &exists()), (-2, &Request::Ping)]))]);
    // One whose last byte comes late waits only from then on.
    let whole = sets(4..=4);
    bench.turn(&[(conn, &whole[..20])]);
    bench.later(40);
    bench.turn(&[(conn, &whole[20..])]);
    bench.turn(&[(conn, &frames(&[(5, &Request::CloseSession)]))]);
    bench.later(1);
    bench.complete(1);
    // 61 ms for the second, 41 for the third: the one is throttled, the others are served.
    assert_eq!(bench.in_process(), [(conn, 4)]);
    assert_eq!(bench.replies(conn), [(1, OK), (2, THROTTLED), (3, OK), (-2, OK)]);
    assert_eq!(bench.counted("throttled_ops"), 1);
    bench.later(60);
    bench.complete(1);
    assert_eq!(bench.in_process(), [(conn, 5)], "the end of a session is never refused");
    assert_eq!(bench.counted("throttled_ops"), 1);
}

#[test]
fn a_credential_does_not_wait() {
    use zorilla_proto::client::AuthPacket;
    let mut bench = Bench::new(|settings| throttle(&mut settings.limits));
    let (conn, other) = (bench.open(), bench.open());
    bench.turn(&[(other, &sets(1..=1))]);
    let packet = AuthPacket { kind: 0, scheme: Some("digest".into()), auth: Some(b"u:p") };
    bench.turn(&[(conn, &frames(&[(-4, &Request::Auth(packet)), (1, &set(b""))]))]);
    assert_eq!(bench.replies(conn), [(-4, OK)]);
    assert_eq!(bench.in_process(), [(other, 1)]);
}

#[test]
fn requests_whose_client_has_gone_are_dropped_unless_the_operator_wants_them_executed() {
    for (drop_stale, check, executed, dropped, passed) in
        [(true, true, 1, 1, 0), (true, false, 3, 0, 0), (false, true, 3, 0, 2), (false, false, 3, 0, 0)]
    {
        let mut bench = Bench::new(|settings| {
            throttle(&mut settings.limits);
            (settings.limits.drop_stale, settings.limits.stale_connection_check) = (drop_stale, check);
        });
        let conn = bench.open();
        bench.turn(&[(conn, &sets(1..=3))]);
        bench.worker.hung_up(conn);
        bench.settle();
        assert!(!bench.is_busy() && !bench.is_closed(conn), "the first is in process and will be answered");
        let mut completed = 0;
        while !bench.posted.is_empty() {
            bench.complete(1);
            completed += 1;
        }
        assert_eq!(completed, executed, "{drop_stale} {check}");
        assert_eq!(bench.replies(conn).len(), executed, "{drop_stale} {check}");
        assert!(bench.is_closed(conn));
        let counted = (bench.counted("stale_requests_dropped"), bench.counted("stale_requests"));
        assert_eq!(counted, (dropped, passed), "{drop_stale} {check}");
    }
}

#[test]
fn requests_that_waited_longer_than_their_session_lives_end_the_connection_if_that_is_checked() {
    for (drop_stale, check, ends, passed) in
        [(true, true, true, 0), (true, false, false, 0), (false, true, false, 1), (false, false, false, 0)]
    {
        let mut bench = Bench::new(|settings| {
            throttle(&mut settings.limits);
            (settings.limits.drop_stale, settings.limits.stale_latency_check) = (drop_stale, check);
        });
        let (busy, late) = (bench.open(), bench.open());
        bench.turn(&[(busy, &sets(1..=1)), (late, &sets(1..=1))]);
        bench.later(u64::from(TIMEOUT_MS));
        bench.settle();
        assert!(!bench.is_closed(late));
        bench.later(1);
        bench.settle();
        assert_eq!(bench.is_closed(late), ends, "{drop_stale} {check}");
        assert_eq!(bench.counted("stale_requests_dropped"), u64::from(ends));
        bench.complete(1);
        assert_eq!(bench.posted.len(), usize::from(!ends));
        assert_eq!(bench.counted("stale_requests"), passed, "{drop_stale} {check}");
    }
}

#[test]
fn intervals_of_waiting_are_counted() {
    let mut bench = Bench::new(|settings| throttle(&mut settings.limits));
    let conn = bench.open();
    bench.turn(&[(conn, &sets(1..=2))]);
    for _ in 0..10 {
        bench.later(50);
        bench.settle();
    }
    assert_eq!(bench.counted("request_throttle_wait_count"), 5);
    bench.complete(2);
    bench.later(500);
    bench.settle();
    assert_eq!(bench.counted("request_throttle_wait_count"), 5);
}

#[test]
fn a_worker_that_makes_room_tells_those_that_wait_for_it() {
    let bounds = bounds(|settings| throttle(&mut settings.limits));
    let (mut one, mut other) = (Bench::with(0, bounds.clone()), Bench::with(5, bounds));
    let (first, second) = (one.open(), other.open());
    one.worker.waiters_elsewhere();
    one.turn(&[(first, &sets(1..=1))]);
    other.turn(&[(second, &sets(1..=1))]);
    assert_eq!((one.posted.len(), other.posted.len()), (1, 0));
    assert_eq!(one.worker.waiters_elsewhere(), 0, "no room was made");
    one.complete(1);
    assert_eq!(one.worker.waiters_elsewhere(), 1 << 5);
    assert!(other.is_busy());
    other.settle();
    assert_eq!(other.posted.len(), 1);
    other.complete(1);
    assert_eq!(other.worker.waiters_elsewhere(), 0, "nobody waits any more");
}

#[test]
fn what_one_connection_lets_wait_is_bounded() {
    let mut bench = Bench::new(|settings| throttle(&mut settings.limits));
    let conn = bench.open();
    let mut taken = 0;
    while bench.worker.wants_input(conn) {
        bench.turn(&[(conn, &sets(1..=100))]);
        taken += 1;
    }
    let bytes = bench.worker.core.connections[conn.0 as usize].input.len();
    assert!((THROTTLED_INPUT_BYTES_MAX..THROTTLED_INPUT_BYTES_MAX + 8192).contains(&bytes), "{bytes}");
    assert!(!bench.is_busy());
    for _ in 0..100 * taken {
        bench.complete(1);
    }
    assert_eq!(bench.replies(conn).len(), 100 * taken);
    assert_eq!(bench.worker.core.connections[conn.0 as usize].input.capacity(), 0, "the buffer was given back");
}

// ---- large requests --------------------------------------------------------------------------------------

#[test]
fn large_requests_in_process_are_bounded_and_a_connection_that_exceeds_it_is_closed() {
    let mut bench = Bench::new(|settings| {
        (settings.limits.large_request_threshold, settings.limits.large_request_bytes_max) = (1000, 5000);
    });
    let (one, other) = (bench.open(), bench.open());
    let (small, large) = ([0; 900], [0; 2000]);
    // Small ones do not count, and large ones only while they are in process, also between small ones.
    bench.turn(&[(one, &frames(&[(1, &set(&small)), (2, &set(&large)), (3, &set(&small)), (4, &set(&large))]))]);
    assert_eq!(bench.posted.len(), 4);
    bench.turn(&[(other, &frames(&[(1, &set(&small)), (2, &set(&large))]))]);
    assert!(bench.is_closed(other) && bench.replies(other).is_empty());
    assert_eq!(bench.counted("large_requests_rejected"), 1);
    bench.settle();
    let other = bench.open_behind(4);
    // Only the small one was completed so far.
    bench.turn(&[(other, &frames(&[(1, &set(&large))]))]);
    assert!(bench.is_closed(other));
    bench.settle();
    bench.complete(bench.posted.len());
    assert_eq!(bench.replies(one), [(1, OK), (2, OK), (3, OK), (4, OK)]);
    // All are completed: as many again.
    bench.turn(&[(one, &frames(&[(5, &set(&large)), (6, &set(&large))]))]);
    assert_eq!(bench.posted.len(), 2);
    bench.complete(2);
    // More than the bytes of all: closed as soon as its length is known.
    bench.turn(&[(one, &frames(&[(7, &set(&[0; 6000]))])[..4])]);
    assert!(bench.is_closed(one));
    assert_eq!(bench.counted("large_requests_rejected"), 3);
}

impl Bench {
    /// A new connection, although others have this many requests in process, of which one is completed for it.
    fn open_behind(&mut self, requests: usize) -> ConnId {
        self.complete(1);
        let conn = self.accept();
        self.turn(&[(conn, &connect())]);
        let open = self.posted.iter().position(|posted| posted.conn == conn).expect("its connect is in process");
        assert!(requests <= open + 2);
        let open = self.posted.remove(open).expect("it was just found");
        self.posted.push_front(open);
        self.complete(1);
        self.take_output(conn);
        conn
    }
}

#[test]
fn large_requests_that_are_answered_at_once_do_not_add_up() {
    let mut bench = Bench::new(|settings| {
        (settings.limits.large_request_threshold, settings.limits.large_request_bytes_max) = (20, 200);
    });
    let conn = bench.open();
    let path = "/".to_owned() + &"x".repeat(100);
    let read = Request::Exists(PathWatchRequest { path: Some(path.into()), watch: false });
    for xid in 0..100 {
        bench.turn(&[(conn, &frames(&[(xid, &read)]))]);
    }
    assert_eq!(bench.replies(conn).len(), 100);
    assert!(!bench.is_closed(conn));
}

// ---- connecting ------------------------------------------------------------------------------------------

#[test]
fn a_connect_that_finds_no_token_is_closed_without_an_answer() {
    let bounds = bounds(|settings| {
        (settings.throttle.tokens, settings.throttle.fill_ms, settings.throttle.fill_count) = (2, 1000, 1);
    });
    let (mut one, mut other) = (Bench::with(0, bounds.clone()), Bench::with(1, bounds));
    one.open();
    other.open();
    for bench in [&mut one, &mut other] {
        let conn = bench.accept();
        bench.turn(&[(conn, &connect())]);
        assert!(bench.is_closed(conn) && bench.posted.is_empty() && bench.take_output(conn).is_empty());
        assert_eq!((bench.counted("connection_rejected"), bench.counted("connection_request_count")), (1, 1));
        bench.settle();
    }
    one.later(1000);
    one.open();
}

#[test]
fn a_connection_without_a_session_is_closed_one_to_two_timeouts_later() {
    let mut bench = Bench::new(|settings| settings.limits.sessionless_timeout_ms = 300);
    let with_session = bench.open();
    for wait_ms in [0, 1, 150, 299] {
        bench.later(wait_ms);
        let conn = bench.accept();
        let since_ms = bench.now.mono_ms();
        bench.turn(&[(conn, &connect()[..30])]);
        while !bench.is_closed(conn) {
            let wait_ms = bench.worker.deadline_ms() - bench.now.mono_ms();
            assert!(bench.now.mono_ms() < since_ms + 600 + SWEEP_MS_MIN, "not closed");
            bench.later(wait_ms.max(1));
            bench.turn(&[]);
        }
        assert!(since_ms + 300 <= bench.now.mono_ms(), "closed after {}", bench.now.mono_ms() - since_ms);
        bench.settle();
    }
    assert!(!bench.is_closed(with_session));
}

// ---- memory ----------------------------------------------------------------------------------------------

#[test]
fn an_idle_connection_keeps_no_buffer() {
    let mut bench = Bench::new(|_| ());
    let conn = bench.open();
    bench.turn(&[(conn, &sets(1..=100))]);
    bench.complete(100);
    assert_eq!(bench.replies(conn).len(), 100);
    // A request of which only the first bytes are here does not hold on to the buffer of what was before it.
    let (many, next) = (sets(1..=5000), sets(1..=1));
    bench.turn(&[(conn, &next[..5])]);
    bench.turn(&[(conn, &[&next[5..], &many, &next[..5]].concat())]);
    while !bench.posted.is_empty() {
        bench.complete(1);
        bench.take_output(conn);
    }
    let connection = &bench.worker.core.connections[conn.0 as usize];
    assert_eq!((connection.input.len(), connection.output.capacity()), (5, 0));
    assert!(connection.input.capacity() <= INPUT_SPARE_BYTES_MAX, "{}", connection.input.capacity());
    assert!(connection.arrivals.is_none() && connection.large.is_none());
    // What every connection costs before it does anything.
    assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
}

#[test]
fn output_that_piles_up_is_bounded_but_one_reply_may_have_any_size() {
    let mut bench = Bench::new(|_| ());
    let (slow, other) = (bench.open(), bench.open());
    let push = |bench: &mut Bench, conn: ConnId, bytes: usize| {
        let body = vec![7; bytes];
        bench.worker.core.reply(conn, 1, Zxid::ZERO, Code::Ok, &body);
    };
    push(&mut bench, other, OUTPUT_BYTES_MAX + (1 << 20));
    assert!(!bench.worker.is_finished(other), "one listing, however long");
    for _ in 0..OUTPUT_BYTES_MAX >> 20 {
        push(&mut bench, slow, 1 << 20);
        assert!(!bench.worker.is_finished(slow));
    }
    push(&mut bench, slow, 1 << 20);
    push(&mut bench, slow, 1 << 20);
    assert!(bench.worker.is_finished(slow));

    // Written in small steps: what is written is given up, and the memory with it.
    let mut moved = 0;
    loop {
        let connection = &bench.worker.core.connections[other.0 as usize];
        let (unwritten, capacity) = (connection.unwritten(), connection.output.capacity());
        if unwritten == 0 {
            assert_eq!(capacity, 0);
            break;
        }
        let before = connection.written;
        assert!(connection.output.len() <= unwritten + unwritten / 4 + 2 * OUTPUT_BYTES_HIGH);
        bench.worker.wrote(other, unwritten.min(100_000));
        let connection = &bench.worker.core.connections[other.0 as usize];
        if connection.written < before {
            moved += connection.output.len();
            let most = 2 * connection.output.len() + OUTPUT_BYTES_HIGH;
            assert!(connection.output.capacity() <= most, "{}", connection.output.capacity());
        }
    }
    assert!(moved < 8 * OUTPUT_BYTES_MAX, "{moved} bytes were moved to write {OUTPUT_BYTES_MAX}");
    let kept: usize = bench.worker.core.pool.iter().map(Vec::capacity).sum();
    assert_eq!(kept, bench.worker.core.pool_bytes);
    assert!(kept <= OUTPUT_POOL_BYTES_MAX);
}

#[test]
fn requests_that_are_begun_and_never_ended_do_not_take_the_memory_of_all() {
    let mut bench = Bench::new(|_| ());
    let (honest, small) = (bench.open(), bench.open());
    let whole = frames(&[(1, &set(&[0; 300_000]))]);
    bench.turn(&[(small, &sets(1..=1)[..20])]);
    let piece = [&whole[..4], &vec![0; INPUT_BYTES_FAIR]].concat();
    let mut held = Vec::new();
    let closed = loop {
        let conn = bench.accept();
        bench.turn(&[(conn, &piece)]);
        if bench.is_closed(conn) {
            break conn;
        }
        held.push(conn);
        assert!(held.len() * piece.len() <= INPUT_BYTES_WORKER_MAX, "nothing bounds it");
    };
    assert!(INPUT_BYTES_WORKER_MAX - 2 * piece.len() < held.len() * piece.len());
    bench.worker.lost(closed);
    // Who sends whole requests, or little, is not concerned.
    bench.turn(&[(honest, &whole), (small, &sets(1..=1)[20..])]);
    assert_eq!(bench.in_process(), [(honest, 1), (small, 1)]);
    bench.worker.lost(held.pop().unwrap());
    let another = bench.accept();
    bench.turn(&[(another, &piece)]);
    assert!(!bench.is_closed(another), "what was given back can be used");
    held.push(another);
    held.into_iter().for_each(|conn| bench.worker.lost(conn));
    assert_eq!(bench.worker.core.input_bytes, 0);
}

#[test]
fn a_turn_answers_so_many_bytes_of_reads_and_no_more() {
    let mut bench = Bench::new(|_| ());
    let conns: Vec<_> = (0..12).map(|_| bench.open()).collect();
    let path = format!("/{}", "x".repeat(600 << 10));
    let mut sync = Vec::new();
    Request::Sync(PathRequest { path: Some(path.as_str().into()) }).encode_frame(1, &mut sync);
    bench.worker.begin(bench.now);
    let mut answered = 0;
    for conn in &conns {
        if bench.worker.wants_input(*conn) {
            bench.worker.input(*conn, &sync);
            answered += 1;
        }
    }
    assert!(bench.worker.is_short(), "what is left was not heard because of the server");
    assert_eq!(answered, TURN_WORK_BYTES_MAX.div_ceil(path.len()), "of {} requests", conns.len());
    bench.worker.finish(false);
    assert!(!bench.worker.is_short() && bench.worker.wants_input(conns[11]), "the next turn goes on");
    assert_eq!(bench.take_output(conns[0]).len(), sync.len() + 8);
}
