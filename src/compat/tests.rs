use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::progress::Quiet;
use super::*;

/// A directory that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zorilla-compat-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeMap::new() };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| entry.unwrap().path()).map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

/// A server's directories: those of `split-394`, or, with everything in one, those of `two-logs-394`.
struct Place {
    scratch: Scratch,
    data: PathBuf,
    log: PathBuf,
    /// What our own state holds, as `publish` left it.
    native: Option<Zxid>,
}

impl Place {
    fn new(is_split: bool) -> Place {
        let scratch = Scratch::new("place");
        let data = scratch.0.join("data");
        let log = if is_split { scratch.0.join("log") } else { data.clone() };
        if is_split {
            copy(&case("split-394/version-2"), &data.join("version-2"));
            copy(&case("split-394/log/version-2"), &log.join("version-2"));
        } else {
            copy(&case("two-logs-394/version-2"), &data.join("version-2"));
        }
        Place { scratch, data, log, native: None }
    }

    fn bases(&self) -> Vec<PathBuf> {
        if self.data == self.log { vec![self.data.clone()] } else { vec![self.data.clone(), self.log.clone()] }
    }

    /// Imports and stops before step number `stop`. Whether it was stopped.
    fn import(&mut self, stop: usize) -> Result<(bool, Option<Imported>), ImportError> {
        let options = Options { native: self.native, ..Options::new(3, 0xf_ffff) };
        let (mut count, mut stopped) = (0, false);
        let mut before = |_: &str| {
            stopped = count == stop;
            count += 1;
            if stopped { Err(io::Error::other("stopped by the test")) } else { Ok(()) }
        };
        let native = &mut self.native;
        let mut publish = |recovered: Recovered| {
            *native = Some(recovered.applied);
            Ok(())
        };
        let done = import_in_steps(&self.data, &self.log, &options, &mut Quiet, &mut publish, &mut before);
        match done {
            Err(_) if stopped => Ok((true, None)),
            done => Ok((false, done?)),
        }
    }

    fn assert_set_aside(&self, java: &[BTreeMap<String, Vec<u8>>]) {
        for (base, java) in self.bases().iter().zip(java) {
            assert_eq!(files(&base.join("version-2.before-zorilla")), *java, "not a byte is changed");
            let left = files(&base.join("version-2"));
            assert_eq!(left.keys().collect::<Vec<_>>(), [SENTINEL]);
            assert!(!base.join("version-2.zorilla-making").exists());
        }
    }
}

#[test]
fn an_import_can_be_stopped_at_every_step_and_goes_on() {
    for is_split in [false, true] {
        let mut stops = 0;
        for stop in 0.. {
            let mut place = Place::new(is_split);
            let java: Vec<_> = place.bases().iter().map(|base| files(&base.join("version-2"))).collect();
            let (stopped, imported) = place.import(stop).unwrap();
            // Whatever happened, a Java server finds its own files or the sentinel, whole.
            for (base, java) in place.bases().iter().zip(&java) {
                let now = files(&base.join("version-2"));
                let is_sentinel = now.keys().eq([SENTINEL]) && !now[SENTINEL].is_empty();
                assert!(now == *java || (is_sentinel && place.native.is_some()), "step {stop}: {:?}", now.keys());
            }
            if !stopped {
                assert!(imported.is_some());
                place.assert_set_aside(&java);
                break;
            }
            stops += 1;
            let was_published = place.native.is_some();
            let (stopped, imported) = place.import(usize::MAX).unwrap();
            assert!(!stopped && imported.is_none() == was_published, "step {stop}");
            place.assert_set_aside(&java);
            // And from then on nothing is left to do.
            assert_eq!(place.import(usize::MAX).unwrap(), (false, None));
            place.assert_set_aside(&java);
        }
        assert_eq!(stops, if is_split { 10 } else { 6 }, "steps of an import");
    }
}

#[test]
fn files_that_a_java_server_changed_are_imported_again_or_refused() {
    // Stopped after the state was published and before anything was set aside; then a Java server ran.
    let ran = || {
        let mut place = Place::new(false);
        assert!(place.import(2).unwrap().0);
        assert_eq!(place.native, Some(Zxid::from_raw(0x13)));
        fs::copy(place.data.join("version-2/snapshot.0"), place.data.join("version-2/snapshot.13")).unwrap();
        fs::remove_file(place.data.join("version-2/snapshot.13")).unwrap();
        fs::write(place.data.join("version-2/log.14"), b"").unwrap();
        place
    };
    let mut place = ran();
    assert!(place.import(usize::MAX).unwrap().1.is_some(), "our own state has not moved");
    // Our own has gone on.
    let mut place = ran();
    place.native = Some(Zxid::from_raw(0x14));
    let before = files(&place.data.join("version-2"));
    let refusal = place.import(usize::MAX).unwrap_err();
    assert!(matches!(refusal, ImportError::TwoHistories { mark: Some(_), .. }), "{refusal}");
    assert_eq!(files(&place.data.join("version-2")), before);
}

