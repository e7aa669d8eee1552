//! Every shape against the floor for a moment, the comparison end to end, and servers that lie.
//!
//! Guarantees: the generator accepts a server that keeps the protocol, and fails on each kind of lie it claims to
//! notice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

const PERF: &str = env!("CARGO_BIN_EXE_zorilla-perf");

struct Floor {
    child: Child,
    address: String,
}

impl Floor {
    fn start(directory: &Path) -> Floor {
        let mut child = Command::new(PERF)
            .args(["floor", "--address", "127.0.0.1:0", "--dir"])
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the floor starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it serves");
        let address = line.split(' ').nth(2).expect(&line).trim_end_matches(';').to_owned();
        Floor { child, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn load(address: &str, shape: &str, more: &[&str]) -> Output {
    Command::new(PERF)
        .args(["load", "--address", address, shape, "--json", "--keys", "200"])
        .args(more)
        .output()
        .expect("the generator runs")
}

/// The figures of a run that must succeed.
fn figures(output: &Output) -> serde_json::Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).expect("figures as JSON")
}

#[test]
fn every_shape_runs_on_the_floor_and_every_reply_is_right() {
    let directory = tempfile::tempdir().expect("a directory");
    let floor = Floor::start(directory.path());
    let shapes = [
        "ping:2x4",
        "create-100:1x1",
        "create-1k:16x32",
        "set-100:16x1",
        "set-1k:16x32",
        "get-1k:16x32",
        "get-1k:128x1",
        "mixed-1k:16x32",
        "mixed-1k:4x8@2000",
        "multi10-100:16x8",
        "ephemeral-100:16x8",
        "exists:16x8",
        "sessions:100x16",
        // Larger than what either side reads at once, and than a batch of the floor holds of them.
        "set-300k:8x4",
        "mixed-300k:8x4",
    ];
    for shape in shapes {
        let output = load(&floor.address, shape, &["--seconds", "0.5", "--warmup", "0.1", "--threads", "2"]);
        let figures = figures(&output);
        assert!(0 < figures["ops"].as_u64().expect("a count"), "{shape}: {figures}");
        assert_eq!(figures["violations"], 0, "{shape}");
        assert_eq!(figures["unanswered"], 0, "{shape}");
        assert_eq!(figures["errors"], serde_json::json!({}), "{shape}");
        assert!(figures["p50_us"].as_f64() <= figures["p99_us"].as_f64(), "{shape}");
    }
}

#[test]
fn a_run_of_a_number_of_requests_makes_exactly_these() {
    let directory = tempfile::tempdir().expect("a directory");
    let floor = Floor::start(directory.path());
    for shape in ["create-100:7x3", "get-100:3x1", "set-100:2x2@5000", "multi10-100:2x3", "ephemeral-100:3x7"] {
        let figures = figures(&load(&floor.address, shape, &["--ops", "1001", "--threads", "2"]));
        assert_eq!(figures["ops"], 1001, "{shape}");
        let by_second: u64 = figures["series"].as_array().expect("a series").iter().filter_map(|it| it.as_u64()).sum();
        assert_eq!(by_second, 1001, "{shape}");
    }
}

#[test]
fn the_open_loop_keeps_its_rate() {
    let directory = tempfile::tempdir().expect("a directory");
    let floor = Floor::start(directory.path());
    let figures = figures(&load(&floor.address, "get-100:4x64@1000", &["--seconds", "3", "--warmup", "0.2"]));
    let rate = figures["ops_per_s"].as_f64().expect("a rate");
    assert!((950.0..=1050.0).contains(&rate), "{rate}");
}

#[test]
fn a_comparison_keeps_its_runs_and_writes_page_and_picture() {
    let directory = tempfile::tempdir().expect("a directory");
    let results = directory.path().join("results");
    let output = Command::new(PERF)
        .args(["compare", "--servers", "floor", "--shapes", "get-1k:16x1,create-100:2x2"])
        .args(["--repetitions", "2", "--seconds", "0.5", "--warmup", "0.1", "--keys", "100", "--dir"])
        .arg(directory.path().join("data"))
        .arg("--results")
        .arg(&results)
        .output()
        .expect("the comparison runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let folder = std::fs::read_dir(&results).expect("results").next().expect("a folder").expect("its name").path();
    let runs = std::fs::read_to_string(folder.join("runs.jsonl")).expect("the runs");
    assert_eq!(runs.matches("\"record\":\"run\"").count(), 4, "{runs}");
    assert_eq!(runs.matches("\"record\":\"disk\"").count(), 2);
    let page = std::fs::read_to_string(folder.join("report.md")).expect("the page");
    assert!(page.contains("| create-100:2x2 | floor |") && page.contains("| get-1k:16x1 | floor |"), "{page}");
    assert!(said.contains(&page));
    assert!(std::fs::read_to_string(folder.join("plot.svg")).expect("the picture").starts_with("<svg"));
    // The server's data does not stay behind.
    assert!(!directory.path().join("data/floor").exists());
    let again = Command::new(PERF).arg("report").arg(&folder).output().expect("the report runs");
    assert_eq!(String::from_utf8_lossy(&again.stdout), page);
}

#[test]
fn sessions_of_a_comparison_come_in_rounds_and_the_floor_has_no_watches() {
    let directory = tempfile::tempdir().expect("a directory");
    let results = directory.path().join("results");
    let output = Command::new(PERF)
        .args(["compare", "--servers", "floor", "--shapes", "sessions:50x8,sharedwatches", "--repetitions", "1"])
        .args(["--seconds", "0.2", "--warmup", "0.1", "--dir"])
        .arg(directory.path().join("data"))
        .arg("--results")
        .arg(&results)
        .output()
        .expect("the comparison runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = std::fs::read_dir(&results).expect("results").next().expect("a folder").expect("its name").path();
    let lines = std::fs::read_to_string(folder.join("runs.jsonl")).expect("the runs");
    let runs: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|record: &serde_json::Value| record["record"] == "run")
        .collect();
    assert_eq!(runs.len(), 1, "{lines}");
    assert_eq!(runs[0]["shape"], "sessions:50x8");
    let rounds = runs[0]["summary"]["rounds"].as_array().expect("rounds").len() as u64;
    assert!(3 <= rounds && runs[0]["summary"]["ops"] == 50 * rounds, "{}", runs[0]);
    assert!(0.0 < runs[0]["ops_per_cpu_s"].as_f64().expect("a rate"), "{}", runs[0]);
}

#[test]
fn attacks_on_a_server_that_does_not_start_fail() {
    let directory = tempfile::tempdir().expect("a directory");
    let attack = |arguments: &[&str]| {
        let output = Command::new(PERF)
            .args(["hostile", "--quick", "--server", "/bin/false", "--dir"])
            .arg(directory.path().join("hostile"))
            .args(arguments)
            .output()
            .expect("the attacks run");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(attack(&[]).contains("ended while starting"));
    assert!(attack(&["--only", "flattery"]).contains("in none of idle-connections come-and-go"));
}

#[test]
fn a_fill_counts_znodes_memory_and_stalls() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = Command::new(PERF)
        .args(["fill", "--servers", "floor", "--znodes", "20000", "--stall-ms", "1", "--probe-ms", "1", "--dir"])
        .arg(directory.path().join("data"))
        .arg("--results")
        .arg(directory.path().join("results"))
        .output()
        .expect("the fill runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("floor: 20000 znodes in "), "{said}");
    assert!(said.contains("B anonymous per znode") && said.contains("disk beside it: "), "{said}");
    assert!(said.contains("stalls above 1 ms: "), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_an_error_in_words() {
    let output = load("127.0.0.1:1", "ping:1x1", &[]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("preparing the run") && said.contains("refused"), "{said}");
}

/// What a scripted server does wrong, from its hundredth reply to a measured request on.
#[derive(Clone, Copy, Debug)]
enum Lie {
    Nothing,
    Xid,
    ZxidFalls,
    ZxidRepeats,
    OtherZnode,
    OtherPath,
    DataFlipped,
    StaleData,
    ErrorCode,
    BodyBehindError,
    Notification,
    HugeFrame,
    HangsUp,
    Silence,
}

/// A server that is honest but for one lie. It forwards to the floor and changes
/// replies on their way: that way its honest replies are honest whatever the request was.
fn liar(floor: String, lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let client = client.expect("a client");
            let server = TcpStream::connect(&floor).expect("the floor");
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("a socket");
            }
            let [mut from_client, mut to_server] =
                [&client, &server].map(|socket| socket.try_clone().expect("a socket"));
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            // The first connection prepares the run and is served honestly.
            let lie = if number == 0 { Lie::Nothing } else { lie };
            thread::spawn(move || forward(server, client, lie));
        }
    });
    address
}

fn forward(mut server: TcpStream, mut client: TcpStream, lie: Lie) -> std::io::Result<()> {
    let mut kept: Option<Vec<u8>> = None;
    for number in 0.. {
        let mut length = [0; 4];
        server.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        server.read_exact(&mut payload)?;
        if number < 100 {
            kept = Some(payload.clone());
        } else {
            match lie {
                Lie::Nothing => {}
                Lie::Xid => payload[3] ^= 0x40,
                Lie::ZxidFalls => payload[4..12].copy_from_slice(&1i64.to_be_bytes()),
                Lie::ZxidRepeats => {
                    payload[4..12].copy_from_slice(&kept.as_ref().expect("an earlier reply")[4..12]);
                    kept = Some(payload.clone());
                }
                // Behind header, length and the eight bytes of the stamp's mark stands the node's number.
                Lie::OtherZnode => payload[16 + 4 + 8] ^= 1,
                Lie::OtherPath => *payload.last_mut().expect("a path") ^= 1,
                Lie::DataFlipped => payload[16 + 4 + 90] ^= 1,
                // The stamp's sequence, and the version in the stat behind the data with it.
                Lie::StaleData if payload.len() == 16 + 4 + 100 + 68 => {
                    let data = 16 + 4;
                    let version = data + 100 + 32;
                    payload[data + 16..data + 24].copy_from_slice(&0u64.to_be_bytes());
                    payload[data + 12..data + 16].copy_from_slice(&u32::MAX.to_be_bytes());
                    payload[version..version + 4].copy_from_slice(&0i32.to_be_bytes());
                }
                // A reply to a set: only gets can be stale.
                Lie::StaleData => {}
                Lie::ErrorCode => {
                    payload[12..16].copy_from_slice(&(-101i32).to_be_bytes());
                    payload.truncate(16);
                }
                Lie::BodyBehindError => payload[12..16].copy_from_slice(&(-101i32).to_be_bytes()),
                Lie::Notification => payload[..4].copy_from_slice(&(-1i32).to_be_bytes()),
                Lie::HugeFrame => {
                    client.write_all(&u32::MAX.to_be_bytes())?;
                    return Ok(());
                }
                Lie::HangsUp => return client.shutdown(std::net::Shutdown::Both),
                Lie::Silence => continue,
            }
        }
        client.write_all(&(payload.len() as u32).to_be_bytes())?;
        client.write_all(&payload)?;
    }
    Ok(())
}

#[test]
fn every_lie_of_a_server_fails_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let floor = Floor::start(directory.path());
    let cases = [
        (Lie::Nothing, "mixed-100:1x1", ""),
        // A connection must read its own writes, and with one client every write is its own.
        (Lie::StaleData, "mixed-100:1x1", "not its latest"),
        (Lie::Xid, "get-100:1x1", "a reply with xid"),
        (Lie::ZxidFalls, "set-100:1x1", "the zxid fell from"),
        (Lie::ZxidRepeats, "create-100:1x1", "a write has"),
        (Lie::OtherZnode, "get-100:1x1", "got the data of"),
        (Lie::OtherPath, "create-100:1x1", "was answered with"),
        (Lie::DataFlipped, "get-100:1x1", "not what was written"),
        (Lie::OtherPath, "multi10-100:1x1", "multi: behind 10 results"),
        (Lie::ZxidRepeats, "ephemeral-100:1x1", "a write has"),
        (Lie::BodyBehindError, "exists:1x1", "with a body"),
        (Lie::ErrorCode, "get-100:1x1", "nonode"),
        (Lie::BodyBehindError, "get-100:1x1", "with a body"),
        (Lie::Notification, "ping:1x1", "a notification"),
        (Lie::HugeFrame, "ping:1x1", "frame of"),
        (Lie::HangsUp, "ping:1x1", "connections_lost\":1"),
        (Lie::Silence, "ping:1x1", "unanswered\":1"),
    ];
    thread::scope(|scope| {
        for (lie, shape, expected) in cases {
            let floor = floor.address.clone();
            scope.spawn(move || check_lie(floor, lie, shape, expected));
        }
    });
}

fn check_lie(floor: String, lie: Lie, shape: &str, expected: &str) {
    let address = liar(floor, lie);
    let output = Command::new(PERF)
        .args(["load", "--address", &address, shape, "--json", "--keys", "20"])
        // Silence has no end but that of the time.
        .args(if matches!(lie, Lie::Silence) { ["--seconds", "1"] } else { ["--ops", "600"] })
        .output()
        .expect("the generator runs");
    let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
    let honest = matches!(lie, Lie::Nothing);
    assert_eq!(output.status.success(), honest, "{lie:?}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(expected), "{lie:?}: {said}");
}
