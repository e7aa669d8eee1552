//! Every decoder of the crate, for whoever wants to feed them: the seeded byte-fuzz of `cargo test` and the
//! targets of `cargo fuzz`.
//!
//! A decoder is fed twice. `read` decodes and walks all that is decoded lazily; it is what the bound on
//! allocations is measured on. `check` decodes, encodes, asserts that the value comes back, and says whether its
//! encoding is what had been read.

use std::hint::black_box;

use zorilla_proto::client::{
    Acl, AclVec, ClientInfo, ClientInfoVec, ConnectRequest, ConnectResponse, MultiHeader, MultiRequest, MultiResponse,
    ReplyHeader, Request, RequestHeader, Response, StringVec,
};
use zorilla_proto::frame::{self, Framed};
use zorilla_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use zorilla_proto::txn::{Entry, MultiPart};
use zorilla_proto::{Op, Reader, SessionId, Stat, Txn, TxnDigest, TxnHeader, Zxid};

/// One decoder; `op` says which record where that depends on an opcode.
#[derive(Clone, Copy)]
pub struct Decoder {
    pub name: &'static str,
    pub op: Op,
    read: fn(Op, &[u8]) -> bool,
    check: fn(Op, &[u8]) -> bool,
}

impl Decoder {
    /// Decodes and walks. Whether the bytes were a value.
    pub fn read(&self, bytes: &[u8]) -> bool {
        (self.read)(self.op, bytes)
    }

    /// Decodes, and if that succeeds, asserts that encoding and decoding give the same value and bytes again. Whether
    /// these bytes are those the value was read from: a value may be written in more than one way.
    pub fn check(&self, bytes: &[u8]) -> bool {
        (self.check)(self.op, bytes)
    }
}

/// Defines a decoder from how it decodes, how it encodes, and how what is lazy in it is walked.
macro_rules! decoder {
    ($name:literal, $op:expr, |$with:ident, $reader:ident| $decode:expr, |$value:ident, $out:ident| $encode:expr,
        |$walked:ident| $walk:expr) => {
        Decoder {
            name: $name,
            op: $op,
            read: |$with, bytes| {
                let $reader = &mut Reader::new(bytes);
                match $decode {
                    Ok($walked) => {
                        $walk;
                        black_box($walked);
                        true
                    }
                    Err(error) => {
                        assert!(error.offset <= bytes.len(), "{error}");
                        false
                    }
                }
            },
            check: |$with, bytes| {
                let $reader = &mut Reader::new(bytes);
                let Ok($value) = $decode else { return false };
                let mut once = Vec::new();
                {
                    let $out = &mut once;
                    $encode;
                }
                let first = $value;
                let $reader = &mut Reader::new(&once);
                let $value = $decode.expect("what was encoded decodes");
                assert_eq!(first, $value);
                let mut twice = Vec::new();
                {
                    let $out = &mut twice;
                    $encode;
                }
                assert_eq!(once, twice);
                bytes.starts_with(&once)
            },
        }
    };
    ($name:literal, $type:ident) => {
        decoder!(
            $name,
            Op::Notification,
            |_op, reader| $type::decode(reader),
            |value, out| value.encode(out),
            |_value| black_box(())
        )
    };
}

/// What the handshake and the headers of a connection need.
pub fn connection() -> Vec<Decoder> {
    vec![
        decoder!(
            "frames",
            Op::Notification,
            |_op, reader| Frames::decode(reader),
            |value, out| value.encode(out),
            |_value| black_box(())
        ),
        decoder!("ConnectRequest", ConnectRequest),
        decoder!("ConnectResponse", ConnectResponse),
        decoder!("RequestHeader", RequestHeader),
        decoder!("ReplyHeader", ReplyHeader),
        decoder!("MultiHeader", MultiHeader),
        decoder!("Stat", Stat),
        decoder!("Acl", Acl),
        decoder!("ClientInfo", ClientInfo),
        decoder!(
            "AclVec::from_raw",
            Op::Notification,
            |_op, reader| AclVec::from_raw(reader.remaining()),
            |value, out| out.extend_from_slice(value.raw()),
            |value| assert_eq!(value.iter().map(black_box).count(), value.len())
        ),
        decoder!(
            "StringVec::from_raw",
            Op::Notification,
            |_op, reader| StringVec::from_raw(reader.remaining()),
            |value, out| out.extend_from_slice(value.raw()),
            |value| assert_eq!(value.iter().map(black_box).count(), value.len())
        ),
    ]
}

/// The record of every request.
pub fn requests() -> Vec<Decoder> {
    let decoder = decoder!(
        "Request",
        Op::Notification,
        |op, reader| Request::decode(op, reader),
        |value, out| value.encode(out),
        |value| walk_request(&value)
    );
    Op::ALL.iter().map(|&op| Decoder { op, ..decoder }).collect()
}

/// The record of every reply.
pub fn responses() -> Vec<Decoder> {
    let decoder = decoder!(
        "Response",
        Op::Notification,
        |op, reader| Response::decode(op, reader),
        |value, out| value.encode(out),
        |value| walk_response(&value)
    );
    Op::ALL.iter().map(|&op| Decoder { op, ..decoder }).collect()
}

