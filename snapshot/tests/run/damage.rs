//! A damaged run is refused, or found out before anything of it is served: which file, where, what.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use crate::common::{Data, Layer, Said, encode, hash, layer_of, path_of, version};
use zorilla_snapshot::limits::BLOCK_BYTES;
use zorilla_snapshot::{Fault, Run, RunId};

/// Some blocks of entries, packed values, ephemerals and a root among them.
fn layer() -> Layer {
    let said = |index: u64, data: Vec<u8>| {
        let mut version = version(index, Some(&data));
        version.owner = if index.is_multiple_of(50) { 9 } else { 0 };
        Said::Present { version, acl: vec![7; (index % 3) as usize], data: Data::Own(Some(data)) }
    };
    let mut layer: Layer = (0..2500u64)
        .map(|index| {
            let bytes = if index.is_multiple_of(100) { 9000 } else { 60 };
            ((format!("/p{}", index % 5), format!("n{index:06}")), said(index, vec![index as u8; bytes]))
        })
        .collect();
    layer.insert((String::new(), String::new()), said(1, Vec::new()));
    layer.insert((String::new(), "gone".to_owned()), Said::Absent);
    layer
}

/// Opens and reads all of it, as lookups do and as a merge does.
fn read_all(path: &Path, bytes: Vec<u8>, layer: &Layer) -> Result<Layer, Fault> {
    let run = Run::from_bytes(path, RunId(1), bytes)?;
    for key in layer.keys() {
        let path = path_of(key);
        run.warm(|| run.find(&path, hash(&path)))?;
    }
    let range = run.warm(|| run.ephemerals(zorilla_proto::ids::SessionId::from_raw(9)))?;
    for index in range {
        run.warm(|| run.ephemeral(index))?;
    }
    run.verify()?;
    Ok(layer_of(&run))
}

const PATH: &str = "/state/run.0000000000000001";

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let layer = layer();
    let good = encode(1, &layer, 5);
    assert_eq!(read_all(Path::new(PATH), good.clone(), &layer).unwrap(), layer);
    assert!(2 * BLOCK_BYTES < good.len(), "more than a few blocks");
    // Every byte of header, meta, table and footer; the rest in steps that are no multiple of anything.
    let tail = good.len() - 2000;
    let places = (0..200).chain((200..tail).step_by(1013)).chain(tail..good.len());
    for place in places {
        let mut bad = good.clone();
        bad[place] ^= 1 << (place % 8);
        let fault = read_all(Path::new(PATH), bad, &layer).expect_err(&format!("bit at {place} of {}", good.len()));
        assert_eq!(fault.file, Path::new(PATH));
        let text = fault.to_string();
        assert!(text.contains(PATH) && text.contains("expected") && text.contains("backup"), "{text}");
        // The offset is that of what is damaged, or of the block or section it stands in.
        let near = fault.offset as usize <= place + 64 && place <= fault.offset as usize + BLOCK_BYTES;
        assert!(near, "damage at {place} is reported at {}: {text}", fault.offset);
    }
}

#[test]
fn a_cut_file_is_found() {
    let layer = layer();
    let good = encode(1, &layer, 5);
    for length in (0..good.len()).step_by(997).chain(good.len() - 300..good.len()) {
        let fault = read_all(Path::new(PATH), good[..length].to_vec(), &layer).expect_err("it is cut");
        assert!(fault.to_string().contains("found"), "{fault}");
    }
    let mut longer = good.clone();
    longer.extend([0; 100]);
    read_all(Path::new(PATH), longer, &layer).expect_err("it is too long");
}

#[test]
fn another_file_under_the_name_is_found() {
    let layer = layer();
    let other = encode(2, &layer, 5);
    let fault = Run::from_bytes(Path::new(PATH), RunId(1), other.clone()).unwrap_err();
    assert!(fault.to_string().contains("expected run 0x1, found run 0x2"), "{fault}");
    for foreign in [vec![0; 100_000], b"ZKSN".repeat(5000), vec![0xff; 300]] {
        let fault = Run::from_bytes(Path::new(PATH), RunId(1), foreign).unwrap_err();
        assert!(fault.to_string().contains("this is no run"), "{fault}");
    }
    // The beginning of one file and the end of another.
    let good = encode(1, &layer, 5);
    let mut mixed = good[..good.len() / 2].to_vec();
    mixed.extend(&other[good.len() / 2..]);
    read_all(Path::new(PATH), mixed, &layer).expect_err("halves of two files");
}