#[test]
fn a_directory_that_was_put_back_is_never_ignored() {
    let mut place = Place::new(false);
    place.import(usize::MAX).unwrap();
    let back = |place: &Place| {
        fs::remove_dir_all(place.data.join("version-2")).unwrap();
        fs::rename(place.data.join("version-2.before-zorilla"), place.data.join("version-2")).unwrap();
    };
    // Nothing happened since: it is set aside again.
    back(&place);
    assert_eq!(place.import(usize::MAX).unwrap(), (false, None));
    assert!(place.data.join("version-2.before-zorilla/log.1").exists());
    // Without a mark nobody knows what it is.
    back(&place);
    fs::remove_file(place.data.join("zorilla-state/java-mark")).unwrap();
    let refusal = place.import(usize::MAX).unwrap_err();
    assert!(matches!(refusal, ImportError::TwoHistories { mark: None, .. }), "{refusal}");
    // Files beside the sentinel.
    fs::write(place.data.join("version-2").join(SENTINEL), "x").unwrap();
    let refusal = place.import(usize::MAX).unwrap_err();
    assert!(matches!(refusal, ImportError::Mixed { .. }), "{refusal}");
}

#[test]
fn the_sentinel_without_a_state_is_refused() {
    let mut place = Place::new(true);
    place.import(usize::MAX).unwrap();
    place.native = None;
    let refusal = place.import(usize::MAX).unwrap_err();
    assert!(matches!(refusal, ImportError::StateMissing { .. }), "{refusal}");
    assert!(refusal.to_string().contains("zorilla-state holds no state"), "{refusal}");
    drop(place.scratch);
}

#[test]
fn what_was_set_aside_before_keeps_its_name() {
    let mut place = Place::new(false);
    fs::create_dir(place.data.join("version-2.before-zorilla")).unwrap();
    let (_, imported) = place.import(usize::MAX).unwrap();
    assert_eq!(imported.unwrap().aside, [place.data.join("version-2.before-zorilla.2")]);
}

#[test]
fn a_damaged_mark_is_told() {
    let mut place = Place::new(false);
    assert!(place.import(2).unwrap().0);
    let mark = place.data.join("zorilla-state/java-mark");
    let good = fs::read(&mark).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&mark, &bad).unwrap();
        let refusal = place.import(usize::MAX).unwrap_err().to_string();
        assert!(refusal.contains("java-mark: expected a mark"), "byte {at}: {refusal}");
    }
}

/// Every file of the corpus, cut and flipped everywhere that matters: no panic, and no damage of a snapshot goes unnoticed.
#[test]
fn damaged_snapshots_are_refused_wherever_they_are_damaged() {
    let read = |name: &str, bytes: &[u8]| {
        let mut snapshot = snapshot::Snapshot::open(name, bytes, super::files::Compression::of(name), 1 << 20)?;
        let mut content = format!("{:?}{:?}", snapshot.sessions(), snapshot.acls());
        while let Some(node) = snapshot.next()? {
            content.push_str(&format!("{node:?}"));
        }
        Ok::<_, Fault>((content, snapshot.finish()?))
    };
    for file in [
        "basic-394/version-2/snapshot.0",
        "rolled-394/version-2/snapshot.21",
        "gz-394/version-2/snapshot.19.gz",
        "snappy-394/version-2/snapshot.1d.snappy",
    ] {
        let path = case(file);
        let name = path.file_name().unwrap().to_str().unwrap();
        let good = fs::read(&path).unwrap();
        let (content, trailer) = read(name, &good).unwrap();
        // The larger files in part: what is between is of the same kind.
        let step = 1 + good.len() / 500;
        for cut in (0..good.len()).step_by(step) {
            match read(name, &good[..cut]) {
                Err(Fault::Damaged(damage)) => assert_eq!(damage.file, Path::new(name)),
                Err(fault) => panic!("{fault}"),
                // Snapshots of older releases end at a seal before the last.
                Ok((shorter, end)) => {
                    assert_eq!(shorter, content);
                    assert!([21, 54].contains(&(trailer.bytes - end.bytes)), "cut at {cut}");
                }
            }
        }
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // What packs can say the same in more than one way; the string behind the last seal is not looked at.
            if let Ok(read) = read(name, &bad) {
                assert_eq!(read, (content.clone(), trailer), "byte {at} of {name}");
            }
        }
    }
}

