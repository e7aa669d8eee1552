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
mod tests {
    use super::*;

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
