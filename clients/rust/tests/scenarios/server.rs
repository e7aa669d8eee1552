//! One server in a temporary folder; it survives `kill` and `start` with its data, and is gone with this value.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zookeeper_client::{Client, Connector};

pub const TICK: Duration = Duration::from_millis(500);
pub const SESSION: Duration = Duration::from_secs(8);
const START: Duration = Duration::from_secs(30);

pub struct Server {
    flags: &'static [&'static str],
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// Returns when requests are answered.
    pub async fn start_new(flags: &'static [&'static str]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("zorilla-rust-{}-{number}", process::id()));
        fs::create_dir_all(folder.join("data")).expect("the folder can be made");
        let port = free_port();
        let config = format!(
            "tickTime={}\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             4lw.commands.whitelist=*\nadmin.enableServer=false\n{}\n",
            TICK.as_millis(),
            folder.join("data").display(),
            std::env::var("ZORILLA_CONF").unwrap_or_default(),
        );
        fs::write(folder.join("zoo.cfg"), config).expect("the configuration can be written");
        let mut server = Server { flags, folder, port, process: None };
        server.start().await;
        server
    }

    pub async fn start(&mut self) {
        let command = std::env::var("ZORILLA").expect("ZORILLA names the server");
        let mut words = command.split_whitespace();
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("server.log"))
            .expect("the log can be opened");
        let child = Command::new(words.next().expect("ZORILLA is not empty"))
            .args(words)
            .arg("server")
            .args(self.flags)
            .arg(self.folder.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor can be copied"))
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        self.process = Some(child);
        let serving = async {
            while !self.serves().await {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(START, serving).await.is_err() {
            let log = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
            panic!("the server does not serve; its log:\n{log}");
        }
    }

    async fn serves(&self) -> bool {
        let mut answer = Vec::new();
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"srvr").await?;
            stream.read_to_end(&mut answer).await
        };
        matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(_))) && answer.starts_with(b"Zookeeper version")
    }

    /// A crash of the process.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("our own child can be killed");
            process.wait().expect("a killed child ends");
        }
    }

    pub async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    pub fn hosts(&self, chroot: &str) -> String {
        format!("127.0.0.1:{}{chroot}", self.port)
    }

    pub async fn client(&self) -> Client {
        self.client_by(connector()).await
    }

    pub async fn client_by(&self, connector: Connector) -> Client {
        connector.connect(&self.hosts("")).await.expect("a session is granted")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // What is left behind in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub fn connector() -> Connector {
    Client::connector().with_session_timeout(SESSION)
}

/// A port below those that the system gives to outgoing connections: no client can take it while the server is down.
fn free_port() -> u16 {
    let start = process::id() * 7;
    (0..1000)
        .map(|attempt| 24000 + ((start + attempt) % 1000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}
