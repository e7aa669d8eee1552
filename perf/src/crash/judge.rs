//! Looks at a server after its crash and says what it has lost, forgotten or made up.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use zorilla_proto::client::{PathWatchRequest, Request, Response};
use zorilla_proto::{Op, Zxid};

use super::conn::{Conn, Ticket};
use super::lane::{self, Bid, Lane, SESSION_TIMEOUT_MS, SHARED_COUNT};
use super::model::{self, Found, NUMBERS, SHARED, TOP, Tree, Write, shown};

/// How many closed sessions are tried again after each crash.
const CLOSED_KEPT: usize = 16;
/// How many getData are in flight while the tree is read.
const READ_WINDOW: usize = 256;

/// What all rounds on one data directory have shown together.
pub struct History {
    /// The highest zxid any client was told.
    zxid_max: Zxid,
    /// The lowest number that was certainly never given out.
    number_next: u32,
    shared: [Shared; SHARED_COUNT],
    closed: VecDeque<Ticket>,
}

/// A shared znode as the last verification left it.
#[derive(Clone)]
struct Shared {
    version: i32,
    data: Vec<u8>,
    mzxid: Zxid,
}

impl History {
    /// A new data directory, as `tree` shows it, whose setup was answered with zxids up to `zxid_max`.
    pub fn new(tree: &Tree, zxid_max: Zxid) -> History {
        let shared = std::array::from_fn(|index| {
            let there = &tree[&lane::shared_path(index)];
            Shared { version: there.version, data: there.data.clone(), mzxid: there.mzxid }
        });
        History { zxid_max, number_next: 0, shared, closed: VecDeque::new() }
    }
}

/// Everything below [`TOP`] and the zxid the server had then.
pub fn read_tree(conn: &mut Conn) -> Result<(Tree, Zxid), String> {
    let mut paths = vec![TOP.to_owned()];
    let mut next = 0;
    // The tree is three levels deep: listings of the folders, data of everything.
    while next < paths.len() {
        let path = paths[next].clone();
        next += 1;
        if path.matches('/').count() <= 2 {
            let request = Request::GetChildren2(PathWatchRequest { path: Some(path.as_str().into()), watch: false });
            let reply = conn.call(&request).map_err(|error| format!("{path}: {error}"))?;
            if reply.header.code != 0 {
                return Err(format!("{path} cannot be listed: {}", reply.header.code));
            }
            let Response::GetChildren2(listing) =
                reply.response(Op::GetChildren2).map_err(|error| error.to_string())?
            else {
                unreachable!("decoded as GetChildren2")
            };
            if listing.children.len() != listing.stat.num_children as usize {
                return Err(format!(
                    "{path} lists {} and counts {}",
                    listing.children.len(),
                    listing.stat.num_children
                ));
            }
            paths.extend(listing.children.iter().map(|name| format!("{path}/{name}")));
        }
    }
    let mut tree = Tree::new();
    let mut zxid = Zxid::ZERO;
    for window in paths.chunks(READ_WINDOW) {
        for path in window {
            conn.queue(&Request::GetData(PathWatchRequest { path: Some(path.as_str().into()), watch: false }));
        }
        conn.flush().map_err(|error| error.to_string())?;
        for path in window {
            let reply = conn.reply().map_err(|error| format!("{path}: {error}"))?;
            if reply.header.code != 0 {
                return Err(format!("{path} is listed and cannot be read: {}", reply.header.code));
            }
            zxid = zxid.max(Zxid::from_raw(reply.header.zxid as u64));
            let Response::GetData(there) = reply.response(Op::GetData).map_err(|error| error.to_string())? else {
                unreachable!("decoded as GetData")
            };
            let found = Found {
                data: there.data.unwrap_or_default().to_vec(),
                version: there.stat.version,
                cversion: there.stat.cversion,
                czxid: there.stat.czxid,
                mzxid: there.stat.mzxid,
                pzxid: there.stat.pzxid,
                owner: lane::owner_of(there.stat.ephemeral_owner),
                num_children: there.stat.num_children,
            };
            tree.insert(path.clone(), found);
        }
    }
    Ok((tree, zxid))
}

