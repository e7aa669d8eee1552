//! How Java's files are set aside once their state is ours, and what a start makes of what it finds.
//!
//! `version-2` becomes `version-2.before-zorilla`, not a byte changed, and in its place stands a `version-2` with one file,
//! [`SENTINEL`]: a Java server takes it for a log without a snapshot, or for a log in the wrong directory, or for one that
//! is damaged, and refuses to start. Otherwise it would go on from the day of the import in silence.
//!
//! | step | on the disk, for each of `dataDir` and `dataLogDir` | a Java server |
//! |---|---|---|
//! | – | `version-2` is Java's | serves what was imported |
//! | 1 | and the mark says which files they were | the same |
//! | 2 | and our own state holds them, durably | the same |
//! | 3 | and `version-2.zorilla-making` is there, its sentinel perhaps not whole | the same |
//! | 4 | its sentinel is whole and synchronised | the same |
//! | 5 | the two have exchanged their names, at once | refuses |
//! | 6 | `version-2.zorilla-making` is called `version-2.before-zorilla` | refuses |
//!
//! After each step the directory is synchronised. A start continues from any of them: it tells Java's files by the mark.
//! If they are not those of the mark, a Java server ran on them after the import: they are imported again if our own
//! state has not moved since, and refused otherwise, because then there are two histories. Where the file system cannot
//! exchange names, step 5 is two renames, and between them there is no `version-2`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use zorilla_proto::ids::Zxid;

use super::files::{FOLDER, Kind};
use super::recover::Dirs;
use super::{Fault, ImportError, io_fault};
use crate::limits::ASIDE_MAX;

/// The file that keeps a Java server from starting beside us.
pub const SENTINEL: &str = "log.1.zorilla-owns-this--run-zorilla-export";
/// What it says, to whoever finds it. A Java server takes the first bytes for a magic number, and they are none.
const SENTINEL_TEXT: &str = "Zorilla has taken over the data of this directory. A Java server that started here would miss \
everything written since.\nTo go back to Java: stop Zorilla and run `zorilla export --in-place`.\nThe files from before \
are in version-2.before-zorilla, as they were.\n";

const MAKING: &str = "version-2.zorilla-making";
const ASIDE: &str = "version-2.before-zorilla";

/// The folder of our own state, in `dataDir`; the mark lies in it.
pub const STATE_FOLDER: &str = "zorilla-state";
const MARK: &str = "java-mark";
const MARK_TITLE: &str = "zorilla java mark 1";

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Fault> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(io_fault("synchronise", folder))
}

/// What a `version-2` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Missing,
    /// Nothing that either server would look at.
    Nothing,
    Java,
    Sentinel,
    Both,
}

fn entries(folder: &Path) -> Result<Option<Vec<(String, fs::Metadata)>>, Fault> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_fault("list", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_fault("list", folder))?;
        let metadata = entry.metadata().map_err(io_fault("look at", &entry.path()))?;
        names.push((entry.file_name().to_string_lossy().into_owned(), metadata));
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Some(names))
}

fn content(folder: &Path) -> Result<Content, Fault> {
    let Some(entries) = entries(folder)? else { return Ok(Content::Missing) };
    let is_sentinel = |name: &str| name == SENTINEL;
    let is_java = |name: &str| {
        matches!(name, "acceptedEpoch" | "currentEpoch")
            || Kind::Log.zxid(name).is_some()
            || Kind::Snapshot.zxid(name).is_some()
    };
    let sentinel = entries.iter().any(|(name, _)| is_sentinel(name));
    let java = entries.iter().any(|(name, _)| !is_sentinel(name) && is_java(name));
    Ok(match (java, sentinel) {
        (false, false) => Content::Nothing,
        (true, false) => Content::Java,
        (false, true) => Content::Sentinel,
        (true, true) => Content::Both,
    })
}

/// What tells the files of a `version-2` from any others: their number, their bytes, and a checksum of names, sizes and
/// times of change. A Java server that starts on them writes a snapshot, so it differs afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Fingerprint {
    files: u64,
    bytes: u64,
    crc: u32,
}

impl Fingerprint {
    pub fn of(folder: &Path) -> Result<Fingerprint, Fault> {
        let mut print = Fingerprint::default();
        let mut crc = crc32fast::Hasher::new();
        for (name, metadata) in entries(folder)?.unwrap_or_default() {
            print.files += 1;
            print.bytes += metadata.len();
            crc.update(
                format!("{name}\0{} {} {}\n", metadata.len(), metadata.mtime(), metadata.mtime_nsec()).as_bytes(),
            );
        }
        print.crc = crc.finalize();
        Ok(print)
    }
}

/// What was known of Java's directories when they and our own state were last the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Up to which transaction.
    pub zxid: Zxid,
    data: Fingerprint,
    log: Fingerprint,
}

impl Mark {
    /// Of the files that lie there now.
    pub fn of(dirs: &Dirs, zxid: Zxid) -> Result<Mark, Fault> {
        Ok(Mark { zxid, data: Fingerprint::of(&dirs.snapshots())?, log: Fingerprint::of(&dirs.logs())? })
    }

