//! Paths as deep as they go: nothing may recurse over them, and nobody may wait for them.

use super::ground::{Ground, TOP, Told, children, create, delete, get, must, open, set};
use crate::crash::conn::{Conn, Reply};
use crate::limits::HOSTILE_DEEP_STEP;
use crate::wire::code_name;
use std::time::Instant;
use zorilla_proto::Code;
use zorilla_proto::client::{
    AddWatchMode, AddWatchRequest, CreateMode, EventType, PathRequest, PathWatchRequest, Request, WatcherEvent,
    XID_NOTIFICATION,
};
use zorilla_proto::jute::Reader;

/// Ephemerals at the bottom.
const EPHEMERALS: usize = 20;

/// A frame around a path, generously.
const AROUND_PATH_BYTES: usize = 256;

/// Components are one letter each, so that a path of as many bytes has the most of them.
const LEVEL: &str = "/d";

fn call(conn: &mut Conn, what: &str, request: &Request<'_>, expected: Code) -> Result<Reply, String> {
    let reply = conn.call(request).map_err(|error| format!("{what}: {error}"))?;
    match reply.header.code {
        code if code == expected.raw() => Ok(reply),
        code => Err(format!("{what}: {}, expected {}", code_name(code), expected.name())),
    }
}

/// Requests to which nobody waits for a single reply: in steps, so that neither side is held up by the other.
fn many(conn: &mut Conn, what: &str, requests: impl Iterator<Item = (String, bool)>) -> Result<usize, String> {
    let said = |error: std::io::Error| format!("{what}: {error}");
    let (mut done, mut waiting) = (0, 0);
    let mut requests = requests.peekable();
    while requests.peek().is_some() {
        for (path, creates) in requests.by_ref().take(HOSTILE_DEEP_STEP) {
            if creates {
                conn.queue(&create(&path, b"", CreateMode::Persistent));
            } else {
                conn.queue(&delete(&path));
            }
            waiting += 1;
        }
        conn.flush().map_err(said)?;
        while 0 < waiting {
            let reply = conn.reply().map_err(said)?;
            if reply.header.code != 0 {
                return Err(format!("{what}: level {done}: {}", code_name(reply.header.code)));
            }
            waiting -= 1;
            done += 1;
        }
    }
    Ok(done)
}

/// The next frame, which must be this event.
fn expect_event(conn: &mut Conn, kind: EventType, path: &str) -> Result<(), String> {
    let reply = conn.reply().map_err(|error| format!("waiting for an event: {error}"))?;
    let event = WatcherEvent::decode(&mut Reader::new(&reply.body)).map_err(|error| error.to_string())?;
    if reply.header.xid != XID_NOTIFICATION || event.kind != kind.raw() || event.path != path {
        return Err(format!(
            "expected {kind:?} of a path of {} bytes, got xid {} with kind {} of {} bytes",
            path.len(),
            reply.header.xid,
            event.kind,
            event.path.len()
        ));
    }
    Ok(())
}

