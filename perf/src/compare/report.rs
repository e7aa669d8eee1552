//! Kept runs as a page: medians, ratios to Java, shares of the floor.
//!
//! Guarantees: computed from `runs.jsonl` alone, so a page can be made again; failed runs are counted and listed and
//! are in no median.

use super::plot;
use super::{Machine, Record, Run};
use crate::probe::SyncTimes;
use crate::shape::Shape;
use crate::stats::median;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

/// Everything that was kept of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Where it was made.
    pub machine: Machine,
    /// The disk alone, by repetition.
    pub disk: Vec<SyncTimes>,
    /// The runs in the order in which they were made.
    pub runs: Vec<Run>,
}

impl Kept {
    /// Reads the lines of `runs.jsonl`.
    pub fn parse(lines: &str) -> Result<Kept, String> {
        let mut kept = Kept::default();
        for (index, line) in lines.lines().enumerate() {
            let record = serde_json::from_str(line).map_err(|error| format!("line {}: {error}", index + 1))?;
            match record {
                Record::Machine(machine) => kept.machine = *machine,
                Record::Disk { sync, .. } => kept.disk.push(sync),
                Record::Run(run) => kept.runs.push(*run),
            }
        }
        Ok(kept)
    }
}

/// Medians of one server under one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The server.
    pub server: String,
    /// Runs that count.
    pub runs: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Requests per second.
    pub ops_per_s: f64,
    /// The lowest and the highest of the runs.
    pub ops_per_s_range: (f64, f64),
    /// Requests per CPU second of the server.
    pub ops_per_cpu_s: f64,
    /// Latencies.
    pub p50_us: f64,
    /// 99 % were answered within this time.
    pub p99_us: f64,
    /// 99.9 %.
    pub p999_us: f64,
    /// The fewest requests of a second.
    pub worst_second: f64,
    /// Memory without files.
    pub anonymous_bytes: f64,
    /// Memory with files.
    pub file_bytes: f64,
    /// How busy the generator was, in CPUs.
    pub generator_cpus: f64,
}

/// The runs of one shape by server, in the order of the page.
type Servers<'r> = BTreeMap<(u8, String), Vec<&'r Run>>;

/// The medians, by shape in the order of the matrix, and by server: Java, ours, the floor.
pub fn cells(kept: &Kept) -> Vec<(String, Vec<Cell>)> {
    let mut grouped: BTreeMap<(_, String), Servers<'_>> = BTreeMap::new();
    for run in &kept.runs {
        let server = (rank(&run.server), run.server.clone());
        grouped.entry((order(&run.shape), run.shape.clone())).or_default().entry(server).or_default().push(run);
    }
    let cells = |servers: Servers<'_>| servers.into_iter().map(|((_, server), runs)| cell(server, &runs)).collect();
    grouped.into_iter().map(|((_, shape), servers)| (shape, cells(servers))).collect()
}

fn rank(server: &str) -> u8 {
    match server {
        "java" => 0,
        "floor" => 2,
        _ => 1,
    }
}

/// Where a shape stands on the page; one that is no shape of ours comes last.
fn order(text: &str) -> impl Ord + use<> {
    match text.parse::<Shape>() {
        Ok(shape) => (0, Some(shape.work), shape.size, shape.rate, shape.clients * shape.pipeline, shape.pipeline),
        Err(_) => (1, None, 0, None, 0, 0),
    }
}

