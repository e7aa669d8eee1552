//! Whatever bytes arrive, no decoder panics, and none allocates more than a small multiple of what it was
//! given.
//!
//! Each run takes a seed of its own and prints it with the command that replays it; `ZORILLA_FUZZ_SEED` sets
//! it, `ZORILLA_FUZZ_EXECUTIONS` makes a run longer.

mod decoders;
mod seed;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use decoders::Decoder;
use zorilla_proto::client::{ReplyHeader, RequestHeader};
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::{Op, TxnHeader};

const EXECUTIONS: u64 = 1_000_000;

/// A generator whose every output is a function of the seed.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// A number as it might be meant for a length, a count, a type or a flag.
    fn number(&mut self) -> i32 {
        match self.below(8) {
            0..=3 => self.below(6) as i32,
            4 => *self.pick(&[-1, -2, i32::MIN, i32::MAX, 0xf_ffff, 0x10_0000, 255, 256, 65_536]),
            5 => Op::ALL[self.below(Op::ALL.len())].raw(),
            6 => self.below(200) as i32,
            _ => self.next() as i32,
        }
    }

    /// Bytes without any plan.
    fn noise(&mut self) -> Vec<u8> {
        let bound = *self.pick(&[4, 16, 64, 64, 256, 4096]);
        (0..self.below(bound)).map(|_| self.next() as u8).collect()
    }

    /// Numbers, strings and short runs of bytes, one after the other: decoders get far into such.
    fn structure(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(5) {
                0 | 1 => bytes.extend_from_slice(&self.number().to_be_bytes()),
                2 => {
                    let text = *self.pick(&[&b""[..], b"/", b"/a", b"/a/b", b"world", b"\xff\xfe", b"\xed\xa0\xbd"]);
                    bytes.extend_from_slice(&(text.len() as i32).to_be_bytes());
                    bytes.extend_from_slice(text);
                }
                3 => bytes.push(self.below(3) as u8),
                _ => bytes.extend_from_slice(&self.next().to_be_bytes()),
            }
        }
        bytes
    }

    /// Small damage to something valid.
    fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Sample]) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                3 => bytes.insert(at, self.next() as u8),
                4 => {
                    let number = self.number().to_be_bytes();
                    let end = bytes.len().min(at + number.len());
                    bytes[at..end].copy_from_slice(&number[..end - at]);
                }
                5 => {
                    let end = bytes.len().min(at + self.below(16));
                    bytes.drain(at..end);
                }
                6 => {
                    let other = &self.pick(others).bytes;
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
                _ => {
                    let end = bytes.len().min(at + self.below(64));
                    bytes.extend_from_within(at..end);
                }
            }
        }
    }
}

/// Valid bytes, and which decoder takes them.
struct Sample {
    name: &'static str,
    op: Option<Op>,
    bytes: Vec<u8>,
}

/// The captured frames and the transactions of real logs, cut into what each decoder reads.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut frame = Vec::new();
    // Replies say by their xid alone what they answer.
    let mut ops = BTreeMap::new();
    for line in include_str!("golden/client-frames.txt").lines().chain([""]) {
        if line.starts_with(['#', 'E']) {
            continue;
        }
        if let Some((hex, _)) = line.split_once("  ") {
            frame.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            continue;
        }
        let bytes = std::mem::take(&mut frame);
        let Framed::Complete { payload, .. } = frame::split(&bytes, usize::MAX) else { continue };
        let mut reader = zorilla_proto::Reader::new(payload);
        let header = RequestHeader::decode(&mut reader).unwrap();
        if let Some(op) = Op::from_raw(header.op).filter(|op| op.from_client()) {
            ops.insert(header.xid, op);
            samples.push(Sample { name: "Request", op: Some(op), bytes: reader.remaining().to_vec() });
        } else if ReplyHeader::BYTES < payload.len() {
            let op =
                if header.xid == -1 { Op::Notification } else { ops.get(&header.xid).copied().unwrap_or(Op::Exists) };
            samples.push(Sample { name: "Response", op: Some(op), bytes: payload[ReplyHeader::BYTES..].to_vec() });
        }
        samples.push(Sample { name: "ConnectRequest", op: None, bytes: payload.to_vec() });
        samples.push(Sample { name: "ConnectResponse", op: None, bytes: payload.to_vec() });
        samples.push(Sample { name: "frames", op: None, bytes });
    }
    for log in [
        &include_bytes!("corpus/basic-3.9.4.log")[..],
        include_bytes!("corpus/before-3.6.log"),
        include_bytes!("corpus/close-session-without-list.log"),
        include_bytes!("corpus/ensemble-reconfig.log"),
    ] {
        let mut reader = zorilla_proto::Reader::new(&log[16..]);
        while reader.i64().is_ok() {
            let entry = reader.buffer().unwrap().unwrap();
            reader.u8().unwrap();
            let mut header = zorilla_proto::Reader::new(entry);
            let op = Op::from_raw(TxnHeader::decode(&mut header).unwrap().op);
            samples.push(Sample { name: "Entry", op: None, bytes: entry.to_vec() });
            samples.push(Sample { name: "Txn", op, bytes: header.remaining().to_vec() });
            samples.push(Sample { name: "MultiPart", op, bytes: header.remaining().to_vec() });
        }
    }
    samples
}

