//! Every state a power cut can leave, for scripts that go through every corner of the log: nothing that was reported
//! durable is lost, nothing is invented, and what a crash left is never called damage. And the other way round: a
//! bit that flips in acknowledged history never goes unnoticed.

mod common;

use common::{Act, Runner, View, allowed, open, options};
use std::cell::Cell;
use std::sync::LazyLock;
use zorilla_wal::disk::Disk;
use zorilla_wal::disk::faulty::{Crash, FaultyDisk, Image, Order, Recording, SECTOR_BYTES};
use zorilla_wal::{Damage, OpenError};

const SEGMENT_BYTES: u64 = 16 * 1024;

/// Up to this many pieces, every subset of them is tried.
const PIECES_MAX: usize = 15;

/// In the second life after a crash, where there are many more crashes to go through.
const PIECES_SECOND_MAX: usize = 7;

thread_local! {
    /// The states that the test of this thread went through.
    static STATES: Cell<u64> = const { Cell::new(0) };
}

fn count_state() {
    STATES.set(STATES.get() + 1);
}

fn scripts() -> Vec<(&'static str, Vec<Act>)> {
    use Act::{Epochs, Flush, Kill, Order as In, Poll, Prepare, Purge, Replace, Seal, StateHead, Truncate, Txn};
    let two_in_flight = |bytes| vec![Txn(bytes), Poll(10), Txn(bytes), Poll(60_000)];
    let mut scripts = vec![(
        "one write at a time",
        vec![Prepare, Txn(100), Poll(10), Poll(90_000), Txn(1500), Poll(10), Poll(90_000), Txn(20), Flush],
    )];
    for (name, order) in [
        ("two in flight, completed in order", Order::Oldest),
        ("two in flight, the later one completed first", Order::Newest),
    ] {
        let mut acts = vec![Prepare];
        for bytes in [300, 1700, 2500, 700] {
            acts.push(In(Order::Held));
            acts.extend(two_in_flight(bytes));
            acts.extend([In(order), Poll(10), Poll(10), Prepare]);
        }
        acts.push(Flush);
        scripts.push((name, acts));
    }
    let mut rolling = vec![Prepare];
    for bytes in [3900, 3000, 5000, 900, 3000, 2000, 3900, 100, 3900, 2500] {
        rolling.extend([In(Order::Held), Txn(bytes), Poll(60_000), Txn(bytes / 2), Poll(10), Poll(60_000)]);
        rolling.extend([In(Order::Newest), Poll(60_000), Prepare]);
    }
    rolling.push(Flush);
    scripts.push(("segments roll, headers in flight beside batches", rolling));
    let mut recycling = vec![Prepare];
    for round in 0..4 {
        for bytes in [3500, 2500, 3900, 1500, 3000] {
            recycling.extend([Txn(bytes), Poll(60_000), Txn(bytes / 2), Poll(60_000), Prepare]);
        }
        recycling.extend([StateHead(round % 2), Poll(60_000), Poll(60_000), Purge, Prepare]);
    }
    recycling.push(Flush);
    scripts.push(("segments with old content are used again", recycling));
    scripts.push((
        "truncations and epochs",
        vec![
            Prepare,
            Txn(400),
            Epochs,
            Txn(1300),
            Poll(10),
            In(Order::Held),
            Txn(50),
            Poll(60_000),
            Truncate(2),
            Txn(600),
            In(Order::Newest),
            Poll(60_000),
            Poll(10),
            Prepare,
            Epochs,
            Poll(60_000),
            Txn(900),
            In(Order::Held),
            Poll(60_000),
            In(Order::Newest),
            Flush,
            Prepare,
            Truncate(1),
            Poll(10),
            Truncate(0),
            Poll(60_000),
            Poll(10),
            Prepare,
            Txn(10),
            Epochs,
            Flush,
            Truncate(1),
            Txn(2000),
            Flush,
        ],
    ));
    scripts.push((
        "two headers in flight, nothing between them",
        vec![
            Prepare,
            Txn(500),
            Flush,
            Txn(600),
            Flush,
            Txn(700),
            Flush,
            Prepare,
            In(Order::Held),
            Poll(2_000_000),
            Truncate(1),
            Poll(10),
            In(Order::Newest),
            Poll(10),
            Poll(10),
            Prepare,
            Txn(800),
            Flush,
            Truncate(0),
            Flush,
            Txn(300),
            Flush,
        ],
    ));
    scripts.push((
        "a state replaces the history",
        vec![
            Prepare,
            Txn(400),
            Txn(800),
            Poll(10),
            Replace(40),
            Poll(60_000),
            Poll(60_000),
            Prepare,
            Txn(1200),
            In(Order::Held),
            Poll(60_000),
            In(Order::Newest),
            Flush,
            Replace(-20),
            In(Order::Held),
            Poll(10),
            Txn(300),
            Poll(60_000),
            In(Order::Newest),
            Poll(10),
            Flush,
            Purge,
            Prepare,
            Txn(700),
            Flush,
        ],
    ));
    scripts.push((
        "seals and starts",
        vec![
            Prepare,
            Txn(400),
            Poll(10),
            Seal,
            Txn(1300),
            Poll(60_000),
            Epochs,
            Seal,
            Seal,
            Prepare,
            Txn(2000),
            Poll(60_000),
            Poll(60_000),
            Txn(100),
            Flush,
            Seal,
            Txn(5),
            Flush,
        ],
    ));
    scripts.push((
        "killed with writes in flight that reach the file, or do not",
        vec![
            Prepare,
            Txn(400),
            Poll(10),
            Poll(10),
            In(Order::Held),
            Txn(1300),
            Poll(60_000),
            Txn(600),
            Poll(60_000),
            Kill(0b11),
            Txn(700),
            Poll(60_000),
            In(Order::Held),
            Txn(100),
            Poll(60_000),
            Txn(1100),
            Poll(60_000),
            Kill(0b10),
            Prepare,
            Txn(900),
            Poll(60_000),
            In(Order::Held),
            Txn(800),
            Poll(60_000),
            Txn(500),
            Poll(60_000),
            Kill(0b01),
            Kill(0),
            Txn(1600),
            Flush,
            Kill(0),
            Txn(30),
            Poll(60_000),
            Poll(60_000),
        ],
    ));
    scripts.push((
        "idle marks beside writes",
        vec![
            Prepare,
            Txn(400),
            Poll(10),
            Poll(90_000),
            Poll(2_000_000),
            Poll(90_000),
            Txn(700),
            Poll(10),
            Poll(10),
            In(Order::Held),
            Poll(2_000_000),
            Txn(900),
            Poll(10),
            In(Order::Newest),
            Poll(10),
            Poll(10),
            Prepare,
            Poll(2_000_000),
            Poll(10),
            Txn(1500),
            Flush,
            Poll(2_000_000),
            Poll(10),
            Txn(1500),
            Flush,
            Prepare,
            Poll(2_000_000),
            Poll(10),
        ],
    ));
    scripts
}

