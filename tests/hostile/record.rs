//! Records written field by field, so that any of them can be wrong, and the valid record of every opcode.

use zorilla_proto::Op;

/// The xid of every request here.
pub const XID: i32 = 7;

/// One field, right or wrong.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// A number.
    Int(i32),
    /// A long number.
    Long(i64),
    /// A truth, as it stands on the wire.
    Bool(u8),
    /// A string.
    Str(&'static str),
    /// A string or buffer of any bytes.
    Raw(&'static [u8]),
    /// A string, buffer or vector that is null.
    Null,
    /// The count of a vector; its elements follow.
    Count(i32),
    /// `world:anyone` with every permission, as the only entry.
    Open,
}

use Field::{Bool, Count, Int, Long, Null, Open, Raw, Str};

/// An encoded record, and where in it the lengths and counts stand.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where the length of a string or buffer stands.
    pub lengths: Vec<usize>,
    /// Where the count of a vector stands.
    pub counts: Vec<usize>,
}

impl Record {
    /// Encodes fields.
    pub fn of(fields: &[Field]) -> Record {
        let mut record = Record::default();
        record.push(fields);
        record
    }

    /// Appends fields.
    pub fn push(&mut self, fields: &[Field]) {
        for field in fields {
            match *field {
                Int(number) => self.put(&number.to_be_bytes()),
                Long(number) => self.put(&number.to_be_bytes()),
                Bool(byte) => self.put(&[byte]),
                Str(text) => self.put_lengthy(text.as_bytes()),
                Raw(bytes) => self.put_lengthy(bytes),
                Null => self.put(&(-1_i32).to_be_bytes()),
                Count(count) => {
                    self.counts.push(self.bytes.len());
                    self.put(&count.to_be_bytes());
                }
                Open => self.push(&[Count(1), Int(31), Str("world"), Str("anyone")]),
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put_lengthy(&mut self, bytes: &[u8]) {
        self.lengths.push(self.bytes.len());
        self.put(&(bytes.len() as i32).to_be_bytes());
        self.put(bytes);
    }
}

/// Header and record: the payload of a frame.
pub fn request(op: i32, record: &[u8]) -> Vec<u8> {
    with_xid(XID, op, record)
}

/// As [`request`], with another xid.
pub fn with_xid(xid: i32, op: i32, record: &[u8]) -> Vec<u8> {
    [&xid.to_be_bytes()[..], &op.to_be_bytes()[..], record].concat()
}

/// A request of these fields.
pub fn of(op: Op, fields: &[Field]) -> Vec<u8> {
    request(op.raw(), &Record::of(fields).bytes)
}

/// The record of a multi or multiRead with these operations.
pub fn multi(operations: &[(Op, &[Field])]) -> Record {
    let mut record = Record::default();
    for (op, fields) in operations {
        record.push(&[Int(op.raw()), Bool(0), Int(-1)]);
        record.push(fields);
    }
    record.push(END);
    record
}

/// Ends a multi.
pub const END: &[Field] = &[Int(-1), Bool(1), Int(-1)];

/// What can be asked of the znode `/kept` and of one that is missing, `/none`, without changing either: a valid record of
/// every opcode that has one.
pub fn valid() -> Vec<(Op, Record)> {
    let create = &[Str("/kept"), Raw(b"data"), Open, Int(0)][..];
    let watched = &[Str("/kept"), Bool(0)][..];
    // No event comes of these: nothing is newer than the zxid, and what is waited for does not exist.
    let lists = ["/kept", "/none", "/kept", "/kept", "/kept"].map(|path| [Count(1), Str(path)]).concat();
    let lists = |count: usize| [&[Long(i64::MAX)][..], &lists[..2 * count]].concat();
    let mut records: Vec<(Op, Record)> = [
        (Op::Create, create),
        (Op::Create2, create),
        (Op::CreateContainer, create),
        (Op::CreateTtl, &[Str("/kept"), Raw(b"data"), Open, Int(5), Long(1000)][..]),
        (Op::Delete, &[Str("/none"), Int(-1)]),
        (Op::DeleteContainer, &[Str("/none")]),
        (Op::Exists, watched),
        (Op::GetData, watched),
        (Op::GetChildren, watched),
        (Op::GetChildren2, watched),
        (Op::SetData, &[Str("/none"), Raw(b"data"), Int(-1)]),
        (Op::GetAcl, &[Str("/kept")]),
        (Op::Sync, &[Str("/kept")]),
        (Op::GetEphemerals, &[Str("/kept")]),
        (Op::GetAllChildrenNumber, &[Str("/kept")]),
        (Op::SetAcl, &[Str("/none"), Open, Int(-1)]),
        (Op::Reconfig, &[Str("a"), Str("b"), Str("c"), Long(-1)]),
        (Op::CheckWatches, &[Str("/none"), Int(3)]),
        (Op::RemoveWatches, &[Str("/none"), Int(3)]),
        (Op::AddWatch, &[Str("/none"), Int(0)]),
        (Op::Auth, &[Int(0), Str("digest"), Raw(b"a:b")]),
        (Op::Sasl, &[Raw(b"token")]),
        (Op::SetWatches, &lists(3)),
        (Op::SetWatches2, &lists(5)),
    ]
    .iter()
    .map(|(op, fields)| (*op, Record::of(fields)))
    .collect();
    let writes: &[(Op, &[Field])] = &[
        (Op::Check, &[Str("/kept"), Int(-1)]),
        (Op::Create, create),
        (Op::SetData, &[Str("/none"), Raw(b"x"), Int(0)]),
        (Op::Delete, &[Str("/none"), Int(-1)]),
    ];
    records.push((Op::Multi, multi(writes)));
    records.push((Op::MultiRead, multi(&[(Op::GetData, watched), (Op::GetChildren, watched)])));
    records
}
