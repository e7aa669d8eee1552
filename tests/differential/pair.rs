//! Two servers, and one stream played on both at once.
//!
//! Between steps everything outstanding is waited for, on every connection of both servers, so that both see the requests
//! of different connections in the same order. Within a step requests are pipelined.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use zorilla_proto::op::Op;

use crate::known::{self, Uses};
use crate::norm::Norm;
use crate::profile::Profile;
use crate::script::{Field, Request, Step, Stream};
use crate::server::{Place, Program, Server};
use crate::side::{Side, may_be_noticed};
use crate::wire::{Item, pair_name};

/// What the reference answered, by operation and error, and how often.
pub type Seen = BTreeMap<(i32, i32), u64>;

/// Two observations that had to be equal.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What was seen on both, marked where it differs.
    pub text: String,
    /// The first unequal pair, without numbers: tells one fault from another.
    pub signature: String,
    /// Where it was seen, and everything that both did there; nothing for a server that ended.
    pub seen: Option<(String, Lines)>,
}

/// What the first server did at some place of a stream, and what the second one did.
pub type Lines = [Vec<String>; 2];

/// How a stream went.
#[derive(Debug)]
pub enum Outcome {
    Same,
    Different(Difference),
    /// A server has ended, or no longer answers.
    Died(String),
}

pub struct Pair {
    pub profile: &'static Profile,
    pub sides: [Side; 2],
    number: u32,
    /// The stream that was played last, place by place.
    pub transcript: BTreeMap<String, Lines>,
    /// No stream may begin: the two trees have parted.
    pub is_spoilt: bool,
}

/// What is counted over a whole run.
#[derive(Debug, Default)]
pub struct Tally {
    pub seen: Seen,
    pub requests: u64,
    pub streams: u64,
    pub events: u64,
    pub replies: u64,
    pub uses: Uses,
    /// Everything the reference does is printed.
    pub is_traced: bool,
}

impl Pair {
    pub fn start(
        programs: &[Program; 2],
        profile: &'static Profile,
        no_super: bool,
        place: &Place,
    ) -> io::Result<Pair> {
        let mut traits = profile.traits;
        traits.has_super &= !no_super;
        let start = |index: usize| Side::new(Server::start(&programs[index], profile, place)?, traits);
        let [first, second] = std::thread::scope(|scope| {
            let second = scope.spawn(|| start(1));
            [start(0), second.join().expect("a panic has been printed")]
        });
        let sides = [first?, second?];
        Ok(Pair { profile, sides, number: 0, transcript: BTreeMap::new(), is_spoilt: false })
    }

    /// Plays a stream below a top-level znode of its own.
    pub fn play(&mut self, stream: &Stream, tally: &mut Tally) -> Outcome {
        let roots = ["/", "/zookeeper", "/zookeeper/quota"];
        let stats = roots.map(|path| Request::new(Op::GetChildren2, vec![path_field(path), Field::Bool(0)]));
        let before: [Vec<Item>; 2] = self.both(|side| {
            // What lies before the stream has no zxids worth comparing.
            side.norm = Norm::new(i64::MAX);
            side.admin(&stats).into_iter().map(Item::Reply).collect()
        });
        if let Some(difference) = self.compare("before the stream", &before[0], &before[1], &mut Uses::default()) {
            self.is_spoilt = true;
            return Outcome::Died(format!("the trees have parted earlier:\n{}", difference.text));
        }
        self.number += 1;
        self.transcript.clear();
        let prefix = format!("/t{:06}", self.number);
        self.both(|side| side.begin(&prefix));
        let result = self.steps(stream, tally).or_else(|| self.finish(tally));
        if let Some(dead) = self.sides.iter_mut().find_map(|side| {
            let is_dead = !side.is_alive();
            is_dead.then(|| format!("{} ended or hangs:\n{}", side.server.program.name(), side.server.said()))
        }) {
            self.is_spoilt = true;
            return Outcome::Died(dead);
        }
        match result {
            None => Outcome::Same,
            Some(difference) => {
                // What is left over may differ as well; the check before the next stream says whether it does.
                self.both(|side| {
                    side.close_sessions();
                    let tops = side.tops();
                    let (paths, _) = side.walk(&tops);
                    side.clean(&paths);
                });
                Outcome::Different(difference)
            }
        }
    }