fn cell(server: String, runs: &[&Run]) -> Cell {
    let good: Vec<&Run> = runs.iter().copied().filter(|run| run.error.is_none()).collect();
    let values = |value: &dyn Fn(&Run) -> f64| good.iter().map(|run| value(run)).collect::<Vec<f64>>();
    let middle = |value: &dyn Fn(&Run) -> f64| median(&values(value)).unwrap_or(0.0);
    let rates = values(&|run| run.summary.ops_per_s);
    Cell {
        server,
        runs: good.len(),
        failed: runs.len() - good.len(),
        ops_per_s: middle(&|run| run.summary.ops_per_s),
        ops_per_s_range: (
            rates.iter().copied().reduce(f64::min).unwrap_or(0.0),
            rates.iter().copied().reduce(f64::max).unwrap_or(0.0),
        ),
        ops_per_cpu_s: middle(&|run| run.ops_per_cpu_s),
        p50_us: middle(&|run| run.summary.p50_us),
        p99_us: middle(&|run| run.summary.p99_us),
        p999_us: middle(&|run| run.summary.p999_us),
        worst_second: middle(&|run| run.summary.worst_second as f64),
        anonymous_bytes: middle(&|run| run.anonymous_bytes as f64),
        file_bytes: middle(&|run| run.file_bytes as f64),
        generator_cpus: middle(&|run| match run.summary.seconds {
            0.0 => 0.0,
            seconds => run.generator_cpu_s / seconds,
        }),
    }
}

/// Writes `report.md` and `plot.svg` beside the `runs.jsonl` of `folder`, and returns the page.
pub fn write(folder: &Path) -> io::Result<String> {
    let lines = fs::read_to_string(folder.join("runs.jsonl"))?;
    let kept = Kept::parse(&lines)
        .map_err(|error| io::Error::other(format!("{}: {error}", folder.join("runs.jsonl").display())))?;
    let page = markdown(&kept);
    fs::write(folder.join("report.md"), &page)?;
    fs::write(folder.join("plot.svg"), plot::svg(&cells(&kept)))?;
    Ok(page)
}

/// The page.
pub fn markdown(kept: &Kept) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = markdown_into(kept, &mut page);
    page
}