/// Compares everything acknowledged with what the restarted server shows, and lets the lanes resume their sessions.
/// Returns each loss in words.
pub fn judge(conn: &mut Conn, address: SocketAddr, history: &mut History, lanes: &mut [Lane]) -> Vec<String> {
    let (tree, zxid) = match read_tree(conn) {
        Ok(read) => read,
        Err(error) => return vec![error],
    };
    let mut losses = Vec::new();
    let in_flight: Vec<Vec<Write>> = lanes.iter_mut().map(Lane::take_in_flight).collect();
    judge_zxids(history, lanes, zxid, &mut losses);
    judge_numbers(history, lanes, &tree, &mut losses);
    let bids_seen = judge_bids(history, lanes, &in_flight, &tree, &mut losses);
    judge_strangers(lanes, &tree, &mut losses);
    judge_closed(address, history, lanes, &mut losses);
    for (index, lane) in lanes.iter_mut().enumerate() {
        let resumed = match lane.ticket {
            None => None,
            Some(ticket) => match Conn::open(address, Some(ticket), lane.last_zxid, SESSION_TIMEOUT_MS) {
                Ok(Some((conn, again))) if again == ticket => Some(conn),
                Ok(Some((_, again))) => {
                    losses.push(format!("{}: resumed {ticket:?} and got {again:?}", lane.model.folder));
                    None
                }
                Ok(None) => None,
                Err(error) => {
                    let seen = lane.last_zxid;
                    losses.push(format!("{}: a client that has seen {seen} is refused: {error}", lane.model.folder));
                    continue;
                }
            },
        };
        let alive = resumed.is_some();
        let tag = lane.tag.as_bytes();
        match model::explain(&lane.model, &in_flight[index], &bids_seen[index], &tree, tag, alive) {
            Ok(model) => lane.model = model,
            Err(differences) => losses.extend(differences),
        }
        match resumed {
            Some(conn) => lane.resumed(conn),
            None => lane.ticket = None,
        }
        lane.acked = lane::Acked::default();
    }
    losses
}

/// Every write has a zxid of its own, newer than all of the rounds before, and the server still knows the newest.
fn judge_zxids(history: &mut History, lanes: &[Lane], zxid: Zxid, losses: &mut Vec<String>) {
    let mut zxids: Vec<Zxid> = lanes.iter().flat_map(|lane| lane.acked.zxids.iter().copied()).collect();
    zxids.sort_unstable();
    for pair in zxids.windows(2) {
        if pair[0] == pair[1] {
            losses.push(format!("two acknowledged writes have {}", pair[0]));
        }
    }
    if let Some(first) = zxids.first().filter(|first| **first <= history.zxid_max) {
        losses.push(format!("{first} was given out again: {} was known before the round", history.zxid_max));
    }
    let seen = lanes.iter().map(|lane| lane.last_zxid).max();
    history.zxid_max = history.zxid_max.max(seen.unwrap_or(Zxid::ZERO));
    if zxid < history.zxid_max {
        losses.push(format!("the server is at {zxid}, clients have seen {}", history.zxid_max));
    }
    history.zxid_max = history.zxid_max.max(zxid);
}

/// Numbers rise with their zxids, and none is given out twice, not even after its znode was deleted.
fn judge_numbers(history: &mut History, lanes: &[Lane], tree: &Tree, losses: &mut Vec<String>) {
    let mut by_zxid: BTreeMap<Zxid, u32> = BTreeMap::new();
    let acked = lanes.iter().flat_map(|lane| lane.acked.draws.iter().copied());
    let prefix = format!("{NUMBERS}/");
    let there = tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    let there = there.filter_map(|(path, found)| Some((found.czxid, lane::number_of(path)?)));
    for (zxid, number) in acked.clone().chain(there) {
        if let Some(other) = by_zxid.insert(zxid, number).filter(|other| *other != number) {
            losses.push(format!("{zxid} created number {other} and number {number}"));
        }
    }
    let drawn: Vec<(Zxid, u32)> = by_zxid.into_iter().collect();
    for pair in drawn.windows(2) {
        if pair[1].1 <= pair[0].1 {
            let [(first, low), (second, high)] = [pair[0], pair[1]];
            losses.push(format!("number {high} of {second} does not follow number {low} of {first}"));
        }
    }
    for (zxid, number) in acked {
        if number < history.number_next {
            losses.push(format!("number {number} of {zxid} was given out before"));
        }
    }
    let Some(folder) = tree.get(NUMBERS) else {
        losses.push(format!("{NUMBERS} is missing"));
        return;
    };
    let next = (folder.cversion.wrapping_add(folder.num_children) / 2) as u32;
    if let Some((zxid, number)) = drawn.last().filter(|(_, number)| next <= *number) {
        losses.push(format!("the next number is {next}, {number} of {zxid} was given out already"));
    }
    history.number_next = next;
}

