//! What is asked of the operating system beyond files, sockets and time.

use std::fs;

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

/// Bytes of the regular files directly in a directory.
pub fn directory_bytes(directory: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}
