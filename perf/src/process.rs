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
        let mut sum = 0u64;
        let begin = std::time::Instant::now();
        while begin.elapsed().as_millis() < 60 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        assert!(std::hint::black_box(sum) != 1);
        assert!(before.cpu_s < usage("self").expect("/proc").cpu_s);
    }
}
