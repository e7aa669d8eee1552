//! `zorilla snapshot`: prints, sums up and checks snapshots of Java servers.
//!
//! `format` and `summary` take the arguments of the reference's `SnapshotFormatter` and `SnapshotRecursiveSummary`, and
//! print what these print: znodes in the order of the file, times in UTC. `verify FILE` is ours, and reads the seals, too.
//! Files are read as streams, twice where a sum stands before its parts; `summary` holds one entry for each znode with
//! children that it prints.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::date;
use super::tool::{Stop, Streams, ended, open};
use crate::compat::files::{Compression, Kind};
use crate::compat::snapshot::{Node, Snapshot};
use crate::limits::JUTE_MAXBUFFER_BYTES_MAX;

const FORMAT_USAGE: &str = "\
USAGE: SnapshotFormatter [-d|-json] snapshot_file
       -d dump the data for each znode
       -json dump znode info in json format";
const SUMMARY_USAGE: &str = "\
USAGE:


SnapshotRecursiveSummary  <snapshot_file>  <starting_node>  <max_depth>


snapshot_file:    path to the zookeeper snapshot
starting_node:    the path in the zookeeper tree where the traversal should begin
max_depth:        defines the depth where the tool still writes to the output. 0 means there is no depth limit, \
every non-leaf node's stats will be displayed, 1 means it will only contain the starting node's and it's children's \
stats, 2 ads another level and so on. This ONLY affects the level of details displayed, NOT the calculation.";
const USAGE: &str = "\
Usage: zorilla snapshot format [-d] FILE | summary FILE ZNODE DEPTH | verify FILE";
const BAD_USE: u8 = 2;

