//! Write throughput by second while snapshots and merges run, and the bytes of runs that each change costs.

use super::ground::{broken, known, layers, mib};
use super::mntr::{self, Mntr};
use super::{OURS, Snapshots};
use crate::load::{self, Changed, Moment, Spec};
use crate::shape::Work;
use std::io;

/// Fills, writes, and says what each second was like.
pub fn run(arguments: &Snapshots) -> io::Result<()> {
    let shape = arguments.shape;
    if !matches!(shape.work, Work::Set | Work::Create | Work::Mixed) {
        return Err(io::Error::other(format!("--shape {shape}: expected set, create or mixed")));
    }
    let mut ground = arguments.common.ground("snapshots", arguments.common.launcher()?)?;
    let server = ground.start(OURS)?;
    let (filled, tree) = ground.fill(&server, arguments.znodes)?;
    ground.say(format!("{} znodes, filled in {:.1} s; then {shape}", tree.znodes(), filled.summary.seconds))?;
    let over = (shape.work != Work::Create).then_some(tree);
    let spec = Spec { warmup: arguments.warmup, window: arguments.seconds, over, ..ground.spec(&server, shape) };
    let (mut begin, mut before, mut after) = (Mntr::default(), Mntr::default(), Mntr::default());
    let outcome = load::run(&spec, &mut |moment| match moment {
        Moment::Begins => begin = layers(&server),
        Moment::WindowBegins => before = layers(&server),
        Moment::WindowEnds => after = layers(&server),
    })?;
    let summary = outcome.summary();
    if let Some(fault) = summary.fault() {
        return Err(broken(&server, &format!("{shape}: {fault}")));
    }
    ground.say(format!(
        "{:.0} per second over {:.0} s; worst second {} ({:.0} % of the mean); p99 {:.1} ms, longest {:.1} ms",
        summary.ops_per_s,
        summary.seconds,
        summary.worst_second,
        100.0 * summary.worst_second as f64 / summary.ops_per_s,
        summary.p99_us / 1e3,
        summary.max_us / 1e3
    ))?;
    ground.say(format!("by second: {:?}", summary.series))?;
    ground.say(format!(
        "in the window: {} flushes, {} merges, {} MiB of runs written; at its end {} runs, {} entries in memory only",
        known(after.since(&before, mntr::FLUSHES)),
        known(after.since(&before, mntr::MERGES)),
        after.since(&before, mntr::RUN_WRITTEN_BYTES).map_or_else(|| "-".to_owned(), |it| format!("{:.1}", mib(it))),
        known(after.count(mntr::RUNS)),
        known(after.count(mntr::OVERLAY_ENTRIES))
    ))?;
    // Over the whole load, warm-up included: only of it is known what has changed.
    let done = layers(&server);
    let made = outcome.tree.znodes();
    let changed = match shape.work {
        Work::Create => Changed { sets: made, znodes: made },
        _ => outcome.changed,
    };
    let between = done.since(&begin, mntr::FLUSHES).filter(|flushes| *flushes != 0).map(|flushes| match shape.work {
        Work::Create => made as f64,
        _ => changed_between(changed.sets as f64, flushes as f64, arguments.znodes as f64),
    });
    let written = done.since(&begin, mntr::RUN_WRITTEN_BYTES);
    let each = |count: Option<f64>| match (written, count) {
        (Some(bytes), Some(count)) if count != 0.0 => format!("{:.1}", bytes as f64 / count),
        _ => "-".to_owned(),
    };
    ground.say(format!(
        "with the warm-up: {} writes, which changed {} different znodes; bytes of runs written: {} per write, {} per \
         znode changed between two flushes, {} per different znode",
        changed.sets,
        changed.znodes,
        each(Some(changed.sets as f64)),
        each(between),
        each(Some(changed.znodes as f64))
    ))?;
    ground.finish()
}

/// How many of `znodes` are changed between one flush and the next, summed over all: what `sets` at random, shared out
/// evenly, lead to.
fn changed_between(sets: f64, flushes: f64, znodes: f64) -> f64 {
    flushes * znodes * (1.0 - (-(sets / flushes) / znodes).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn znodes_changed_between_flushes_are_neither_more_than_the_sets_nor_than_there_are() {
        assert!((changed_between(1_000.0, 10.0, 1e9) - 1_000.0).abs() < 0.1, "hardly any is set twice");
        assert!((changed_between(1e9, 10.0, 1_000.0) - 10_000.0).abs() < 0.1, "all are set each time");
        // Half as many sets as znodes, from tables: 1 - e^-0.5.
        assert!((changed_between(500.0, 1.0, 1_000.0) - 393.469).abs() < 0.001);
    }
}
