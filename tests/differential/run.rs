//! A whole run: options, the saved cases, the random streams, and the report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use zorilla_proto::op::Op;

use crate::alone::ALONE;
use crate::coverage;
use crate::digest::{self, Verdict};
use crate::generate::Generator;
use crate::known::{KNOWN, OPTIMIZED_DELETIONS};
use crate::pair::{self, Difference, Outcome, Pair, Tally};
use crate::profile::{self, PROFILES, Profile};
use crate::script::{self, Stream};
use crate::server::{self, Place, Program};
use crate::shrink::shrink;
use crate::side::Side;

pub const HELP: &str = "\
Options (after `--`):
  --requests N       how many requests to compare (20000)
  --seed N           where the random streams begin (1)
  --java-cp PATH     class path of the Java server 3.9.5 (else JAVA_CP)
  --zorilla PATH     the server to test (else ZORILLA, else the build of this tree)
  --java-twice       compare Java with Java: proves that what is compared is deterministic
  --only-ops A,B     only these opcodes
  --profiles A,B     only these configurations
  --no-super         use no super user, for a server that has no authentication yet
  --replay FILE      only this stream
  --cases DIR        the saved cases (tests/differential/cases); failing streams are saved there
  --no-save          do not save failing streams
  --differences N    stop after so many different differences (20)
  --port-base N      use ports from here on
  --print CONF:N     print the stream N of a configuration, of --seed, and play nothing
  --trace            print everything the reference does
  --show-coverage    print every pair of operation and error that was seen";

/// The streams of one pair of servers before it is replaced by a fresh one.
const STREAMS_PER_START: u32 = 500;

/// How often a stream that differed is played again to see whether it always does.
const REPLAYS: u32 = 5;

/// One in so many requests may meet a race inside the reference: a stream in which it, and not we, does something else than in
/// every replay.
const REQUESTS_PER_RACE: u64 = 50_000;

pub struct Options {
    requests: u64,
    seed: u64,
    java_cp: Option<String>,
    zorilla: Option<PathBuf>,
    java_twice: bool,
    only: Vec<Op>,
    profiles: Vec<String>,
    no_super: bool,
    replay: Option<PathBuf>,
    cases: PathBuf,
    save: bool,
    differences_max: usize,
    port_base: Option<u16>,
    show_coverage: bool,
    trace: bool,
    print: Option<(&'static Profile, u32)>,
    /// Only the own tests whose names contain this, and no comparison.
    pub filter: Option<String>,
}

impl Options {
    /// `None`: help was asked for.
    pub fn read(arguments: &[String]) -> Result<Option<Options>, String> {
        let mut options = Options {
            requests: 20_000,
            seed: 1,
            java_cp: std::env::var("JAVA_CP").ok().filter(|path| !path.is_empty()),
            zorilla: std::env::var_os("ZORILLA").map(PathBuf::from),
            java_twice: false,
            only: Vec::new(),
            profiles: Vec::new(),
            no_super: false,
            replay: None,
            cases: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/cases"),
            save: true,
            differences_max: 20,
            port_base: None,
            show_coverage: false,
            trace: false,
            print: None,
            filter: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--requests" => options.requests = number(&value()?)?,
                "--seed" => options.seed = number(&value()?)?,
                "--java-cp" => options.java_cp = Some(value()?),
                "--zorilla" => options.zorilla = Some(value()?.into()),
                "--java-twice" => options.java_twice = true,
                "--only-ops" => {
                    for name in value()?.split(',') {
                        let op = Op::ALL.iter().find(|op| op.name() == name);
                        options.only.push(*op.ok_or_else(|| format!("no opcode is called {name:?}"))?);
                    }
                }
                "--profiles" => {
                    options.profiles = value()?.split(',').map(str::to_owned).collect();
                    if let Some(unknown) = options.profiles.iter().find(|name| profile::find(name).is_none()) {
                        return Err(format!("no configuration is called {unknown:?}"));
                    }
                }
                "--replay" => options.replay = Some(value()?.into()),
                "--cases" => options.cases = value()?.into(),
                "--no-super" => options.no_super = true,
                "--no-save" => options.save = false,
                "--differences" => options.differences_max = number(&value()?)?,
                "--port-base" => options.port_base = Some(number(&value()?)?),
                "--print" => {
                    let value = value()?;
                    let (name, index) = value.split_once(':').ok_or("--print wants CONFIGURATION:NUMBER")?;
                    let profile = profile::find(name).ok_or_else(|| format!("no configuration is called {name:?}"))?;
                    options.print = Some((profile, number(index)?));
                }
                "--trace" => options.trace = true,
                "--show-coverage" => options.show_coverage = true,
                "--help" | "-h" => return Ok(None),
                // `cargo test WORD -- --nocapture` gives these to every test there is.
                "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--ignored" | "--include-ignored" => {}
                "--test-threads" | "--color" | "--skip" | "--format" => drop(value()?),
                other if other.starts_with("--test-threads=") || other.starts_with("--color=") => {}
                other if other.starts_with('-') => return Err(format!("no such option: {other}")),
                word => options.filter = Some(word.to_owned()),
            }
        }
        Ok(Some(options))
    }

