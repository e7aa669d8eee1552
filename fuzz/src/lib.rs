//! Every decoder of Zorilla, what valid input looks like for each, and how it is damaged.
//!
//! Guarantees: what is made for a decoder is a function of a seed; nothing that is fed here reaches a file, a socket or
//! the resolver of host names. A [`Target`] panics where a decoder breaks a promise: it must not panic, must not allocate
//! out of proportion, and what it decoded must come back from its encoding.
//!
//! The decoders of `zorilla-proto` are those that its own tests feed (`proto/tests/decoders`). What no public function
//! of the server or the log reaches is compiled into this package from its source.

use std::cell::RefCell;

// The readers of a segment and of one property are the files of the log and the server, not copies. Each has more in it
// than is fed here.
#[allow(dead_code)]
#[path = "../../proto/tests/decoders/mod.rs"]
mod decoders;
#[allow(dead_code)]
#[path = "../../src/auth/ip.rs"]
mod ip;
#[allow(dead_code)]
#[path = "../../wal/src/limits.rs"]
mod limits;
#[allow(dead_code)]
#[path = "../../src/config/properties.rs"]
mod properties;
#[allow(dead_code)]
#[path = "../../wal/src/record.rs"]
mod record;
#[allow(dead_code)]
#[path = "../../wal/src/segment.rs"]
mod segment;

mod log;
pub mod random;
mod server;
mod wire;

use random::Source;

/// What became of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is no value.
    Refused,
    /// It is a value.
    Decoded,
    /// It is a value, and the value's encoding is what it was read from.
    Same,
}

impl Outcome {
    fn of(is_decoded: bool, is_same: bool) -> Outcome {
        match (is_decoded, is_same) {
            (false, _) => Outcome::Refused,
            (true, false) => Outcome::Decoded,
            (true, true) => Outcome::Same,
        }
    }
}

/// Decoders that `cargo fuzz` feeds as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Frames, the handshake, headers and what is common to many records.
    Connection,
    /// Records of requests.
    Requests,
    /// Records of replies, and notifications.
    Replies,
    /// Transactions.
    Txns,
    /// What the server itself reads.
    Server,
    /// What the log reads.
    Log,
}

/// Appends input.
type Make = Box<dyn Fn(&mut Source)>;
/// Decodes it.
type Run = Box<dyn Fn(&[u8]) -> Outcome>;

/// One decoder, and what is fed to it.
pub struct Target {
    /// Where it belongs.
    pub group: Group,
    /// What it is called in the table.
    pub name: String,
    /// Whether what it decodes has an encoding that can be compared.
    pub encodes: bool,
    /// Appends something valid, or nearly so if the source is daring.
    make: Make,
    /// Puts right what would otherwise hide the damage from everything behind, such as a checksum; but not always.
    repair: fn(&mut Vec<u8>),
    run: Run,
    /// How much one execution may allocate in all: so many bytes for each byte of input, and so many more.
    allocates: (u64, u64),
}

impl Target {
    /// A decoder without the unusual.
    fn new(
        group: Group,
        name: impl Into<String>,
        make: impl Fn(&mut Source) + 'static,
        run: impl Fn(&[u8]) -> Outcome + 'static,
    ) -> Target {
        Target {
            group,
            name: name.into(),
            encodes: true,
            make: Box::new(make),
            repair: |_| {},
            run: Box::new(run),
            allocates: (64, 1024),
        }
    }

    /// Makes input number `number` of the seed: a third of it valid, a third with faults in its fields, a third damaged
    /// without any plan on top.
    pub fn make(&self, seed: u64, number: u64, source: &mut Source) {
        source.begin(seed.wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95)));
        let manner = source.below(12);
        source.is_daring = 3 < manner;
        if manner == 11 {
            source.noise();
        } else {
            (self.make)(source);
        }
        if 7 < manner {
            source.damage();
        }
        if !source.once_in(16) {
            (self.repair)(&mut source.out);
        }
    }

    /// Feeds it. Panics where a promise is broken.
    pub fn execute(&self, bytes: &[u8]) -> Outcome {
        let mut outcome = Outcome::Refused;
        let allocated = allocation_counter::measure(|| outcome = (self.run)(bytes));
        let bound = self.allocates.0 * bytes.len() as u64 + self.allocates.1;
        assert!(allocated.bytes_total <= bound, "{} bytes allocated for {}", allocated.bytes_total, bytes.len());
        outcome
    }
}

/// All decoders.
pub fn targets() -> Vec<Target> {
    let mut targets = wire::targets();
    targets.extend(server::targets());
    targets.extend(log::targets());
    targets
}

/// Gives one input of `cargo fuzz` to the decoder that its first byte chooses.
pub fn feed(group: Group, bytes: &[u8]) {
    thread_local! {
        static TARGETS: RefCell<Option<Vec<Target>>> = const { RefCell::new(None) };
    }
    let Some((choice, bytes)) = bytes.split_first() else { return };
    TARGETS.with_borrow_mut(|known| {
        let known = known
            .get_or_insert_with(|| targets().into_iter().filter(|target| target.group == group).collect::<Vec<_>>());
        known[usize::from(*choice) % known.len()].execute(bytes);
    });
}

/// What a target of `cargo fuzz` says to who runs it without.
pub fn needs_cargo_fuzz() -> std::process::ExitCode {
    eprintln!("This is a target of `cargo fuzz`. Without it, run the binary `drive`: fuzz/Cargo.toml says how.");
    std::process::ExitCode::from(2)
}
