//! H29: the first error or short write, whichever operation it hits, ends the log for good. Nothing later is reported
//! durable, and what was reported is there after the next start.

mod common;

use common::{Act, Runner, allowed, open, options};
use zorilla_proto::Zxid;
use zorilla_wal::disk::faulty::{Fault, FaultyDisk, Image, Order, SECTOR_BYTES};
use zorilla_wal::disk::{Disk, Files};
use zorilla_wal::{OpenError, PrepareError, Space};

const SEGMENT_BYTES: u64 = 16 * 1024;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Goes through every kind of operation: starts, prepares, writes, rolls, marks, truncates, purges, recycles.
fn script() -> Vec<Act> {
    let mut acts = vec![Act::Prepare, Act::Epochs, Act::Txn(500), Act::Flush];
    for round in 0..3 {
        for bytes in [3500, 900, 3900, 2500] {
            acts.extend([Act::Order(Order::Held), Act::Txn(bytes), Act::Poll(10), Act::Txn(600), Act::Poll(60_000)]);
            acts.extend([Act::Order(Order::Newest), Act::Poll(10), Act::Poll(10), Act::Prepare]);
        }
        acts.extend([Act::Flush, Act::Poll(2_000_000), Act::Poll(90_000), Act::Truncate(round), Act::Txn(40)]);
        acts.extend([Act::StateHead(0), Act::Flush, Act::Purge, Act::Prepare]);
        acts.extend([Act::Poll(2_000_000), Act::Poll(90_000)]);
    }
    acts
}

/// Runs the script with one fault. Says whether the log, or its opening, ended.
fn run_with(image: &Image, operation: u64, fault: Fault) -> bool {
    let place = format!("{fault:?} at operation {operation}");
    let disk = FaultyDisk::new(image.clone(), true);
    let files = disk.files();
    files.fail_at(operation, fault);
    let mut runner = match Runner::on(disk, SEGMENT_BYTES) {
        Ok(runner) => runner,
        Err(refused) => {
            // What was reported in the life before must survive a start that failed at any point.
            files.fail_at(u64::MAX, fault);
            let (_, _, before) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 1).unwrap();
            let certain = files.recording().crash(files.steps(), SECTOR_BYTES).image(|_| false);
            let (_, _, after) = open(FaultyDisk::new(certain, false), &options(SEGMENT_BYTES), 1)
                .unwrap_or_else(|damage| panic!("{place}: {refused}; and then: {damage}"));
            assert_eq!(before, after, "{place}: {refused}");
            return true;
        }
    };
    let mut ended = None;
    for act in script() {
        if let Err(failed) = runner.act(&act) {
            ended = Some(failed.to_string());
            break;
        }
    }
    let acked = runner.floor(usize::MAX);
    if let Some(text) = &ended {
        // The disk works again, and it does not matter: the log is not.
        files.fail_at(u64::MAX, fault);
        files.set_order(Order::Oldest);
        let mut wal = runner.wal.take().unwrap();
        let durable = wal.durable_zxid();
        for now_ns in [0, 1 << 40, 1 << 50] {
            assert_eq!(wal.poll(now_ns).unwrap_err().to_string(), *text, "{place}");
            assert_eq!(wal.flush(now_ns).unwrap_err().to_string(), *text, "{place}");
            assert!(wal.wants_segment().is_none() && wal.deadline_ns().is_none(), "{place}");
        }
        let _ = wal.append(Zxid::MAX, b"too late");
        assert!(wal.poll(1 << 51).is_err(), "{place}");
        assert_eq!(wal.durable_zxid(), durable, "{place}");
        assert!(wal.seal(1 << 52).is_err(), "{place}");
    }
    let certain = files.recording().crash(files.steps(), SECTOR_BYTES).image(|_| false);
    let (_, recovered, view) = open(FaultyDisk::new(certain, false), &options(SEGMENT_BYTES), 9)
        .unwrap_or_else(|damage| panic!("{place}: {ended:?}; and then: {damage}"));
    assert!(
        allowed(&runner.views, acked, &view, recovered.begins_after.raw()),
        "{place}: {ended:?}: found {view:?}, of {:#?}",
        &runner.views[acked..]
    );
    ended.is_some()
}

