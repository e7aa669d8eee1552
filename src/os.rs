//! What is asked of the operating system beyond files, sockets and time.

use std::fs;
use std::mem::MaybeUninit;

/// Descriptors that the process has open. `None`: the system does not say.
pub fn descriptors_open() -> Option<u64> {
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64)
}

/// Descriptors that the process may have open. `None`: any number.
pub fn descriptors_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether a cgroup limits the CPU time of this process: then a pinned thread could be stopped while another CPU is free.
pub fn has_cpu_quota() -> bool {
    let v1 =
        fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").is_ok_and(|quota| !quota.trim().starts_with('-'));
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").is_ok_and(|quota| !quota.trim().starts_with("max"));
    v1 || v2
}

/// Page faults for which the calling thread has waited for a disk so far.
#[allow(unsafe_code, reason = "no crate of ours offers getrusage for a thread")]
pub fn thread_major_faults() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage` there, which is a struct of plain numbers: zeroes are one as well.
    let usage = unsafe {
        let failed = libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        assert!(failed == 0, "getrusage of this thread failed, which it may only for a wrong argument");
        usage.assume_init()
    };
    usage.ru_majflt as u64
}

/// What `envi` tells of machine, user and memory, with ZooKeeper's keys and in its order. What only a JVM has, and what the
/// system does not say, is `<NA>`; the three amounts of memory are what the machine has left, what it has, and what this
/// process holds.
pub fn environment() -> Vec<(&'static str, String)> {
    let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let variable = |name: &str| std::env::var(name).ok();
    let megabytes = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let kib = text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?;
        Some(format!("{}MB", kib.parse::<u64>().ok()? / 1024))
    };
    let architecture = match std::env::consts::ARCH {
        // As Java calls it.
        "x86_64" => "amd64",
        other => other,
    };
    let directory = std::env::current_dir().ok().map(|directory| directory.display().to_string());
    let values = [
        ("host.name", line("/proc/sys/kernel/hostname")),
        ("java.version", None),
        ("java.vendor", None),
        ("java.home", None),
        ("java.class.path", None),
        ("java.library.path", None),
        ("java.io.tmpdir", Some(std::env::temp_dir().display().to_string())),
        ("java.compiler", None),
        ("os.name", line("/proc/sys/kernel/ostype")),
        ("os.arch", Some(architecture.to_owned())),
        ("os.version", line("/proc/sys/kernel/osrelease")),
        ("user.name", variable("USER").or_else(|| variable("LOGNAME"))),
        ("user.home", variable("HOME")),
        ("user.dir", directory),
        ("os.memory.free", megabytes("/proc/meminfo", "MemAvailable:")),
        ("os.memory.max", megabytes("/proc/meminfo", "MemTotal:")),
        ("os.memory.total", megabytes("/proc/self/status", "VmRSS:")),
    ];
    values.into_iter().map(|(key, value)| (key, value.unwrap_or_else(|| "<NA>".to_owned()))).collect()
}

/// Memory that this process may use, bytes: the machine's, or what a cgroup allows.
pub fn memory_bytes() -> u64 {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    });
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "memory" => number(&format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")),
            "" => number(&format!("/sys/fs/cgroup{path}/memory.max")),
            _ => None,
        }
    });
    limits.chain(total).min().unwrap_or(u64::MAX)
}

/// How the scheduler ranks the thread that made this.
#[derive(Debug)]
pub struct Rank {
    normal: i32,
    /// Whoever steps behind may step forward again.
    may_return: bool,
    behind: bool,
}

impl Rank {
    /// How much is added to the nice value of a thread behind the others: about a tenth of their share of a busy CPU.
    const BEHIND: i32 = 10;

    /// Of the calling thread.
    pub fn of_this_thread() -> Rank {
        let normal = rustix::process::getpriority_process(None).unwrap_or(0);
        // A limit of 20 - n allows the nice value n.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nice).current;
        let allowed = limit.is_none_or(|limit| i64::from(20 - normal) <= limit as i64);
        Rank { normal, may_return: allowed || rustix::process::geteuid().is_root(), behind: false }
    }

    /// Steps behind the other threads or back among them, as far as the system allows. To be called by the thread itself.
    pub fn set_behind(&mut self, behind: bool) {
        if behind == self.behind || !self.may_return {
            return;
        }
        let nice = if behind { (self.normal + Rank::BEHIND).min(19) } else { self.normal };
        // Only speed depends on it; a thread that cannot return is not asked to step back another time.
        match rustix::process::setpriority_process(None, nice) {
            Ok(()) => self.behind = behind,
            Err(_) => self.may_return = false,
        }
    }
}

/// Bytes of the regular files directly in a directory.
pub fn directory_bytes(directory: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use std::os::fd::AsRawFd;

    /// Reads a byte of a mapped file that is on disk only.
    #[allow(unsafe_code, reason = "it maps a file")]
    pub(crate) fn fault(name: &str) {
        // Beside this test: on a disk, which a directory for temporary files need not be.
        let path = std::env::current_exe().expect("a path").with_file_name(format!("{name}-{}", std::process::id()));
        fs::write(&path, [7; 4096]).expect("a file");
        let file = fs::File::open(&path).expect("the file");
        file.sync_all().expect("a sound disk");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        // SAFETY: a new mapping of a whole file of 4096 bytes, of which nobody knows, read once and unmapped.
        let read = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            assert!(map != libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
            let read = map.cast::<u8>().read_volatile();
            libc::munmap(map, 4096);
            read
        };
        fs::remove_file(&path).expect("the file");
        assert_eq!(read, 7);
    }

    #[test]
    fn a_page_from_the_disk_is_a_major_fault_of_the_thread_that_touched_it() {
        let before = thread_major_faults();
        fault("one");
        assert!(before < thread_major_faults());
        let elsewhere = std::thread::spawn(thread_major_faults).join().expect("no panic");
        assert_eq!(elsewhere, 0, "a thread that has touched nothing");
    }

    #[test]
    fn the_memory_of_this_process_is_neither_nothing_nor_everything() {
        assert!((16 << 20..1 << 50).contains(&memory_bytes()), "{}", memory_bytes());
    }

    #[test]
    fn a_thread_steps_behind_the_others_only_if_it_can_come_back() {
        let mut rank = Rank::of_this_thread();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let normal = nice();
        rank.set_behind(true);
        assert_eq!(nice(), if rank.may_return { (normal + 10).min(19) } else { normal });
        rank.set_behind(false);
        assert_eq!(nice(), normal);
    }

    #[test]
    fn the_environment_has_the_keys_of_the_reference_in_its_order() {
        let environment = environment();
        let keys: Vec<_> = environment.iter().map(|(key, _)| *key).collect();
        let due = "host.name java.version java.vendor java.home java.class.path java.library.path java.io.tmpdir \
                   java.compiler os.name os.arch os.version user.name user.home user.dir os.memory.free os.memory.max \
                   os.memory.total";
        assert_eq!(keys.join(" "), due);
        assert!(environment.contains(&("os.name", "Linux".to_owned())));
        assert!(environment.iter().all(|(_, value)| !value.is_empty()));
        assert!(environment.iter().filter(|(key, _)| key.starts_with("os.memory")).all(|(_, mb)| mb.ends_with("MB")));
    }
}
