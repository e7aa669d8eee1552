//! The server process of the crash rounds: `<command> server <zoo.cfg>`.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zorilla_proto::Zxid;

use super::conn::{Conn, Ticket};
use super::lane::SESSION_TIMEOUT_MS;

/// A connection taken by a server that is still starting may never be answered (the Java server forgets some): then
/// another one is tried.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(500);
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How to start a server; the same in every round.
pub struct Starter {
    /// The words in front of `server <zoo.cfg>`.
    pub command: Vec<String>,
    /// Additional lines of zoo.cfg.
    pub conf: Vec<String>,
    /// Where zoo.cfg and the server's output go. Never on the disk that loses its power.
    pub folder: PathBuf,
}

/// A running server. Dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Starter {
    /// Starts a server on `data_dir`, on a port of its own, without waiting for it.
    pub fn spawn(&self, data_dir: &Path) -> io::Result<Server> {
        // A new port each time: the one before may meanwhile belong to somebody's outgoing connection.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut conf = format!(
            "tickTime=2000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             maxSessionTimeout=120000\nadmin.enableServer=false\n{SNAPSHOTS}",
            data_dir.display(),
            address.port()
        );
        for line in &self.conf {
            conf.push_str(line);
            conf.push('\n');
        }
        let conf_path = self.folder.join("zoo.cfg");
        fs::write(&conf_path, conf)?;
        let log = self.folder.join("server.log");
        let out = File::create(&log)?;
        // Whatever ends this process, also a SIGKILL, must not leave the server behind: setpriv asks the kernel.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(&self.command)
            .arg("server")
            .arg(&conf_path)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .map_err(|error| io::Error::other(format!("setpriv {}: {error}", self.command.join(" "))))?;
        Ok(Server { child, address, log })
    }
}

/// So often that every crash meets snapshots, merges or purges under way.
const SNAPSHOTS: &str = "zorilla.snapshot.txns=400\nzorilla.snapshot.quietMs=20\n";

impl Server {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server gives out a session, and returns it.
    pub fn wait_serving(&mut self) -> Result<(Conn, Ticket), String> {
        let started = Instant::now();
        loop {
            let attempt = Conn::open_within(HANDSHAKE_PATIENCE, self.address, None, Zxid::ZERO, SESSION_TIMEOUT_MS);
            if let Ok(Some(opened)) = attempt {
                return Ok(opened);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended while starting, {status}:\n{}", self.tail()));
            }
            if START_TIMEOUT < started.elapsed() {
                return Err(format!("the server does not serve after {START_TIMEOUT:?}:\n{}", self.tail()));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // The only error is that it has ended already, as a server on a dead disk should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of what the server has printed.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
