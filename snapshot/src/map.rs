//! The mapping of a file, and what may go wrong with it.
//!
//! A page that is not in memory is brought in by `MADV_POPULATE_READ`, which reports what the disk says. A page that
//! vanishes later, because the file was cut, raises SIGBUS: the process ends with a sentence that names file and place.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use memmap2::{Advice, Mmap};

use crate::limits::MAPPINGS_MAX;

/// The exit code after a page has vanished: EX_IOERR.
pub const EXIT_VANISHED: i32 = 74;

/// The bytes of a file.
#[derive(Debug)]
pub(crate) enum Map {
    /// Mapped.
    File(Mapped),
    /// In memory: for tests and for files that are nowhere else.
    Memory(Vec<u8>),
}

impl Map {
    pub fn open(file: &File, path: &Path) -> io::Result<Map> {
        Ok(Map::File(Mapped::new(file, path)?))
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Map::File(mapped) => &mapped.map,
            Map::Memory(bytes) => bytes,
        }
    }

    /// Brings a range into memory. May wait for the disk.
    pub fn bring_in(&self, range: Range<usize>) -> io::Result<()> {
        match self {
            Map::File(mapped) => mapped.bring_in(range),
            Map::Memory(_) => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Mapped {
    map: Mmap,
    file: File,
    place: usize,
}

impl Mapped {
    fn new(file: &File, path: &Path) -> io::Result<Mapped> {
        // SAFETY: the file is written once and never changed by us; what another process may do to it (cut it) raises SIGBUS,
        // which ends this process, and what it may write into it is found by checksums only by chance. That is the contract of
        // a state folder: one process at a time, by its lock.
        let map = unsafe { Mmap::map(file)? };
        // Lookups are scattered; what they need is asked for block by block.
        map.advise(Advice::Random)?;
        let place = register(&map, path)?;
        Ok(Mapped { map, file: file.try_clone()?, place })
    }

    fn bring_in(&self, range: Range<usize>) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let populate = || self.map.advise_range(Advice::PopulateRead, range.start, range.len());
        let Err(refused) = populate() else { return Ok(()) };
        // It says only that there is no page. A read says why.
        let mut scratch = vec![0; range.len()];
        self.file.read_exact_at(&mut scratch, range.start as u64).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it was cut after it was opened"),
            _ => error,
        })?;
        // Kernels before 5.14 know no other way: the read has brought the pages into the cache, so that touching them
        // waits for no disk.
        if refused.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { populate() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        PLACES[self.place].begin.store(0, Ordering::Release);
    }
}

/// Where a mapping is, for the signal handler, which may not allocate or lock.
struct Place {
    begin: AtomicUsize,
    end: AtomicUsize,
    name: AtomicPtr<PathBuf>,
}

static PLACES: [Place; MAPPINGS_MAX] = [const {
    Place { begin: AtomicUsize::new(0), end: AtomicUsize::new(0), name: AtomicPtr::new(std::ptr::null_mut()) }
}; MAPPINGS_MAX];
/// Whether the handler is there.
static HANDLER: Mutex<bool> = Mutex::new(false);

fn register(map: &Mmap, path: &Path) -> io::Result<usize> {
    let mut handler = HANDLER.lock().unwrap_or_else(PoisonError::into_inner);
    if !*handler {
        // SAFETY: the handler reads atomics and memory that is never freed, writes to a descriptor and exits.
        unsafe { signal_hook_registry::register_sigaction(libc::SIGBUS, |info| vanished(info.si_addr() as usize)) }?;
        *handler = true;
    }
    let free = PLACES.iter().position(|place| place.begin.load(Ordering::Acquire) == 0);
    let index = free.ok_or_else(|| io::Error::other(format!("more than {MAPPINGS_MAX} runs are mapped")))?;
    let place = &PLACES[index];
    // Never freed, because a handler may read it at any time: some bytes for each run that is opened.
    place.name.store(Box::into_raw(Box::new(path.to_owned())), Ordering::Release);
    place.end.store(map.as_ptr() as usize + map.len(), Ordering::Release);
    place.begin.store(map.as_ptr() as usize, Ordering::Release);
    Ok(index)
}

/// Runs in the signal handler: no allocation, no lock.
fn vanished(address: usize) {
    for place in &PLACES {
        let begin = place.begin.load(Ordering::Acquire);
        if begin == 0 || address < begin || place.end.load(Ordering::Acquire) <= address {
            continue;
        }
        let name = place.name.load(Ordering::Acquire);
        // SAFETY: it was leaked when it was stored, so it lives as long as the process.
        let name = unsafe { &*name };
        say(b"state file ");
        say(name.as_os_str().as_encoded_bytes());
        say(b" at byte ");
        let mut digits = [0; 20];
        say(decimal((address - begin) as u64, &mut digits));
        say(b": the page cannot be read any more: the file was cut or its disk failed; put the file back from a backup\n");
        exit();
    }
    say(b"SIGBUS at an address that is no state file\n");
    exit();
}

fn exit() -> ! {
    // SAFETY: it ends the process at once and is safe in a handler.
    unsafe { libc::_exit(EXIT_VANISHED) }
}

fn say(text: &[u8]) {
    // SAFETY: the buffer is valid for its length. What cannot be said is lost: there is nobody to tell.
    let _ = unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}