/// Each version of a shared znode has one acknowledged winner, and the last one is still there unless a bid in flight
/// came after it. Returns, for each lane, the bids in flight that are known to have taken place.
fn judge_bids(
    history: &mut History,
    lanes: &[Lane],
    in_flight: &[Vec<Write>],
    tree: &Tree,
    losses: &mut Vec<String>,
) -> Vec<Vec<usize>> {
    let mut seen = vec![Vec::new(); lanes.len()];
    for (index, shared) in history.shared.iter_mut().enumerate() {
        let path = lane::shared_path(index);
        let mut won: BTreeMap<i32, &Bid> = BTreeMap::new();
        for bid in lanes.iter().flat_map(|lane| &lane.acked.bids).filter(|bid| bid.index == index) {
            if let Some(other) = won.insert(bid.version, bid) {
                losses.push(format!("{path}: version {} was won by {} and {}", bid.version, other.zxid, bid.zxid));
            }
        }
        let mut last = (shared.version, shared.mzxid);
        for (version, bid) in &won {
            if *version <= last.0 || bid.zxid <= last.1 {
                losses.push(format!("{path}: version {version} of {} does not follow {last:?}", bid.zxid));
            }
            last = (*version, bid.zxid);
        }
        let Some(there) = tree.get(&path) else {
            losses.push(format!("{path} is missing"));
            continue;
        };
        let newest_data = won.last_key_value().map_or(&shared.data, |(_, bid)| &bid.data);
        let mut bidders = Vec::new();
        for (lane, writes) in in_flight.iter().enumerate() {
            for (at, write) in writes.iter().enumerate() {
                if matches!(write, Write::Bid { index: of, .. } if *of == index) {
                    bidders.push((lane, at, write));
                }
            }
        }
        if there.version < last.0 {
            losses.push(format!(
                "{path}: version {} of {} was acknowledged, version {} is there",
                last.0, last.1, there.version
            ));
        } else if there.version == last.0 {
            if there.data != *newest_data || there.mzxid != last.1 {
                let (expected, found) = (shown(newest_data), shown(&there.data));
                losses.push(format!("{path}: {found} {}, acknowledged was {expected} {}", there.mzxid, last.1));
            }
        } else {
            let winner = bidders.iter().find(|(_, _, write)| {
                matches!(write, Write::Bid { data, version, .. } if *data == there.data && version + 1 == there.version)
            });
            match winner {
                Some((lane, at, _)) if last.1 < there.mzxid => seen[*lane].push(*at),
                _ => losses.push(format!("{path}: nobody wrote {} version {}", shown(&there.data), there.version)),
            }
        }
        let unexplained = (there.version - shared.version) - won.len() as i32;
        if unexplained > bidders.len() as i32 {
            losses.push(format!("{path}: {unexplained} versions nobody was told of, {} bids in flight", bidders.len()));
        }
        *shared = Shared { version: there.version, data: there.data.clone(), mzxid: there.mzxid };
    }
    seen
}

/// Whatever is there belongs to somebody; the lanes judge their own folders.
fn judge_strangers(lanes: &[Lane], tree: &Tree, losses: &mut Vec<String>) {
    for (path, found) in tree {
        let parent = &path[..path.rfind('/').expect("a path has a slash")];
        let known = match parent {
            "" => path == TOP,
            TOP => path == NUMBERS || path == SHARED || lanes.iter().any(|lane| lane.model.folder == *path),
            NUMBERS => lanes.iter().any(|lane| found.data.starts_with(lane.tag.as_bytes())),
            SHARED => (0..SHARED_COUNT).any(|index| lane::shared_path(index) == *path),
            _ => true,
        };
        if !known {
            losses.push(format!("{path} ({}, czxid {}) was created by nobody", shown(&found.data), found.czxid));
        }
    }
}

/// A session whose close was acknowledged stays closed.
fn judge_closed(address: SocketAddr, history: &mut History, lanes: &[Lane], losses: &mut Vec<String>) {
    history.closed.extend(lanes.iter().flat_map(|lane| lane.acked.closed.iter().copied()));
    while CLOSED_KEPT < history.closed.len() {
        history.closed.pop_front();
    }
    for ticket in &history.closed {
        match Conn::open(address, Some(*ticket), Zxid::ZERO, SESSION_TIMEOUT_MS) {
            Ok(None) => {}
            Ok(Some(_)) => losses.push(format!("session {} was closed and can be resumed", ticket.session)),
            Err(error) => losses.push(format!("the closed session {}: {error}", ticket.session)),
        }
    }
}