    fn stream(&self, profile: &'static Profile, index: u32) -> Stream {
        let seed = self.seed.wrapping_mul(0x0010_0001).wrapping_add(u64::from(index));
        Generator::stream(seed, profile, &self.only)
    }

    /// The stream that `--print` asks for.
    pub fn printed(&self) -> Option<Stream> {
        self.print.map(|(profile, index)| self.stream(profile, index))
    }

    /// The reference and what is compared with it; `None` without a class path.
    pub fn programs(&self) -> Option<[Program; 2]> {
        let java = Program::Java(self.java_cp.clone()?);
        let built = || option_env!("CARGO_BIN_EXE_zorilla").map(PathBuf::from);
        let other = if self.java_twice {
            java.clone()
        } else {
            Program::zorilla(self.zorilla.clone().or_else(built).expect("a build of zorilla, or --zorilla"))
        };
        Some([java, other])
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number that fits here: {text:?}"))
}

/// The pair of servers in use, replaced whenever it has to be.
struct Bench<'a> {
    programs: &'a [Program; 2],
    no_super: bool,
    place: Place,
    pair: Option<Pair>,
    starts: u32,
}

impl Bench<'_> {
    fn renew(&mut self, profile: &'static Profile) -> Result<(), String> {
        self.pair = None;
        self.starts += 1;
        self.pair =
            Some(Pair::start(self.programs, profile, self.no_super, &self.place).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Of both servers, where the configuration keeps digests and every znode can be read.
    fn digests(&mut self) -> Vec<(&'static str, Verdict)> {
        let Some(pair) = &mut self.pair else { return Vec::new() };
        if !["defaults", "extended", "local"].contains(&pair.profile.name) || pair.is_spoilt || self.no_super {
            return Vec::new();
        }
        let has_ttl = pair.profile.name == "extended";
        let verdict = |side: &mut Side| (side.server.program.name(), digest::verify(side, has_ttl));
        pair.sides.iter_mut().map(verdict).collect()
    }

    fn play(&mut self, stream: &Stream, tally: &mut Tally) -> Result<Outcome, String> {
        let profile = profile::find(&stream.profile).ok_or_else(|| format!("no configuration {:?}", stream.profile))?;
        for _ in 0..2 {
            let pair = match &mut self.pair {
                Some(pair) if pair.profile.name == profile.name && !pair.is_spoilt => pair,
                _ => {
                    self.renew(profile)?;
                    continue;
                }
            };
            let outcome = pair.play(stream, tally);
            // Spoilt before the stream began: that is no fault of this stream.
            if matches!(&outcome, Outcome::Died(text) if text.starts_with("the trees have parted")) {
                continue;
            }
            return Ok(outcome);
        }
        let pair = self.pair.as_mut().expect("it was started above");
        Ok(pair.play(stream, tally))
    }
}

fn difference(outcome: Outcome) -> Option<Difference> {
    match outcome {
        Outcome::Same => None,
        Outcome::Different(difference) => Some(difference),
        Outcome::Died(text) => Some(Difference { signature: "died".to_owned(), text, seen: None }),
    }
}

/// Who did something else in a stream than in every replay of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Varied {
    /// The reference; we did the same every time.
    Reference,
    /// We did, or it cannot be told.
    Ours,
}

