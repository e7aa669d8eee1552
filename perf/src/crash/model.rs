//! What one client knows of its own znodes, and what it may still expect of the requests in flight.
//!
//! A lane is a client with a folder nobody else writes to, so the outcome of every one of its writes follows from the
//! ones before. It also draws numbers from a folder that all lanes share, and bids on shared znodes with conditional
//! writes. Values only: no socket, no clock.
//!
//! The judgement rests on one rule: requests of a session are executed in their order. So what a crash leaves behind
//! must be exactly the acknowledged writes plus a *prefix* of the ones in flight, nothing else and nothing by halves.

use std::collections::BTreeMap;
use std::fmt;

use zorilla_proto::{Code, SessionId, Zxid};

/// The folder of everything a run creates.
pub const TOP: &str = "/crash";
/// The parent of the sequential znodes that all lanes create.
pub const NUMBERS: &str = "/crash/numbers";
/// The parent of the znodes that all lanes write with the version they expect.
pub const SHARED: &str = "/crash/shared";

/// One znode as a lane knows it. A zxid is `None` while only an unacknowledged write can have set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub data: Vec<u8>,
    pub version: i32,
    pub czxid: Option<Zxid>,
    pub mzxid: Option<Zxid>,
    pub owner: SessionId,
}

/// One znode as the server shows it after a crash.
#[derive(Clone, Debug)]
pub struct Found {
    pub data: Vec<u8>,
    pub version: i32,
    pub cversion: i32,
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub pzxid: Zxid,
    pub owner: SessionId,
    pub num_children: i32,
}

/// Everything below [`TOP`], by path.
pub type Tree = BTreeMap<String, Found>;

/// One write of a lane. Data begins with the lane's tag, which no other write carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates a znode in the lane's folder.
    Create { name: String, data: Vec<u8>, ephemeral: bool },
    /// Creates a sequential znode in the lane's folder.
    CreateSequential { data: Vec<u8>, ephemeral: bool },
    /// Sets the data of a znode in the lane's folder; -1 is any version.
    Set { name: String, data: Vec<u8>, version: i32 },
    /// Deletes a znode in the lane's folder.
    Delete { name: String, version: i32 },
    /// Draws a number: a sequential znode in the shared folder.
    Draw { data: Vec<u8> },
    /// Deletes a number this lane has drawn.
    Drop { path: String },
    /// Sets a shared znode if it still has the version this lane has read.
    Bid { index: usize, data: Vec<u8>, version: i32 },
    /// Ends the session, and with it all ephemerals of the lane.
    Close,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |ephemeral: &bool| if *ephemeral { "ephemeral" } else { "persistent" };
        match self {
            Write::Create { name, data, ephemeral } => {
                write!(f, "create of {name} ({}, {})", kind(ephemeral), shown(data))
            }
            Write::CreateSequential { data, ephemeral } => {
                write!(f, "sequential create ({}, {})", kind(ephemeral), shown(data))
            }
            Write::Set { name, data, version } => write!(f, "set of {name} at version {version} ({})", shown(data)),
            Write::Delete { name, version } => write!(f, "delete of {name} at version {version}"),
            Write::Draw { data } => write!(f, "draw of a number ({})", shown(data)),
            Write::Drop { path } => write!(f, "delete of {path}"),
            Write::Bid { index, data, version } => {
                write!(f, "set of {SHARED}/{index} at version {version} ({})", shown(data))
            }
            Write::Close => f.write_str("closeSession"),
        }
    }
}

/// What one lane knows.
#[derive(Clone, Debug)]
pub struct Model {
    pub folder: String,
    pub session: SessionId,
    pub children: BTreeMap<String, Known>,
    /// How many children were ever created in the folder: the next sequence number.
    pub created: i32,
    /// The last change of the list of children. `None` while only an unacknowledged write can have made it.
    pub pzxid: Option<Zxid>,
    /// The numbers of this lane that are not deleted: path, data, czxid.
    pub numbers: BTreeMap<String, (Vec<u8>, Option<Zxid>)>,
    /// Data of numbers in flight: the path is not known before the reply.
    drawn_unknown: Vec<Vec<u8>>,
    /// The zxid of this lane's last acknowledged write: whatever is in flight is newer.
    pub acked: Zxid,
}

