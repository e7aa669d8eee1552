//! A memory limit: a folder of the memory controller of cgroup v1, which goes with its value.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the controller is mounted.
const CONTROLLER: &str = "/sys/fs/cgroup/memory";

/// How long the kernel may take to see that the last process is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A limit that processes are put under.
#[derive(Debug)]
pub struct Limit {
    folder: PathBuf,
}

impl Limit {
    /// Makes a folder for processes that may use `bytes` together, their page cache included.
    pub fn new(bytes: u64) -> io::Result<Limit> {
        let folder = Path::new(CONTROLLER).join(format!("zorilla-perf-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| {
            let what =
                format!("making {}: {error}; it takes root and the memory controller of cgroup v1", folder.display());
            io::Error::new(error.kind(), what)
        })?;
        let limit = Limit { folder };
        fs::write(limit.folder.join("memory.limit_in_bytes"), bytes.to_string())?;
        Ok(limit)
    }

    /// The folder, with the file `cgroup.procs` in it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A count that the kernel keeps in one of its files.
    fn count(&self, file: &str) -> io::Result<u64> {
        let text = fs::read_to_string(self.folder.join(file))?;
        text.trim().parse().map_err(|_| io::Error::other(format!("{file}: expected a number, found {text:?}")))
    }

    /// The limit that is in force, which the kernel rounds to pages.
    pub fn bytes(&self) -> io::Result<u64> {
        self.count("memory.limit_in_bytes")
    }

    /// The most that was in use at once.
    pub fn most_bytes(&self) -> io::Result<u64> {
        self.count("memory.max_usage_in_bytes")
    }

    /// How often the limit was reached, and the kernel had to take pages back.
    pub fn reached(&self) -> io::Result<u64> {
        self.count("memory.failcnt")
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let begun = Instant::now();
        while fs::remove_dir(&self.folder).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
            if PATIENCE < begun.elapsed() {
                eprintln!("{} is still in use and stays behind", self.folder.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