#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let fault = Run::open(directory.path(), RunId(0xab)).unwrap_err();
    assert!(fault.to_string().contains("run.00000000000000ab") && fault.to_string().contains("cannot open"), "{fault}");
}

/// With checksums made good again, nothing that stands in the file makes the reader panic or go round in circles.
#[test]
fn content_that_contradicts_itself_is_an_error_and_no_panic() {
    let layer = layer();
    let good = encode(1, &layer, 5);
    let mut word = 12345u64;
    let mut next = |below: usize| {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (word >> 33) as usize % below
    };
    let table = u64::from_le_bytes(good[good.len() - 8..].try_into().unwrap()) as usize;
    let mut found = 0;
    for round in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..1 + round % 4 {
            let place = 64 + next(table - 64);
            bad[place] = next(256) as u8;
        }
        let crcs: Vec<u8> =
            bad[..table].chunks(BLOCK_BYTES).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
        let end = bad.len() - 128;
        bad[table..end].copy_from_slice(&crcs);
        let crc = crc32c::crc32c(&crcs);
        bad[end + 12..end + 16].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bad[end + 12..]);
        bad[end + 8..end + 12].copy_from_slice(&crc.to_le_bytes());
        let result = catch_unwind(AssertUnwindSafe(|| {
            let run = Run::from_bytes(Path::new(PATH), RunId(1), bad)?;
            for key in layer.keys().take(300) {
                let path = path_of(key);
                if let Some(entry) = run.warm(|| run.find(&path, hash(&path)))? {
                    run.warm(|| entry.value())?;
                }
            }
            let mut entries = run.entries();
            while let Some(entry) = run.warm(|| entries.next())? {
                run.warm(|| entry.value())?;
            }
            for parent in ["", "/p0", "/p4"] {
                let Some(mut children) = run.warm(|| run.children(parent, hash(parent)))? else { continue };
                while run.warm(|| children.next())?.is_some() {}
            }
            for index in run.warm(|| run.ephemerals(zorilla_proto::ids::SessionId::from_raw(9)))? {
                run.warm(|| run.ephemeral(index))?;
            }
            Ok::<(), Fault>(())
        }));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(_)) => found += 1,
            Err(_) => panic!("round {round} panicked"),
        }
    }
    assert!(300 < found, "only {found} of 3000 changes were noticed: the test reads nothing");
}

const CHILD: &str = "ZORILLA_TEST_CUT_RUN";

#[test]
fn a_file_cut_behind_our_back_ends_the_process_with_a_sentence() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let run = Run::open(Path::new(&directory), RunId(1)).unwrap();
        run.verify().unwrap();
        let file = fs::OpenOptions::new().write(true).open(Path::new(&directory).join(RunId(1).file_name())).unwrap();
        file.set_len(4096).unwrap();
        let mut entries = run.entries();
        while entries.next().unwrap().is_some() {}
        unreachable!("the file is gone");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(RunId(1).file_name()), encode(1, &layer(), 5)).unwrap();
    let name = "damage::a_file_cut_behind_our_back_ends_the_process_with_a_sentence";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", name, "--nocapture"]).env(CHILD, directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), output.status.signal()),
        (Some(zorilla_snapshot::map::EXIT_VANISHED), None),
        "{said}"
    );
    assert!(said.contains("run.0000000000000001 at byte ") && said.contains("was cut"), "{said}");
}

#[test]
fn a_file_cut_before_it_is_touched_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(RunId(1).file_name());
    fs::write(&path, encode(1, &layer(), 5)).unwrap();
    let run = Run::open(directory.path(), RunId(1)).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let fault = run.verify().unwrap_err();
    assert!(fault.to_string().contains("cannot read") || fault.to_string().contains("expected a block"), "{fault}");
}