#[test]
fn h29_any_error_or_short_write_at_any_operation_ends_the_log() {
    let mut before = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
    for act in [Act::Prepare, Act::Txn(700), Act::Txn(2000), Act::Flush, Act::Prepare] {
        before.act(&act).unwrap();
    }
    drop(before.wal);
    let used = before.files.image();
    let (mut runs, mut ended, mut narrowed, mut waited_out) = (0, 0, 0, 0);
    for image in [Image::default(), used] {
        let disk = FaultyDisk::new(image.clone(), true);
        let mut clean = Runner::on(disk, SEGMENT_BYTES).unwrap();
        let opened = clean.files.operations();
        for act in script() {
            clean.act(&act).unwrap();
        }
        assert!(0 < clean.counts["purged"] && 0 < clean.counts["idle marks in the last life"], "{:?}", clean.counts);
        for operation in 0..clean.files.operations() {
            let faults = [Fault::Error(EIO), Fault::Short(0), Fault::Short(512), Fault::Short(4095)];
            for fault in faults.into_iter().chain([Fault::Error(ENOSPC)]) {
                runs += 1;
                if run_with(&image, operation, fault) {
                    ended += 1;
                } else if operation < opened {
                    // Reading ahead failed, and what was needed could be read alone.
                    narrowed += 1;
                } else {
                    // There was no room for a segment ahead; the script went on with what it had.
                    assert_eq!(fault, Fault::Error(ENOSPC), "at operation {operation}, ignored");
                    waited_out += 1;
                }
            }
        }
    }
    println!(
        "injected faults: {runs} runs, {ended} ended the log; {narrowed} hit reading ahead, {waited_out} were a full \
         disk ahead of use"
    );
    assert!(narrowed * 20 < runs && waited_out * 5 < runs, "too many faults were survived");
}

/// A batch whose write failed may be on the disk as a whole, in part or not at all: the next start takes all of these.
#[test]
fn a_failed_write_leaves_a_log_that_opens() {
    for survives in 0..1u32 << 8 {
        let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, true).unwrap();
        for act in [Act::Prepare, Act::Txn(300), Act::Flush] {
            runner.act(&act).unwrap();
        }
        runner.files.fail_at(runner.files.operations(), Fault::Error(EIO));
        assert!(runner.act(&Act::Txn(3900)).is_ok());
        assert!(runner.act(&Act::Flush).is_err());
        let crash = runner.files.recording().crash(runner.files.steps(), SECTOR_BYTES);
        assert_eq!(crash.pieces(), 8);
        let image = crash.image(|at| survives & (1 << at) != 0);
        let (_, recovered, view) = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 9).unwrap();
        assert_eq!(view == runner.views[2], survives == 0xff, "{recovered:?}");
        assert!(view == runner.views[2] || view == runner.views[1]);
    }
}

/// H30: the disk fills up, writes are refused in time, sessions may still close, and service resumes by itself.
#[test]
fn h30_a_full_disk_is_announced_before_the_reserved_segment_is_needed() {
    let mut runner = Runner::new(Image::default(), 64 * 1024, false).unwrap();
    runner.act(&Act::Prepare).unwrap();
    let files = runner.files.clone();
    files.limit_bytes(Some(0));
    let mut accepted = 0;
    let wal = runner.wal.as_mut().unwrap();
    let mut now_ns = 0;
    while wal.space() == Space::Plenty {
        accepted += 1;
        wal.append(common::zxid(accepted), &[7; 5000]).unwrap();
        now_ns += 100_000;
        wal.flush(now_ns).unwrap();
        if let Some(prepare) = wal.wants_segment() {
            let refused = prepare.run();
            assert!(matches!(refused, Err(PrepareError::NoSpace { .. })), "{refused:?}");
            wal.segment_prepared(refused).unwrap();
            assert!(wal.wants_segment().is_none(), "it is not asked for again at once");
            assert!(wal.deadline_ns().is_some(), "it is asked for again some time");
        }
    }
    assert!(10 < accepted, "writes were refused after {accepted} transactions already");
    // The reserved segment: closes of sessions, many of them.
    for _ in 0..8 {
        accepted += 1;
        wal.append(common::zxid(accepted), &[8; 5000]).unwrap();
        now_ns += 100_000;
        assert_eq!(wal.flush(now_ns).unwrap().unwrap().up_to, common::zxid(accepted));
        assert_eq!(wal.space(), Space::Reserve);
    }
    // Space appears: nobody has to be told.
    files.limit_bytes(None);
    now_ns += 1_000_000_000;
    assert!(wal.deadline_ns().unwrap() <= now_ns);
    wal.poll(now_ns).unwrap();
    while let Some(prepare) = wal.wants_segment() {
        wal.segment_prepared(prepare.run()).unwrap();
    }
    assert_eq!(wal.space(), Space::Plenty);
    assert!(0 < wal.stats().no_space);
    drop(runner.wal.take());
    let (_, recovered) = zorilla_wal::Wal::open(files.disk(), options(64 * 1024), 3, &mut |_| Ok(())).unwrap();
    assert_eq!(recovered.last_zxid, common::zxid(accepted));
}

