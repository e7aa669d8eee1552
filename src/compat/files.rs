//! The names of a Java server's files, and the quick test that a snapshot must pass before it is read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zorilla_proto::ids::Zxid;

use super::source::SNAPPY_MAGIC;

/// The folder in `dataDir` and `dataLogDir` that holds everything.
pub const FOLDER: &str = "version-2";

/// How a snapshot is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// As one gzip stream.
    Gz,
    /// As the snappy-java library does it.
    Snappy,
}

impl Compression {
    /// What the last part of the name says, whatever the settings are.
    pub fn of(name: &str) -> Compression {
        match name.rsplit('.').next() {
            Some(last) if last.eq_ignore_ascii_case("gz") => Compression::Gz,
            Some(last) if last.eq_ignore_ascii_case("snappy") => Compression::Snappy,
            _ => Compression::Plain,
        }
    }
}

/// What a name says a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `log.ZXID`, named after its first transaction.
    Log,
    /// `snapshot.ZXID`, named after the last transaction applied when it was begun.
    Snapshot,
}

impl Kind {
    /// What stands before the first dot.
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Snapshot => "snapshot",
        }
    }

    /// The zxid in a name of this kind: the second part, in hexadecimal; what follows it does not count, so that
    /// `snapshot.5.tmp` is a snapshot of 5. `None`: the reference ignores such a file.
    pub fn zxid(self, name: &str) -> Option<Zxid> {
        let mut parts = name.split('.');
        if parts.next() != Some(self.prefix()) {
            return None;
        }
        // A number with a sign is read by the reference, too; a negative one is none that it uses.
        let raw = i64::from_str_radix(parts.next()?, 16).ok()?;
        u64::try_from(raw).ok().map(Zxid::from_raw)
    }
}

/// A file and the zxid in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The zxid.
    pub zxid: Zxid,
    /// The file.
    pub path: PathBuf,
}

impl Named {
    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The files of one kind in `folder`, by ascending zxid, equal ones by name. A folder that is missing has none.
pub fn list(folder: &Path, kind: Kind) -> io::Result<Vec<Named>> {
    let mut files = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(zxid) = kind.zxid(&name) {
            files.push(Named { zxid, path });
        }
    }
    files.sort_unstable_by(|a, b| (a.zxid, &a.path).cmp(&(b.zxid, &b.path)));
    Ok(files)
}

/// The quick test: a plain snapshot ends as every seal does, a packed one begins as its kind does. What it does not
/// pass, a server that crashed left behind.
pub fn looks_whole(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match Compression::of(&name) {
        Compression::Plain => {
            if file.metadata()?.len() < 10 {
                return Ok(false);
            }
            file.seek(SeekFrom::End(-5))?;
            Ok(reads(file, *b"\0\0\0\x01/")?)
        }
        Compression::Gz => reads(file, [0x1f, 0x8b]),
        Compression::Snappy => reads(file, SNAPPY_MAGIC),
    }
}

fn reads<const N: usize>(file: File, expected: [u8; N]) -> io::Result<bool> {
    let mut found = Vec::with_capacity(N);
    file.take(N as u64).read_to_end(&mut found)?;
    Ok(found == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_reference_reads_them() {
        let zxid = |name| Kind::Log.zxid(name).map(Zxid::raw);
        assert_eq!(zxid("log.0"), Some(0));
        assert_eq!(zxid("log.1a"), Some(0x1a));
        assert_eq!(zxid("log.100000001"), Some(0x1_0000_0001));
        for same in ["log.5", "log.5.bak", "log.5.chopped9", "log.5.gz", "log.+5", "log.05"] {
            assert_eq!(zxid(same), Some(5), "{same}");
        }
        for none in ["log", "log.", "log.zzz", "Log.5", "xlog.5", "log.-5", "log.10000000000000000", "snapshot.5"] {
            assert_eq!(zxid(none), None, "{none}");
        }
        assert_eq!(Kind::Snapshot.zxid("snapshot.31.tmp"), Some(Zxid::from_raw(0x31)));
        // Our own sentinel must be read as a log, or the reference would start beside it.
        assert_eq!(zxid("log.1.zorilla-owns-this--run-zorilla-export"), Some(1));
    }

    #[test]
    fn the_last_part_of_a_name_says_how_it_is_packed() {
        for (name, compression) in [
            ("snapshot.5", Compression::Plain),
            ("snapshot.5.gz", Compression::Gz),
            ("snapshot.5.GZ", Compression::Gz),
            ("snapshot.5.Snappy", Compression::Snappy),
            ("snapshot.5.gz.tmp", Compression::Plain),
        ] {
            assert_eq!(Compression::of(name), compression, "{name}");
        }
    }
}