impl Model {
    /// A lane whose folder was created by `czxid`, without a session.
    pub fn new(folder: String, czxid: Zxid) -> Model {
        Model {
            folder,
            session: SessionId::NONE,
            children: BTreeMap::new(),
            created: 0,
            pzxid: Some(czxid),
            numbers: BTreeMap::new(),
            drawn_unknown: Vec::new(),
            acked: czxid,
        }
    }

    /// The name a sequential create gets next.
    pub fn next_sequential(&self) -> String {
        format!("q-{:010}", self.created)
    }

    /// Carries one write out and returns the code it must be answered with. A bid depends on other lanes: it changes
    /// nothing here and its code is not predicted. `zxid` is `None` for a write that was not acknowledged.
    pub fn apply(&mut self, write: &Write, zxid: Option<Zxid>) -> Code {
        match write {
            Write::Create { name, data, ephemeral } => self.create(name.clone(), data, *ephemeral, zxid),
            Write::CreateSequential { data, ephemeral } => {
                let name = self.next_sequential();
                self.create(name, data, *ephemeral, zxid)
            }
            Write::Set { name, data, version } => match self.children.get_mut(name) {
                None => Code::NoNode,
                Some(known) if *version != -1 && *version != known.version => Code::BadVersion,
                Some(known) => {
                    known.data.clone_from(data);
                    known.version += 1;
                    known.mzxid = zxid;
                    Code::Ok
                }
            },
            Write::Delete { name, version } => match self.children.get(name) {
                None => Code::NoNode,
                Some(known) if *version != -1 && *version != known.version => Code::BadVersion,
                Some(_) => {
                    self.children.remove(name);
                    self.pzxid = zxid;
                    Code::Ok
                }
            },
            Write::Draw { data } => {
                self.drawn_unknown.push(data.clone());
                Code::Ok
            }
            Write::Drop { path } => match self.numbers.remove(path) {
                None => Code::NoNode,
                Some(_) => Code::Ok,
            },
            Write::Bid { .. } => Code::Ok,
            Write::Close => {
                let before = self.children.len();
                self.children.retain(|_, known| known.owner == SessionId::NONE);
                if self.children.len() != before {
                    self.pzxid = zxid;
                }
                self.session = SessionId::NONE;
                Code::Ok
            }
        }
    }

    fn create(&mut self, name: String, data: &[u8], ephemeral: bool, zxid: Option<Zxid>) -> Code {
        if self.children.contains_key(&name) {
            return Code::NodeExists;
        }
        let owner = if ephemeral { self.session } else { SessionId::NONE };
        self.children.insert(name, Known { data: data.to_vec(), version: 0, czxid: zxid, mzxid: zxid, owner });
        self.created += 1;
        self.pzxid = zxid;
        Code::Ok
    }

    /// The acknowledged draw got `path`. Follows the [`Model::apply`] of that draw.
    pub fn drew(&mut self, path: &str, zxid: Zxid) {
        let data = self.drawn_unknown.pop().expect("drew() follows the apply() of a draw");
        self.numbers.insert(path.to_owned(), (data, Some(zxid)));
    }

    /// Every way in which `tree` is not what this model says; empty if all is well.
    ///
    /// `tag` is the prefix of all data this lane writes, `session_alive` what the attempt to resume has shown.
    pub fn differences(&self, tree: &Tree, tag: &[u8], session_alive: bool) -> Vec<String> {
        let mut found = Vec::new();
        if (self.session != SessionId::NONE) != session_alive {
            let state = if session_alive { "can still be resumed" } else { "is not valid any more" };
            found.push(format!("{}: session {} {state}", self.folder, self.session));
        }
        self.compare_folder(tree, &mut found);
        self.compare_numbers(tree, tag, &mut found);
        found
    }

