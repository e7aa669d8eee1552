//! What the kernel says about a process: CPU time and memory.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all its threads, also of those that have ended.
    pub cpu_s: f64,
    /// Resident memory that no file backs.
    pub anonymous_bytes: u64,
    /// Resident memory that files back.
    pub file_bytes: u64,
}

/// Reads both from `/proc/PID`; `self` stands for this process.
pub fn usage(pid: &str) -> io::Result<Usage> {
    let directory = Path::new("/proc").join(pid);
    let stat = std::fs::read_to_string(directory.join("stat"))?;
    let status = std::fs::read_to_string(directory.join("status"))?;
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    let cpu_s = cpu_ticks(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))?
        as f64
        / ticks_per_s as f64;
    let bytes = |field: &str| {
        kib_of(&status, field)
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {field}")))
    };
    Ok(Usage { cpu_s, anonymous_bytes: bytes("RssAnon")?, file_bytes: bytes("RssFile")? })
}

/// What of its address space a process holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Everything.
    pub resident_bytes: u64,
    /// What no file backs.
    pub anonymous_bytes: u64,
}

impl Memory {
    /// What files back: the pages of mappings, which the kernel may take back at any time, and the program.
    pub fn file_bytes(&self) -> u64 {
        self.resident_bytes.saturating_sub(self.anonymous_bytes)
    }
}

/// Reads it from `/proc/PID/smaps_rollup`, which counts pages one by one.
pub fn memory(pid: &str) -> io::Result<Memory> {
    let rollup = std::fs::read_to_string(Path::new("/proc").join(pid).join("smaps_rollup"))?;
    let bytes = |field: &str| {
        kib_of(&rollup, field)
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/smaps_rollup has no {field}")))
    };
    Ok(Memory { resident_bytes: bytes("Rss")?, anonymous_bytes: bytes("Anonymous")? })
}

/// Page faults for which a process, with all its threads, had to wait for a disk.
pub fn major_faults(pid: &str) -> io::Result<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))?;
    // Field 12, counted behind the name.
    let faults = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(9)?.parse().ok());
    faults.ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

/// CPU time of the threads that a process has now, to the nanosecond: what is shorter than the ticks in which
/// [`usage`] counts needs it.
pub fn running_s(pid: &str) -> io::Result<f64> {
    let mut running_ns = 0;
    for task in std::fs::read_dir(Path::new("/proc").join(pid).join("task"))? {
        // A thread may end while the list is read.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let spent = text.split_ascii_whitespace().next().and_then(|spent| spent.parse::<u64>().ok());
        running_ns += spent.ok_or_else(|| io::Error::other("schedstat has an unknown form"))?;
    }
    Ok(running_ns as f64 / 1e9)
}

/// utime + stime: fields 14 and 15, counted behind the name in parentheses, which may itself hold blanks and
/// parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn kib_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 1200 34 0 0 20 0 1 0 99 0 0";
        assert_eq!(cpu_ticks(stat), Some(1234));
        assert_eq!(cpu_ticks("42 (x) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "VmRSS:\t  100 kB\nRssAnon:\t   64 kB\nRssFile:\t   36 kB\n";
        assert_eq!(kib_of(status, "RssAnon"), Some(64));
        assert_eq!(kib_of(status, "RssShmem"), None);
    }

    #[test]
    fn this_process_has_memory_and_spends_time() {
        let before = usage("self").expect("/proc");
        assert!(0 < before.anonymous_bytes && 0 < before.file_bytes);
        let memory = memory("self").expect("/proc");
        assert!(0 < memory.anonymous_bytes && 0 < memory.file_bytes());
        assert!(major_faults("self").is_ok());
        let begin = std::time::Instant::now();
        // On a busy machine it takes a while until a tick falls to this process.
        while usage("self").expect("/proc").cpu_s <= before.cpu_s {
            assert!(begin.elapsed().as_secs() < 30, "no CPU time in {:?}", begin.elapsed());
        }
    }

    #[test]
    fn short_times_of_running_are_seen() {
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
        let pid = child.id().to_string();
        let begin = std::time::Instant::now();
        let mut seen = vec![running_s(&pid).expect("/proc")];
        while seen.len() < 4 && begin.elapsed().as_secs() < 30 {
            let now = running_s(&pid).expect("/proc");
            if seen.last().is_some_and(|last| *last < now) {
                seen.push(now);
            }
        }
        child.kill().and_then(|()| child.wait()).expect("it runs until it is killed");
        assert!(seen.len() == 4, "it only grew to {seen:?} in {:?}", begin.elapsed());
    }
}
