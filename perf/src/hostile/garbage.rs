//! Frames that nobody should send: random bytes, lengths that lie, records with every number in them wrong.
//!
//! Whatever the answer is to a single one of them, it comes or the connection is closed, and nobody else notices.

use super::ground::{Ground, PATIENCE, TOP, Told, create, must, open, turn};
use crate::crowd::{self, Arrival, Crowd};
use crate::wire::Random;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use zorilla_proto::Zxid;
use zorilla_proto::client::{
    Acl, AclVec, AddWatchRequest, AuthPacket, CreateMode, CreateRequest, CreateTtlRequest, DeleteRequest, MultiOp,
    MultiRequest, MultiVec, PERM_ALL, PathRequest, PathWatchRequest, ReconfigRequest, ReplyHeader, Request, SaslToken,
    SetAclRequest, SetDataRequest, SetWatches, SetWatches2, StringVec, WatchesRequest,
};
use zorilla_proto::jute::Reader;

/// What a number in a frame is replaced by.
const LIES: [i32; 9] = [i32::MIN, -2, -1, 0, 1, 0x1_0000, 0xf_ffff, 0x10_0000, i32::MAX];

/// Lengths of frames that no server takes.
const BAD_LENGTHS: [i32; 7] = [i32::MIN, i32::MIN + 1, -2, -1, 0x10_0000, 0x7f00_0000, i32::MAX];

/// How long a server may wait for more of a frame before the client gives up.
const MORE_AWAITED: Duration = Duration::from_millis(400);

/// Connections under way at once.
const UNDER_WAY: usize = 64;

/// Requests of every kind, whole.
fn requests() -> Vec<Vec<u8>> {
    let path = || Some(format!("{TOP}/garbage/znode").into());
    let (mut acl, mut multi, mut reads) = (Vec::new(), Vec::new(), Vec::new());
    let acl = AclVec::build(&mut acl, &[Acl::new(PERM_ALL, "world", "anyone")]);
    let make =
        || CreateRequest { path: path(), data: Some(b"data"), acl: Some(acl), flags: CreateMode::Persistent.raw() };
    let ttl = CreateMode::PersistentWithTtl.raw();
    let read = || PathWatchRequest { path: path(), watch: true };
    let only = || PathRequest { path: path() };
    let set = || SetDataRequest { path: path(), data: Some(b"data"), version: -1 };
    let gone = || DeleteRequest { path: path(), version: -1 };
    let writes: MultiRequest<'_> =
        MultiVec::build(&mut multi, &[MultiOp::Create(make()), MultiOp::SetData(set()), MultiOp::Delete(gone())]);
    let looks: MultiRequest<'_> =
        MultiVec::build(&mut reads, &[MultiOp::GetData(read()), MultiOp::GetChildren(read())]);
    let mut buffers: [Vec<u8>; 5] = Default::default();
    let mut names = buffers.iter_mut().map(|buffer| StringVec::build(buffer, ["/a", "/b"]));
    let mut list = || names.next().expect("five lists");
    let (data, exist, child, persistent, persistent_recursive) = (list(), list(), list(), list(), list());
    let relative_zxid = Zxid::from_raw(1);
    let all = [
        Request::Create(make()),
        Request::Create2(make()),
        Request::CreateContainer(CreateRequest { flags: CreateMode::Container.raw(), ..make() }),
        Request::CreateTtl(CreateTtlRequest {
            path: path(),
            data: Some(b"data"),
            acl: Some(acl),
            flags: ttl,
            ttl_ms: 60_000,
        }),
        Request::Exists(read()),
        Request::GetData(read()),
        Request::SetData(set()),
        Request::GetAcl(only()),
        Request::SetAcl(SetAclRequest { path: path(), acl: Some(acl), version: -1 }),
        Request::GetChildren(read()),
        Request::GetChildren2(read()),
        Request::Sync(only()),
        Request::Ping,
        Request::Multi(writes),
        Request::MultiRead(looks),
        Request::Reconfig(ReconfigRequest {
            joining: Some("server.9=a:1:2;3".into()),
            leaving: Some("1".into()),
            new_members: None,
            config_id: -1,
        }),
        Request::AddWatch(AddWatchRequest { path: path(), mode: 1 }),
        Request::CheckWatches(WatchesRequest { path: path(), kind: 5 }),
        Request::RemoveWatches(WatchesRequest { path: path(), kind: 5 }),
        Request::Auth(AuthPacket { kind: 0, scheme: Some("digest".into()), auth: Some(b"user:password") }),
        Request::Sasl(SaslToken { token: Some(b"token") }),
        Request::SetWatches(SetWatches { relative_zxid, data, exist, child }),
        Request::SetWatches2(SetWatches2 { relative_zxid, data, exist, child, persistent, persistent_recursive }),
        Request::GetEphemerals(only()),
        Request::GetAllChildrenNumber(only()),
        Request::WhoAmI,
        Request::DeleteContainer(only()),
        Request::Delete(gone()),
        Request::CloseSession,
    ];
    all.iter()
        .map(|request| {
            let mut frame = Vec::new();
            request.encode_frame(1, &mut frame);
            frame
        })
        .collect()
}

/// A frame around `payload`.
fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// What one connection sends. With a greeting the frames come behind a handshake.
struct Script {
    greeted: bool,
    bytes: Vec<u8>,
    /// A server can only close; it may not answer.
    must_close: bool,
}

