//! Servers under test: fetched, started fresh, watched, stopped and swept away.
//!
//! Guarantees: a server that was started is stopped and its directory removed when its value is dropped; a server
//! counts as started only when it has granted a session. One that was ended may be launched again on what it left.

use crate::process::{self, Memory, Usage};
use crate::wire::Session;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The version of the reference that is compared with.
pub const JAVA_VERSION: &str = "3.9.5";

/// Where this package stands in the source tree: the pom, the cache and the results are beside it.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// How long one handshake may take until another is tried: the Java server forgets connections that it took while
/// it was starting.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted, for every server.
pub const LISTEN_BACKLOG: u16 = 4096;

/// How long a server may take until it grants a session.
const START: Duration = Duration::from_secs(60);

/// A server that can be compared. Written `java`, `floor`, `ours`, `ours-folded`, `ours-dedicated-2` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The reference.
    Java,
    /// The null server.
    Floor,
    /// Zorilla.
    Ours {
        /// Which driver it is told to use; `None` leaves the choice to it.
        driver: Option<Driver>,
        /// How many workers it is told to run; 0 leaves the choice to it.
        workers: u8,
    },
}

/// Where the replica runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Driver {
    /// With the first worker.
    Folded,
    /// On a thread of its own.
    Dedicated,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Driver::Folded => "folded",
            Driver::Dedicated => "dedicated",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Java => out.write_str("java"),
            Kind::Floor => out.write_str("floor"),
            Kind::Ours { driver, workers } => {
                out.write_str("ours")?;
                if let Some(driver) = driver {
                    write!(out, "-{}", driver.name())?;
                }
                match workers {
                    0 => Ok(()),
                    workers => write!(out, "-{workers}"),
                }
            }
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let wrong = || format!("server \"{text}\": expected java, floor, or ours[-folded|-dedicated][-WORKERS]");
        let mut parts = text.split('-');
        match parts.next() {
            Some("java") if text == "java" => return Ok(Kind::Java),
            Some("floor") if text == "floor" => return Ok(Kind::Floor),
            Some("ours") => {}
            _ => return Err(wrong()),
        }
        let (mut driver, mut workers) = (None, 0);
        for part in parts {
            match part {
                "folded" if driver.is_none() && workers == 0 => driver = Some(Driver::Folded),
                "dedicated" if driver.is_none() && workers == 0 => driver = Some(Driver::Dedicated),
                count if workers == 0 => {
                    workers = count.parse().ok().filter(|count| *count != 0).ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(Kind::Ours { driver, workers })
    }
}

/// What it takes to start servers.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The `java` command.
    pub java: PathBuf,
    /// The Zorilla binary.
    pub zorilla: Option<PathBuf>,
    /// Lines added to the `zoo.cfg` of Zorilla.
    pub zorilla_lines: Vec<String>,
    /// The heap of the reference, as `-Xmx` takes it.
    pub java_heap: String,
    /// A folder of cgroup v1 that servers are put into before they run.
    pub cgroup: Option<PathBuf>,
    /// The class path of the reference, once it is there.
    class_path: Option<String>,
}

/// How a server is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM: it may put its things in order.
    Term,
    /// SIGKILL.
    Kill,
}

impl End {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            End::Term => "SIGTERM",
            End::Kill => "kill -9",
        }
    }
}

impl Launcher {
    /// Checks that everything `kinds` need is there, and fetches the reference if it is among them.
    pub fn prepare(
        kinds: &[Kind],
        java: PathBuf,
        zorilla: Option<PathBuf>,
        zorilla_lines: Vec<String>,
    ) -> io::Result<Launcher> {
        let ours = kinds.iter().any(|kind| matches!(kind, Kind::Ours { .. }));
        match &zorilla {
            None if ours => {
                return Err(io::Error::other(
                    "a server \"ours\" is asked for: say with --zorilla PATH where its binary is, \
                     for instance target/release/zorilla",
                ));
            }
            Some(path) if ours && !path.is_file() => {
                return Err(io::Error::other(format!(
                    "--zorilla {}: no such file; `cargo build --release` builds it",
                    path.display()
                )));
            }
            _ => {}
        }
        let class_path = match kinds.contains(&Kind::Java) {
            true => Some(format!("{}/*", fetch_java()?.display())),
            false => None,
        };
        Ok(Launcher { java, zorilla, zorilla_lines, java_heap: "1g".to_owned(), cgroup: None, class_path })
    }

