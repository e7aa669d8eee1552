//! The built server as a process, and sockets that are connected to it.
//!
//! Every test target adds its own verbs in an `impl Server`: here is what all of them need.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scratch::Scratch;

/// Nothing that works takes this long on the slowest machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server. It is killed when this is dropped, and what it said is shown when its test has failed.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    /// Where its `stdout` and `stderr` are.
    pub out: PathBuf,
    /// Keeps the directory until the process is gone.
    _home: Arc<Scratch>,
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Writes a zoo.cfg with these lines behind those that every test wants, and says where it is.
pub fn zoo_cfg(home: &Scratch, data: &Path, port: u16, lines: &str) -> PathBuf {
    let path = home.join(format!("zoo-{port}.cfg"));
    let text = format!(
        "tickTime=500\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n{lines}\n",
        data.display()
    );
    fs::write(&path, text).expect("a zoo.cfg can be written");
    path
}

impl Server {
    /// Starts one on a free port, and waits until it takes connections.
    pub fn launch(home: &Arc<Scratch>, data: &Path, lines: &str) -> Server {
        let port = free_port();
        let mut server = Server::spawn(home, &zoo_cfg(home, data, port, lines), port);
        let begun = Instant::now();
        while TcpStream::connect(server.address).is_err() {
            let ended = server.child.try_wait().expect("the server's state");
            assert!(ended.is_none(), "the server ended with {ended:?}: {}", server.text());
            assert!(begun.elapsed() < PATIENCE, "the server does not listen: {}", server.text());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Starts one that may not get as far as to listen.
    pub fn spawn(home: &Arc<Scratch>, cfg: &Path, port: u16) -> Server {
        let out = home.join(format!("out-{port}"));
        fs::create_dir_all(&out).expect("a directory for output");
        let file = |name: &str| File::create(out.join(name)).expect("a file for output");
        let child = Command::new(env!("CARGO_BIN_EXE_zorilla"))
            .arg("server")
            .arg(cfg)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the server's binary runs");
        Server { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), out, _home: Arc::clone(home) }
    }

    /// Everything it said until now.
    pub fn text(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.out.join(name)).unwrap_or_default();
        format!("{}{}", read("stdout"), read("stderr"))
    }

    /// A connection that has said nothing yet. Reading from it fails in the end, so that no test hangs.
    pub fn socket(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.text());
        }
    }
}
