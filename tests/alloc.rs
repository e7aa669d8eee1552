//! The warm paths do not ask the allocator for anything.
//!
//! Everything between a socket's bytes and a socket's bytes is here: worker, replica, gate, mailboxes, tree and the log; the
//! disk is memory, because what is counted is calls and not time.

#![allow(unsafe_code)] // An allocator that counts: the trait is unsafe to implement.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::sync::Arc;

use zorilla::clock::Now;
use zorilla::gate::Gate;
use zorilla::replica::{self, Event, LogSpace, Out, Replica};
use zorilla::store::Replay;
use zorilla::wake::{Bell, Sleeper};
use zorilla::watch::ConnId;
use zorilla::worker::mailbox::{Mailbox, PostBox};
use zorilla::worker::{Settings, Worker};
use zorilla_wal::disk::faulty::{FaultyDisk, Image};
use zorilla_wal::{Options, StoreId, Wal};

thread_local! {
    /// Calls of this thread that ask for memory.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // Another thread's allocations, and those after this thread's end, are nobody's business here.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the trait's promises; counting touches
// only a thread-local integer that needs neither memory nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// One worker with one connection, the replica folded in.
struct Server {
    worker: Worker,
    replica: Replica,
    wal: Wal<FaultyDisk>,
    out: Out,
    now: Now,
    conn: ConnId,
    sent: Vec<u8>,
    replies: u64,
    failed: u64,
}

impl Server {
    fn start() -> Server {
        let now = Now { mono_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        // Large enough that no segment has to be prepared while something is counted: the store thread does that.
        let options = Options { segment_bytes: 48 << 20, ..Options::new(StoreId(1)) };
        let disk = FaultyDisk::new(Image::default(), false);
        let (wal, _) = Wal::open(disk, options, 1, &mut |_| Ok(())).expect("an empty log opens");
        let (state, sessions) = Replay::new(1).finish(2000, now);
        let gate = Arc::new(Gate::new(state));
        let mailbox = Mailbox::new(Sleeper::new(Arc::new(Silent)), zorilla_proto::ids::Zxid::ZERO, 1);
        let postbox = PostBox::new();
        let settings = Settings {
            frame_bytes_max: 0xf_ffff,
            session_timeout_ms_min: 4000,
            session_timeout_ms_max: 40_000,
            report_ms: 1000,
            ..Settings::default()
        };
        let mut worker = Worker::new(0, settings, gate.clone(), mailbox.clone(), postbox.clone(), Arc::default(), 1);
        let conn = worker.open("127.0.0.1:1".parse().expect("an address"), now).expect("room for a connection");
        let replica = Replica::solo(replica::Settings::default(), gate, vec![mailbox], vec![postbox], sessions, 1);
        let mut server = Server {
            worker,
            replica,
            wal,
            out: Out::new(),
            now,
            conn,
            sent: Vec::with_capacity(1 << 20),
            replies: 0,
            failed: 0,
        };
        server.sent.extend(44i32.to_be_bytes());
        server.sent.extend([0; 12]);
        server.sent.extend(30_000i32.to_be_bytes());
        server.sent.extend([0; 8]);
        server.sent.extend(16i32.to_be_bytes());
        server.sent.extend([0; 16]);
        server.turn();
        server.turn();
        server
    }

    /// One turn of the folded driver.
    fn turn(&mut self) {
        self.now.mono_ns += 100_000;
        self.worker.begin(self.now);
        if !self.sent.is_empty() {
            assert!(self.worker.wants_input(self.conn));
            self.worker.input(self.conn, &self.sent);
            self.sent.clear();
        }
        self.worker.finish(true);
        loop {
            let durable = self.wal.poll(self.now.mono_ns).expect("the disk is well");
            self.out.log_room = self.wal.room_bytes();
            self.out.log_space = LogSpace::Plenty;
            let event = durable.as_ref().map_or(Event::Look, |durable| Event::Durable { up_to: durable.up_to });
            self.replica.handle(event, self.now, &mut self.out);
            let appended = !self.out.appends.is_empty();
            for append in self.out.appends.drain(..) {
                self.wal.append(append.zxid, self.replica.bytes(append.span)).expect("room in the log");
            }
            if let Some(prepare) = self.wal.wants_segment() {
                self.wal.segment_prepared(prepare.run()).expect("the disk has room");
            }
            if durable.is_none() && !appended {
                break;
            }
        }
        self.worker.drain();
        while let Some(conn) = self.worker.next_dirty() {
            let output = self.worker.output(conn);
            let mut at = 0;
            while at < output.len() {
                let int = |at: usize| i32::from_be_bytes(output[at..at + 4].try_into().expect("four bytes"));
                self.replies += 1;
                // The first is the answer to the connect.
                self.failed += u64::from(1 < self.replies && int(at + 16) != 0);
                at += 4 + int(at) as usize;
            }
            let bytes = output.len();
            self.worker.wrote(conn, bytes);
        }
    }

    fn request(&mut self, op: i32, record: impl FnOnce(&mut Vec<u8>)) {
        let mark = self.sent.len();
        self.sent.extend([0; 4]);
        self.sent.extend(7i32.to_be_bytes());
        self.sent.extend(op.to_be_bytes());
        record(&mut self.sent);
        let bytes = (self.sent.len() - mark - 4) as i32;
        self.sent[mark..mark + 4].copy_from_slice(&bytes.to_be_bytes());
    }

    fn create(&mut self, number: usize) {
        self.request(1, |out| {
            path(out, number);
            out.extend(100i32.to_be_bytes());
            out.extend([0x5a; 100]);
            out.extend(1i32.to_be_bytes());
            out.extend(31i32.to_be_bytes());
            out.extend(5i32.to_be_bytes());
            out.extend(b"world");
            out.extend(6i32.to_be_bytes());
            out.extend(b"anyone");
            out.extend(0i32.to_be_bytes());
        });
    }

    fn set(&mut self, number: usize) {
        self.request(5, |out| {
            path(out, number);
            out.extend(100i32.to_be_bytes());
            out.extend([number as u8; 100]);
            out.extend((-1i32).to_be_bytes());
        });
    }

    fn look(&mut self, op: i32, number: usize) {
        self.request(op, |out| {
            path(out, number);
            out.push(0);
        });
    }

    /// Runs turns of 32 requests each and says how often they asked for memory.
    fn counted(&mut self, requests: usize, mut one: impl FnMut(&mut Server, usize)) -> u64 {
        let (replies, asked) = (self.replies, ASKED.get());
        for first in (0..requests).step_by(32) {
            for number in first..first + 32 {
                one(self, number);
            }
            self.turn();
        }
        self.turn();
        let asked = ASKED.get() - asked;
        assert_eq!(self.replies - replies, requests as u64, "every request was answered");
        assert_eq!(self.failed, 0, "a request failed");
        asked
    }
}

fn path(out: &mut Vec<u8>, number: usize) {
    out.extend(12i32.to_be_bytes());
    write!(out, "/node{number:07}").expect("writing to memory");
}

#[test]
fn warm_requests_do_not_allocate() {
    const MANY: usize = 3200;
    const CREATES: usize = 64_000;
    let mut server = Server::start();
    server.counted(MANY, |server, number| server.create(number));

    for round in ["warming", "counted"] {
        let counts = [
            ("getData", server.counted(MANY, |server, number| server.look(4, number))),
            ("exists", server.counted(MANY, |server, number| server.look(3, number))),
            ("setData of the same size", server.counted(MANY, |server, number| server.set(number))),
            ("a set with a get behind it", {
                server.counted(MANY, |server, number| match number % 2 {
                    0 => server.set(number),
                    _ => server.look(4, number),
                })
            }),
        ];
        for (what, asked) in counts {
            println!("{round}: {asked} calls of the allocator in {MANY} × {what}");
            assert!(round == "warming" || asked == 0, "{asked} calls of the allocator in {MANY} × {what}");
        }
    }

    let asked = server.counted(CREATES, |server, number| server.create(MANY + number));
    println!("{asked} calls of the allocator in {CREATES} × create of 100 B");
    assert!(asked <= CREATES as u64 / 1000, "{asked} calls of the allocator in {CREATES} creates");
}

#[test]
fn the_count_counts() {
    let asked = ASKED.get();
    let memory = std::hint::black_box(vec![1u8; 100]);
    assert_eq!(memory.len(), 100);
    assert_eq!(ASKED.get() - asked, 1);
}