    fn compare_folder(&self, tree: &Tree, found: &mut Vec<String>) {
        let Some(folder) = tree.get(&self.folder) else {
            found.push(format!("{} is missing", self.folder));
            return;
        };
        let cversion = 2 * self.created - self.children.len() as i32;
        if folder.cversion != cversion {
            found.push(format!("{}: cversion {}, expected {cversion}", self.folder, folder.cversion));
        }
        self.compare_zxid(&self.folder, "pzxid", folder.pzxid, self.pzxid, found);
        let prefix = format!("{}/", self.folder);
        for (name, known) in &self.children {
            let path = format!("{prefix}{name}");
            match tree.get(&path) {
                None => found.push(format!("{path} is missing (czxid {:?}, owner {})", known.czxid, known.owner)),
                Some(there) => {
                    if there.data != known.data || there.version != known.version || there.owner != known.owner {
                        found.push(format!(
                            "{path}: {} version {} owner {}, expected {} version {} owner {}",
                            shown(&there.data),
                            there.version,
                            there.owner,
                            shown(&known.data),
                            known.version,
                            known.owner
                        ));
                    }
                    self.compare_zxid(&path, "czxid", there.czxid, known.czxid, found);
                    self.compare_zxid(&path, "mzxid", there.mzxid, known.mzxid, found);
                }
            }
        }
        for (path, there) in tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            if !self.children.contains_key(&path[prefix.len()..]) {
                found.push(format!("{path} ({}, czxid {}) should not exist", shown(&there.data), there.czxid));
            }
        }
    }

    fn compare_numbers(&self, tree: &Tree, tag: &[u8], found: &mut Vec<String>) {
        let prefix = format!("{NUMBERS}/");
        let mut unknown: Vec<&Vec<u8>> = self.drawn_unknown.iter().collect();
        for (path, there) in tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            if !there.data.starts_with(tag) {
                continue;
            }
            match self.numbers.get(path) {
                Some((data, czxid)) => {
                    if there.data != *data {
                        found.push(format!("{path}: {}, expected {}", shown(&there.data), shown(data)));
                    }
                    self.compare_zxid(path, "czxid", there.czxid, *czxid, found);
                }
                None => match unknown.iter().position(|data| **data == there.data) {
                    Some(index) => {
                        unknown.swap_remove(index);
                        self.compare_zxid(path, "czxid", there.czxid, None, found);
                    }
                    None => found.push(format!("{path} ({}) should not exist", shown(&there.data))),
                },
            }
        }
        for (path, (data, _)) in &self.numbers {
            if !tree.contains_key(path) {
                found.push(format!("{path} ({}) is missing", shown(data)));
            }
        }
        found.extend(unknown.into_iter().map(|data| format!("the number drawn with {} is missing", shown(data))));
    }

    fn compare_zxid(&self, path: &str, what: &str, there: Zxid, known: Option<Zxid>, found: &mut Vec<String>) {
        match known {
            Some(known) if there != known => found.push(format!("{path}: {what} {there}, acknowledged was {known}")),
            None if there <= self.acked => {
                found.push(format!("{path}: {what} {there} is not newer than {}, acknowledged before it", self.acked));
            }
            _ => {}
        }
    }

    /// Takes over from `tree` what only the crash could tell: the zxids and the paths of unacknowledged writes.
    /// [`Model::differences`] has found none.
    pub fn adopt(&mut self, tree: &Tree, tag: &[u8]) {
        self.pzxid = Some(tree[&self.folder].pzxid);
        for (name, known) in &mut self.children {
            let there = &tree[&format!("{}/{name}", self.folder)];
            (known.czxid, known.mzxid) = (Some(there.czxid), Some(there.mzxid));
        }
        self.drawn_unknown.clear();
        let prefix = format!("{NUMBERS}/");
        let mine = tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        self.numbers = mine
            .filter(|(_, there)| there.data.starts_with(tag))
            .map(|(path, there)| (path.clone(), (there.data.clone(), Some(there.czxid))))
            .collect();
    }
}