impl Varied {
    /// Takes another replay into account, in which both did the same.
    fn and(self, first: &Difference, bench: &Bench<'_>) -> Varied {
        let replayed = |place: &String| bench.pair.as_ref().and_then(|pair| pair.transcript.get(place));
        match &first.seen {
            Some((place, lines)) if replayed(place).is_some_and(|replay| replay[1] == lines[1]) => self,
            _ => Varied::Ours,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Varied::Reference => {
                "the reference did something else than in every replay, and we the same as in all of them"
            }
            Varied::Ours => "we did something else than in a replay",
        }
    }
}

struct Found {
    difference: Difference,
    stream: Stream,
    origin: String,
    saved: Option<PathBuf>,
}

#[derive(Default)]
struct Report {
    tally: Tally,
    found: Vec<Found>,
    /// Differences with a signature that was reported already.
    repeated: BTreeMap<String, u64>,
    /// Streams that differed once and never again, though we did the same every time.
    varied: Vec<String>,
    /// Streams that differed once and never again, because of us or nobody knows why.
    unconfirmed: Vec<String>,
    cases: u32,
    /// What our side does by itself, where that is not as it must be.
    alone_wrong: Vec<String>,
    alone: usize,
    /// Tree digests: whose, and what came out.
    digests: Vec<(&'static str, Verdict)>,
}

impl Report {
    fn judge(&mut self, bench: &mut Bench<'_>, stream: &Stream, origin: &str, options: &Options) -> Result<(), String> {
        self.tally.streams += 1;
        let outcome = bench.play(stream, &mut self.tally)?;
        let Some(first) = difference(outcome) else { return Ok(()) };
        if self.found.iter().any(|found| found.difference.signature == first.signature) {
            *self.repeated.entry(first.signature).or_default() += 1;
            return Ok(());
        }
        println!("{origin}: {}", first.text);
        let mut scrap = Tally::default();
        let mut again = None;
        let mut who = Varied::Reference;
        for _ in 0..REPLAYS {
            again = difference(bench.play(stream, &mut scrap)?);
            if again.is_some() {
                break;
            }
            who = who.and(&first, bench);
        }
        if again.is_none() {
            println!("{origin}: the difference did not come again; {}", who.says());
            let what = format!("{origin}, in which {}:\n{stream}\n{}", who.says(), first.text);
            match who {
                Varied::Reference => self.varied.push(what),
                Varied::Ours => self.unconfirmed.push(what),
            }
            return Ok(());
        }
        let is_replay = options.replay.is_some() || origin.starts_with("case ");
        let mut last = again.expect("it came again");
        let mut broken = None;
        let small = if is_replay {
            stream.clone()
        } else {
            shrink(stream, |candidate| match bench.play(candidate, &mut scrap) {
                Ok(outcome) => difference(outcome).is_some_and(|difference| {
                    last = difference;
                    true
                }),
                Err(error) => {
                    broken = Some(error);
                    false
                }
            })
        };
        if let Some(error) = broken {
            return Err(error);
        }
        if self.found.iter().any(|found| found.difference.signature == last.signature) {
            *self.repeated.entry(last.signature).or_default() += 1;
            return Ok(());
        }
        println!("{origin}: shrunk to {} frames\n{small}\n{}", small.frames(), last.text);
        let saved = if options.save && !is_replay { Some(save(&options.cases, &small, origin, &last)?) } else { None };
        self.found.push(Found { difference: last, stream: small, origin: origin.to_owned(), saved });
        Ok(())
    }
}

fn save(dir: &Path, stream: &Stream, origin: &str, difference: &Difference) -> Result<PathBuf, String> {
    let place = dir.join(format!("found-{}.txt", origin.replace([' ', '/'], "-")));
    let comment: String = difference.text.lines().map(|line| format!("; {line}\n")).collect();
    let text = format!("; {origin}\n{comment}{stream}");
    fs::create_dir_all(dir).and_then(|()| fs::write(&place, text)).map_err(|error| format!("{place:?}: {error}"))?;
    Ok(place)
}

fn cases(options: &Options) -> Result<Vec<(String, Stream)>, String> {
    let mut paths: Vec<PathBuf> = match &options.replay {
        Some(path) => vec![path.clone()],
        None => fs::read_dir(&options.cases)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .map_err(|error| format!("{}: {error}", options.cases.display()))?,
    };
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let stream = script::read_stream(&text).map_err(|what| format!("{}: {what}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        cases.push((format!("case {name}"), stream));
    }
    Ok(cases)
}

/// Only the requests with these opcodes.
fn restricted(stream: &Stream, only: &[Op]) -> bool {
    only.is_empty()
        || stream.steps.iter().flat_map(|step| step.requests()).all(|request| {
            request.op().is_some_and(|op| only.contains(&op) || matches!(op, Op::CloseSession | Op::Ping))
        })
}

/// Says whether everything was as it must be.
pub fn run(options: &Options, programs: &[Program; 2]) -> bool {
    let dir = server::scratch();
    let place = Place { dir: dir.clone(), port_base: options.port_base };
    let mut bench = Bench { programs, no_super: options.no_super, place, pair: None, starts: 0 };
    let mut report = Report::default();
    report.tally.is_traced = options.trace;
    let begin = Instant::now();
    let result = all(options, &mut bench, &mut report);
    let starts = bench.starts;
    drop(bench);
    let _ = fs::remove_dir_all(dir);
    if let Err(error) = &result {
        println!("the run broke off: {error}");
    }
    let is_good = print(options, programs, &report, starts, begin.elapsed().as_secs());
    result.is_ok() && is_good
}

fn all(options: &Options, bench: &mut Bench<'_>, report: &mut Report) -> Result<(), String> {
    let chosen = |profile: &&Profile| options.profiles.is_empty() || options.profiles.iter().any(|n| n == profile.name);
    let mut cases = cases(options)?;
    // Cases of one configuration follow each other: every change of it is a start of two servers.
    cases.sort_by_key(|(_, stream)| PROFILES.iter().position(|profile| profile.name == stream.profile));
    for (origin, stream) in &cases {
        let is_chosen = PROFILES.iter().filter(chosen).any(|profile| profile.name == stream.profile);
        if is_chosen && restricted(stream, &options.only) {
            report.cases += 1;
            report.judge(bench, stream, origin, options)?;
        }
    }
    if options.replay.is_some() {
        return Ok(());
    }
    if let Program::Zorilla { .. } = &bench.programs[1]
        && options.only.is_empty()
        && options.profiles.is_empty()
    {
        for alone in ALONE {
            report.alone += 1;
            let wrong = alone.run(&bench.programs[1], &bench.place).map_err(|error| error.to_string())?;
            report.alone_wrong.extend(wrong.map(|what| format!("{}: {what}", alone.name)));
        }
    }
    let total: u32 = PROFILES.iter().filter(chosen).map(|profile| profile.weight).sum();
    for profile in PROFILES.iter().filter(chosen) {
        let goal = report.tally.requests + options.requests * u64::from(profile.weight) / u64::from(total.max(1));
        let begin = (Instant::now(), report.tally.requests, report.tally.streams);
        let mut index = 0;
        while report.tally.requests < goal {
            if index % STREAMS_PER_START == 0 {
                bench.renew(profile)?;
            }
            let stream = options.stream(profile, index);
            let origin = format!("{} seed {} stream {index}", profile.name, options.seed);
            report.judge(bench, &stream, &origin, options)?;
            index += 1;
            if options.differences_max <= report.found.len() {
                println!("{} differences: that is enough", report.found.len());
                return Ok(());
            }
        }
        report.digests.extend(bench.digests());
        println!(
            "{:<10} {:>7} requests {:>6} streams {:>5.1} s  {}",
            profile.name,
            report.tally.requests - begin.1,
            report.tally.streams - begin.2,
            begin.0.elapsed().as_secs_f32(),
            profile.about
        );
    }
    Ok(())
}

fn print(options: &Options, programs: &[Program; 2], report: &Report, starts: u32, seconds: u64) -> bool {
    let tally = &report.tally;
    let missing = coverage::missing(&tally.seen, &options.only);
    let needs_coverage = options.replay.is_none() && options.profiles.is_empty();
    if options.show_coverage {
        println!("\nwhat {} answered, by operation and error:", programs[0].name());
        for line in pair::table(&tally.seen) {
            println!("  {line}");
        }
    }
    println!("\nthe differences that are meant, and how often they were met:");
    for known in KNOWN {
        let count = tally.uses.get(known.name).copied().unwrap_or_default();
        println!("  {:<20} {count:>6}  {}", known.name, known.reason);
    }
    let count = tally.uses.get(OPTIMIZED_DELETIONS).copied().unwrap_or_default();
    println!(
        "  {OPTIMIZED_DELETIONS:<20} {count:>6}  Java's optimized watch manager mixes up connections when a znode is deleted"
    );
    if 0 < report.alone {
        println!("\nwhat cannot be compared, on our side alone:");
        for alone in ALONE {
            println!("  {:<20} {}", alone.name, alone.reason);
        }
        for wrong in &report.alone_wrong {
            println!("WRONG {wrong}");
        }
    }
    for what in report.varied.iter().chain(&report.unconfirmed) {
        println!("\nseen once and not again: {what}");
    }
    for (index, found) in report.found.iter().enumerate() {
        let repeated = report.repeated.get(&found.difference.signature).copied().unwrap_or_default();
        println!("\nDIFFERENCE {} ({}, and {repeated} times more), {}", index + 1, found.origin, found.difference.text);
        println!("{}", found.stream);
        if let Some(path) = &found.saved {
            println!("saved as {}", path.display());
        }
    }
    let required = coverage::required(&options.only);
    let covered = required.iter().filter(|pair| tally.seen.contains_key(pair)).count();
    let origins: BTreeSet<&str> = report.found.iter().map(|found| found.origin.as_str()).collect();
    println!(
        "\n{} and {}: seed {}, {} requests, {} replies, {} events, {} streams ({} of them saved cases), {starts} starts, {seconds} s",
        programs[0].name(),
        programs[1].name(),
        options.seed,
        tally.requests,
        tally.replies,
        tally.events,
        tally.streams,
        report.cases
    );
    println!("coverage of operation x error: {covered} of {}", required.len());
    if needs_coverage && !missing.is_empty() {
        println!("NOT COVERED: {}", missing.join(", "));
    }
    println!("on our side alone: {} of {} as they must be", report.alone - report.alone_wrong.len(), report.alone);
    let same = report.digests.iter().filter(|(_, verdict)| *verdict == Verdict::Same).count();
    println!("tree digests as computed from the tree: {same} of {}", report.digests.len());
    for (name, verdict) in report.digests.iter().filter(|(_, verdict)| *verdict != Verdict::Same) {
        println!("  {name}: {verdict:?}");
    }
    let is_digest_wrong = report.digests.iter().any(|(_, verdict)| matches!(verdict, Verdict::Wrong(_)));
    println!(
        "differences: {} unlisted (in {} streams), {} unconfirmed; {} races inside {}",
        report.found.len(),
        origins.len(),
        report.unconfirmed.len(),
        report.varied.len(),
        programs[0].name()
    );
    let races_max = tally.requests / REQUESTS_PER_RACE;
    if races_max < report.varied.len() as u64 {
        println!("more than {races_max} races are no races: look at them above");
    }
    !is_digest_wrong
        && report.found.is_empty()
        && report.unconfirmed.is_empty()
        && report.varied.len() as u64 <= races_max
        && report.alone_wrong.is_empty()
        && (missing.is_empty() || !needs_coverage)
}
