//! Rounds of watches against a server that knows just enough for them, honest and not.
//!
//! Guarantees: an event too many, an event of a znode that nobody watches, and an event of another kind fail a run.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;
use zorilla_proto::client::{
    ConnectRequest, ConnectResponse, CreateRequest, EventType, PathWatchRequest, ReplyHeader, RequestHeader,
    SetDataRequest, WatcherEvent, XID_NOTIFICATION,
};
use zorilla_proto::jute::{self, Reader};
use zorilla_proto::{Op, SessionId, Stat, Zxid, frame};

/// What the server does wrong, with every event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Nothing,
    Twice,
    OtherPath,
    OtherKind,
}

/// Who watches a path.
type Watchers = Arc<Mutex<HashMap<String, Vec<Arc<Mutex<TcpStream>>>>>>;

fn server(lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let watchers = Watchers::default();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, watchers) = (client.expect("a client"), watchers.clone());
            thread::spawn(move || serve(client, &watchers, lie));
        }
    });
    address
}

fn read_frame(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut payload)?;
    Ok(payload)
}

fn write_frame(socket: &Mutex<TcpStream>, body: impl FnOnce(&mut Vec<u8>)) -> std::io::Result<()> {
    let mut out = Vec::new();
    let mark = frame::begin(&mut out);
    body(&mut out);
    frame::end(&mut out, mark);
    socket.lock().expect("no panic").write_all(&out)
}

fn serve(mut input: TcpStream, watchers: &Watchers, lie: Lie) -> std::io::Result<()> {
    let output = Arc::new(Mutex::new(input.try_clone()?));
    let hello = read_frame(&mut input)?;
    ConnectRequest::decode(&mut Reader::new(&hello)).expect("a handshake");
    let session = SessionId::from_raw(1);
    let welcome = ConnectResponse { timeout_ms: 10_000, session, password: session.password(), read_only: Some(false) };
    write_frame(&output, |out| welcome.encode(out))?;
    loop {
        let payload = read_frame(&mut input)?;
        let mut reader = Reader::new(&payload);
        let header = RequestHeader::decode(&mut reader).expect("a header");
        let reply = ReplyHeader { xid: header.xid, zxid: 1, code: 0 };
        match Op::from_raw(header.op) {
            Some(Op::Create) => {
                let create = CreateRequest::decode(&mut reader).expect("a create");
                write_frame(&output, |out| {
                    reply.encode(out);
                    jute::put_string(out, &create.path.expect("a path"));
                })?;
            }
            Some(Op::GetData) => {
                let get = PathWatchRequest::decode(&mut reader).expect("a get");
                assert!(get.watch);
                let path = get.path.expect("a path").into_owned();
                watchers.lock().expect("no panic").entry(path).or_default().push(output.clone());
                write_frame(&output, |out| {
                    reply.encode(out);
                    jute::put_buffer(out, Some(b""));
                    STAT.encode(out);
                })?;
            }
            Some(Op::SetData) => {
                let set = SetDataRequest::decode(&mut reader).expect("a set");
                let path = set.path.expect("a path").into_owned();
                let fired = watchers.lock().expect("no panic").remove(&path).unwrap_or_default();
                let event = match lie {
                    Lie::OtherPath => WatcherEvent::new(EventType::NodeDataChanged, "/somewhere/else"),
                    Lie::OtherKind => WatcherEvent::new(EventType::NodeDeleted, &path),
                    Lie::Nothing | Lie::Twice => WatcherEvent::new(EventType::NodeDataChanged, &path),
                };
                for watcher in fired {
                    for _ in 0..if lie == Lie::Twice { 2 } else { 1 } {
                        write_frame(&watcher, |out| {
                            ReplyHeader { xid: XID_NOTIFICATION, zxid: -1, code: 0 }.encode(out);
                            event.encode(out);
                        })?;
                    }
                }
                write_frame(&output, |out| {
                    reply.encode(out);
                    STAT.encode(out);
                })?;
            }
            Some(Op::CloseSession) => return write_frame(&output, |out| reply.encode(out)),
            other => panic!("not expected: {other:?}"),
        }
    }
}

const STAT: Stat = Stat {
    czxid: Zxid::ZERO,
    mzxid: Zxid::ZERO,
    ctime_ms: 0,
    mtime_ms: 0,
    version: 0,
    cversion: 0,
    aversion: 0,
    ephemeral_owner: 0,
    data_length: 0,
    num_children: 0,
    pzxid: Zxid::ZERO,
};

fn load(lie: Lie, shape: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zorilla-perf"))
        .args(["load", "--address", &server(lie), shape, "--json", "--ops", "4"])
        .output()
        .expect("the generator runs")
}

#[test]
fn every_watch_fires_once_in_each_round() {
    for (shape, events) in [("watches:5x7", 35), ("sharedwatches:5x7", 35)] {
        let output = load(Lie::Nothing, shape);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{shape}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        let figures: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(figures["rounds"].as_array().expect("rounds").len(), 4, "{figures}");
        assert_eq!(figures["ops"], 4 * events, "{figures}");
    }
}

#[test]
fn every_wrong_event_fails_the_run() {
    for lie in [Lie::Twice, Lie::OtherPath, Lie::OtherKind] {
        let output = load(lie, "watches:2x3");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains("an event it does not wait for"), "{lie:?}: {said}");
    }
}