/// A directory in which a log has lived for a while: segments and spares are full of old batches.
static WELL_USED: LazyLock<Image> = LazyLock::new(|| {
    let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
    for bytes in [3500, 2500, 3900, 1500, 3000, 3800, 2900, 3300, 2000, 3950, 3100, 2700] {
        for act in [Act::Prepare, Act::Txn(bytes), Act::Txn(600), Act::Flush] {
            runner.act(&act).unwrap();
        }
    }
    for act in [Act::StateHead(1), Act::Flush, Act::Purge, Act::Prepare, Act::Txn(3000), Act::Flush] {
        runner.act(&act).unwrap();
    }
    drop(runner.wal);
    let image = runner.files.image();
    assert!(image.files().any(|(name, _)| name.starts_with("spare.")), "there is something to recycle");
    image
});

/// Every script, on an empty directory and on a well-used one.
fn runs() -> impl Iterator<Item = (String, Runner)> {
    scripts().into_iter().flat_map(|(name, acts)| {
        let on = move |image: &Image, what| {
            let name = format!("{name}, {what}");
            let runner = run(&name, &acts, image.clone());
            (name, runner)
        };
        [on(&Image::default(), "fresh"), on(&WELL_USED, "well used")]
    })
}

fn run(name: &str, acts: &[Act], image: Image) -> Runner {
    let mut runner = Runner::new(image, SEGMENT_BYTES, true).unwrap();
    for act in acts {
        runner.act(act).unwrap_or_else(|failed| panic!("{name}: {act:?}: {failed}"));
    }
    runner
}