    /// A launcher that takes the reference from a class path instead of fetching it.
    pub fn with_class_path(
        kinds: &[Kind],
        java: PathBuf,
        class_path: String,
        zorilla: Option<PathBuf>,
        zorilla_lines: Vec<String>,
    ) -> io::Result<Launcher> {
        let others: Vec<Kind> = kinds.iter().copied().filter(|kind| *kind != Kind::Java).collect();
        let launcher = Launcher::prepare(&others, java, zorilla, zorilla_lines)?;
        Ok(Launcher { class_path: Some(class_path), ..launcher })
    }

    /// Starts a server on an empty `directory`, which is removed first if it is there.
    pub fn start(&self, kind: Kind, directory: &Path) -> io::Result<Server> {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(directory)?,
        }
        let directory = directory.canonicalize()?;
        let (child, address, begun) = self.spawn(kind, &directory)?;
        let mut server = Server { child, kind, address, directory, begun };
        match server.await_session() {
            Ok(()) => Ok(server),
            Err(error) => {
                Err(io::Error::new(error.kind(), format!("{kind} did not start: {error}\n{}", server.tail())))
            }
        }
    }

    /// Starts a server on what is in `directory`, without waiting for it.
    fn spawn(&self, kind: Kind, directory: &Path) -> io::Result<(Child, SocketAddr, Instant)> {
        // Asked for and given back: nobody else takes a port in the moment between on a machine that measures.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let output = File::create(directory.join(LOG))?;
        let mut command = self.command(kind, directory, address)?;
        let begun = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("starting {command:?}: {error}")))?;
        Ok((child, address, begun))
    }

    /// Starts a server that was ended again, on its directory and a new port, without waiting for it.
    pub fn again(&self, server: &mut Server) -> io::Result<()> {
        (server.child, server.address, server.begun) = self.spawn(server.kind, &server.directory)?;
        Ok(())
    }

    fn command(&self, kind: Kind, directory: &Path, address: SocketAddr) -> io::Result<Command> {
        let mut lines = vec![
            "tickTime=2000".to_owned(),
            format!("dataDir={}", directory.join("data").display()),
            format!("dataLogDir={}", directory.join("log").display()),
            format!("clientPort={}", address.port()),
            "clientPortAddress=127.0.0.1".to_owned(),
            "maxClientCnxns=0".to_owned(),
            "4lw.commands.whitelist=*".to_owned(),
            // The default of the reference is 50: handshakes beyond that many at once would wait for the client's
            // kernel to send its SYN again, and tell nothing about the server.
            format!("clientPortListenBacklog={LISTEN_BACKLOG}"),
        ];
        fs::create_dir_all(directory.join("data"))?;
        fs::create_dir_all(directory.join("log"))?;
        let config = directory.join("zoo.cfg");
        let command = match kind {
            Kind::Java => {
                let class_path =
                    self.class_path.as_ref().ok_or_else(|| io::Error::other("the jars were not fetched"))?;
                lines.push("admin.enableServer=false".to_owned());
                let mut command = self.program(&self.java);
                command
                    .args([format!("-Xms{}", self.java_heap), format!("-Xmx{}", self.java_heap)])
                    .args(["-XX:+UseG1GC", "-Dzookeeper.forceSync=yes"])
                    .arg("-cp")
                    .arg(format!("{class_path}:{PACKAGE}/java"))
                    .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
                    .arg(&config);
                command
            }
            Kind::Floor => {
                let mut command = self.program(&std::env::current_exe()?);
                command.args(["floor", "--address", &address.to_string(), "--dir"]).arg(directory.join("log"));
                command
            }
            Kind::Ours { driver, workers } => {
                let zorilla = self.zorilla.as_ref().ok_or_else(|| io::Error::other("--zorilla was not given"))?;
                if let Some(driver) = driver {
                    lines.push(format!("zorilla.driver={}", driver.name()));
                }
                if workers != 0 {
                    lines.push(format!("zorilla.workers={workers}"));
                }
                lines.extend(self.zorilla_lines.iter().cloned());
                let mut command = self.program(zorilla);
                command.arg("server").arg(&config);
                command
            }
        };
        lines.push(String::new());
        fs::write(&config, lines.join("\n"))?;
        Ok(command)
    }

    /// The program, by way of a shell that enters the cgroup if there is one.
    fn program(&self, program: &Path) -> Command {
        let Some(cgroup) = &self.cgroup else { return Command::new(program) };
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(cgroup).arg(program);
        command
    }
}