/// Transactions: whole, by type, and by type inside a multi.
pub fn txns() -> Vec<Decoder> {
    let body = decoder!(
        "Txn",
        Op::Notification,
        |op, reader| Txn::decode(&header(op), reader),
        |value, out| {
            value.encode(out);
            // Two empty paths in twelve bytes are what a digest without a list looks like. A digest behind
            // the list tells them apart, as it does in every log.
            if let Txn::CloseSession { .. } = value {
                TxnDigest::new(0).encode(out);
            }
        },
        |value| walk_txn(&value)
    );
    let part = decoder!(
        "MultiPart",
        Op::Notification,
        |op, reader| MultiPart { op: op.raw(), body: reader.remaining() }.txn(),
        |value, out| value.encode(out),
        |value| walk_txn(&value)
    );
    let mut decoders = vec![
        decoder!("TxnHeader", TxnHeader),
        decoder!(
            "Entry",
            Op::Notification,
            |_op, reader| Entry::decode(reader.remaining()).map(comparable),
            |value, out| {
                value.encode(out);
                if value.digest.is_none() {
                    // The same as above; a version that is none keeps it apart from the digest it stands for.
                    out.extend_from_slice(&[0xff; TxnDigest::BYTES - 1]);
                }
            },
            |value| walk_txn(&value.txn)
        ),
    ];
    for &op in Op::ALL {
        decoders.push(Decoder { op, ..body });
        decoders.push(Decoder { op, ..part });
    }
    decoders
}

/// All of them.
pub fn all() -> Vec<Decoder> {
    [connection(), requests(), responses(), txns()].concat()
}

/// A closeSession whose list is null is one without a list, and is written without one. What stands behind it
/// can be told from a list only if it is a digest as servers write it.
fn comparable(mut entry: Entry<'_>) -> Entry<'_> {
    if let (Txn::CloseSession { paths: None }, Some(digest)) = (&entry.txn, &mut entry.digest) {
        digest.version = TxnDigest::VERSION;
    }
    entry
}

fn header(op: Op) -> TxnHeader {
    TxnHeader { session: SessionId::NONE, cxid: 0, zxid: Zxid::ZERO, time_ms: 0, op: op.raw() }
}

/// As many whole frames as stand at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
struct Frames {
    payload_bytes: Vec<usize>,
}

impl Frames {
    fn decode(reader: &mut Reader<'_>) -> Result<Frames, zorilla_proto::DecodeError> {
        let mut rest = reader.remaining();
        let mut payload_bytes = Vec::new();
        loop {
            match frame::split(rest, FRAME_BYTES_MAX_DEFAULT) {
                Framed::Complete { payload, consumed } => {
                    assert_eq!(consumed, payload.len() + 4);
                    payload_bytes.push(payload.len());
                    rest = &rest[consumed..];
                }
                Framed::Partial { needed } => {
                    assert!(0 < needed && needed <= FRAME_BYTES_MAX_DEFAULT, "{needed}");
                    return Ok(Frames { payload_bytes });
                }
                Framed::Bad(error) => {
                    assert!(
                        usize::try_from(error.frame_bytes).is_ok_and(|bytes| error.frame_bytes_max < bytes)
                            || error.frame_bytes < 0
                    );
                    return Ok(Frames { payload_bytes });
                }
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for &bytes in &self.payload_bytes {
            let mark = frame::begin(out);
            out.resize(out.len() + bytes, 0);
            frame::end(out, mark);
        }
    }
}

fn walk_acl(acl: Option<AclVec<'_>>) {
    if let Some(acl) = acl {
        assert_eq!(acl.iter().map(black_box).count(), acl.len());
    }
}

fn walk_strings(strings: StringVec<'_>) {
    assert_eq!(strings.iter().map(black_box).count(), strings.len());
}

fn walk_identities(identities: ClientInfoVec<'_>) {
    assert_eq!(identities.iter().map(black_box).count(), identities.len());
}

fn walk_multi_request(multi: MultiRequest<'_>) {
    assert_eq!(multi.iter().map(black_box).count(), multi.len());
    assert!(multi.iter().all(|operation| Some(operation.op().kind()) == multi.kind()));
}

fn walk_multi_response(multi: MultiResponse<'_>) {
    assert_eq!(multi.iter().map(black_box).count(), multi.len());
}

fn walk_request(request: &Request<'_>) {
    match request {
        Request::Create(record) | Request::Create2(record) | Request::CreateContainer(record) => walk_acl(record.acl),
        Request::CreateTtl(record) => walk_acl(record.acl),
        Request::SetAcl(record) => walk_acl(record.acl),
        Request::Multi(multi) | Request::MultiRead(multi) => walk_multi_request(*multi),
        Request::SetWatches(record) => [record.data, record.exist, record.child].into_iter().for_each(walk_strings),
        Request::SetWatches2(record) => {
            [record.data, record.exist, record.child].into_iter().for_each(walk_strings);
            [record.persistent, record.persistent_recursive].into_iter().for_each(walk_strings);
        }
        _ => {}
    }
}

fn walk_response(response: &Response<'_>) {
    match response {
        Response::GetAcl(record) => walk_acl(Some(record.acl)),
        Response::GetChildren(record) => walk_strings(record.children),
        Response::GetChildren2(record) => walk_strings(record.children),
        Response::GetEphemerals(record) => walk_strings(record.ephemerals),
        Response::WhoAmI(record) => walk_identities(record.clients),
        Response::Multi(multi) => walk_multi_response(*multi),
        _ => {}
    }
}

fn walk_txn(txn: &Txn<'_>) {
    match txn {
        Txn::Create { acl, .. }
        | Txn::CreateContainer { acl, .. }
        | Txn::CreateTtl { acl, .. }
        | Txn::SetAcl { acl, .. } => walk_acl(*acl),
        Txn::CloseSession { paths: Some(paths) } => walk_strings(*paths),
        Txn::Multi(parts) => {
            assert_eq!(parts.iter().count(), parts.len());
            for part in parts {
                if let Ok(txn) = part.txn() {
                    walk_txn(&txn);
                }
            }
        }
        _ => {}
    }
}
