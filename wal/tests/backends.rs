//! The same promises on real files: io_uring and blocking writes, direct and buffered.

use std::path::Path;
use std::time::Instant;
use zorilla_proto::Zxid;
use zorilla_wal::disk::blocking::BlockingDisk;
use zorilla_wal::disk::ring::RingDisk;
use zorilla_wal::disk::{AnyDisk, DirFiles, Disk, best};
use zorilla_wal::{Epochs, Full, OpenError, Options, RecordRef, Recovered, StoreId, Wal};

const STORE: StoreId = StoreId(0x7a6f_7269_6c6c_6100_0000_0000_0000_0001);
const SEGMENT_BYTES: u64 = 256 * 1024;

fn options() -> Options {
    Options { store: STORE, segment_bytes: SEGMENT_BYTES }
}

fn zxid(counter: u32) -> Zxid {
    Zxid::new(1, counter)
}

fn payload(counter: u32) -> Vec<u8> {
    let bytes = if counter.is_multiple_of(97) { 60_000 } else { 20 + counter as usize % 500 };
    (0..bytes).map(|at| (at as u32).wrapping_mul(counter).to_le_bytes()[0]).collect()
}

type Txns = Vec<(Zxid, Vec<u8>)>;

fn open<D: Disk>(disk: D) -> (Wal<D>, Recovered, Txns) {
    let mut txns = Vec::new();
    let (wal, recovered) = Wal::open(disk, options(), 0x5eed, &mut |record| {
        if let RecordRef::Txn { zxid, payload } = record {
            txns.push((zxid, payload.to_vec()));
        }
        Ok(())
    })
    .unwrap_or_else(|failed| panic!("{failed}"));
    (wal, recovered, txns)
}

/// Runs the log as a server does: appends while there is room, polls, waits for the disk, prepares segments.
fn drive<D: Disk>(wal: &mut Wal<D>, counters: std::ops::RangeInclusive<u32>) {
    let start = Instant::now();
    let (last, mut next) = (*counters.end(), *counters.start());
    let mut durable = zxid(next - 1);
    while durable < zxid(last) {
        while next <= last {
            match wal.append(zxid(next), &payload(next)) {
                Ok(_) => next += 1,
                Err(Full) => break,
            }
            if next.is_multiple_of(7) {
                break;
            }
        }
        let now_ns = start.elapsed().as_nanos() as u64;
        if let Some(report) = wal.poll(now_ns).unwrap_or_else(|failed| panic!("{failed}")) {
            assert!(durable < report.up_to && report.up_to < zxid(next), "{report:?} after {durable}");
            durable = report.up_to;
        }
        if let Some(prepare) = wal.wants_segment() {
            wal.segment_prepared(prepare.run()).unwrap();
        }
    }
}

/// Writes, ends without a seal, reads back, and again; then seals.
fn everything_comes_back<D: Disk>(name: &str, disk: impl Fn() -> D) {
    let (mut wal, recovered, txns) = open(disk());
    assert!(recovered.fresh && txns.is_empty());
    wal.append_epochs(Epochs { accepted: 1, current: 1 }).unwrap();
    drive(&mut wal, 1..=3000);
    let stats = *wal.stats();
    assert!(2 < stats.segments, "the test should cross segments: {stats:?}");
    drop(wal);

    let (mut wal, recovered, txns) = open(disk());
    assert_eq!(recovered.last_zxid, zxid(3000));
    assert_eq!(recovered.epochs, Epochs { accepted: 1, current: 1 });
    assert!(!recovered.sealed && recovered.torn.is_none(), "{recovered:?}");
    check(&txns, 3000);
    drive(&mut wal, 3001..=3500);
    wal.append_state_head("state.3400", zxid(3400)).unwrap();
    wal.flush(0).unwrap();
    let before = wal.segments();
    let purged = wal.purge_before(Zxid::MAX).expect("segments before the state").run().unwrap();
    assert_eq!(purged.recycled + purged.removed, (before - wal.segments()) as u32);
    wal.segments_purged(Ok(purged)).unwrap();
    while let Some(prepare) = wal.wants_segment() {
        wal.segment_prepared(prepare.run()).unwrap();
    }
    drive(&mut wal, 3501..=6000);
    assert!(0 < wal.stats().recycled, "purged segments are used again: {:?}", wal.stats());
    wal.seal(0).unwrap();

    let (wal, recovered, txns) = open(disk());
    assert!(recovered.sealed && recovered.torn.is_none());
    assert_eq!(recovered.last_zxid, zxid(6000));
    assert_eq!(recovered.state_head.as_ref().map(|head| head.file.as_str()), Some("state.3400"));
    assert!(recovered.begins_after <= zxid(3400));
    assert_eq!(txns.first().map(|(first, _)| *first), recovered.begins_after.next());
    assert_eq!(txns.last().map(|(last, _)| *last), Some(zxid(6000)));
    assert!(txns.iter().all(|(zxid, bytes)| *bytes == payload(zxid.counter())));
    drop(wal);
    println!("{name}: 6000 transactions, {stats:?}");
}

fn check(txns: &[(Zxid, Vec<u8>)], last: u32) {
    assert_eq!(txns.len(), last as usize);
    for (at, (found, bytes)) in txns.iter().enumerate() {
        let counter = at as u32 + 1;
        assert_eq!(*found, zxid(counter));
        assert_eq!(*bytes, payload(counter), "the payload of {found}");
    }
}