fn scripts(ground: &Ground) -> (Vec<Script>, usize) {
    let mut random = Random::new(ground.seed);
    let mut scripts = Vec::new();
    let bytes = |random: &mut Random, count: u32| -> Vec<u8> { (0..count).map(|_| random.next() as u8).collect() };
    // Random bytes, as a stream and in good frames, in front of a handshake and behind it.
    for number in 0..ground.share(3_000, 400) {
        let greeted = number % 2 == 0;
        let count = 1 + random.below(300);
        let noise = bytes(&mut random, count);
        scripts.push(Script { greeted, bytes: if number % 4 < 2 { noise } else { framed(&noise) }, must_close: false });
    }
    // Frames whose length is one that no server takes.
    for length in BAD_LENGTHS {
        for greeted in [false, true] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 64]);
            scripts.push(Script { greeted, bytes, must_close: true });
        }
    }
    // Frames too short for a header, or for a handshake.
    for count in 0..8u8 {
        scripts.push(Script { greeted: true, bytes: framed(&vec![0; usize::from(count)]), must_close: true });
    }
    for count in 0..crowd::handshake(1).len() - 5 {
        let hello = &crowd::handshake(4_000)[4..][..count];
        scripts.push(Script { greeted: false, bytes: framed(hello), must_close: count < 40 });
    }
    // Every number of every request, wherever it may stand, wrong; and every request cut off everywhere.
    let mut lies = 0;
    for request in requests() {
        let step = if ground.quick { 4 } else { 1 };
        for at in (8..request.len().saturating_sub(3)).step_by(step) {
            for lie in LIES {
                let mut bytes = request.clone();
                bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
                scripts.push(Script { greeted: true, bytes, must_close: false });
                lies += 1;
            }
        }
        for count in (8..request.len() - 4).step_by(step) {
            scripts.push(Script { greeted: true, bytes: framed(&request[4..][..count]), must_close: false });
            lies += 1;
        }
    }
    (scripts, lies)
}

/// Sends all of it, each script on a connection of its own.
pub fn frames(ground: &Ground) -> Result<Told, String> {
    let folder = format!("{TOP}/garbage");
    let mut conn = open(ground.address, 120_000)?;
    must(&mut conn, "creating", &create(&folder, b"", CreateMode::Persistent))?;
    let (scripts, lies) = scripts(ground);
    let hello = crowd::handshake(4_000);
    let mut good_end = Vec::new();
    Request::CloseSession.encode_frame(2, &mut good_end);
    let mut crowd = Crowd::new().map_err(|error| format!("poll: {error}"))?;
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    let (mut begun, mut closed, mut answered) = (0, 0, 0);
    // Frames that came on a connection, and whether the first of them was the welcome.
    let mut frames = vec![0u32; scripts.len()];
    let mut heard: Vec<Instant> = Vec::with_capacity(scripts.len());
    let mut over = Vec::new();
    let (mut stuck, mut impudent) = (0, 0);
    // Everybody before this one is gone.
    let mut oldest = 0;
    let start = Instant::now();
    while begun < scripts.len() || 0 < crowd.open() {
        while begun < scripts.len() && crowd.open() < UNDER_WAY {
            let script = &scripts[begun];
            let at = crowd.connect(ground.address, ground.source(begun)).map_err(|error| error.to_string())?;
            heard.push(Instant::now());
            if script.greeted {
                crowd.send(at, &hello);
                crowd.send(at, &script.bytes);
                // Whoever takes the bytes for a good request, or for the beginning of one, is given an end.
                crowd.send(at, &good_end);
            } else {
                crowd.send(at, &script.bytes);
            }
            begun += 1;
        }
        turn(&mut crowd, |at, arrival, _| match arrival {
            Arrival::Frame(payload) => {
                frames[at] += 1;
                heard[at] = Instant::now();
                let greeted = scripts[at].greeted;
                if greeted && frames[at] == 1 {
                    return;
                }
                if let Ok(header) = ReplyHeader::decode(&mut Reader::new(payload)) {
                    answered += 1;
                    *codes.entry(header.code).or_default() += 1;
                    impudent += usize::from(scripts[at].must_close);
                }
            }
            Arrival::Closed => closed += 1,
        })?;
        // Bytes that could be the beginning of a long frame are waited for; that ends with this client. An answer that
        // is due, be it a welcome or a close, may take its time on a busy machine.
        for (at, script) in scripts.iter().enumerate().take(begun).skip(oldest) {
            if !crowd.is_open(at) {
                oldest += usize::from(at == oldest);
                continue;
            }
            let due = script.must_close || (script.greeted && frames[at] == 0);
            if if due { PATIENCE / 2 } else { MORE_AWAITED } < heard[at].elapsed() {
                stuck += usize::from(script.must_close);
                over.push(at);
            }
        }
        for at in over.drain(..) {
            crowd.close(at, true);
        }
        if 10 * PATIENCE < start.elapsed() {
            return Err(format!("{begun} of {} scripts after {:?}", scripts.len(), start.elapsed()));
        }
    }
    let kinds: Vec<String> =
        codes.iter().map(|(code, count)| format!("{count} {}", crate::wire::code_name(*code))).collect();
    let mut told = Told::new(format!(
        "{} connections with garbage, {lies} of them requests with a wrong number or cut off: {closed} closed by the \
         server, {} waited for more, {answered} replies ({})",
        scripts.len(),
        scripts.len() - closed,
        kinds.join(", ")
    ));
    told.demand(stuck == 0, || format!("{stuck} connections with an impossible frame were not closed"));
    told.demand(impudent == 0, || format!("{impudent} impossible frames were answered"));
    let welcomed = frames.iter().zip(&scripts).filter(|(frames, script)| script.greeted && **frames == 0).count();
    told.demand(welcomed == 0, || format!("{welcomed} handshakes before the garbage were not answered"));
    super::ground::clear(&mut conn, &folder)?;
    must(&mut conn, "closing", &Request::CloseSession)?;
    Ok(told)
}
