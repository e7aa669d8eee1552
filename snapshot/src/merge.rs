//! Several runs to one, step by step, so that whoever does it can do something else in between.
//!
//! What must come out right is checked: the sum of the digests of every input's znodes is the one it was written with,
//! and a merge down to the bottom gives the digest of the tree.

use std::fmt;
use std::sync::Arc;

use crate::entry::{Value, What};
use crate::error::Fault;
use crate::meta::Meta;
use crate::run::{Entries, Position, Run};
use crate::writer::{DigestOf, Sink, WriteError, Writer, Written};

/// How far a merge is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There is more to do.
    More,
    /// The run is complete; it is not synced.
    Done(Written),
}

/// Why a merge failed.
#[derive(Debug)]
pub enum MergeError {
    /// An input is damaged or cannot be read.
    Fault(Fault),
    /// The output cannot be written.
    Write(WriteError),
    /// A sum of digests is not what it must be.
    Digest {
        /// Of what.
        what: String,
        /// What it must be.
        expected: u64,
        /// What came out.
        found: u64,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::Fault(fault) => fault.fmt(f),
            MergeError::Write(error) => error.fmt(f),
            MergeError::Digest { what, expected, found } => {
                write!(
                    f,
                    "the znodes of {what} have the digest {found:#x}, expected is {expected:#x}: the state must not be used"
                )
            }
        }
    }
}

impl std::error::Error for MergeError {}

impl From<Fault> for MergeError {
    fn from(fault: Fault) -> MergeError {
        MergeError::Fault(fault)
    }
}

impl From<WriteError> for MergeError {
    fn from(error: WriteError) -> MergeError {
        MergeError::Write(error)
    }
}

struct Input {
    position: Position,
    digest: u64,
    /// Numbers of access lists, from those of the input to those of the output.
    acls: Vec<Option<u32>>,
}

/// See the module.
pub struct Merge<S> {
    /// The newest first.
    runs: Vec<Arc<Run>>,
    /// How far each of them is.
    inputs: Vec<Input>,
    is_bottom: bool,
    digest_of: DigestOf,
    /// `None` after an error or the end.
    writer: Option<Writer<S>>,
    meta: Meta,
    entries_left: bool,
}

impl<S> fmt::Debug for Merge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("inputs", &self.inputs.len())
            .field("is_bottom", &self.is_bottom)
            .finish_non_exhaustive()
    }
}

impl<S: Sink> Merge<S> {
    /// Begins to merge runs that lie directly over each other, the newest first. `is_bottom`: nothing lies below them.
    pub fn new(runs: Vec<Arc<Run>>, is_bottom: bool, digest_of: DigestOf, writer: Writer<S>) -> Merge<S> {
        let meta = runs.first().map(|run| run.meta().clone()).unwrap_or_default();
        let input = |run: &Arc<Run>| Input {
            position: Position::first(run),
            digest: 0,
            acls: vec![None; run.meta().acls.len()],
        };
        let inputs = runs.iter().map(input).collect();
        Merge { runs, inputs, is_bottom, digest_of, writer: Some(writer), meta, entries_left: true }
    }

    /// Goes on until about so many bytes of entries were looked at. Waits for the disk where inputs are cold.
    ///
    /// # Errors
    /// Final: an input is damaged, the output cannot be written, or a digest is wrong.
    pub fn step(&mut self, bytes: usize) -> Result<Progress, MergeError> {
        if self.entries_left {
            self.merge(bytes)?;
            return Ok(Progress::More);
        }
        let writer = self.writer.as_mut().expect("a merge that is not over");
        Ok(match writer.finish_step(&self.meta)? {
            None => Progress::More,
            Some(written) => Progress::Done(written),
        })
    }

    /// The sink of a complete merge, to be synced, or of one that is given up.
    pub fn into_sink(self) -> Option<S> {
        self.writer.map(Writer::into_sink)
    }