/// The ring, unless this kernel refuses it; then that is said loudly, and nothing is proved.
fn ring(path: &Path, direct: bool) -> Option<RingDisk> {
    match RingDisk::new(DirFiles::open(path, direct).unwrap()) {
        Ok(ring) => Some(ring),
        Err(refused) => {
            println!("!!! THE RING IS NOT TESTED: this kernel refuses io_uring: {refused} !!!");
            None
        }
    }
}

#[test]
fn the_ring_keeps_what_it_reported() {
    for direct in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/log");
        if ring(&path, direct).is_some() {
            let name = format!("ring, direct: {direct}");
            everything_comes_back(&name, || ring(&path, direct).expect("it worked a moment ago"));
        }
    }
}

#[test]
fn blocking_writes_keep_what_they_reported() {
    for direct in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("blocking, direct: {direct}");
        everything_comes_back(&name, || BlockingDisk::new(DirFiles::open(directory.path(), direct).unwrap()).unwrap());
    }
}

/// A directory nobody may write to is an error that names it, not a panic.
#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"not a directory").unwrap();
    let refused = best(&file.join("log"), true).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
    assert!(refused.to_string().contains("file/log: could not open the directory of the log"), "{refused}");
}

#[test]
fn a_log_opened_by_one_thread_is_run_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let (mut wal, _, _) = open(best(directory.path(), true).unwrap());
    drive(&mut wal, 1..=100);
    let mut wal = std::thread::spawn(move || {
        drive(&mut wal, 101..=200);
        wal
    })
    .join()
    .unwrap();
    drive(&mut wal, 201..=300);
    wal.seal(0).unwrap();
    let (_, recovered, txns) = open(best(directory.path(), true).unwrap());
    assert!(recovered.sealed);
    check(&txns, 300);
}

fn readable<D: Disk>(wal: &Wal<D>, wait: bool) -> bool {
    let event = wal.event_fd().unwrap();
    let timeout = rustix::event::Timespec { tv_sec: if wait { 10 } else { 0 }, tv_nsec: 0 };
    loop {
        let mut polled = [rustix::event::PollFd::new(&event, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return 0 < ready.unwrap(),
        }
    }
}

fn completions_are_announced<D: Disk>(disk: D) {
    let (mut wal, _, _) = open(disk);
    assert!(!readable(&wal, false), "nothing is in flight");
    for counter in 1..=5 {
        wal.append(zxid(counter), b"x").unwrap();
        assert_eq!(wal.poll(1).unwrap(), None, "completions are reaped before anything is submitted");
        assert!(readable(&wal, true), "no completion was announced");
        let durable = wal.poll(80_001).unwrap().expect("a completion");
        assert_eq!((durable.up_to, durable.batches, durable.batch_records), (zxid(counter), 1, 1));
        assert_eq!(durable.sync_ns, 80_000);
        assert!(!readable(&wal, false), "the completion was taken");
    }
}

#[test]
fn the_event_descriptor_is_readable_exactly_while_completions_wait() {
    let directory = tempfile::tempdir().unwrap();
    if let Some(ring) = ring(directory.path(), true) {
        completions_are_announced(ring);
    }
    let directory = tempfile::tempdir().unwrap();
    completions_are_announced(BlockingDisk::new(DirFiles::open(directory.path(), true).unwrap()).unwrap());
}

#[test]
fn a_second_process_finds_the_directory_locked() {
    let directory = tempfile::tempdir().unwrap();
    let (wal, _, _) = open(best(directory.path(), true).unwrap());
    // A lock belongs to the open file, so a second opening in this process meets it as another process would.
    let second = Wal::open(best(directory.path(), true).unwrap(), options(), 1, &mut |_| Ok(()));
    let refused = second.map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains("another process has this log open"), "{refused}");
    drop(wal);
    open(best(directory.path(), true).unwrap());
}

#[test]
fn the_largest_transaction_fits_a_servers_segment_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { store: STORE, segment_bytes: zorilla_wal::limits::SEGMENT_BYTES_SERVER_MIN };
    let (mut wal, _) = Wal::open(best(directory.path(), true).unwrap(), options.clone(), 1, &mut |_| Ok(())).unwrap();
    let largest = vec![0xa5; wal.payload_bytes_max()];
    assert_eq!(largest.len(), zorilla_wal::limits::TXN_BYTES_MAX);
    for counter in 1..=6 {
        let bytes = if counter % 2 == 0 { &largest[..] } else { b"small" };
        while wal.append(zxid(counter), bytes) == Err(Full) {
            wal.flush(0).unwrap();
        }
    }
    wal.flush(0).unwrap();
    drop(wal);
    let mut sizes = Vec::new();
    Wal::open(best(directory.path(), true).unwrap(), options, 2, &mut |record| {
        if let RecordRef::Txn { payload, .. } = record {
            assert!(payload == b"small" || payload == largest);
            sizes.push(payload.len());
        }
        Ok(())
    })
    .unwrap();
    let largest = largest.len();
    assert_eq!(sizes, [5, largest, 5, largest, 5, largest]);
}

#[test]
fn the_best_disk_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let disk = best(directory.path(), true).unwrap();
    let text = disk.describe();
    match &disk {
        AnyDisk::Ring(_) => assert!(text.starts_with("io_uring, "), "{text}"),
        AnyDisk::Blocking(..) => assert!(text.contains("io_uring is not available here"), "{text}"),
    }
    println!("best disk here: {text}");
}