/// Until the disk is really full to the last byte, what was accepted becomes durable; then nothing is acknowledged, and
/// nothing breaks.
#[test]
fn a_log_without_any_room_left_holds_what_was_appended_until_there_is_some() {
    let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
    let files = runner.files.clone();
    files.limit_bytes(Some(0));
    let wal = runner.wal.as_mut().unwrap();
    let mut now_ns = 0;
    let mut appended = 0;
    let mut durable = Zxid::ZERO;
    for _ in 0..200 {
        if wal.append(common::zxid(appended + 1), &[9; 3000]).is_ok() {
            appended += 1;
        }
        now_ns += 100_000_000;
        if let Some(report) = wal.poll(now_ns).unwrap() {
            durable = report.up_to;
        }
        if let Some(prepare) = wal.wants_segment() {
            wal.segment_prepared(prepare.run()).unwrap();
        }
    }
    assert!(durable < common::zxid(appended), "{durable} of {appended}");
    assert!(appended < 10, "what is built and not written is bounded");
    assert_eq!(wal.append(common::zxid(appended + 1), &[9; 12_000]), Err(zorilla_wal::Full));
    files.limit_bytes(None);
    for _ in 0..4 {
        now_ns += 1_000_000_000;
        if let Some(report) = wal.poll(now_ns).unwrap() {
            durable = report.up_to;
        }
        if let Some(prepare) = wal.wants_segment() {
            wal.segment_prepared(prepare.run()).unwrap();
        }
    }
    assert_eq!(durable, common::zxid(appended));
}

/// Errors tell an operator where, what, and what to do.
#[test]
fn errors_are_instructions() {
    let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
    for act in [Act::Txn(300), Act::Flush, Act::Txn(500), Act::Flush, Act::Txn(700), Act::Flush] {
        runner.act(&act).unwrap();
    }
    let mut image = runner.files.image();
    image.content_mut("segment.0000000000000001").unwrap()[8192 + 100] ^= 1;
    let refused = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 1).map(drop).unwrap_err();
    let OpenError::Damaged { offset_bytes: 8192, txns_good: 1, next_known: Some(next), .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*next, common::zxid(3));
    let mut header = runner.files.image();
    header.content_mut("segment.0000000000000001").unwrap()[20] ^= 1;
    let no_header = open(FaultyDisk::new(header, false), &options(SEGMENT_BYTES), 1).map(drop).unwrap_err();
    assert!(no_header.to_string().contains("segment.0000000000000001: the header is damaged"), "{no_header}");
    assert_eq!(
        refused.to_string(),
        "memory/segment.0000000000000001: the batch at byte 8192 is damaged; transactions before it that are intact: \
         1, up to 0x1, and the log goes on at 0x3. If the other servers have a quorum, move this log and its data \
         directory aside and restart to recopy. A server that stands alone has to be restored from a backup."
    );
}

/// Whoever replays the log may stop it; then nothing was written.
#[test]
fn a_replay_that_is_stopped_changes_nothing() {
    let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
    for act in [Act::Txn(300), Act::Flush, Act::Txn(500), Act::Flush, Act::Prepare] {
        runner.act(&act).unwrap();
    }
    let before = runner.files.image();
    let mut taken = 0;
    let stopped = zorilla_wal::Wal::open(runner.files.disk(), options(SEGMENT_BYTES), 1, &mut |_| {
        taken += 1;
        if taken == 2 { Err(zorilla_wal::Stop) } else { Ok(()) }
    });
    let stopped = stopped.map(drop).unwrap_err();
    assert!(matches!(stopped, OpenError::Stopped { offset_bytes: 8192, .. }), "{stopped:?}");
    assert!(runner.files.image() == before);
    assert_eq!(taken, 2);
}

/// Every file of a segment on its way is worthless after a crash, and goes away.
#[test]
fn leftovers_of_a_preparation_are_removed_at_the_start() {
    let disk = FaultyDisk::new(Image::default(), false);
    let files = disk.files();
    let file = files.create("making.0000000000000007").unwrap();
    files.write_at(&file, 0, &[1; 4096]).unwrap();
    let stranger = files.create("notes.txt").unwrap();
    files.write_at(&stranger, 0, &[2; 512]).unwrap();
    open(disk, &options(SEGMENT_BYTES), 1).unwrap();
    let names: Vec<String> = files.image().files().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["notes.txt", "segment.0000000000000001"]);
}