/// Copies the jars of the reference into the cache, with Maven, unless they are there.
fn fetch_java() -> io::Result<PathBuf> {
    let package = Path::new(PACKAGE);
    let jars = package.join("cache").join(format!("java-{JAVA_VERSION}"));
    // Written last: a fetch that was cut off is begun again.
    let whole = jars.join("complete");
    if whole.is_file() {
        return Ok(jars);
    }
    eprintln!("fetching the Java server {JAVA_VERSION} with Maven into {}", jars.display());
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(package.join("java").join("pom.xml"))
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .status()
        .map_err(|error| {
            io::Error::new(error.kind(), format!("running mvn, which fetches the Java server: {error}"))
        })?;
    if !status.success() {
        return Err(io::Error::other(format!("mvn could not fetch the Java server ({status})")));
    }
    let server = jars.join(format!("zookeeper-{JAVA_VERSION}.jar"));
    if !server.is_file() {
        return Err(io::Error::other(format!("mvn succeeded, but {} is not there", server.display())));
    }
    File::create(whole)?;
    Ok(jars)
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    kind: Kind,
    address: SocketAddr,
    directory: PathBuf,
    begun: Instant,
}

/// What a server prints, in its directory.
const LOG: &str = "server.log";

impl Server {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is below it is the server's; it goes with the value.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Right before it was executed.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it and waits until it is gone.
    pub fn end(&mut self, end: End) -> io::Result<()> {
        match end {
            End::Kill => self.child.kill()?,
            End::Term => {
                let pid = Pid::from_raw(self.child.id() as i32).ok_or_else(|| io::Error::other("a pid of 0"))?;
                kill_process(pid, Signal::TERM)?;
            }
        }
        self.child.wait().map(|_| ())
    }

    /// The end of what it has printed.
    pub fn tail(&self) -> String {
        let said = fs::read_to_string(self.directory.join(LOG)).unwrap_or_default();
        let from = said.lines().count().saturating_sub(20);
        let tail: Vec<&str> = said.lines().skip(from).collect();
        tail.join("\n")
    }

    /// What memory it holds.
    pub fn memory(&self) -> io::Result<Memory> {
        process::memory(&self.child.id().to_string())
    }

    /// What it has used so far.
    pub fn usage(&self) -> io::Result<Usage> {
        process::usage(&self.child.id().to_string())
    }

    /// CPU time of its threads, exactly; see [`process::running_s`].
    pub fn running_s(&self) -> io::Result<f64> {
        process::running_s(&self.child.id().to_string())
    }

    /// Waits until it grants a session.
    pub fn await_session(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            let refused = match Session::open_within(HANDSHAKE_PATIENCE, self.address, 10_000) {
                Ok(session) => return session.close(),
                Err(error) => error,
            };
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("it ended with {status}")));
            }
            if START < begun.elapsed() {
                return Err(refused);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away, so nothing has to be put in order. Neither step can be made up for if it fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
        // What the removed files left to write back must not disturb the next server.
        rustix::fs::sync();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_read_back_from_its_text() {
        for text in ["java", "floor", "ours", "ours-folded", "ours-dedicated", "ours-2", "ours-folded-2"] {
            assert_eq!(text.parse::<Kind>().expect(text).to_string(), text);
        }
        for text in ["", "Java", "java-2", "ours-", "ours-0", "ours-folded-folded", "ours-2-folded", "ours-300"] {
            assert!(text.parse::<Kind>().expect_err(text).contains("expected java, floor"), "{text}");
        }
    }

    #[test]
    fn ours_without_a_binary_is_refused_before_anything_runs() {
        let ours = [Kind::Ours { driver: None, workers: 0 }];
        let java = PathBuf::from("java");
        let error = Launcher::prepare(&ours, java.clone(), None, Vec::new()).expect_err("no binary");
        assert!(error.to_string().contains("--zorilla PATH"), "{error}");
        let missing = Some(PathBuf::from("/nowhere/zorilla"));
        let error = Launcher::prepare(&ours, java, missing, Vec::new()).expect_err("no such binary");
        assert!(error.to_string().contains("no such file"), "{error}");
    }
}