#[test]
fn damaged_logs_end_or_are_refused_and_never_give_another_record() {
    let bytes = fs::read(case("basic-394/version-2/log.1")).unwrap();
    let records = |bytes: &[u8]| {
        let mut found = Vec::new();
        let mut log = txnlog::TxnLog::open("log.1", bytes, 1 << 20)?;
        loop {
            match log.next()? {
                txnlog::Step::Record(record) if record.is_intact() => found.push(record.entry.to_vec()),
                _ => break Ok::<_, Fault>(found),
            }
        }
    };
    let good = records(&bytes).unwrap();
    assert!(50 < good.len());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x40;
        for damaged in [&bad[..], &bytes[..at]] {
            if let Ok(found) = records(damaged) {
                assert!(good.starts_with(&found), "byte {at}: what is before the damage, and nothing else");
            }
        }
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
    log.extend_from_slice(&[0, 0, 0, 0, 1, 2, 3, 4]);
    log.extend_from_slice(&0x3fff_ffff_i32.to_be_bytes());
    log.extend_from_slice(b"few");
    let mut opened = txnlog::TxnLog::open("log.1", &log[..], i32::MAX as usize).unwrap();
    let end = match opened.next().unwrap() {
        txnlog::Step::End(end) => end.how,
        step => panic!("{step:?}"),
    };
    assert_eq!(end, txnlog::EndKind::CutEntry { bytes: 3, length: 0x3fff_ffff });
    let refusal = txnlog::TxnLog::open("log.1", &log[..], 1 << 20).unwrap().next().unwrap_err().to_string();
    assert!(refusal.starts_with("log.1: byte 24: expected a length of an entry up to 1048576"), "{refusal}");
}

/// What a log holds, in order.
fn entries(log: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(log).unwrap();
    let mut log = txnlog::TxnLog::open(log, &bytes[..], 1 << 20).unwrap();
    let mut entries = Vec::new();
    while let txnlog::Step::Record(record) = log.next().unwrap() {
        entries.push(record.entry.to_vec());
    }
    entries
}

/// Everything of a tree that clients or the digest could see.
fn seen(tree: &crate::tree::Tree) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    tree.for_each(|path, node| {
        seen.insert(path.to_owned(), format!("{:?} {:?} {:?}", node.version(), node.data(), node.acl().raw));
    });
    seen
}

/// A snapshot that is named after one transaction may hold everything up to a later one: replaying what it holds already
/// changes nothing in the end.
#[test]
fn replaying_any_part_of_a_log_again_ends_at_the_same_tree() {
    for name in ["basic-394", "noclosetxn-394"] {
        let entries = entries(&case(name).join("version-2/log.1"));
        let apply = |fuzzy: &mut replay::Fuzzy, entry: &[u8]| {
            let entry = zorilla_proto::txn::Entry::decode(entry).unwrap();
            fuzzy.apply(&entry.header, &entry.txn).unwrap();
        };
        let grown = |until: usize| {
            let mut fuzzy = replay::Fuzzy::new(crate::tree::Tree::new(1));
            entries[..until].iter().for_each(|entry| apply(&mut fuzzy, entry));
            fuzzy
        };
        let expected = seen(&grown(entries.len()).tree);
        for later in 0..=entries.len() {
            for begun in 0..later {
                let mut fuzzy = grown(later);
                entries[begun..].iter().for_each(|entry| apply(&mut fuzzy, entry));
                assert!(seen(&fuzzy.tree) == expected, "{name}: {begun} to {later} were replayed again");
            }
        }
    }
}

/// The run of a snapshot that was given up leaves nothing, and that of the one that is taken stays.
#[test]
fn the_run_of_a_snapshot_stays_where_it_is_asked_for() {
    for name in ["rolled-394", "snap-corrupt-394"] {
        let scratch = Scratch::new("run");
        copy(&case(name).join("version-2"), &scratch.0.join("version-2"));
        let dirs = Dirs { data: scratch.0.clone(), log: scratch.0.clone() };
        let folder = scratch.0.join(STATE_FOLDER);
        let run = RunSpec {
            folder: folder.clone(),
            run: zorilla_snapshot::RunId(7),
            store: 77,
            identity: 777,
            written_ms: 5,
        };
        let options = Options { run: Some(run), ..Options::new(3, 0xf_ffff) };
        let recovered = recover(&dirs, &options, &mut Quiet).unwrap().unwrap();
        assert_eq!(files(&folder).keys().collect::<Vec<_>>(), ["run.0000000000000007"], "{name}");
        let [run] = recovered.tree.runs() else { panic!("one run, and the rest in memory") };
        run.verify().unwrap();
        assert_eq!((run.store(), run.identity(), run.meta().written_ms), (77, 777, 5));
        let named = super::files::Kind::Snapshot
            .zxid(&recovered.report.snapshot.unwrap().file_name().unwrap().to_string_lossy());
        assert_eq!(Some(run.meta().zxid), named, "{name}");
        // Looking only leaves nothing at all.
        let before = files(&scratch.0.join("version-2"));
        fs::remove_dir_all(&folder).unwrap();
        recover(&dirs, &Options::new(3, 0xf_ffff), &mut Quiet).unwrap().unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1, "version-2");
        assert_eq!(files(&scratch.0.join("version-2")), before);
    }
}