/// Does what `arguments` say; returns the exit code.
pub fn run(arguments: &[OsString], streams: &mut Streams<'_>) -> u8 {
    ended(streams, |streams| match arguments {
        [tool, rest @ ..] if tool == "format" => format(rest, streams),
        [tool, rest @ ..] if tool == "summary" => summary(rest, streams),
        [tool, file] if tool == "verify" => verify(Path::new(file), streams),
        _ => Err(Stop::Said(USAGE.to_owned(), BAD_USE)),
    })
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn opened(file: &Path) -> Result<Snapshot<BufReader<File>>, Stop> {
    let bytes = open(file, || Stop::Said(format!("File '{}' does not exist.", file.display()), BAD_USE))?;
    Ok(Snapshot::open(file, bytes, Compression::of(&name(file)), JUTE_MAXBUFFER_BYTES_MAX)?)
}

fn each(file: &Path, mut what: impl FnMut(Node<'_>) -> Result<(), Stop>) -> Result<(), Stop> {
    let mut snapshot = opened(file)?;
    while let Some(node) = snapshot.next()? {
        what(node)?;
    }
    Ok(())
}

fn format(arguments: &[OsString], streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let (mut data, mut json, mut files) = (false, false, Vec::new());
    for argument in arguments {
        match argument.to_str() {
            Some("-d") => data = true,
            Some("-json") => json = true,
            _ => files.push(Path::new(argument)),
        }
    }
    let [file] = files[..] else { return Err(Stop::Said(FORMAT_USAGE.to_owned(), BAD_USE)) };
    if json && data {
        let text = "Cannot specify both data dump (-d) and json mode (-json) in same call";
        return Err(Stop::Said(text.to_owned(), BAD_USE));
    }
    if json {
        return Err(Stop::Said("The json mode (-json) is not available.".to_owned(), BAD_USE));
    }
    // The root counts twice, as everywhere.
    let mut count = 1u64;
    each(file, |_| {
        count += 1;
        Ok(())
    })?;
    let mut snapshot = opened(file)?;
    let mut sessions: BTreeMap<i64, (i32, u64)> =
        snapshot.sessions().iter().map(|(id, timeout_ms)| (id.raw(), (*timeout_ms, 0))).collect();
    let name = name(file);
    let plain = match Compression::of(&name) {
        Compression::Plain => name.as_str(),
        Compression::Gz | Compression::Snappy => name.rsplit_once('.').map_or(name.as_str(), |(before, _)| before),
    };
    let mut last = Kind::Snapshot.zxid(plain).map_or(0, |zxid| zxid.raw());
    writeln!(streams.out, "ZNode Details (count={count}):")?;
    while let Some(node) = snapshot.next()? {
        if let Some((_, ephemerals)) = sessions.get_mut(&node.owner) {
            *ephemerals += 1;
        }
        last = last.max(node.mzxid.raw()).max(node.pzxid.raw());
        print_node(&node, data, streams.out)?;
    }
    writeln!(streams.out, "----\nSession Details (sid, timeout, ephemeralCount):")?;
    for (id, (timeout_ms, ephemerals)) in &sessions {
        writeln!(streams.out, "{id:#016x}, {timeout_ms}, {ephemerals}")?;
    }
    writeln!(streams.out, "----\nLast zxid: {last:#x}")?;
    Ok(0)
}

fn print_node(node: &Node<'_>, data: bool, out: &mut dyn Write) -> Result<(), Stop> {
    let path = if node.path.is_empty() { "/" } else { node.path };
    writeln!(out, "----\n{path}")?;
    writeln!(out, "  cZxid = {:#016x}\n  ctime = {}", node.czxid.raw(), date::long(node.ctime_ms))?;
    writeln!(out, "  mZxid = {:#016x}\n  mtime = {}", node.mzxid.raw(), date::long(node.mtime_ms))?;
    writeln!(out, "  pZxid = {:#016x}\n  cversion = {}", node.pzxid.raw(), node.cversion)?;
    writeln!(out, "  dataVersion = {}\n  aclVersion = {}", node.version, node.aversion)?;
    writeln!(out, "  ephemeralOwner = {:#016x}", node.owner)?;
    let bytes = node.data.unwrap_or_default();
    match data {
        true => writeln!(out, "  data = {}", STANDARD.encode(bytes))?,
        false => writeln!(out, "  dataLength = {}", bytes.len())?,
    }
    Ok(())
}

/// A znode with children, and all that is below it.
#[derive(Default)]
struct Sum {
    descendants: u64,
    bytes: u64,
}

fn summary(arguments: &[OsString], streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let bad_use = || Stop::Said(SUMMARY_USAGE.to_owned(), BAD_USE);
    let [file, start, depth] = arguments else { return Err(bad_use()) };
    let (file, start) = (Path::new(file), start.to_string_lossy());
    let depth_max = match depth.to_string_lossy().parse::<u32>().map_err(|_| bad_use())? {
        0 => usize::MAX,
        depth => depth as usize,
    };
    let root = if start == "/" { "" } else { &start };
    let below = |path: &str| path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')).is_some();
    // By path with a slash before every other letter: parents come right before what is below them.
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut found = false;
    each(file, |node| {
        found |= node.path == root;
        if below(node.path) {
            let bytes = node.data.map_or(0, <[u8]>::len) as u64;
            let rest = &node.path[root.len()..];
            for (depth, (at, _)) in rest.match_indices('/').enumerate().take_while(|(depth, _)| *depth <= depth_max) {
                let key = rest[..at].replace('/', "\0");
                debug_assert_eq!(key.matches('\0').count(), depth);
                let sum = sums.entry(key).or_default();
                sum.descendants += 1;
                sum.bytes += bytes;
            }
        }
        Ok(())
    })?;
    if !found {
        return Err(Stop::Said(format!("{}: there is no znode {start}", file.display()), 1));
    }
    each(file, |node| {
        if below(node.path)
            && let Some(sum) = sums.get_mut(&node.path[root.len()..].replace('/', "\0"))
        {
            sum.bytes += node.data.map_or(0, <[u8]>::len) as u64;
        }
        Ok(())
    })?;
    for (key, Sum { descendants, bytes }) in &sums {
        let prefix = "--".repeat(key.matches('\0').count());
        let path = match format!("{root}{}", key.replace('\0', "/")) {
            path if path.is_empty() => "/".to_owned(),
            path => path,
        };
        writeln!(streams.out, "{prefix} {path}\n{prefix}   children: {descendants}\n{prefix}   data: {bytes}")?;
    }
    writeln!(streams.out)?;
    Ok(0)
}

fn verify(file: &Path, streams: &mut Streams<'_>) -> Result<u8, Stop> {
    let mut snapshot = opened(file)?;
    let (mut znodes, mut ephemerals, mut bytes) = (0u64, 0u64, 0u64);
    while let Some(node) = snapshot.next()? {
        znodes += 1;
        // Marks of containers and of times to live are negative.
        ephemerals += u64::from(0 < node.owner);
        bytes += node.data.map_or(0, <[u8]>::len) as u64;
    }
    let (sessions, acls) = (snapshot.sessions().len(), snapshot.acls().len());
    let trailer = snapshot.finish()?;
    writeln!(streams.out, "{znodes} znodes, {ephemerals} of them ephemeral, {bytes} bytes of data")?;
    writeln!(streams.out, "{sessions} sessions, {acls} ACL lists; {} bytes, every seal right", trailer.bytes)?;
    if let Some(digest) = trailer.digest {
        writeln!(streams.out, "digest {} at {}, version {}", digest.tree as i64, digest.zxid, digest.version)?;
    }
    if let Some(zxid) = trailer.last_zxid {
        writeln!(streams.out, "last transaction {zxid}")?;
    }
    Ok(0)
}