/// A power cut after `steps` steps, torn as finely as `pieces_max` allows.
fn crash(recording: &Recording, steps: usize, pieces_max: usize) -> (Crash, bool) {
    let mut piece_bytes = SECTOR_BYTES;
    loop {
        let crash = recording.crash(steps, piece_bytes);
        if crash.pieces() <= pieces_max || SEGMENT_BYTES as usize <= piece_bytes {
            assert!(crash.pieces() <= 16, "{} pieces", crash.pieces());
            return (crash, SECTOR_BYTES < piece_bytes);
        }
        piece_bytes *= 2;
    }
}

/// A sequence that looks random and is the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Every subset of the pieces, and where those are coarse, some subsets of the sectors as well.
fn images(recording: &Recording, steps: usize, pieces_max: usize, mut each: impl FnMut(&str, u64, Image)) {
    let (coarse, torn_coarsely) = crash(recording, steps, pieces_max);
    for mask in 0..1u64 << coarse.pieces() {
        each("subset", mask, coarse.image(|at| mask & (1 << at) != 0));
    }
    if torn_coarsely {
        let fine = recording.crash(steps, SECTOR_BYTES);
        let mut dice = Dice(0x2545_f491_4f6c_dd1d ^ steps as u64);
        for _ in 0..1 << (pieces_max - 2) {
            let mask = dice.roll();
            each("sectors", mask, fine.image(|at| mask.rotate_left(at as u32 * 7) & 1 != 0));
        }
    }
}

/// Opens what a crash left, and checks it against the model. Says what was found.
fn check(image: Image, views: &[View], floor: usize, place: &dyn Fn() -> String) -> (FaultyDisk, View, u64) {
    count_state();
    let disk = FaultyDisk::new(image, false);
    let again = disk.files().disk();
    match open(disk, &options(SEGMENT_BYTES), 77) {
        Err(refused) => panic!("{}: a crash was taken for damage: {refused}", place()),
        Ok((_, recovered, view)) => {
            let begins_after = recovered.begins_after.raw();
            assert!(
                allowed(views, floor, &view, begins_after),
                "{}: found {view:?}; allowed were {:#?}",
                place(),
                &views[floor..]
            );
            (again, view, begins_after)
        }
    }
}

/// Every prefix of the steps of every script, times every subset of what is not certain there.
#[test]
fn every_crash_keeps_what_was_durable_and_invents_nothing() {
    let start = STATES.get();
    for (name, runner) in runs() {
        let before = STATES.get();
        let recording = runner.files.recording();
        for steps in 0..=recording.steps() {
            let floor = runner.floor(steps);
            let mut counter = 0;
            images(&recording, steps, PIECES_MAX, |kind, mask, image| {
                let place = || format!("{name}, {steps} steps, {kind} {mask:#x}");
                let (disk, view, begins_after) = check(image, &runner.views, floor, &place);
                counter += 1;
                if counter % 16 == 1 {
                    goes_on(disk, &view, begins_after, &place);
                }
            });
        }
        println!(
            "{name}: {} steps, {} appends, {:?}: {} states",
            recording.steps(),
            runner.views.len() - 1,
            runner.counts,
            STATES.get() - before
        );
    }
    let states = STATES.get() - start;
    assert!(100_000 <= states, "only {states} states");
    println!("first crashes: {states} states, no violation");
}