/// The state after a prefix of the writes in flight that explains `tree`, or the differences of the closest one.
///
/// `bids_seen` holds the indexes (into `in_flight`) of bids that are known to have succeeded, because a shared znode
/// shows their data: any prefix that explains the tree must contain them.
pub fn explain(
    model: &Model,
    in_flight: &[Write],
    bids_seen: &[usize],
    tree: &Tree,
    tag: &[u8],
    session_alive: bool,
) -> Result<Model, Vec<String>> {
    let must_contain = bids_seen.iter().max().map_or(0, |index| index + 1);
    let mut candidate = model.clone();
    let mut closest: Option<Vec<String>> = None;
    for done in 0..=in_flight.len() {
        if 0 < done {
            candidate.apply(&in_flight[done - 1], None);
        }
        let mut differences = candidate.differences(tree, tag, session_alive);
        if done < must_contain {
            differences.push(format!("{}: a bid in flight took place, an earlier write did not", model.folder));
        }
        if differences.is_empty() {
            candidate.adopt(tree, tag);
            return Ok(candidate);
        }
        if closest.as_ref().is_none_or(|closest| differences.len() < closest.len()) {
            closest = Some(differences);
        }
    }
    Err(closest.expect("the empty prefix was judged"))
}

/// The beginning of some data and its size: enough to find the write it came from.
pub fn shown(data: &[u8]) -> String {
    let head = String::from_utf8_lossy(&data[..data.len().min(24)]).into_owned();
    format!("{head:?} of {} bytes", data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &[u8] = b"lane 0,";

    fn zxid(raw: u64) -> Zxid {
        Zxid::from_raw(raw)
    }

    fn create(name: &str, data: &str) -> Write {
        Write::Create { name: name.into(), data: data.into(), ephemeral: false }
    }

    fn set(name: &str, data: &str, version: i32) -> Write {
        Write::Set { name: name.into(), data: data.into(), version }
    }

    /// A server that has done `writes`, the first with zxid 2.
    fn tree_after(writes: &[Write]) -> Tree {
        let mut model = Model::new("/crash/lane-0".into(), zxid(1));
        model.session = SessionId::from_raw(7);
        let mut tree = Tree::new();
        for (at, write) in writes.iter().enumerate() {
            let now = zxid(2 + at as u64);
            if model.apply(write, Some(now)) == Code::Ok && matches!(write, Write::Draw { .. }) {
                model.drew(&format!("{NUMBERS}/n-{at:010}"), now);
            }
        }
        let found = |known: &Known| Found {
            data: known.data.clone(),
            version: known.version,
            cversion: 0,
            czxid: known.czxid.expect("acknowledged"),
            mzxid: known.mzxid.expect("acknowledged"),
            pzxid: Zxid::ZERO,
            owner: known.owner,
            num_children: 0,
        };
        for (name, known) in &model.children {
            tree.insert(format!("{}/{name}", model.folder), found(known));
        }
        for (path, (data, czxid)) in &model.numbers {
            let known = Known { data: data.clone(), version: 0, czxid: *czxid, mzxid: *czxid, owner: SessionId::NONE };
            tree.insert(path.clone(), found(&known));
        }
        let folder =
            Known { data: vec![], version: 0, czxid: Some(zxid(1)), mzxid: Some(zxid(1)), owner: SessionId::NONE };
        let mut folder = found(&folder);
        folder.cversion = 2 * model.created - model.children.len() as i32;
        folder.pzxid = model.pzxid.expect("acknowledged");
        tree.insert(model.folder.clone(), folder);
        tree
    }

    /// Acknowledges the first `acked` of `writes`; the others are in flight.
    fn judge(writes: &[Write], acked: usize, tree: &Tree, alive: bool) -> Result<Model, Vec<String>> {
        let mut model = Model::new("/crash/lane-0".into(), zxid(1));
        model.session = SessionId::from_raw(7);
        for (at, write) in writes[..acked].iter().enumerate() {
            let now = zxid(2 + at as u64);
            model.apply(write, Some(now));
            if matches!(write, Write::Draw { .. }) {
                model.drew(&format!("{NUMBERS}/n-{at:010}"), now);
            }
            model.acked = now;
        }
        explain(&model, &writes[acked..], &[], tree, TAG, alive)
    }

    fn script() -> Vec<Write> {
        vec![
            create("a", "lane 0,1"),
            create("b", "lane 0,2"),
            set("a", "lane 0,3", 0),
            Write::Draw { data: b"lane 0,4".to_vec() },
            Write::CreateSequential { data: b"lane 0,5".to_vec(), ephemeral: true },
            set("a", "lane 0,6", 0),
            Write::Delete { name: "b".into(), version: 0 },
            Write::Draw { data: b"lane 0,7".to_vec() },
            set("a", "lane 0,8", 1),
        ]
    }

    #[test]
    fn every_prefix_behind_the_acknowledged_writes_is_legal() {
        let writes = script();
        for acked in 0..=writes.len() {
            for done in acked..=writes.len() {
                let model = judge(&writes, acked, &tree_after(&writes[..done]), true)
                    .unwrap_or_else(|found| panic!("{acked} acknowledged, {done} done: {found:?}"));
                assert!(model.children.values().all(|known| known.czxid.is_some()));
            }
        }
    }

    #[test]
    fn a_lost_acknowledged_write_is_found_at_every_place() {
        let writes = script();
        for acked in 1..=writes.len() {
            // The sixth write fails with BADVERSION: its loss is no loss.
            let lost = (0..acked).filter(|done| (*done..acked).any(|at| at != 5));
            for done in lost {
                assert!(
                    judge(&writes, acked, &tree_after(&writes[..done]), true).is_err(),
                    "{acked} acked, {done} done"
                );
            }
        }
    }

    #[test]
    fn a_write_in_flight_without_the_one_before_it_is_found() {
        let writes = script();
        let mut skipped = writes.clone();
        skipped.remove(1);
        assert!(judge(&writes, 1, &tree_after(&skipped[..3]), true).is_err());
    }

    #[test]
    fn half_a_write_and_invented_znodes_are_found() {
        let writes = script();
        let path = "/crash/lane-0/a";
        for change in [
            |found: &mut Found| found.data.truncate(3),
            |found: &mut Found| found.version += 1,
            |found: &mut Found| found.czxid = zxid(99),
            |found: &mut Found| found.mzxid = zxid(99),
            |found: &mut Found| found.owner = SessionId::from_raw(7),
        ] {
            let mut tree = tree_after(&writes);
            change(tree.get_mut(path).expect("the script created it"));
            assert!(judge(&writes, writes.len(), &tree, true).is_err());
        }
        let mut tree = tree_after(&writes);
        tree.insert("/crash/lane-0/x".into(), tree[path].clone());
        assert!(judge(&writes, writes.len(), &tree, true).is_err());
    }

    #[test]
    fn a_session_is_alive_exactly_as_long_as_it_is_not_closed() {
        let mut writes = script();
        writes.push(Write::Close);
        let closed = tree_after(&writes);
        let open = tree_after(&writes[..writes.len() - 1]);
        let acked = writes.len() - 1;
        // In flight: both are legal, but tree and session must agree.
        assert!(judge(&writes, acked, &closed, false).is_ok());
        assert!(judge(&writes, acked, &open, true).is_ok());
        assert!(judge(&writes, acked, &closed, true).is_err());
        assert!(judge(&writes, acked, &open, false).is_err());
        // Acknowledged: it is gone, and its ephemerals with it.
        assert!(judge(&writes, writes.len(), &closed, false).is_ok());
        assert!(judge(&writes, writes.len(), &open, true).is_err());
    }

    #[test]
    fn a_bid_that_took_place_needs_the_writes_before_it() {
        let writes = [create("a", "lane 0,1"), Write::Bid { index: 0, data: b"lane 0,2".to_vec(), version: 0 }];
        let model = Model::new("/crash/lane-0".into(), zxid(1));
        let before = tree_after(&[]);
        let after = tree_after(&writes[..1]);
        assert!(explain(&model, &writes, &[1], &before, TAG, false).is_err());
        assert!(explain(&model, &writes, &[1], &after, TAG, false).is_ok());
        assert!(explain(&model, &writes, &[], &before, TAG, false).is_ok());
    }
}
