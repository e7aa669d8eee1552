//! Where input comes from: random numbers that are a function of a seed, and writers of fields that make faults on
//! request.

use zorilla_proto::Op;

/// Lengths, counts and numbers at which something changes.
const EDGES: [i32; 18] = [
    -1,
    -2,
    -3,
    i32::MIN,
    i32::MIN + 1,
    i32::MAX,
    i32::MAX - 4,
    0xf_ffff,
    0x10_0000,
    0x1f_fffe,
    127,
    128,
    255,
    256,
    4096,
    65_535,
    65_536,
    0x7fff_0000,
];

/// Texts that mean something to somebody, and texts that nobody should like.
const TEXTS: &[&[u8]] = &[
    b"",
    b"/",
    b"/a",
    b"/a/b",
    b"/a/b/c-0000000007",
    b"/zookeeper/quota/a/zookeeper_limits",
    b"//",
    b"/a/",
    b"/a/../b",
    b"/a\0b",
    b"world",
    b"anyone",
    b"auth",
    b"digest",
    b"user:tpUq/4Pn5A64fVZyQ0gOJ8ZWqkY=",
    b"ip",
    b"10.0.0.0/8",
    b"fe80::1/64",
    b"super",
    b"sasl",
    "/\u{e9}/\u{65e5}\u{672c}".as_bytes(),
    "/\u{1f600}".as_bytes(),
    b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xff\xfe\xc0\x80\xf0\x9f",
    b"/\xe6\x97",
    &[b'x'; 300],
];

/// Random numbers, and the input that they become.
#[derive(Debug, Default)]
pub struct Source {
    state: u64,
    /// What was made so far.
    pub out: Vec<u8>,
    /// Whether fields may have faults.
    pub is_daring: bool,
    spare: Vec<u8>,
}

impl Source {
    /// Forgets what was made, and starts from a seed.
    pub fn begin(&mut self, seed: u64) {
        self.state = seed;
        self.out.clear();
        self.is_daring = false;
    }

    /// SplitMix64.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 where nothing is below it.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    /// One of these.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    /// Whether this field is to have a fault.
    fn dares(&mut self) -> bool {
        self.is_daring && self.once_in(8)
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a number.
    pub fn i32(&mut self) {
        let number = match self.below(4) {
            0 | 1 => self.below(8) as i32,
            2 => *self.pick(&EDGES),
            _ => self.draw() as i32,
        };
        self.raw(&number.to_be_bytes());
    }

    /// Appends a long number.
    pub fn i64(&mut self) {
        let number = match self.below(4) {
            0 | 1 => self.below(8) as i64,
            2 => *self.pick(&[-1, i64::MIN, i64::MAX, 1 << 40, (1 << 40) - 1, 0xff00_0000_0000_0001_u64 as i64]),
            _ => self.draw() as i64,
        };
        self.raw(&number.to_be_bytes());
    }

    /// Appends a truth; daring, one that is neither 0 nor 1.
    pub fn bool(&mut self) {
        let value = if self.dares() { self.draw() as u8 } else { self.below(2) as u8 };
        self.out.push(value);
    }

    /// Appends a truth that is false; daring, any.
    pub fn bool_false(&mut self) {
        if self.dares() { self.bool() } else { self.out.push(0) }
    }

    /// Appends the length or count that stands before `count` things; daring, another.
    pub fn count(&mut self, count: usize) {
        let mut number = count as i32;
        if self.dares() {
            number = match self.below(4) {
                0 => number + 1,
                1 => number - 1,
                2 => *self.pick(&EDGES),
                _ => -1,
            };
        }
        self.raw(&number.to_be_bytes());
    }

    /// Appends a string that is not null; daring, one that may be.
    pub fn string(&mut self) {
        let text = *self.pick(TEXTS);
        self.count(text.len());
        self.raw(text);
    }

    /// Appends a buffer, one in eight of them null.
    pub fn buffer(&mut self) {
        if self.once_in(8) {
            self.raw(&(-1_i32).to_be_bytes());
            return;
        }
        let bytes = match self.below(8) {
            0 => 0,
            7 => self.below(200),
            _ => self.below(16),
        };
        self.count(bytes);
        for _ in 0..bytes {
            let byte = self.draw() as u8;
            self.out.push(byte);
        }
    }

    /// Appends a vector of up to three elements, seldom of more.
    pub fn vector(&mut self, mut element: impl FnMut(&mut Source)) {
        let count = if self.once_in(16) { self.below(24) } else { self.below(4) };
        self.count(count);
        for _ in 0..count {
            element(self);
        }
    }

    /// Appends the number of an opcode among `known`; daring, of any, or none.
    pub fn op(&mut self, known: &[Op]) -> Op {
        let op = *self.pick(known);
        if self.dares() {
            let other = if self.once_in(2) { self.pick(Op::ALL).raw() } else { self.draw() as i32 };
            self.raw(&other.to_be_bytes());
        } else {
            self.raw(&op.raw().to_be_bytes());
        }
        op
    }

    /// Appends a buffer that holds what `content` appends.
    pub fn within(&mut self, content: impl FnOnce(&mut Source)) {
        let mark = self.out.len();
        self.raw(&[0; 4]);
        content(self);
        let bytes = self.out.len() - mark - 4;
        let length = if self.dares() { *self.pick(&EDGES) } else { bytes as i32 };
        self.out[mark..mark + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Appends one of these texts.
    pub fn one_of(&mut self, texts: &[&str]) {
        let text = *self.pick(texts);
        self.raw(text.as_bytes());
    }

    /// Appends bytes without any plan.
    pub fn noise(&mut self) {
        let bound = *self.pick(&[4, 16, 64, 64, 256]);
        for _ in 0..self.below(bound) {
            let byte = self.draw() as u8;
            self.out.push(byte);
        }
    }

    /// Damages what was made, up to four times.
    pub fn damage(&mut self) {
        for _ in 0..=self.below(4) {
            let at = self.below(self.out.len() + 1);
            let is_inside = at < self.out.len();
            match self.below(8) {
                0 if is_inside => self.out[at] ^= 1 << self.below(8),
                1 if is_inside => self.out[at] = self.draw() as u8,
                2 => self.out.truncate(at),
                3 => {
                    let byte = self.draw() as u8;
                    self.out.insert(at, byte);
                }
                4 => {
                    let number = if self.once_in(2) { *self.pick(&EDGES) } else { self.below(64) as i32 };
                    let number = number.to_be_bytes();
                    let end = self.out.len().min(at + number.len());
                    self.out[at..end].copy_from_slice(&number[..end - at]);
                }
                5 => {
                    let end = self.out.len().min(at + self.below(16));
                    self.out.drain(at..end);
                }
                6 => {
                    // Another text in the middle.
                    let text = *self.pick(TEXTS);
                    self.spare.clear();
                    self.spare.extend_from_slice(&self.out[at..]);
                    self.out.truncate(at);
                    self.out.extend_from_slice(text);
                    self.out.extend_from_slice(&self.spare);
                }
                _ => {
                    let end = self.out.len().min(at + self.below(64));
                    self.out.extend_from_within(at..end);
                }
            }
        }
    }
}