    /// The same on both servers, at the same time.
    fn both<T: Send>(&mut self, work: impl Fn(&mut Side) -> T + Sync) -> [T; 2] {
        let [left, right] = &mut self.sides;
        std::thread::scope(|scope| {
            let right = scope.spawn(|| work(right));
            [work(left), right.join().expect("a panic has been printed")]
        })
    }

    fn steps(&mut self, stream: &Stream, tally: &mut Tally) -> Option<Difference> {
        for (index, step) in stream.steps.iter().enumerate() {
            for side in &mut self.sides {
                side.write(step);
            }
            for side in &mut self.sides {
                side.read(step);
            }
            if may_be_noticed(step) {
                for side in &mut self.sides {
                    side.write_fences(step);
                }
                for side in &mut self.sides {
                    side.read_fences();
                }
            }
            tally.requests += step.requests().len() as u64 + u64::from(matches!(step, Step::Connect(_)));
            let seen = self.sides.each_mut().map(Side::take_items);
            let conns: BTreeSet<&String> = seen.iter().flat_map(BTreeMap::keys).collect();
            for conn in conns {
                let nothing = (Vec::new(), Vec::new());
                let [left, right] = [0, 1].map(|side| seen[side].get(conn).unwrap_or(&nothing));
                count(tally, &left.0);
                count(tally, &left.1);
                let place = format!("step {index} on {conn}");
                if tally.is_traced {
                    for line in self.sides[0].norm.render(&left.0).iter().chain(&self.sides[0].norm.render(&left.1)) {
                        println!("{place}: {line}");
                    }
                }
                let difference = self
                    .compare(&place, &left.0, &right.0, &mut tally.uses)
                    .or_else(|| self.compare(&format!("{place}, at once"), &left.1, &right.1, &mut tally.uses));
                if difference.is_some() {
                    return difference;
                }
            }
        }
        None
    }

    /// The whole trees, and the sessions that must still be there.
    fn finish(&mut self, tally: &mut Tally) -> Option<Difference> {
        let walks = self.both(|side| {
            let mut tops = side.tops();
            let own = tops.clone();
            tops.extend(["/zookeeper/config".to_owned(), "/zookeeper/quota".to_owned()]);
            let (paths, items) = side.walk(&tops);
            // What stands below the quota node is listed twice by the walk and deleted once.
            let paths = paths.into_iter().filter(|path| own.iter().any(|top| path.starts_with(top.as_str())));
            (paths.collect::<BTreeSet<String>>(), items)
        });
        if let Some(difference) = self.compare("the trees at the end", &walks[0].1, &walks[1].1, &mut tally.uses) {
            return Some(difference);
        }
        let closed = self.both(Side::close_sessions);
        if closed[0] != closed[1] {
            let text = format!("sessions at the end:\n- {:?}\n+ {:?}", closed[0], closed[1]);
            return Some(Difference { signature: "sessions".to_owned(), text, seen: None });
        }
        for (side, (paths, _)) in self.sides.iter_mut().zip(&walks) {
            let paths: Vec<String> = paths.iter().cloned().collect();
            side.clean(&paths);
        }
        None
    }