    /// Of files that will lie there under their own names.
    pub(super) fn with(zxid: Zxid, data: Fingerprint, log: Fingerprint) -> Mark {
        Mark { zxid, data, log }
    }

    /// The same files at another transaction.
    pub(super) fn at(self, zxid: Zxid) -> Mark {
        Mark { zxid, ..self }
    }

    fn file(dirs: &Dirs) -> PathBuf {
        dirs.data.join(STATE_FOLDER).join(MARK)
    }

    /// Makes it durable. An export into `version-2` ends with this, so that the next start knows those files for its own.
    pub fn write(&self, dirs: &Dirs) -> Result<(), Fault> {
        let folder = dirs.data.join(STATE_FOLDER);
        fs::create_dir_all(&folder).map_err(io_fault("make", &folder))?;
        sync_folder(&dirs.data)?;
        let line = |name, print: Fingerprint| format!("{name} {} {} {:08x}\n", print.files, print.bytes, print.crc);
        let mut text = format!("{MARK_TITLE}\nzxid {:x}\n", self.zxid.raw());
        text.push_str(&line("data", self.data));
        text.push_str(&line("log", self.log));
        text.push_str(&format!("check {:08x}\n", crc32fast::hash(text.as_bytes())));
        let making = folder.join("java-mark.making");
        write_file(&making, text.as_bytes())?;
        let file = Mark::file(dirs);
        fs::rename(&making, &file).map_err(io_fault("make", &file))?;
        sync_folder(&folder)
    }

    /// The last one that was written.
    pub fn read(dirs: &Dirs) -> Result<Option<Mark>, ImportError> {
        let file = Mark::file(dirs);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_fault("read", &file)(error).into()),
        };
        match str::from_utf8(&text).ok().and_then(Mark::parse) {
            Some(mark) => Ok(Some(mark)),
            None => Err(ImportError::BadMark { file }),
        }
    }

    fn parse(text: &str) -> Option<Mark> {
        let (body, check) = text.split_at(text.rfind("check ")?);
        if check != format!("check {:08x}\n", crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next() != Some(MARK_TITLE) {
            return None;
        }
        let zxid = u64::from_str_radix(lines.next()?.strip_prefix("zxid ")?, 16).ok()?;
        let print = |line: &str, name: &str| {
            let mut parts = line.strip_prefix(name)?.split_whitespace();
            let (files, bytes) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some(Fingerprint { files, bytes, crc: u32::from_str_radix(parts.next()?, 16).ok()? })
        };
        let (data, log) = (print(lines.next()?, "data ")?, print(lines.next()?, "log ")?);
        Some(Mark { zxid: Zxid::from_raw(zxid), data, log })
    }
}

/// Writes a file and makes its content durable, not its name.
pub(super) fn write_file(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let mut file = File::create(path).map_err(io_fault("make", path))?;
    file.write_all(content).map_err(io_fault("write", path))?;
    file.sync_all().map_err(io_fault("synchronise", path))
}

/// What a start has to do about a Java server's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: there are none, or they are set aside.
    Settled,
    /// To import them.
    Import,
    /// To go on setting them aside: our own state holds what they hold.
    SetAside,
}

/// The directories that may hold a `version-2`, each once.
fn bases(dirs: &Dirs) -> Vec<&Path> {
    let mut bases = vec![dirs.data.as_path()];
    if dirs.log != dirs.data {
        bases.push(&dirs.log);
    }
    bases
}

/// Decides. `native`: the last transaction of our own state, if there is one.
pub(super) fn standing(dirs: &Dirs, native: Option<Zxid>) -> Result<Standing, ImportError> {
    let (mut java, mut sentinel, mut making) = (None, None, false);
    for base in bases(dirs) {
        let folder = base.join(FOLDER);
        match content(&folder)? {
            Content::Missing | Content::Nothing => {}
            Content::Java => java = Some(folder),
            Content::Sentinel => sentinel = Some(folder),
            Content::Both => return Err(ImportError::Mixed { folder }),
        }
        making |= base.join(MAKING).exists();
    }
    let Some(native) = native else {
        return match (java, sentinel) {
            (_, Some(folder)) => Err(ImportError::StateMissing { folder, state: dirs.data.join(STATE_FOLDER) }),
            (Some(_), None) => Ok(Standing::Import),
            (None, None) => Ok(Standing::Settled),
        };
    };
    let Some(folder) = java else { return Ok(if making { Standing::SetAside } else { Standing::Settled }) };
    let Some(mark) = Mark::read(dirs)? else {
        return Err(ImportError::TwoHistories { folder, native, mark: None });
    };
    let now = Mark::of(dirs, mark.zxid)?;
    let is_known = |folder: PathBuf, now: Fingerprint, then: Fingerprint| {
        Ok::<_, Fault>(content(&folder)? != Content::Java || now == then)
    };
    if is_known(dirs.snapshots(), now.data, mark.data)? && is_known(dirs.logs(), now.log, mark.log)? {
        return Ok(Standing::SetAside);
    }
    if mark.zxid == native && sentinel.is_none() {
        return Ok(Standing::Import);
    }
    Err(ImportError::TwoHistories { folder, native, mark: Some(mark.zxid) })
}

