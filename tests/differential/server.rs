//! Server processes: started with the same zoo.cfg, ended when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::profile::Profile;

/// A start takes a second; a busy machine may take many.
const START: Duration = Duration::from_secs(60);

/// How one kind of server is started.
#[derive(Clone, Debug)]
pub enum Program {
    /// The reference: a class path.
    Java(String),
    /// Zorilla: a binary.
    Zorilla { binary: PathBuf, takes_flags: bool },
}

impl Program {
    /// A build of Zorilla. One that takes no `-D` flags yet is started without them.
    pub fn zorilla(binary: PathBuf) -> Program {
        let help = Command::new(&binary).args(["server", "--help"]).output();
        let takes_flags = help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("-D"));
        if !takes_flags {
            println!("{} takes no -D flags: it is started without them", binary.display());
        }
        Program::Zorilla { binary, takes_flags }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Program::Java(_) => "java",
            Program::Zorilla { .. } => "zorilla",
        }
    }
}

/// Where servers keep their files and listen.
#[derive(Clone, Debug)]
pub struct Place {
    pub dir: PathBuf,
    /// The first port to try; without one the system chooses.
    pub port_base: Option<u16>,
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub program: Program,
    dir: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn free_port(base: Option<u16>, number: u32) -> io::Result<u16> {
    let Some(base) = base else {
        return TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port());
    };
    // Never the port used last: it may still be in TIME_WAIT.
    for step in 0..900 {
        let port = base + ((number + step) % 900) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port from {base} on")))
}

impl Server {
    pub fn start(program: &Program, profile: &Profile, place: &Place) -> io::Result<Server> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = place.dir.join(format!("{}-{number}-{}", program.name(), profile.name));
        fs::create_dir_all(dir.join("data"))?;
        let port = free_port(place.port_base, number)?;
        let mut cfg = vec![
            format!("dataDir={}", dir.join("data").display()),
            format!("clientPort={port}"),
            "clientPortAddress=127.0.0.1".to_owned(),
            "maxClientCnxns=0".to_owned(),
            "admin.enableServer=false".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
        ];
        let ticks = if profile.traits.quick { 100 } else { 3000 };
        cfg.push(format!("tickTime={ticks}"));
        cfg.extend(profile.cfg.iter().map(|line| (*line).to_owned()));
        let cfg_path = dir.join("zoo.cfg");
        fs::write(&cfg_path, cfg.join("\n") + "\n")?;
        let flags = profile.flags.iter().map(|flag| OsString::from(format!("-D{flag}")));
        let mut command = match program {
            Program::Java(class_path) => {
                let mut command = Command::new("java");
                command.args(["-Xmx256m", "-XX:+UseSerialGC", "-cp", class_path]).args(flags);
                command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
                command
            }
            Program::Zorilla { binary, takes_flags } => {
                let mut command = Command::new(binary);
                command.arg("server");
                if *takes_flags {
                    command.args(flags);
                }
                command
            }
        };
        command.arg(&cfg_path).current_dir(&dir).stdin(Stdio::null());
        command.stdout(File::create(dir.join("stdout"))?).stderr(File::create(dir.join("stderr"))?);
        let child = command.spawn()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Server { child, address, program: program.clone(), dir };
        let begin = Instant::now();
        while !server.word("srvr").is_ok_and(|text| text.contains("Mode: standalone")) {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended with {status}: {}", program.name(), server.said())));
            }
            if START < begin.elapsed() {
                return Err(io::Error::other(format!("{} does not serve: {}", program.name(), server.said())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// What a four-letter word answers.
    pub fn word(&self, word: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(word.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of what it printed.
    pub fn said(&self) -> String {
        let tail = |name: &str| {
            let text = fs::read(self.dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&text[text.len().saturating_sub(3000)..]).into_owned()
        };
        format!("{}{}", tail("stdout"), tail("stderr"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A directory in memory where there is one: what the disk takes is no part of the comparison.
pub fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    base.join(format!("zorilla-differential-{}", std::process::id()))
}
