//! The tree that a snapshot holds, as a run of our own, written from its znodes in key order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zorilla_proto::client::AclVec;
use zorilla_proto::ids::SessionId;
use zorilla_snapshot::{Entry, FileSink, Meta, Run, RunId, Spec, Value, What, WriteError, Writer};

use super::sort::Sorted;
use super::{Damage, Fault, io_fault};
use crate::tree::{Tree, digest, quota};

/// An ACL that a snapshot names and does not hold: it was made while the file was written, and the log sets it. Until then
/// nobody may do anything.
pub(super) const UNSET_RAW: &[u8] = b"\0\0\0\0\0\0\0\x05world\0\0\0\x06anyone";

/// The run that an import begins a state with.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The folder of the state.
    pub folder: PathBuf,
    /// The run's number, which no other file there has.
    pub run: RunId,
    /// The store it will belong to.
    pub store: u128,
    /// Random.
    pub identity: u64,
    /// Now, ms since 1970.
    pub written_ms: i64,
}

/// Entries of a run that is being written. Dropped before it is finished, it leaves nothing.
pub(super) struct Bottom {
    writer: Option<Writer<FileSink>>,
    spec: RunSpec,
    seed: u64,
    /// The run stays; otherwise file and folder lose their names as soon as it is mapped.
    is_kept: bool,
    /// The snapshot, for messages.
    snapshot: PathBuf,
    owners: HashMap<SessionId, (u32, u64)>,
    meta: Meta,
}

impl Bottom {
    /// Begins a run with this seed: `kept` as it says, or one that only this process knows, made in `folder`.
    pub fn new(snapshot: &Path, seed: u64, kept: Option<&RunSpec>, folder: &Path) -> Result<Bottom, Fault> {
        let is_kept = kept.is_some();
        let spec = kept.cloned().unwrap_or_else(|| RunSpec {
            folder: folder.join(format!("zorilla-import.{}.tmp", std::process::id())),
            run: RunId(1),
            store: 0,
            identity: seed,
            written_ms: 0,
        });
        fs::create_dir_all(&spec.folder).map_err(io_fault("make", &spec.folder))?;
        let making = spec.folder.join(spec.run.making_name());
        let file = File::create(&making).map_err(io_fault("make", &making))?;
        let RunSpec { run, store, identity, .. } = spec;
        let writer = Writer::new(FileSink(file), Spec { run, store, seed, identity, digest_of: digest::of_entry });
        let (meta, owners) = (Meta { store, written_ms: spec.written_ms, ..Meta::default() }, HashMap::new());
        Ok(Bottom { writer: Some(writer), spec, seed, is_kept, snapshot: snapshot.to_path_buf(), owners, meta })
    }

    fn making(&self) -> PathBuf {
        self.spec.folder.join(self.spec.run.making_name())
    }

    fn refused(&self, error: WriteError) -> Fault {
        match error {
            WriteError::Io(_, source) => io_fault("write", &self.making())(source),
            WriteError::Wrong(found) => self.damaged("znodes that a state can hold", found),
        }
    }

    fn damaged(&self, expected: &str, found: String) -> Fault {
        let (file, expected) = (self.snapshot.clone(), expected.to_owned());
        Fault::Damaged(Damage { file, offset: 0, expected, found })
    }

    /// Adds the next znode in key order.
    pub fn push(&mut self, node: &Sorted<'_>, (acl, acl_count): (&[u8], u32)) -> Result<(), Fault> {
        let Sorted { parent, name, path, version, data, .. } = *node;
        self.meta.znodes += 1;
        self.meta.data_bytes += path.len().max(1) as u64 + u64::from(version.data_bytes);
        if let Some(session) = version.ephemeral_session() {
            self.meta.ephemerals += 1;
            let owner = self.owners.entry(session).or_default();
            owner.0 += 1;
            owner.1 += crate::prep::ephemeral_bytes(path);
        }
        let writer = self.writer.as_mut().expect("nothing is pushed behind the end");
        let value = data.map_or(Value::Null, Value::Plain);
        let pushed = writer
            .acl(acl, acl_count)
            .and_then(|acl| writer.push(&Entry { parent, name, what: What::Present { version, acl, value } }));
        pushed.map_err(|error| self.refused(error))
    }

    /// Ends the run and opens a tree on it. `about`: zxid, sessions and subjects of quotas.
    pub fn finish(mut self, about: Meta) -> Result<Tree, Fault> {
        if self.meta.znodes == 0 {
            return Err(self.damaged("a root", "no znode".to_owned()));
        }
        let writer = self.writer.take().expect("a run is finished once");
        let mut owners: Vec<_> = self.owners.iter().map(|(id, (count, bytes))| (*id, *count, *bytes)).collect();
        owners.sort_unstable();
        let Meta { znodes, data_bytes, ephemerals, store, written_ms, .. } = self.meta;
        let digest = writer.entries_digest();
        let meta = Meta { digest, znodes, data_bytes, ephemerals, store, written_ms, owners, ..about };
        let (_, FileSink(file)) = writer.finish(&meta).map_err(|error| self.refused(error))?;
        let (making, run) = (self.making(), self.spec.folder.join(self.spec.run.file_name()));
        if self.is_kept {
            file.sync_all().map_err(io_fault("synchronise", &making))?;
        }
        fs::rename(&making, &run).map_err(io_fault("rename", &making))?;
        if self.is_kept {
            File::open(&self.spec.folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io_fault("synchronise", &self.spec.folder))?;
        }
        let opened = Run::open(&self.spec.folder, self.spec.run);
        if !self.is_kept {
            fs::remove_file(&run).map_err(io_fault("remove", &run))?;
        }
        let tree = opened.and_then(|opened| Tree::open(self.seed, vec![Arc::new(opened)]));
        // What was written a moment ago is not read back as it was: no fault of the snapshot's.
        tree.map_err(|fault| io_fault("read", &run)(io::Error::other(fault.to_string())))
    }
}

impl Drop for Bottom {
    fn drop(&mut self) {
        // Nobody can be told any more; the next start removes what is being made, too.
        let _ = fs::remove_file(self.making());
        if !self.is_kept {
            let _ = fs::remove_dir(&self.spec.folder);
        }
    }
}

/// The subject of a quota whose limits stand at `path`.
pub(super) fn limited(path: &str) -> Option<&str> {
    quota::subject(path.strip_suffix(quota::LIMITS)?.strip_suffix('/')?)
}

/// Everybody may do everything.
pub(super) fn open() -> (&'static [u8], u32) {
    (AclVec::OPEN.raw(), AclVec::OPEN.len() as u32)
}
