//! The tools for Java's files print what those of a Java server 3.9.4 print for the same files.
//!
//! The outputs are those in `tests/corpus/tools-394/`; `tests/corpus/README.md` says which files they are of.

#[path = "common/scratch.rs"]
mod scratch;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use scratch::Scratch;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn expected(name: &str) -> String {
    String::from_utf8(fs::read(corpus("tools-394").join(name)).unwrap()).unwrap()
}

struct Printed {
    out: String,
    err: String,
    code: Option<i32>,
}

/// A folder with the files that the arguments of `commands.txt` name.
fn files(name: &str) -> std::sync::Arc<Scratch> {
    let home = Scratch::new(name);
    for (from, to) in [
        ("basic-394/version-2/log.1", "log.1"),
        ("corrupt-body-394/version-2/log.1", "log.c"),
        ("torn-body-cut-394/version-2/log.1", "log.t"),
        ("corrupt-eor-394/version-2/log.1", "log.e"),
        ("rolled-394/version-2/snapshot.21", "snapshot.21"),
        ("rolled-394/version-2/snapshot.a4", "snapshot.a4"),
    ] {
        fs::copy(corpus(from), home.join(to)).unwrap();
    }
    home
}

fn run(home: &Scratch, script: &str, arguments: &str, input: &str) -> Printed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bin").join(script);
    let mut child = Command::new(script)
        .args(arguments.split_whitespace())
        .env("ZORILLA", env!("CARGO_BIN_EXE_zorilla"))
        .current_dir(home.join("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Printed { out: text(output.stdout), err: text(output.stderr), code: output.status.code() }
}

#[test]
fn logs_are_printed_repaired_and_cut_as_by_the_reference() {
    for (case, arguments, input, code) in [
        ("txnlog-dump-basic", "log.1", "", 0),
        ("txnlog-dump-corrupt", "log.c", "", 0),
        ("txnlog-dump-torn", "log.t", "", 0),
        ("txnlog-dump-bad-eor", "log.e", "", 1),
        ("txnlog-recover-yes", "-r -y log.c", "", 0),
        ("txnlog-recover-verbose", "-rvy log.c", "", 0),
        ("txnlog-recover-ask", "-r log.c", "y\n", 0),
        ("txnlog-recover-abort", "-r log.c", "a\n", 0),
        ("txnlog-help", "-h", "", 0),
        ("txnlog-noargs", "", "", 1),
        ("txnlog-missing", "nofile", "", 1),
        ("txnlog-bad-magic", "snapshot.a4", "", 2),
        ("txnlog-chop", "-c -z 0x10 log.1", "", 0),
        ("txnlog-chop-beyond", "-c -z 999 log.1", "", 0),
    ] {
        let home = files(case);
        let printed = run(&home, "zkTxnLogToolkit.sh", arguments, input);
        assert_eq!(printed.out, expected(&format!("{case}.stdout")), "{case}");
        let err = match corpus("tools-394").join(format!("{case}.stderr")).exists() {
            true => expected(&format!("{case}.stderr")),
            false => String::new(),
        };
        assert_eq!(printed.err, err, "{case}");
        assert_eq!(printed.code, Some(code), "{case}");
    }
}

#[test]
fn what_was_repaired_or_cut_is_a_log_again() {
    let home = files("tools-written");
    assert_eq!(run(&home, "zkTxnLogToolkit.sh", "verify log.c", "").code, Some(1));
    assert_eq!(run(&home, "zkTxnLogToolkit.sh", "-r -y log.c", "").code, Some(0));
    let again = run(&home, "zkTxnLogToolkit.sh", "-r -y log.c", "");
    assert_eq!((again.err, again.code), (expected("txnlog-recover-exists.stderr"), Some(1)));
    let fixed = run(&home, "zkTxnLogToolkit.sh", "verify log.c.fixed", "");
    assert_eq!(fixed.code, Some(0), "{}{}", fixed.out, fixed.err);
    assert!(fixed.out.starts_with("13 records"), "{}", fixed.out);
    assert_eq!(fs::metadata(home.join("log.c.fixed")).unwrap().len(), 64 << 20);

    run(&home, "zkTxnLogToolkit.sh", "-c -z 0x10 log.1", "");
    let (whole, cut) = (fs::read(home.join("log.1")).unwrap(), fs::read(home.join("log.1.chopped16")).unwrap());
    assert!(whole.starts_with(&cut) && cut.len() < whole.len());
    let dump = run(&home, "zkTxnLogToolkit.sh", "log.1.chopped16", "");
    assert!(dump.out.ends_with("EOF reached after 16 txns.\n"), "{}", dump.out);
}

/// Its znodes in an order of their own: the reference prints them as its hash tables hold them.
fn sorted(text: &str, separator: &str) -> Vec<String> {
    let mut parts: Vec<String> = text.split(separator).map(str::to_owned).collect();
    parts.sort();
    parts
}

#[test]
fn snapshots_are_printed_as_by_the_reference() {
    let home = files("tools-format");
    for (case, arguments) in [("snapshot-format", "snapshot.a4"), ("snapshot-format-data", "-d snapshot.a4")] {
        let printed = run(&home, "zkSnapShotToolkit.sh", arguments, "");
        assert_eq!(sorted(&printed.out, "----\n"), sorted(&expected(&format!("{case}.stdout")), "----\n"), "{case}");
        assert_eq!((printed.err.as_str(), printed.code), ("", Some(0)), "{case}");
    }
    for (case, arguments) in [
        ("snapshot-format-both", "-d -json snapshot.a4"),
        ("snapshot-format-missing", "nofile"),
        ("snapshot-format-usage", ""),
    ] {
        let printed = run(&home, "zkSnapShotToolkit.sh", arguments, "");
        assert_eq!((printed.out.as_str(), printed.code), ("", Some(2)), "{case}");
        assert_eq!(printed.err, expected(&format!("{case}.stderr")), "{case}");
    }
}

/// Three lines for each znode.
fn sums(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut sums: Vec<String> = lines.chunks(3).map(|lines| lines.join("\n")).collect();
    sums.sort();
    sums
}

#[test]
fn snapshots_are_summed_up_as_by_the_reference() {
    let home = files("tools-summary");
    for (case, arguments) in [
        ("snapshot-summary", "snapshot.a4 / 1"),
        ("snapshot-summary-all", "snapshot.a4 / 0"),
        ("snapshot-summary-sub", "snapshot.a4 /multi 0"),
    ] {
        let printed = run(&home, "zkSnapshotRecursiveSummaryToolkit.sh", arguments, "");
        assert_eq!(sums(&printed.out), sums(&expected(&format!("{case}.stdout"))), "{case}");
        assert_eq!((printed.err.as_str(), printed.code), ("", Some(0)), "{case}");
    }
    let printed = run(&home, "zkSnapshotRecursiveSummaryToolkit.sh", "", "");
    assert_eq!((printed.err, printed.code), (expected("snapshot-summary-usage.stderr"), Some(2)));
}

#[test]
fn a_damaged_snapshot_is_named_with_the_place() {
    let home = files("tools-verify");
    let run_verify = |name: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_zorilla"))
            .args(["snapshot", "verify"])
            .arg(home.join(name))
            .output()
            .unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let (out, err, code) = run_verify("snapshot.a4");
    assert_eq!((err.as_str(), code), ("", Some(0)));
    assert!(out.starts_with("99 znodes"), "{out}");
    let mut bytes = fs::read(home.join("snapshot.a4")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(home.join("snapshot.a5"), bytes).unwrap();
    let (_, err, code) = run_verify("snapshot.a5");
    assert!(err.contains("snapshot.a5: byte ") && err.contains("expected"), "{err}");
    assert_eq!(code, Some(1));
}