fn markdown_into(kept: &Kept, page: &mut String) -> std::fmt::Result {
    let machine = &kept.machine;
    writeln!(page, "# Zorilla, the Java server and the floor\n")?;
    writeln!(page, "| what | |\n|---|---|")?;
    writeln!(page, "| made | {} UTC, revision {} |", super::stamp(machine.started_s), machine.revision)?;
    writeln!(
        page,
        "| machine | {} × {}, {:.0} GiB, Linux {} |",
        machine.cpus,
        machine.cpu,
        machine.memory_bytes as f64 / (1u64 << 30) as f64,
        machine.kernel
    )?;
    writeln!(page, "| disk | {}; {} |", machine.file_system, machine.disk)?;
    if !machine.java.is_empty() {
        writeln!(
            page,
            "| reference | ZooKeeper {}, {}, heap 1 GiB, G1, forceSync=yes |",
            machine.zookeeper, machine.java
        )?;
    }
    writeln!(
        page,
        "| method | {} repetitions, each on a fresh process and an empty directory; {} s of load, then {} s measured; \
         shapes and servers shuffled with seed {}; {} thread(s) of the generator; medians |",
        machine.repetitions, machine.warmup_s, machine.window_s, machine.seed, machine.threads
    )?;
    if !machine.zorilla_lines.is_empty() {
        writeln!(page, "| zoo.cfg of ours | `{}` |", machine.zorilla_lines.join("` `"))?;
    }
    let syncs: Vec<f64> = kept.disk.iter().map(|sync| sync.p50_us).collect();
    if let Some(p50) = median(&syncs) {
        let p99 = median(&kept.disk.iter().map(|sync| sync.p99_us).collect::<Vec<_>>()).unwrap_or(0.0);
        writeln!(page, "| durable 4 KiB write, disk alone | p50 {p50:.0} µs, p99 {p99:.0} µs |")?;
    }
    writeln!(
        page,
        "\nA shape is `work-size:clients×pipeline`, `@rate` for a fixed rate in an open loop. *per CPU s*: successful \
         requests per second of CPU time of the server. *worst s*: the fewest in one second. *gen*: CPUs the generator \
         was busy with. Ratios are to the medians of Java and of the floor in this table.\n"
    )?;
    writeln!(
        page,
        "| shape | server | ops/s | range | per CPU s | p50 µs | p99 µs | p99.9 µs | worst s | anon MiB | file MiB | \
         gen | ×Java ops/s | ×Java per CPU s | of floor ops/s | of floor per CPU s |"
    )?;
    writeln!(page, "|---|---|{}", "--:|".repeat(14))?;
    for (shape, cells) in cells(kept) {
        let find = |name: &str| cells.iter().find(|cell| cell.server == name && 0 < cell.runs);
        let (java, floor) = (find("java"), find("floor"));
        for cell in &cells {
            if cell.runs == 0 {
                writeln!(page, "| {shape} | {} | failed |{}", cell.server, " |".repeat(13))?;
                continue;
            }
            write!(
                page,
                "| {shape} | {} | {:.0} | {:.0}–{:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
                cell.server,
                cell.ops_per_s,
                cell.ops_per_s_range.0,
                cell.ops_per_s_range.1,
                cell.ops_per_cpu_s,
                cell.p50_us,
                cell.p99_us,
                cell.p999_us,
                cell.worst_second,
                cell.anonymous_bytes / (1u64 << 20) as f64,
                cell.file_bytes / (1u64 << 20) as f64,
                cell.generator_cpus,
            )?;
            for (of, value) in
                [(java.map(|it| it.ops_per_s), cell.ops_per_s), (java.map(|it| it.ops_per_cpu_s), cell.ops_per_cpu_s)]
            {
                match of.filter(|of| 0.0 < *of) {
                    Some(of) => write!(page, " {:.2} |", value / of)?,
                    None => write!(page, " – |")?,
                }
            }
            for (of, value) in
                [(floor.map(|it| it.ops_per_s), cell.ops_per_s), (floor.map(|it| it.ops_per_cpu_s), cell.ops_per_cpu_s)]
            {
                match of.filter(|of| 0.0 < *of) {
                    Some(of) => write!(page, " {:.0} % |", 100.0 * value / of)?,
                    None => write!(page, " – |")?,
                }
            }
            writeln!(page)?;
        }
    }
    let failed: Vec<&Run> = kept.runs.iter().filter(|run| run.error.is_some()).collect();
    if !failed.is_empty() {
        writeln!(page, "\n{} of {} runs failed and are in no median:\n", failed.len(), kept.runs.len())?;
        for run in failed {
            let error = run.error.as_deref().unwrap_or_default().replace('\n', " / ");
            writeln!(page, "- {} {}, repetition {}: {error}", run.shape, run.server, run.repetition)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stats::Summary;

    pub(in crate::compare) fn run(server: &str, shape: &str, repetition: u32, ops_per_s: f64, cpu_s: f64) -> Run {
        let seconds = 5.0;
        let ops = (ops_per_s * seconds) as u64;
        Run {
            server: server.to_owned(),
            shape: shape.to_owned(),
            repetition,
            started_s: 100,
            cpu_s,
            generator_cpu_s: 2.5,
            ops_per_cpu_s: ops as f64 / cpu_s,
            anonymous_bytes: 3 << 20,
            file_bytes: 2 << 20,
            summary: Summary {
                seconds,
                ops,
                ops_per_s,
                p50_us: 10.0 * f64::from(repetition),
                p99_us: 400.0,
                p999_us: 900.0,
                worst_second: (ops_per_s / 2.0) as u64,
                ..Summary::default()
            },
            error: None,
        }
    }

    /// Three repetitions of three servers under two shapes, one of them failed.
    pub(in crate::compare) fn canned() -> Kept {
        let mut runs = Vec::new();
        for (repetition, drift) in [(1, 1.0), (2, 2.0), (3, 1.5)] {
            for shape in ["get-1k:16x1", "create-100:1x1"] {
                runs.push(run("floor", shape, repetition, 4_000.0 * drift, 2.0 * drift));
                runs.push(run("ours-folded", shape, repetition, 3_000.0 * drift, 2.0 * drift));
                runs.push(run("java", shape, repetition, 1_000.0 * drift, 5.0 * drift));
            }
        }
        runs[1].error = Some("3 replies were wrong; the first: odd".to_owned());
        let machine = Machine { cpus: 2, cpu: "Test".to_owned(), seed: 42, repetitions: 3, ..Machine::default() };
        let sync = SyncTimes { count: 9, p50_us: 81.0, p99_us: 200.0, max_us: 300.0 };
        Kept { machine, disk: vec![sync], runs }
    }

    #[test]
    fn lines_are_read_back_as_they_were_kept() {
        let kept = canned();
        let mut lines = String::new();
        let mut push = |record: Record| {
            lines.push_str(&serde_json::to_string(&record).expect("serializable"));
            lines.push('\n');
        };
        push(Record::Machine(Box::new(kept.machine.clone())));
        push(Record::Disk { repetition: 1, sync: kept.disk[0].clone() });
        for run in &kept.runs {
            push(Record::Run(Box::new(run.clone())));
        }
        let read = Kept::parse(&lines).expect("what was written");
        assert_eq!((read.machine, read.disk, read.runs), (kept.machine, kept.disk, kept.runs));
        assert!(Kept::parse("{\"record\":\"run\"}").expect_err("not a run").starts_with("line 1: "));
    }

    #[test]
    fn medians_leave_failed_runs_out() {
        let cells = cells(&canned());
        let shapes: Vec<&str> = cells.iter().map(|(shape, _)| shape.as_str()).collect();
        assert_eq!(shapes, ["create-100:1x1", "get-1k:16x1"]);
        let servers: Vec<&str> = cells[1].1.iter().map(|cell| cell.server.as_str()).collect();
        assert_eq!(servers, ["java", "ours-folded", "floor"]);
        let java = &cells[1].1[0];
        assert_eq!((java.runs, java.failed, java.ops_per_s), (3, 0, 1_500.0));
        assert_eq!(java.ops_per_s_range, (1_000.0, 2_000.0));
        assert_eq!((java.ops_per_cpu_s, java.generator_cpus), (1_000.0, 0.5));
        let ours = &cells[1].1[1];
        // The first repetition failed: the median is between the other two.
        assert_eq!((ours.runs, ours.failed, ours.ops_per_s), (2, 1, 5_250.0));
        assert_eq!(ours.p50_us, 25.0);
    }

    #[test]
    fn the_page_has_ratios_shares_and_failures() {
        let page = markdown(&canned());
        let row = |start: &str| page.lines().find(|line| line.starts_with(start)).expect(start).to_owned();
        assert_eq!(
            row("| create-100:1x1 | ours-folded |"),
            "| create-100:1x1 | ours-folded | 4500 | 3000–6000 | 7500 | 20 | 400 | 900 | 2250 | 3 | 2 | 0.50 | 3.00 | \
             7.50 | 75 % | 75 % |"
        );
        assert!(row("| get-1k:16x1 | java |").ends_with("| 1.00 | 1.00 | 25 % | 10 % |"), "{page}");
        assert!(page.contains("seed 42"));
        assert!(page.contains("| durable 4 KiB write, disk alone | p50 81 µs, p99 200 µs |"));
        assert!(page.contains("1 of 18 runs failed"));
        assert!(page.contains("- get-1k:16x1 ours-folded, repetition 1: 3 replies were wrong; the first: odd"));
    }

    #[test]
    fn without_java_or_floor_there_is_no_ratio() {
        let mut kept = canned();
        kept.runs.retain(|run| run.server == "ours-folded");
        let page = markdown(&kept);
        let row = page.lines().find(|line| line.starts_with("| create-100:1x1")).expect("a row");
        assert!(row.ends_with("| – | – | – | – |"), "{row}");
        for run in &mut kept.runs {
            run.error = Some("gone".to_owned());
        }
        assert!(markdown(&kept).contains("| create-100:1x1 | ours-folded | failed |"));
    }
}