/// After recovery the log takes writes, and a clean start finds the old and the new.
fn goes_on(disk: FaultyDisk, view: &View, begins_after: u64, place: &dyn Fn() -> String) {
    count_state();
    let files = disk.files();
    let opened = open(disk, &options(SEGMENT_BYTES), 78);
    let (mut wal, recovered, again) = opened.unwrap_or_else(|refused| panic!("{}: second start: {refused}", place()));
    assert_eq!((&again, recovered.begins_after.raw()), (view, begins_after), "{}: second start", place());
    wal.append(common::zxid(view.last_zxid + 1), &common::payload(u64::MAX, 700)).unwrap();
    wal.flush(1).unwrap_or_else(|failed| panic!("{}: {failed}", place()));
    drop(wal);
    let opened = open(files.disk(), &options(SEGMENT_BYTES), 79);
    let (_, _, third) = opened.unwrap_or_else(|refused| panic!("{}: third start: {refused}", place()));
    let mut expected = view.clone();
    expected.txns.push((view.last_zxid + 1, u64::MAX));
    expected.last_zxid += 1;
    assert_eq!(third, expected, "{}: third start", place());
}

/// A crash, a start, some writes, and every crash of that again, the start itself included.
#[test]
fn a_crash_during_or_after_recovery_keeps_it_all_the_same() {
    let start = STATES.get();
    let second = [Act::Txn(600), Act::Poll(10), Act::Epochs, Act::Poll(60_000), Act::Txn(1800), Act::Poll(60_000)];
    for (name, runner) in runs() {
        let recording = runner.files.recording();
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for steps in 0..=recording.steps() {
            let floor = runner.floor(steps);
            let (crash, _) = crash(&recording, steps, PIECES_MAX);
            let all = (1u64 << crash.pieces()) - 1;
            let mut masks = vec![0, all, dice.roll() & all, dice.roll() & all];
            masks.sort_unstable();
            masks.dedup();
            for mask in masks {
                let image = crash.image(|at| mask & (1 << at) != 0);
                let place = || format!("{name}, {steps} steps, subset {mask:#x}");
                let mut life = Runner::new(image, SEGMENT_BYTES, true)
                    .unwrap_or_else(|refused| panic!("{}: a crash was taken for damage: {refused}", place()));
                let opened_at = life.acked[1].0;
                life.act(&Act::Order(Order::Newest)).unwrap();
                for act in &second {
                    life.act(act).unwrap();
                }
                let again = life.files.recording();
                for steps in 0..=again.steps() {
                    // Before the start was finished nobody had seen anything of this life.
                    let opened = opened_at <= steps;
                    images(&again, steps, PIECES_SECOND_MAX, |kind, mask, image| {
                        let place = || format!("{}, then {steps} steps, {kind} {mask:#x}", place());
                        if opened {
                            check_second(image, &life, life.floor(steps), &place);
                        } else {
                            check(image, &runner.views, floor, &place);
                        }
                    });
                }
            }
        }
    }
    let states = STATES.get() - start;
    assert!(100_000 <= states, "only {states} states");
    println!("second crashes: {states} states, no violation");
}

/// The views of a second life know only what was still on the disk at its beginning.
fn check_second(image: Image, life: &Runner, floor: usize, place: &dyn Fn() -> String) {
    count_state();
    match open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 80) {
        Err(refused) => panic!("{}: a crash was taken for damage: {refused}", place()),
        Ok((_, _, view)) => assert!(
            life.views[floor..].contains(&view),
            "{}: found {view:?}; allowed were {:#?}",
            place(),
            &life.views[floor..]
        ),
    }
}

/// What happens to the log when one bit of it flips.
enum Flipped {
    Refused,
    NoEffect,
    Shorter(View),
}

fn flip(image: &Image, name: &str, at: usize, bit: u8, full: &View) -> Flipped {
    count_state();
    let mut image = image.clone();
    image.content_mut(name).expect("the file is there")[at] ^= 1 << bit;
    match open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 81) {
        Err(_) => Flipped::Refused,
        Ok((_, _, view)) if view == *full => Flipped::NoEffect,
        Ok((_, _, view)) => Flipped::Shorter(view),
    }
}

