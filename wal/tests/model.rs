//! Random lives of a log against the simplest model: whatever happens, it holds a prefix of what was appended that
//! reaches at least to what was reported durable.
//!
//! A failure prints the shrunk acts; `ZORILLA_SEED=<seed> cargo test -p zorilla-wal --test model` replays a run.

mod common;

use common::{Act, Runner, allowed, open, options};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use std::hash::{BuildHasher, RandomState};
use zorilla_wal::disk::faulty::{FaultyDisk, Image, Order, SECTOR_BYTES};

const SEGMENT_BYTES: u64 = 24 * 1024;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => (8usize..7000).prop_map(Act::Txn),
        10 => (8usize..300).prop_map(Act::Txn),
        2 => Just(Act::Epochs),
        1 => (0usize..5).prop_map(Act::Truncate),
        2 => (0usize..5).prop_map(Act::StateHead),
        1 => (-30i64..60).prop_map(Act::Replace),
        12 => (1u64..100_000).prop_map(Act::Poll),
        2 => Just(Act::Poll(2_000_000)),
        3 => prop_oneof![Just(Order::Oldest), Just(Order::Newest), Just(Order::Held)].prop_map(Act::Order),
        4 => Just(Act::Prepare),
        2 => Just(Act::Purge),
        2 => Just(Act::Flush),
        1 => Just(Act::Seal),
        1 => any::<u32>().prop_map(Act::Kill),
    ]
}

/// A power cut after a share of the steps; pieces survive by the bits of a number.
#[derive(Clone, Debug)]
struct Cut {
    share: f64,
    survives: u64,
    piece_bytes: usize,
}

fn cut() -> impl Strategy<Value = Cut> {
    (0.0..=1.0, any::<u64>(), prop_oneof![Just(SECTOR_BYTES), Just(4096)])
        .prop_map(|(share, survives, piece_bytes)| Cut { share, survives, piece_bytes })
}

/// A seed from the environment, or a new one; printed either way.
fn config() -> ProptestConfig {
    let given = std::env::var("ZORILLA_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("replay with: ZORILLA_SEED={seed} cargo test -p zorilla-wal --test model");
    ProptestConfig { cases: 5000, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_life_and_any_power_cut_leave_a_prefix_that_reaches_what_was_reported(
        acts in prop::collection::vec(act(), 1..120),
        cuts in prop::collection::vec(cut(), 1..12),
    ) {
        let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, true).unwrap();
        for act in &acts {
            runner.act(act).unwrap();
        }
        let recording = runner.files.recording();
        for cut in cuts {
            let steps = (cut.share * recording.steps() as f64) as usize;
            let crash = recording.crash(steps, cut.piece_bytes);
            let image = crash.image(|at| cut.survives.rotate_left(at as u32 * 11) & 1 != 0);
            let floor = runner.floor(steps);
            let (_, recovered, view) = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 99)
                .unwrap_or_else(|refused| panic!("{cut:?}, {steps} steps: {refused}"));
            prop_assert!(
                allowed(&runner.views, floor, &view, recovered.begins_after.raw()),
                "{cut:?}, {steps} steps: found {view:?}, allowed were {:#?}", &runner.views[floor..]
            );
        }
        // And without any cut: everything appended, once it is flushed.
        runner.act(&Act::Flush).unwrap();
        drop(runner.wal.take());
        let (_, recovered, view) = open(runner.files.disk(), &options(SEGMENT_BYTES), 98).unwrap();
        let last = runner.views.len() - 1;
        prop_assert!(allowed(&runner.views, last, &view, recovered.begins_after.raw()), "{view:?}");
    }

    /// L4: from bytes that no log ever wrote it starts or refuses; it never panics.
    #[test]
    fn any_damage_is_an_answer_and_never_a_panic(
        acts in prop::collection::vec(act(), 1..40),
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>(), 1usize..600), 1..8),
    ) {
        let mut runner = Runner::new(Image::default(), SEGMENT_BYTES, false).unwrap();
        for act in &acts {
            runner.act(act).unwrap();
        }
        let mut image = runner.files.image();
        let names: Vec<String> = image.files().map(|(name, _)| name.to_owned()).collect();
        for (file, at, byte, bytes) in damage {
            let content = image.content_mut(file.get::<String>(&names)).unwrap();
            let at = at.index(content.len().max(1));
            let end = (at + bytes).min(content.len());
            content[at..end].fill(byte);
        }
        let _ = open(FaultyDisk::new(image, false), &options(SEGMENT_BYTES), 97);
    }
}
