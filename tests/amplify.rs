//! Small requests that ask for much: what a client can make of the server's memory and time is bounded by what is named, and
//! others are served meanwhile.

mod common {
    pub mod client;
    pub mod observe;
    pub mod scratch;
    pub mod server;
    pub mod wire;
}

use std::time::Instant;

use common::client::{Client, Session, get, set};
use common::scratch::Scratch;
use common::server::{PATIENCE, Server};
use zorilla_proto::client::{
    Acl, AclVec, AddWatchRequest, AuthPacket, CheckVersionRequest, CreateRequest, MultiOp, MultiVec, PathWatchRequest,
    Request, SetAclRequest, SetDataRequest,
};
use zorilla_proto::code::Code;

/// What any of these may add to the server's memory at its worst: twice the output that a worker holds, and what is under way.
const GROWTH_KIB_MAX: u64 = 800 << 10;

fn start(lines: &str) -> Server {
    let home = Scratch::new("amplify");
    let lines = format!("preAllocSize=65536\n4lw.commands.whitelist=mntr,ruok\n{lines}");
    Server::launch(&home, &home.join("data"), &lines)
}

fn session(server: &Server) -> Client {
    Client::begin(server.socket(), Session::NEW, 30_000).expect("a session")
}

/// Whether the server answers somebody else within the time.
fn serves_others(server: &Server, bystander: &mut Client) {
    let begun = Instant::now();
    assert_eq!(server.word("ruok"), "imok");
    assert_eq!(session(server).close(), 0);
    assert_eq!(bystander.set("/small", b"y"), 0);
    assert!(bystander.get("/small").is_ok() && begun.elapsed() < PATIENCE, "waited {:?}", begun.elapsed());
}

#[test]
fn a_multi_read_of_one_large_znode_a_thousand_times_is_an_error() {
    for driver in ["folded", "dedicated"] {
        let server = start(&format!("zorilla.driver={driver}"));
        let mut bystander = session(&server);
        bystander.create("/small", b"x", 0).expect("created");
        bystander.create("/big", &vec![7; 1_000_000], 0).expect("created");
        let mut client = session(&server);
        let read = MultiOp::GetData(PathWatchRequest { path: Some("/big".into()), watch: false });
        let ops: Vec<_> = (0..2200).map(|_| read.clone()).collect();
        let mut raw = Vec::new();
        let multi = MultiVec::<MultiOp<'_>>::build(&mut raw, &ops);
        // By itself, and behind a write of its own session.
        assert_eq!(client.ask(Request::MultiRead(multi)).code, Code::SystemError.raw());
        client.send([set("/small", b"z"), Request::MultiRead(multi)]);
        assert_eq!(client.reply().expect("a reply").code, 0);
        assert_eq!(client.reply().expect("a reply").code, Code::SystemError.raw());
        serves_others(&server, &mut bystander);
    }
}

/// How many names a getChildren lists.
fn listed(client: &mut Client, path: &str) -> usize {
    let request = PathWatchRequest { path: Some(path.into()), watch: false };
    names_of(&client.ask(Request::GetChildren(request)).body)
}

fn names_of(body: &[u8]) -> usize {
    let int = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes")) as usize;
    let (count, mut at) = (int(0), 4);
    for _ in 0..count {
        at += 4 + int(at);
    }
    assert_eq!(at, body.len(), "nothing behind the last name");
    count
}

#[test]
fn a_long_listing_is_whole_whatever_comes_and_goes_and_others_are_served_meanwhile() {
    const CHILDREN: usize = 50_000;
    const PER_MULTI: usize = 5_000;
    for driver in ["folded", "dedicated"] {
        let server = start(&format!("zorilla.driver={driver}"));
        let mut bystander = session(&server);
        bystander.create("/small", b"x", 0).expect("created");
        bystander.create("/many", b"", 0).expect("created");
        let mut client = session(&server);
        for first in (0..CHILDREN).step_by(PER_MULTI) {
            let create = |number: usize| {
                let (path, acl) = (Some(format!("/many/{number:07}").into()), Some(AclVec::OPEN));
                MultiOp::Create(CreateRequest { path, data: None, acl, flags: 0 })
            };
            let ops: Vec<_> = (first..first + PER_MULTI).map(create).collect();
            let mut raw = Vec::new();
            let multi = MultiVec::<MultiOp<'_>>::build(&mut raw, &ops);
            assert_eq!(client.ask(Request::Multi(multi)).code, 0);
        }
        assert_eq!(listed(&mut client, "/many"), CHILDREN);
        // Pipelined behind a write, and with more behind it; another client changes the children all the time.
        let list = || {
            let request = PathWatchRequest { path: Some("/many".into()), watch: false };
            Request::GetChildren(request)
        };
        client.send([set("/small", b"z"), list(), get("/small"), list()]);
        for number in 0..200 {
            bystander.create(&format!("/many/new{number}"), b"", 0).expect("created");
        }
        assert_eq!(client.reply().expect("a reply").code, 0);
        let first = names_of(&client.reply().expect("a reply").body);
        assert_eq!(client.reply().expect("a reply").code, 0);
        let second = names_of(&client.reply().expect("a reply").body);
        assert!(CHILDREN <= first && first <= second && second <= CHILDREN + 200, "{first} names, then {second}");
        assert_eq!(listed(&mut client, "/many"), CHILDREN + 200);
        serves_others(&server, &mut bystander);
    }
}