/// Feeds one decoder, measures it, and tells which bytes it was that it could not stand.
fn execute(decoder: &Decoder, bytes: &[u8]) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut valid = false;
        let allocated = allocation_counter::measure(|| valid = decoder.read(bytes));
        // Only malformed UTF-8 is copied. U+FFFD takes three bytes for one, the copy grows by doubling, and a
        // multi is read once to check it and once more to walk it.
        let bound = 32 * bytes.len() as u64 + 64;
        assert!(allocated.bytes_total <= bound, "{} bytes allocated for {}", allocated.bytes_total, bytes.len());
        assert!(allocated.bytes_max <= 8 * bytes.len() as u64 + 64, "{} bytes at once", allocated.bytes_max);
        decoder.check(bytes);
        valid
    }));
    outcome.unwrap_or_else(|panic| {
        eprintln!("{} ({}) on {} bytes: {bytes:02x?}", decoder.name, decoder.op, bytes.len());
        resume_unwind(panic)
    })
}

#[test]
fn no_bytes_make_a_decoder_panic_or_allocate_without_bound() {
    let seed = seed::seed("bytes");
    let executions = seed::number("ZORILLA_FUZZ_EXECUTIONS").unwrap_or(EXECUTIONS);
    if executions != EXECUTIONS {
        println!("and with ZORILLA_FUZZ_EXECUTIONS={executions}");
    }

    let decoders = decoders::all();
    let samples = samples();
    let by_name = |sample: &Sample| {
        decoders
            .iter()
            .find(|decoder| decoder.name == sample.name && sample.op.is_none_or(|op| op == decoder.op))
            .expect("every sample has its decoder")
    };
    // Undamaged, nearly all are valid; the rest were handed to the wrong half of the handshake on purpose.
    let valid = samples.iter().filter(|sample| execute(by_name(sample), &sample.bytes)).count();
    assert!(samples.len() / 2 < valid, "{valid} of {} samples decode", samples.len());

    let mut random = Random(seed);
    let mut valid = 0;
    let mut done = vec![0_u64; decoders.len()];
    for _ in 0..executions {
        let bytes = match random.below(4) {
            0 => random.noise(),
            1 => random.structure(),
            _ => {
                let sample = random.pick(&samples);
                let mut bytes = sample.bytes.clone();
                random.mutate(&mut bytes, &samples);
                // Mostly to the decoder it was made for, sometimes to any.
                if random.below(8) != 0 {
                    valid += u64::from(execute(by_name(sample), &bytes));
                    continue;
                }
                bytes
            }
        };
        let index = random.below(decoders.len());
        valid += u64::from(execute(&decoders[index], &bytes));
        done[index] += 1;
    }
    println!("{executions} executions of {} decoders, {valid} of them on valid bytes", decoders.len());
    // The generator is worth its time only if it gets past the first field, and misses no decoder.
    assert!(executions / 10 < valid, "only {valid} of {executions} inputs were valid");
    assert!(executions < EXECUTIONS || done.iter().all(|&count| count != 0));
}
