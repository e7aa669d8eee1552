//! What the data directory stands on, and how it is crashed: a plain folder, or a disk whose power can be cut.
//!
//! The disk is a file behind a loop device with ext4 on it. Its power cut is the file system's own shutdown request
//! without a flush of the journal: from that moment nothing more reaches the file, and what was not synced is gone with
//! the unmount. `kill -9` alone keeps the page cache and could never show a missing sync.
//!
//! Nothing is left behind on any way out: the mount lives in a mount namespace of this process, and the loop device
//! frees itself with its last mount, so even a SIGKILL of this process takes both along.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::lane::Run;
use super::server::Server;

/// Opens the mount point, says so, waits for a line, cuts the power. 0x8004587D is FS_IOC_SHUTDOWN of ext4, 2 its
/// flag "without the journal". In Python because an ioctl would be the only unsafe code of this package.
const CUTTER: &str = r#"
import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
print("armed", flush=True)
if sys.stdin.readline():
    fcntl.ioctl(disk, 0x8004587D, struct.pack("I", 2))
    print("cut", flush=True)
"#;

/// Where the data directory is.
pub enum Ground {
    /// A folder; a crash is a `kill -9`.
    Folder(PathBuf),
    /// A disk of its own; a crash is a power cut.
    Disk(Disk),
}

/// Says what is missing when power cuts cannot be made here.
pub fn check_power_can_be_cut() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("power cuts need root: they mount a file system. Run it as root, or run `crash kill`".into());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("power cuts need loop devices, /dev/loop-control does not exist. Run it where it does".into());
    }
    Ok(())
}

/// An ext4 file system in a file.
pub struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
    size_mib: u64,
    is_mounted: bool,
}

impl Disk {
    /// A disk of this size in `folder`, not made yet.
    pub fn new(folder: &Path, size_mib: u64) -> Disk {
        Disk { image: folder.join("disk.img"), mount_point: folder.join("disk"), size_mib, is_mounted: false }
    }

    fn format(&mut self) -> Result<(), String> {
        self.unmount()?;
        let wrong = |error| format!("{}: {error}", self.image.display());
        // Sparse and new: no block of an earlier run shows through.
        let _ = fs::remove_file(&self.image);
        File::create(&self.image).and_then(|file| file.set_len(self.size_mib << 20)).map_err(wrong)?;
        fs::create_dir_all(&self.mount_point).map_err(wrong)?;
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", lazy]).arg(&self.image))?;
        self.mount()
    }

    fn mount(&mut self) -> Result<(), String> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.mount_point))?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        if !self.is_mounted {
            return Ok(());
        }
        let mut result = Ok(());
        for _ in 0..50 {
            result = run(Command::new("umount").arg(&self.mount_point));
            if result.is_ok() {
                self.is_mounted = false;
                return self.check_detached();
            }
            // A killed process may hold the file system for a moment longer.
            std::thread::sleep(Duration::from_millis(100));
        }
        result
    }

    /// The loop device must be gone with the mount, or the machine runs out of them.
    fn check_detached(&self) -> Result<(), String> {
        let mut left = String::new();
        for _ in 0..50 {
            let output = Command::new("losetup").arg("--associated").arg(&self.image).output();
            left = output
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
                .map_err(|error| format!("losetup: {error}"))?;
            if left.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("a loop device is left behind: {left}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("crash: {error}");
        }
    }
}

/// Ready to crash the server at once.
pub struct Armed(Option<Child>);

impl Ground {
    /// The server's data directory.
    pub fn data_dir(&self) -> PathBuf {
        match self {
            Ground::Folder(folder) => folder.join("data"),
            Ground::Disk(disk) => disk.mount_point.join("data"),
        }
    }

    /// Starts again with nothing.
    pub fn clear(&mut self) -> Result<(), String> {
        if let Ground::Disk(disk) = self {
            disk.format()?;
        }
        let data_dir = self.data_dir();
        let _ = fs::remove_dir_all(&data_dir);
        fs::create_dir_all(&data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
        if let Ground::Disk(disk) = self {
            // The folder itself is no promise of the server.
            run(Command::new("sync").arg("-f").arg(&disk.mount_point))?;
        }
        Ok(())
    }

    /// Prepares the crash, so that it takes no time when its moment comes.
    pub fn arm(&self) -> Result<Armed, String> {
        let Ground::Disk(disk) = self else { return Ok(Armed(None)) };
        let mut cutter = Command::new("python3")
            .args(["-c", CUTTER])
            .arg(&disk.mount_point)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("python3: {error}"))?;
        expect_line(&mut cutter, "armed")?;
        Ok(Armed(Some(cutter)))
    }

    /// Crashes now. On a disk the server stays alive for `linger` without power: what is sent to it in that time it
    /// must not acknowledge. Afterwards the data directory is there again, as the crash left it.
    pub fn crash(&mut self, armed: Armed, server: &mut Server, linger: Duration, run: &Run) -> Result<(), String> {
        // Release pairs with the Acquire of a lane that lost its connection: it must not take the crash for a fault.
        run.crashing.store(true, Ordering::Release);
        let (Ground::Disk(disk), Some(mut cutter)) = (&mut *self, armed.0) else {
            server.kill();
            return Ok(());
        };
        run.cutting.store(true, Ordering::SeqCst);
        let mut trigger = cutter.stdin.take().expect("spawned with a pipe");
        trigger.write_all(b"\n").and_then(|()| trigger.flush()).map_err(|error| format!("the cutter: {error}"))?;
        expect_line(&mut cutter, "cut")?;
        run.dark.store(true, Ordering::Release);
        std::thread::sleep(linger);
        server.kill();
        cutter.wait().map_err(|error| format!("the cutter: {error}"))?;
        disk.unmount()?;
        disk.mount()
    }

    /// Keeps a copy of the data directory for the post-mortem.
    pub fn keep(&self, to: &Path) -> Result<(), String> {
        run(Command::new("cp").arg("-a").arg(self.data_dir()).arg(to))
    }
}

fn expect_line(cutter: &mut Child, expected: &str) -> Result<(), String> {
    let output = cutter.stdout.as_mut().expect("spawned with a pipe");
    let mut line = String::new();
    // One line at a time is written, and only when it is waited for: the buffer never holds a second one.
    BufReader::new(output).read_line(&mut line).map_err(|error| format!("the cutter: {error}"))?;
    if line.trim() != expected {
        return Err(format!("the power cut did not work: the cutter said {line:?}, expected {expected:?}"));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    // Tools of the administrator are not on everybody's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(())
}