#[test]
fn one_multi_fires_at_many_clients_that_do_not_read() {
    let server = start("zorilla.driver=folded");
    let mut bystander = session(&server);
    bystander.create("/small", b"x", 0).expect("created");
    let before_kib = server.memory_kib("RssAnon");
    let mut deaf: Vec<_> = (0..200).map(|_| session(&server)).collect();
    for client in &mut deaf {
        let watch = AddWatchRequest { path: Some("/small".into()), mode: 0 };
        assert_eq!(client.ask(Request::AddWatch(watch)).code, 0);
    }
    let ops = vec![MultiOp::SetData(SetDataRequest { path: Some("/small".into()), data: None, version: -1 }); 30_000];
    let mut raw = Vec::new();
    let multi = MultiVec::<MultiOp<'_>>::build(&mut raw, &ops);
    assert_eq!(bystander.ask(Request::Multi(multi)).code, 0);
    serves_others(&server, &mut bystander);
    let grown_kib = server.memory_kib("VmHWM").saturating_sub(before_kib);
    println!("at most {grown_kib} KiB more");
    assert!(grown_kib < GROWTH_KIB_MAX, "{} clients that do not read cost {grown_kib} KiB", deaf.len());
}

#[test]
fn a_list_of_access_that_is_long_to_read_is_refused_and_one_that_fits_stalls_nobody() {
    let server = start("zorilla.driver=folded");
    let mut bystander = session(&server);
    bystander.create("/small", b"x", 0).expect("created");
    bystander.create("/listed", b"x", 0).expect("created");
    let mut client = session(&server);
    let ids: Vec<String> = (0..257).map(|number| format!("10.{}.{}.1/24", number / 250, number % 250)).collect();
    let mut set_acl = |count: usize| {
        let mut entries: Vec<_> = ids[..count].iter().map(|id| Acl::new(31, "ip", id)).collect();
        entries.push(Acl::new(31, "ip", "127.0.0.0/8"));
        let mut raw = Vec::new();
        let acl = Some(AclVec::build(&mut raw, &entries));
        client.ask(Request::SetAcl(SetAclRequest { path: Some("/listed".into()), acl, version: -1 })).code
    };
    assert_eq!(set_acl(256), Code::InvalidAcl.raw());
    assert_eq!(set_acl(255), 0);
    let check = MultiOp::Check(CheckVersionRequest { path: Some("/listed".into()), version: -1 });
    let ops = vec![check; 20_000];
    let mut raw = Vec::new();
    let multi = MultiVec::<MultiOp<'_>>::build(&mut raw, &ops);
    let begun = Instant::now();
    assert_eq!(client.ask(Request::Multi(multi)).code, 0);
    client.send((0..20_000).map(|_| get("/listed")));
    serves_others(&server, &mut bystander);
    println!("20,000 checks and as many reads behind a long list: {:?}", begun.elapsed());
}

#[test]
fn the_same_credential_again_and_again_costs_nothing() {
    let server = start("zorilla.driver=dedicated");
    let mut bystander = session(&server);
    bystander.create("/small", b"x", 0).expect("created");
    let mut client = session(&server);
    let packet = || AuthPacket { kind: 0, scheme: Some("digest".into()), auth: Some(b"bob:secret") };
    client.send([Request::Auth(packet())]);
    assert_eq!(client.reply().expect("a reply").code, 0);
    let before_kib = server.memory_kib("RssAnon");
    for _ in 0..50 {
        client.send((0..2000).map(|_| Request::Auth(packet())));
        for _ in 0..2000 {
            assert_eq!(client.reply().expect("a reply").code, 0);
        }
    }
    serves_others(&server, &mut bystander);
    let grown_kib = server.memory_kib("RssAnon").saturating_sub(before_kib);
    assert!(grown_kib < 32 << 10, "100,000 times the same credential cost {grown_kib} KiB");
}