/// Creates a chain of znodes, works at its bottom, and takes it away again.
pub fn trees(ground: &Ground) -> Result<Told, String> {
    let levels = ground.share(10_000, 2_000);
    let root = format!("{TOP}/deep");
    let path = |level: usize| format!("{root}{}", LEVEL.repeat(level));
    let bottom = path(levels);
    let mut conn = open(ground.address, 120_000)?;
    let mut watcher = open(ground.address, 120_000)?;
    let mut owner = open(ground.address, 120_000)?;
    let mut told = Told::new(String::new());

    let begun = Instant::now();
    must(&mut conn, "creating", &create(&root, b"", CreateMode::Persistent))?;
    let made = many(&mut conn, "creating levels", (1..=levels).map(|level| (path(level), true)))?;
    let created = begun.elapsed();

    // Watches of every kind: at the bottom, and over the whole chain.
    let begun = Instant::now();
    let watch = |mode: AddWatchMode, path: &str| {
        Request::AddWatch(AddWatchRequest { path: Some(path.to_owned().into()), mode: mode.raw() })
    };
    let data_watch = Request::GetData(PathWatchRequest { path: Some(bottom.as_str().into()), watch: true });
    must(&mut watcher, "watching the bottom", &data_watch)?;
    must(&mut conn, "setting the bottom", &set(&bottom, b"one"))?;
    expect_event(&mut watcher, EventType::NodeDataChanged, &bottom)?;
    must(&mut watcher, "watching everything", &watch(AddWatchMode::PersistentRecursive, &root))?;
    must(&mut watcher, "watching half", &watch(AddWatchMode::PersistentRecursive, &path(levels / 2)))?;
    must(&mut conn, "setting the bottom", &set(&bottom, b"two"))?;
    expect_event(&mut watcher, EventType::NodeDataChanged, &bottom)?;
    // Only the bottom: two recursive watches of one client above it are one event.
    let below = format!("{bottom}/x");
    must(&mut conn, "creating below", &create(&below, b"", CreateMode::Persistent))?;
    expect_event(&mut watcher, EventType::NodeCreated, &below)?;
    must(&mut conn, "deleting below", &delete(&below))?;
    expect_event(&mut watcher, EventType::NodeDeleted, &below)?;
    must(&mut watcher, "closing the watcher", &Request::CloseSession)?;
    let watched = begun.elapsed();

    // Reads over the whole chain.
    must(&mut conn, "getting the bottom", &get(&bottom))?;
    let count = Request::GetAllChildrenNumber(PathRequest { path: Some(root.as_str().into()) });
    let body = must(&mut conn, "counting all below", &count)?;
    let counted = Reader::new(&body).i32().map_err(|error| error.to_string())?;
    told.demand(counted as usize == levels, || format!("{counted} znodes counted below the root of {levels}"));
    for level in [0, levels / 2, levels - 1] {
        let listing = Request::GetChildren(PathWatchRequest { path: Some(path(level).into()), watch: false });
        let found = children(&must(&mut conn, "listing", &listing)?)?;
        told.demand(found == ["d"], || format!("level {level} has children {found:?}"));
    }

    // Ephemerals at the bottom go with their session.
    for index in 0..EPHEMERALS {
        let request_path = format!("{bottom}/{index}");
        must(&mut owner, "creating an ephemeral", &create(&request_path, b"", CreateMode::Ephemeral))?;
    }
    let begun = Instant::now();
    must(&mut owner, "closing the owner of ephemerals", &Request::CloseSession)?;
    let closed = begun.elapsed();
    let listing = Request::GetChildren(PathWatchRequest { path: Some(bottom.as_str().into()), watch: false });
    let found = children(&must(&mut conn, "listing the bottom", &listing)?)?;
    told.demand(found.is_empty(), || format!("{} ephemerals outlive their session", found.len()));

    // The deepest path that fits a frame: there is no such znode, and it may be said and watched all the same.
    let frame_bytes_max = zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT - AROUND_PATH_BYTES;
    let deepest = LEVEL.repeat(frame_bytes_max / LEVEL.len());
    let mut guest = open(ground.address, 120_000)?;
    let exists = Request::Exists(PathWatchRequest { path: Some(deepest.as_str().into()), watch: true });
    call(&mut guest, "exists of the deepest path", &exists, Code::NoNode)?;
    let lone = create(&deepest, b"", CreateMode::Persistent);
    call(&mut guest, "creating the deepest path", &lone, Code::NoNode)?;
    call(&mut guest, "deleting the deepest path", &delete(&deepest), Code::NoNode)?;
    for mode in [AddWatchMode::Persistent, AddWatchMode::PersistentRecursive] {
        call(&mut guest, "watching the deepest path", &watch(mode, &deepest), Code::Ok)?;
    }
    must(&mut guest, "closing", &Request::CloseSession)?;

    let begun = Instant::now();
    let gone = many(&mut conn, "deleting levels", (1..=levels).rev().map(|level| (path(level), false)))?;
    must(&mut conn, "deleting the root", &delete(&root))?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    told.text = format!(
        "{made} levels created in {:.1} s, {gone} deleted in {:.1} s; watches at and over all of them fired within \
         {:.0} ms; a session closed with {EPHEMERALS} ephemerals of {} KiB of path each within {:.0} ms; a path of {} \
         components refused and watched",
        created.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        watched.as_secs_f64() * 1e3,
        bottom.len() / 1024,
        closed.as_secs_f64() * 1e3,
        deepest.len() / LEVEL.len()
    );
    ground.memory();
    Ok(told)
}
