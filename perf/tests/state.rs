//! Every figure of `state` with a handful of znodes, and servers that must not pass for good.
//!
//! Guarantees: a server that lost its tree, or does not start, is an error; nothing here judges speed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const PERF: &str = env!("CARGO_BIN_EXE_zorilla-perf");

/// The server: `$ZORILLA`, or the binary beside the generator, which is built if it is not there.
fn zorilla() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("ZORILLA") {
            return path.into();
        }
        let beside = Path::new(PERF).with_file_name("zorilla");
        if !beside.is_file() {
            let release = beside.parent().is_some_and(|folder| folder.ends_with("release"));
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--package", "zorilla", "--bin", "zorilla"]).args(release.then_some("--release"));
            assert!(build.status().expect("cargo runs").success(), "the server cannot be built");
        }
        beside
    })
}

fn state(directory: &Path, zorilla: &Path, arguments: &[&str]) -> Output {
    Command::new(PERF)
        .arg("state")
        .args(arguments)
        .arg("--zorilla")
        .arg(zorilla)
        .arg("--dir")
        .arg(directory.join("data"))
        .arg("--results")
        .arg(directory.join("results"))
        .env_remove("JAVA_CP")
        .output()
        .expect("the generator runs")
}

/// What is printed of a figure that must succeed; the kept page is the same, and the data is gone.
fn page(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let output = state(directory.path(), zorilla(), arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let folder = std::fs::read_dir(directory.path().join("results")).expect("results").next().expect("a folder");
    let kept = std::fs::read_to_string(folder.expect("its name").path().join("report.txt")).expect("the page");
    assert!(said.starts_with(&kept), "{said}\nkept: {kept}");
    assert!(!directory.path().join("data/ours").exists());
    said
}

fn assert_says(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
}

#[test]
fn starts_are_timed_after_every_kind_of_end() {
    let page = page(&[
        "start",
        "--znodes",
        "3k,5000",
        "--quiet",
        "0.1",
        "--starts",
        "2",
        "--cold",
        "--kill-under-load",
        "--load",
        "0.5",
    ]);
    assert_says(&page, &["ours, 3000 znodes", "ours, 5000 znodes", "sets per second"]);
    for end in ["kill -9, warm page cache", "SIGTERM, warm", "kill -9, cold", "kill -9 at full write load"] {
        assert_eq!(page.matches(&format!("after {end}")).count(), 2, "{end}: {page}");
    }
    assert_eq!(page.matches("(median of 2)").count(), 8, "{page}");
}

#[test]
fn memory_and_disk_are_counted_per_znode() {
    let page = page(&["memory", "--znodes", "3000", "--quiet", "0.1"]);
    assert_says(&page, &["3000 znodes of 100 B", "right after the fill: anonymous", "after 0 quiet s: anonymous"]);
    assert_says(&page, &["on disk: state", "log"]);
}

#[test]
fn writes_are_counted_by_second_while_snapshots_run() {
    for shape in ["set-100:16x4", "create-100:4x4"] {
        let page = page(&["snapshots", "--znodes", "3000", "--seconds", "2", "--warmup", "0.2", "--shape", shape]);
        assert_says(&page, &[shape, "worst second", "% of the mean", "by second: [", "flushes", "different znodes"]);
        assert!(!page.contains("which changed 0 different"), "{page}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let refused = state(directory.path(), zorilla(), &["snapshots", "--shape", "get-100:16x1"]);
    assert!(!refused.status.success());
    assert_says(&String::from_utf8_lossy(&refused.stderr), &["expected set, create or mixed"]);
}

#[test]
fn stalls_are_laid_beside_the_disk() {
    let page = page(&["stall", "--znodes", "20k"]);
    assert_says(&page, &["ours: 20000 znodes", "longest stall of a write", "longest sync of the disk"]);
}

#[test]
fn both_layers_are_read_and_compared() {
    let page = page(&[
        "layers",
        "--znodes",
        "3000",
        "--seconds",
        "0.5",
        "--warmup",
        "0.1",
        "--repetitions",
        "2",
        "--quiet",
        "1",
    ]);
    assert_says(
        &page,
        &["memory: 3000 znodes", "runs: 3000 znodes", "from memory: ", "from runs: ", "runs / memory: "],
    );
}

#[test]
fn a_limited_server_is_measured_or_the_limit_is_said_to_be_impossible() {
    let arguments = ["cold", "--znodes", "3000", "--limit", "256m", "--seconds", "0.5"];
    if std::fs::create_dir("/sys/fs/cgroup/memory/zorilla-perf-probe").is_ok() {
        std::fs::remove_dir("/sys/fs/cgroup/memory/zorilla-perf-probe").expect("it is empty");
        let page = page(&arguments);
        assert_says(&page, &["limit 256.0 MiB", "smaller than the limit", "major faults of the server: "]);
        assert_says(&page, &["under the gate: 0 in the load, 0 in all"]);
    } else {
        let directory = tempfile::tempdir().expect("a directory");
        let output = state(directory.path(), zorilla(), &arguments);
        assert!(!output.status.success());
        assert_says(&String::from_utf8_lossy(&output.stderr), &["it takes root and the memory controller"]);
    }
}

#[test]
fn a_server_that_lost_its_tree_or_does_not_start_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let forgetful = directory.path().join("forgetful");
    let script =
        format!("#!/bin/sh\nrm -rf \"${{2%/*}}\"/data/* \"${{2%/*}}\"/log/*\nexec {} \"$@\"\n", zorilla().display());
    std::fs::write(&forgetful, script).expect("a script");
    std::fs::set_permissions(&forgetful, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let output = state(directory.path(), &forgetful, &["start", "--znodes", "1000", "--quiet", "0", "--starts", "1"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_says(&String::from_utf8_lossy(&output.stderr), &["did not come back: the server answers"]);
    let output = state(directory.path(), Path::new("/bin/false"), &["memory", "--znodes", "1000"]);
    assert!(!output.status.success());
    assert_says(&String::from_utf8_lossy(&output.stderr), &["ours did not start: it ended with"]);
}

#[test]
fn a_server_that_ends_during_the_fill_is_shown_with_its_words() {
    let directory = tempfile::tempdir().expect("a directory");
    let mortal = directory.path().join("mortal");
    // It may use one second of a CPU, which is not enough for so many znodes.
    let script = format!("#!/bin/sh\necho these are its words\nulimit -t 1\nexec {} \"$@\"\n", zorilla().display());
    std::fs::write(&mortal, script).expect("a script");
    std::fs::set_permissions(&mortal, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let output = state(directory.path(), &mortal, &["memory", "--znodes", "100m"]);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_says(&said, &["the fill ended after", "of 100000000 znodes", "these are its words"]);
}