/// Every byte of every file has a bit flipped, after the durable end was marked, or after a start: noticed, or
/// without effect.
#[test]
fn h26_a_flipped_bit_in_acknowledged_history_is_damage() {
    let marked: &[Act] = &[Act::Flush, Act::Prepare, Act::Poll(2_000_000), Act::Poll(90_000)];
    // The header that a start writes vouches for what the start found, before any batch does.
    let started: &[Act] = &[Act::Flush, Act::Prepare, Act::Txn(900), Act::Flush, Act::Kill(0)];
    let (mut refused, mut no_effect) = (0, 0);
    for (name, mut runner) in runs() {
        // Every byte where headers are, every so many elsewhere; the checksums are tested bit by bit where they are.
        let (step, ending) = if name.ends_with("fresh") { (2, marked) } else { (7, started) };
        for act in ending {
            runner.act(act).unwrap();
        }
        let image = runner.files.image();
        let (_, _, full) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 82).unwrap();
        let files: Vec<(String, usize)> =
            image.files().map(|(name, content)| (name.to_owned(), content.len())).collect();
        for (file, bytes) in files {
            for at in (0..bytes).filter(|at| at % 4096 < 256 || at % step == 0) {
                match flip(&image, &file, at, (at * 5 % 8) as u8, &full) {
                    Flipped::Refused => refused += 1,
                    Flipped::NoEffect => no_effect += 1,
                    Flipped::Shorter(view) => panic!("{name}: {file}, byte {at}: {view:?} instead of {full:?}"),
                }
            }
        }
    }
    assert!(50_000 < refused, "only {refused} flips hit history");
    println!("flipped bits: {refused} refused, {no_effect} without effect, none unnoticed");
}

/// The residue that the documentation states: without a mark behind it, rot of the very last acknowledged batch looks
/// like a torn tail. Rot of anything before it does not.
#[test]
fn only_the_very_last_batch_without_a_mark_can_rot_unnoticed() {
    let acts = [Act::Prepare, Act::Txn(500), Act::Flush, Act::Txn(900), Act::Flush, Act::Txn(700), Act::Flush];
    let runner = run("residue", &acts, Image::default());
    let image = runner.files.image();
    let full = runner.views.last().unwrap();
    let without_last = &runner.views[runner.views.len() - 2];
    let mut unnoticed = 0;
    for (file, content) in image.files() {
        for at in 0..content.len() {
            match flip(&image, file, at, (at % 8) as u8, full) {
                Flipped::Refused | Flipped::NoEffect => {}
                Flipped::Shorter(view) => {
                    assert_eq!(view, *without_last, "{file}, byte {at}");
                    assert!((3 * 4096..4 * 4096).contains(&at), "{file}, byte {at} is not in the last batch");
                    unnoticed += 1;
                }
            }
        }
    }
    assert_eq!(unnoticed, 4096, "every byte of the last batch, and only those, until the mark is written");
}

/// A segment that disappears, or is cut, is noticed wherever it was.
#[test]
fn missing_and_cut_segments_are_damage() {
    for (name, mut runner) in runs() {
        for act in [Act::Flush, Act::Prepare] {
            runner.act(&act).unwrap();
        }
        let image = runner.files.image();
        let (_, _, full) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 83).unwrap();
        let mut segments: Vec<String> = image.files().map(|(name, _)| name.to_owned()).collect();
        segments.retain(|name| name.starts_with("segment."));
        for (at, segment) in segments.iter().enumerate() {
            for cut in [None, Some(0), Some(4096), Some(5000), Some(SEGMENT_BYTES as usize - 1)] {
                let mut image = image.clone();
                match cut {
                    None if at + 1 == segments.len() => continue,
                    None => assert!(image.take_away(segment)),
                    Some(bytes) => image.content_mut(segment).unwrap().truncate(bytes),
                }
                count_state();
                if let Ok((_, _, view)) = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 84) {
                    assert_eq!(view, full, "{name}: {segment} cut to {cut:?}");
                }
            }
        }
    }
}