    fn merge(&mut self, bytes: usize) -> Result<(), MergeError> {
        let Merge { runs, inputs, is_bottom, digest_of, writer, .. } = self;
        let writer = writer.as_mut().expect("a merge that is not over");
        let mut cursors = Vec::with_capacity(inputs.len());
        for (run, input) in runs.iter().zip(inputs.iter()) {
            let mut entries = run.warm(|| Entries::resume(run, input.position))?;
            let before = entries.position();
            let head = run.warm(|| entries.next())?;
            cursors.push((entries, before, head));
        }
        let mut done = 0;
        while done < bytes {
            // The newest of those with the smallest key.
            let smallest = cursors
                .iter()
                .enumerate()
                .filter_map(|(index, (_, _, head))| head.map(|head| ((head.parent(), head.name()), index)))
                .min();
            let Some((key, newest)) = smallest else {
                self.entries_left = false;
                break;
            };
            let head = cursors[newest].2.expect("it has the smallest key");
            let run: &Run = &runs[newest];
            let mut entry = run.warm(|| head.entry())?;
            if let What::Present { acl, value, .. } = &mut entry.what {
                let slot = &mut inputs[newest].acls[*acl as usize];
                *acl = match *slot {
                    Some(number) => number,
                    None => {
                        let (count, raw) = run_acl(run, *acl);
                        let number = writer.acl(raw, count)?;
                        inputs[newest].acls[*acl as usize] = Some(number);
                        number
                    }
                };
                if matches!(value, Value::Lower) {
                    for (index, (_, _, head)) in cursors.iter().enumerate().skip(newest + 1) {
                        let Some(head) = head.filter(|head| (head.parent(), head.name()) == key) else { continue };
                        if head.is_absent() {
                            let what = format!("{}/{} is absent, and the layer above has its data here", key.0, key.1);
                            return Err(Fault::new(runs[index].path(), head.place(), what).into());
                        }
                        *value = runs[index].warm(|| head.value())?;
                        if !matches!(value, Value::Lower) {
                            break;
                        }
                    }
                }
                if *is_bottom && matches!(value, Value::Lower) {
                    let what = format!("{}/{} has its data below the lowest layer", entry.parent, entry.name);
                    return Err(Fault::new(run.path(), head.place(), what).into());
                }
                done += value_bytes(value);
            }
            if !(*is_bottom && matches!(entry.what, What::Absent)) {
                writer.push(&entry)?;
            }
            done += 32 + entry.name.len();
            for (index, (entries, before, head)) in cursors.iter_mut().enumerate() {
                let Some(found) = head.filter(|head| (head.parent(), head.name()) == key) else { continue };
                if let Some(version) = found.version() {
                    let digest = digest_of(found.parent(), found.name(), &version);
                    inputs[index].digest = inputs[index].digest.wrapping_add(digest);
                }
                *before = entries.position();
                *head = runs[index].warm(|| entries.next())?;
            }
        }
        let positions: Vec<Position> = cursors.iter().map(|(_, before, _)| *before).collect();
        for (input, position) in inputs.iter_mut().zip(positions) {
            input.position = position;
        }
        if !self.entries_left {
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MergeError> {
        for (run, input) in self.runs.iter().zip(&self.inputs) {
            let (expected, found) = (run.meta().entries_digest, input.digest);
            if expected != found {
                return Err(MergeError::Digest { what: run.path().display().to_string(), expected, found });
            }
        }
        let found = self.writer.as_ref().expect("a merge that is not over").entries_digest();
        if self.is_bottom && found != self.meta.digest {
            return Err(MergeError::Digest { what: "the merged tree".to_owned(), expected: self.meta.digest, found });
        }
        Ok(())
    }
}

fn run_acl(run: &Run, number: u32) -> (u32, &[u8]) {
    run.acl(number).expect("an entry's access list was checked when it was read")
}

fn value_bytes(value: &Value<'_>) -> usize {
    match value {
        Value::Lower | Value::Null => 0,
        Value::Plain(data) => data.len(),
        Value::Packed { zstd, .. } => zstd.len(),
    }
}
