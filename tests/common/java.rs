//! A Java server on a data directory, and copies of directories for it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a Java server may take to serve or to refuse.
const JAVA_START: Duration = Duration::from_secs(60);

/// A Java server that serves; it is killed when the value goes.
pub struct Java {
    child: Child,
    pub port: u16,
    /// Its answer to `srvr`.
    pub srvr: String,
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The class path of the Java server, if the environment names one.
pub fn class_path() -> Option<String> {
    std::env::var("JAVA_CP").ok().filter(|path| !path.is_empty())
}

/// Starts a Java server; what it prints goes to `home/java.out`. `Err`: what it said when it refused.
pub fn start(class_path: &str, home: &Path, data: &Path, log: &Path, flags: &[&str]) -> Result<Java, String> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = home.join("zoo.cfg");
    let text = format!(
        "dataDir={}\ndataLogDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n\
         tickTime=2000\nextendedTypesEnabled=true\npreAllocSize=64\n",
        data.display(),
        log.display()
    );
    fs::write(&config, text).unwrap();
    let output = fs::File::create(home.join("java.out")).unwrap();
    let child = Command::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .args(flags)
        .args(["-cp", class_path, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("java runs");
    let mut java = Java { child, port, srvr: String::new() };
    let until = Instant::now() + JAVA_START;
    while Instant::now() < until {
        if let Some(status) = java.child.try_wait().unwrap() {
            assert!(!status.success(), "a refusal is no success");
            return Err(fs::read_to_string(home.join("java.out")).unwrap());
        }
        if let Some(answer) = srvr(port) {
            java.srvr = answer;
            return Ok(java);
        }
        sleep(Duration::from_millis(100));
    }
    panic!("the Java server neither serves nor refuses after {JAVA_START:?}");
}

fn srvr(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"srvr").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains("Node count").then_some(answer)
}
