//! What a server says about itself in the four-letter word `mntr`.

use crate::limits::MNTR_BYTES_MAX;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Runs that were written from overlays.
pub const FLUSHES: &str = "zorilla_flushes";
/// Runs that were made of runs.
pub const MERGES: &str = "zorilla_merges";
/// Bytes of both.
pub const RUN_WRITTEN_BYTES: &str = "zorilla_run_written_bytes";
/// Runs in force.
pub const RUNS: &str = "zorilla_runs";
/// Entries that are in memory only.
pub const OVERLAY_ENTRIES: &str = "zorilla_overlay_entries";
/// Blocks that were brought in from the disk before they were needed under the gate.
pub const COLD_BROUGHT_IN: &str = "zorilla_cold_brought_in";
/// Blocks that were brought in while the gate was held.
pub const COLD_INLINE: &str = "zorilla_cold_inline";
/// The zxid that the newest run is exact at.
pub const HEAD_ZXID: &str = "zorilla_head_zxid";
/// Page faults that waited for a disk while the gate was held.
pub const GATE_MAJOR_FAULTS: &str = "zorilla_gate_major_faults";
/// Bytes of paths and data.
pub const DATA_BYTES: &str = "approximate_data_size";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one answer says, by name.
#[derive(Clone, Debug, Default)]
pub struct Mntr(BTreeMap<String, String>);

impl Mntr {
    /// Asks a server.
    pub fn read(address: SocketAddr) -> io::Result<Mntr> {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"mntr")?;
        let mut answer = String::new();
        socket.take(MNTR_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(Mntr::of(&answer))
    }

    fn of(answer: &str) -> Mntr {
        let pairs = answer.lines().filter_map(|line| line.split_once('\t'));
        Mntr(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// A count, with or without the prefix of the word; `None`: the server does not say.
    pub fn count(&self, name: &str) -> Option<u64> {
        let value = self.0.get(name).or_else(|| self.0.get(&format!("zk_{name}")))?;
        match value.strip_prefix("0x") {
            Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok(),
            None => value.parse::<f64>().ok().map(|value| value as u64),
        }
    }

    /// By how much a count has grown since `before`.
    pub fn since(&self, before: &Mntr, name: &str) -> Option<u64> {
        Some(self.count(name)?.saturating_sub(before.count(name)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_under_both_names() {
        let before = Mntr::of("zk_version\t3.9.5--x, built on y\nzk_znode_count\t5\nzorilla_flushes\t2\n");
        let after = Mntr::of("zk_znode_count\t1.0\nzk_zorilla_flushes\t7\nzorilla_head_zxid\t0x1f\nodd line\n");
        let znodes = "znode_count";
        assert_eq!((before.count(znodes), after.count(znodes)), (Some(5), Some(1)));
        assert_eq!(after.since(&before, FLUSHES), Some(5));
        assert_eq!(after.count(HEAD_ZXID), Some(31));
        assert_eq!((before.count("version"), after.since(&before, MERGES)), (None, None));
    }
}
