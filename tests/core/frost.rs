//! A tree in layers, and cold paths: what a tree larger than memory has to bring in.
//!
//! Overlays are frozen and written to runs at random, and grow cold at random. Beside that a path is cold by chance although
//! it is there, until a block that is made up was brought in.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use zorilla::gate::Gate;
use zorilla::tree::{Flush, Needed, Overlay, digest};
use zorilla::worker::{Chill, Worker};
use zorilla_snapshot::{Cold, Meta, Run, RunId, Spec, Writer};

use crate::requests::Rng;

/// Blocks that are told apart.
const BLOCKS: u64 = 40;
/// The run that they are in.
const MADE_UP: RunId = RunId(u64::MAX);
/// Runs over each other; they are not merged here.
const RUNS_MAX: usize = 5;

struct State {
    percent: u64,
    salt: u64,
    run: Arc<Run>,
    here: HashSet<u32>,
    waits: usize,
}

pub struct Frost {
    /// Names of a listing that a worker gathers at a time.
    pub listing_names: usize,
    state: Arc<Mutex<State>>,
    /// Wishes that were taken and not fulfilled, by worker.
    wished: Vec<(usize, Needed)>,
    /// On its way to a run.
    frozen: Option<(Arc<Overlay>, Meta)>,
    runs: u64,
    /// Blocks of runs that were waited for.
    pub brought: usize,
    epoch: u32,
}

/// A run of what this overlay says; without one, of nothing.
fn write(run: RunId, seed: u64, overlay: Option<Arc<Overlay>>, meta: Meta) -> Arc<Run> {
    let spec = Spec { run, store: 7, seed, identity: run.0, digest_of: digest::of_entry };
    let mut writer = Writer::new(Vec::new(), spec);
    if let Some(overlay) = overlay {
        let mut flush = Flush::new(overlay);
        while !flush.step(&mut writer, 100).expect("memory takes everything") {}
    }
    let (_, bytes) = writer.finish(&Meta { store: 7, ..meta }).expect("memory takes everything");
    Arc::new(Run::from_bytes(Path::new("run"), run, bytes).expect("a whole run"))
}

fn mix(salt: u64, text: &str) -> u64 {
    text.bytes().fold(salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

impl Frost {
    /// So many paths in a hundred are cold.
    pub fn new(percent: u64, listing_names: usize, salt: u64) -> Frost {
        let run = write(MADE_UP, 1, None, Meta::default());
        let state = State { percent, salt, run, here: HashSet::new(), waits: 0 };
        Frost {
            listing_names,
            state: Arc::new(Mutex::new(state)),
            wished: Vec::new(),
            frozen: None,
            runs: 0,
            brought: 0,
            epoch: 1,
        }
    }

    /// Freezes the live overlay of a tree, or puts a run in the place of the frozen one.
    pub fn layer(&mut self, gate: &Gate, seed: u64) {
        let mut state = gate.write();
        match self.frozen.take() {
            Some((overlay, meta)) => {
                self.runs += 1;
                state.tree.replace_frozen(write(RunId(self.runs), seed, Some(overlay), meta));
            }
            None if state.tree.runs().len() < RUNS_MAX => {
                let overlay = state.tree.freeze();
                self.frozen = Some((overlay, state.tree.meta()));
            }
            None => {}
        }
    }

    /// Everything in runs has been evicted.
    pub fn freeze_over(&mut self, gate: &Gate) {
        self.epoch += 1;
        for run in gate.read().tree.runs() {
            run.set_epoch(self.epoch, self.epoch);
        }
    }

    /// What the workers ask.
    pub fn chill(&self) -> Chill {
        let state = self.state.clone();
        Chill(Arc::new(move |path| {
            let mut state = state.lock().expect("nobody panicked");
            let hash = mix(state.salt, path);
            let block = (hash % BLOCKS) as u32;
            if state.percent <= hash / BLOCKS % 100 || state.here.contains(&block) {
                return Ok(());
            }
            state.waits += 1;
            Err(Needed { run: state.run.clone(), cold: Cold { block } })
        }))
    }

    /// Takes a worker's wishes, and fulfils so many in a hundred of those that are open.
    pub fn bring_in(&mut self, index: usize, worker: &mut Worker, rng: &mut Rng, percent: usize) {
        while let Some(needed) = worker.next_wish() {
            if rng.percent(10) {
                // There is no room for it just now.
                worker.wish_again(needed);
                break;
            }
            self.wished.push((index, needed));
        }
        let mut at = 0;
        while at < self.wished.len() {
            if self.wished[at].0 != index || !rng.percent(percent) {
                at += 1;
                continue;
            }
            let (_, needed) = self.wished.swap_remove(at);
            if needed.run.id() == MADE_UP {
                self.state.lock().expect("nobody panicked").here.insert(needed.cold.block);
            } else {
                needed.bring_in().expect("a run in memory");
                self.brought += 1;
            }
            worker.brought(needed.run.id(), needed.cold);
        }
        if rng.percent(5) {
            self.state.lock().expect("nobody panicked").here.clear();
        }
    }

    /// The server's life ended, and with it what its workers wished for.
    pub fn forget(&mut self) {
        self.wished.clear();
        self.frozen = None;
    }

    /// How often a request was told to wait.
    pub fn waits(&self) -> usize {
        self.state.lock().expect("nobody panicked").waits
    }
}