/// H28: the header of the newest segment was being written: it may end at any byte, before zeros or old content.
#[test]
fn h28_a_header_cut_at_any_byte_is_prepared_again() {
    let mut runner = run("cut header", &[Act::Prepare, Act::Txn(3000), Act::Txn(2000), Act::Flush], WELL_USED.clone());
    let before = runner.files.image();
    let full = runner.views.last().unwrap().clone();
    // A truncation to the end changes nothing but the segment.
    for act in [Act::Truncate(0), Act::Order(Order::Held), Act::Poll(10)] {
        runner.act(&act).unwrap();
    }
    let steps = runner.files.steps();
    let written = runner.files.recording().crash(steps, SEGMENT_BYTES as usize).image(|_| true);
    let changed = |(name, content): (&str, &[u8])| {
        let same = before.files().any(|(other, old)| other == name && old == content);
        (!same).then(|| (name.to_owned(), content.to_vec()))
    };
    let headers: Vec<(String, Vec<u8>)> = written.files().filter_map(changed).collect();
    let [(name, content)] = &headers[..] else { panic!("one header is under way, not {}", headers.len()) };
    for cut in 0..=4096 {
        count_state();
        let mut image = before.clone();
        image.content_mut(name).unwrap()[..cut].copy_from_slice(&content[..cut]);
        let disk = FaultyDisk::new(image, false);
        let again = disk.files().disk();
        let (_, _, view) = open(disk, &options(SEGMENT_BYTES), 87)
            .unwrap_or_else(|refused| panic!("a header cut at byte {cut} was taken for damage: {refused}"));
        assert_eq!(view, full, "cut at byte {cut}");
        goes_on(again, &view, runner_begins_after(&before), &|| format!("cut at byte {cut}"));
    }
}

fn runner_begins_after(image: &Image) -> u64 {
    let (_, recovered, _) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 88).unwrap();
    recovered.begins_after.raw()
}

/// A whole sector or block that reads as zeros, as after a write the device lost.
#[test]
fn h26_a_zeroed_sector_in_acknowledged_history_is_damage() {
    for (name, mut runner) in runs() {
        for act in [Act::Flush, Act::Prepare, Act::Poll(2_000_000), Act::Poll(90_000)] {
            runner.act(&act).unwrap();
        }
        let image = runner.files.image();
        let (_, _, full) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 85).unwrap();
        let files: Vec<String> = image.files().map(|(name, _)| name.to_owned()).collect();
        for file in files {
            for bytes in [SECTOR_BYTES, 4096] {
                for at in (0..SEGMENT_BYTES as usize).step_by(bytes) {
                    let mut image = image.clone();
                    image.content_mut(&file).unwrap()[at..at + bytes].fill(0);
                    count_state();
                    if let Ok((_, _, view)) = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 86) {
                        assert_eq!(view, full, "{name}: {file}, {bytes} zeros at byte {at}");
                    }
                }
            }
        }
    }
}