/// Called before each step with what it will do; an error ends the work there. Only tests use it.
pub(super) type Before<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Sets the files aside, from whatever step the work was left at. Where they went.
pub(super) fn set_aside(dirs: &Dirs, before: Before<'_>) -> Result<Vec<PathBuf>, ImportError> {
    let mut aside = Vec::new();
    for base in bases(dirs) {
        aside.extend(set_one_aside(base, before)?);
    }
    Ok(aside)
}

fn set_one_aside(base: &Path, before: Before<'_>) -> Result<Option<PathBuf>, ImportError> {
    let (folder, making) = (base.join(FOLDER), base.join(MAKING));
    let found = content(&folder)?;
    let mut step = |what: &str, at: &Path| before(what).map_err(io_fault("change", at));
    if found == Content::Both {
        return Err(ImportError::Mixed { folder });
    }
    if found != Content::Sentinel {
        if matches!(content(&making)?, Content::Java | Content::Both) {
            return Err(ImportError::Mixed { folder: making });
        }
        step("make the folder", &making)?;
        match fs::create_dir(&making) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_fault("make", &making)(error).into());
            }
            _ => {}
        }
        step("write the sentinel", &making)?;
        write_file(&making.join(SENTINEL), SENTINEL_TEXT.as_bytes())?;
        sync_folder(&making)?;
        sync_folder(base)?;
        step("put it in place", &folder)?;
        put_in_place(base, found, &mut step)?;
        sync_folder(base)?;
    }
    // Now `version-2` is the sentinel's, and what is called `making` was `version-2` before.
    match content(&making)? {
        Content::Missing => Ok(None),
        Content::Java | Content::Both => {
            step("name what was set aside", &making)?;
            let aside = free_name(base)?;
            fs::rename(&making, &aside).map_err(io_fault("rename", &making))?;
            sync_folder(base)?;
            Ok(Some(aside))
        }
        // An empty `version-2`, or one of ours that was not needed any more.
        Content::Nothing | Content::Sentinel => {
            step("remove what is not needed", &making)?;
            let sentinel = making.join(SENTINEL);
            match fs::remove_file(&sentinel) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_fault("remove", &sentinel)(error).into());
                }
                _ => {}
            }
            fs::remove_dir(&making).map_err(io_fault("remove", &making))?;
            sync_folder(base)?;
            Ok(None)
        }
    }
}

/// Gives the sentinel's folder the name `version-2`.
fn put_in_place(
    base: &Path,
    found: Content,
    step: &mut dyn FnMut(&str, &Path) -> Result<(), Fault>,
) -> Result<(), ImportError> {
    let (folder, making) = (base.join(FOLDER), base.join(MAKING));
    if found == Content::Missing {
        fs::rename(&making, &folder).map_err(io_fault("rename", &making))?;
        return Ok(());
    }
    match renameat_with(CWD, &making, CWD, &folder, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            let aside = free_name(base)?;
            fs::rename(&folder, &aside).map_err(io_fault("rename", &folder))?;
            step("put it in place, in two steps", &folder)?;
            fs::rename(&making, &folder).map_err(io_fault("rename", &making))?;
            Ok(())
        }
        Err(errno) => Err(io_fault("rename", &folder)(errno.into()).into()),
    }
}

/// An error if a `version-2` holds files of a Java server.
pub(super) fn refuse_java(folder: &Path) -> Result<(), ImportError> {
    match content(folder)? {
        Content::Missing | Content::Nothing | Content::Sentinel => Ok(()),
        Content::Java | Content::Both => Err(ImportError::Mixed { folder: folder.to_path_buf() }),
    }
}

/// Gives `new` the name of `old`, at once where the file system can; `old` may be missing, and is called `new` afterwards
/// if it was there.
pub(super) fn exchange(new: &Path, old: &Path) -> Result<(), Fault> {
    if !old.exists() {
        return fs::rename(new, old).map_err(io_fault("rename", new));
    }
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
            let between = new.with_extension("zorilla-old");
            fs::rename(old, &between).map_err(io_fault("rename", old))?;
            fs::rename(new, old).map_err(io_fault("rename", new))?;
            fs::rename(&between, new).map_err(io_fault("rename", &between))
        }
        Err(errno) => Err(io_fault("rename", old)(errno.into())),
    }
}

/// The first name for what is set aside that is not taken.
fn free_name(base: &Path) -> Result<PathBuf, ImportError> {
    let names = (1..=ASIDE_MAX).map(|number| match number {
        1 => base.join(ASIDE),
        number => base.join(format!("{ASIDE}.{number}")),
    });
    for name in names {
        match fs::symlink_metadata(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(io_fault("look at", &name)(error).into()),
            Ok(_) => {}
        }
    }
    Err(ImportError::NoName { folder: base.join(ASIDE) })
}