    fn compare(&mut self, place: &str, left: &[Item], right: &[Item], uses: &mut Uses) -> Option<Difference> {
        let mut lines = [self.sides[0].norm.render(left), self.sides[1].norm.render(right)];
        let before = lines[0].len() != lines[1].len();
        lines.iter_mut().for_each(|lines| lines.retain(|line| known::is_comparable(self.profile, line)));
        if before && lines[0].len() == lines[1].len() {
            *uses.entry(known::OPTIMIZED_DELETIONS).or_default() += 1;
        }
        let differs = |index: usize| match (lines[0].get(index), lines[1].get(index)) {
            (Some(a), Some(b)) if a == b => None,
            (Some(a), Some(b)) => match known::excuse(self.profile, a, b) {
                Some(name) => Some(Err(name)),
                None => Some(Ok(format!("{a}\n{b}"))),
            },
            (a, b) => Some(Ok(format!("{a:?}\n{b:?}"))),
        };
        let mut first = None;
        for index in 0..lines[0].len().max(lines[1].len()) {
            match differs(index) {
                None => {}
                Some(Err(name)) => *uses.entry(name).or_default() += 1,
                Some(Ok(what)) => {
                    first = Some((index, what));
                    break;
                }
            }
        }
        self.transcript.insert(place.to_owned(), lines.clone());
        let (at, what) = first?;
        let names = [0, 1].map(|index| self.sides[index].server.program.name());
        let mut text = format!("{place} (- {}, + {}):\n", names[0], names[1]);
        for index in at.saturating_sub(4)..(at + 4).min(lines[0].len().max(lines[1].len())) {
            match (lines[0].get(index), lines[1].get(index)) {
                (Some(a), Some(b)) if a == b => text.push_str(&format!("    {a}\n")),
                (a, b) => {
                    text.extend(a.map(|line| format!("  - {line}\n")));
                    text.extend(b.map(|line| format!("  + {line}\n")));
                }
            }
        }
        Some(Difference { text, signature: signature(&what), seen: Some((place.to_owned(), lines)) })
    }
}

/// Plays a stream on one server; what was seen, in order.
pub fn play_alone(side: &mut Side, stream: &Stream) -> Vec<(String, Item)> {
    side.begin("/alone");
    let mut all = Vec::new();
    for step in &stream.steps {
        side.write(step);
        side.read(step);
        side.write_fences(step);
        side.read_fences();
        for (conn, (items, at_once)) in side.take_items() {
            all.extend(at_once.into_iter().chain(items).map(|item| (conn.clone(), item)));
        }
    }
    all
}

fn path_field(path: &str) -> Field {
    Field::Str(Some(path.to_owned()))
}

/// A pair of lines with everything incidental taken out: of a request only the operations remain.
fn signature(lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines() {
        let (asked, answered) = line.split_once(" -> ").unwrap_or(("", line));
        let operations = asked.split(' ').enumerate().filter(|(index, word)| *index == 0 || word.starts_with("op:"));
        let operations: BTreeSet<&str> = operations.map(|(_, word)| word).collect();
        out.push_str(&format!("{operations:?} "));
        let mut quoted = false;
        // Numbers say nothing, but for error codes.
        for word in answered.split_inclusive(' ') {
            let is_code = word.starts_with("err=") || word.starts_with("error=");
            for next in word.chars() {
                quoted ^= next == '"';
                if !quoted && (is_code || !next.is_ascii_digit()) {
                    out.push(next);
                }
            }
        }
        out.push('\n');
    }
    out
}

fn count(tally: &mut Tally, items: &[Item]) {
    for item in items {
        match item {
            Item::Reply(reply) => {
                tally.replies += 1;
                if let Some(op) = reply.op {
                    *tally.seen.entry((op.raw(), reply.code)).or_default() += 1;
                }
                for (op, code) in &reply.results {
                    // What a multi says of an operation counts for the multi and for the operation.
                    *tally.seen.entry((*op, *code)).or_default() += 1;
                }
            }
            Item::Event { .. } => tally.events += 1,
            _ => {}
        }
    }
}

/// The pairs as lines, for people.
pub fn table(seen: &Seen) -> Vec<String> {
    seen.iter().map(|((op, code), count)| format!("{:<44} {count:>9}", pair_name(*op, *code))).collect()
}