/// A block that cannot be read is never the end of the log: refused, or nowhere near what was acknowledged.
#[test]
fn a_block_that_cannot_be_read_is_damage() {
    let (mut refused, mut no_effect) = (0, 0);
    for (name, mut runner) in runs() {
        for act in [Act::Flush, Act::Prepare] {
            runner.act(&act).unwrap();
        }
        let image = runner.files.image();
        let (_, _, full) = open(FaultyDisk::new(image.clone(), false), &options(SEGMENT_BYTES), 89).unwrap();
        let segments: Vec<&str> = image.files().map(|(name, _)| name).filter(|name| name.starts_with("seg")).collect();
        for segment in segments {
            for at in (0..SEGMENT_BYTES as usize).step_by(4096) {
                count_state();
                let disk = FaultyDisk::new(image.clone(), false);
                disk.files().make_unreadable(segment, at..at + 512);
                match open(disk, &options(SEGMENT_BYTES), 90) {
                    Ok((_, _, view)) => {
                        assert_eq!(view, full, "{name}: {segment}, byte {at}");
                        no_effect += 1;
                    }
                    Err(error) => {
                        let unreadable = matches!(
                            error,
                            OpenError::Damaged { damage: Damage::Unreadable | Damage::AcknowledgedLost, .. }
                        );
                        assert!(unreadable, "{name}: {segment}, byte {at}: {error:?}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(200 < refused, "only {refused}");
    println!("unreadable blocks: {refused} refused, {no_effect} never read");
}

/// H33: what one recovery dropped does not come back when the device finds it again later.
#[test]
fn h33_a_batch_that_was_dropped_and_reappears_stays_dropped() {
    let acts = [Act::Prepare, Act::Txn(300), Act::Flush, Act::Order(Order::Held), Act::Txn(400), Act::Poll(60_000)];
    let runner = run("reappears", &acts, Image::default());
    let crash = runner.files.recording().crash(runner.files.steps(), SECTOR_BYTES);
    let (lost, kept) = (crash.image(|_| false), crash.image(|_| true));
    let disk = FaultyDisk::new(lost, false);
    let files = disk.files();
    let (mut wal, _, view) = open(disk, &options(SEGMENT_BYTES), 91).unwrap();
    assert_eq!(view, runner.views[1]);
    wal.append(common::zxid(2), &common::payload(77, 500)).unwrap();
    wal.flush(1).unwrap();
    drop(wal);
    let mut image = files.image();
    let first = "segment.0000000000000001";
    let (_, old) = kept.files().find(|(name, _)| *name == first).unwrap();
    assert!(image.content_mut(first).unwrap() != old, "the dropped batch is really there now");
    image.content_mut(first).unwrap().copy_from_slice(old);
    let (_, _, view) = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 92).unwrap();
    assert_eq!(view.txns, [(1, view.txns[0].1), (2, 77)]);
}

/// The size of segments is changed from start to start; old ones are read, prepared ones replaced, none is in the way.
#[test]
fn segments_of_another_size_are_read_and_replaced() {
    let image = run("sizes", &[Act::Prepare, Act::Txn(900), Act::Flush], Image::default()).files.image();
    let disk = FaultyDisk::new(image, false);
    let files = disk.files();
    let mut zxids = 1;
    for (life, blocks) in [8, 8, 4, 4, 16, 5, 4, 9, 9, 4].into_iter().enumerate() {
        let opened = open(files.disk(), &options(blocks * 4096), life as u64);
        let (mut wal, recovered, view) = opened.unwrap_or_else(|refused| panic!("life {life}: {refused}"));
        assert_eq!(view.txns.len(), zxids, "life {life}: {recovered:?}");
        while let Some(prepare) = wal.wants_segment() {
            wal.segment_prepared(prepare.run()).unwrap();
        }
        // Some lives write nothing: what they began is empty when the size changes again.
        for _ in 0..life % 3 * 2 {
            zxids += 1;
            wal.append(common::zxid(zxids as u64), &common::payload(zxids as u64, 5000)).unwrap();
            wal.flush(1).unwrap();
        }
    }
    assert!(10 < zxids);
}

/// Segments that a newer version wrote, or that belong to another store, are refused by name.
#[test]
fn foreign_segments_are_refused_before_anything_is_changed() {
    let runner = run("foreign", &[Act::Txn(10), Act::Flush], Image::default());
    let image = runner.files.image();
    let mut other = options(SEGMENT_BYTES);
    other.store = zorilla_wal::StoreId(5);
    let disk = FaultyDisk::new(image.clone(), false);
    let files = disk.files();
    let refused = open(disk, &other, 1).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert!(refused.to_string().contains("belongs to store"), "{refused}");
    assert!(files.image() == image, "a refused log was changed");
    assert_eq!(zorilla_wal::store_of(&files).unwrap(), Some(common::STORE));
}
