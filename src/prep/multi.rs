//! A multi: several writes that become one transaction, or none (`client-protocol.md` 10).

use zorilla_proto::client::{CreateRequest, MultiHeader, MultiItem, MultiOp, MultiVec};
use zorilla_proto::code::Code;
use zorilla_proto::jute::Reader;
use zorilla_proto::op::{Op, OpKind};
use zorilla_proto::txn::{MultiTxnWriter, Txn, TxnHeader};

use super::effects::effects;
use super::{CreateKind, Created, Creation, Scratch, Verdict, View, Write, ephemeral_bytes};

/// Whether a create without a list of ACLs is the first thing that is wrong with the record: then the reference fails while
/// it reads the request, before it takes a zxid. Whatever else cannot be read takes one.
pub fn lacks_acl(record: &[u8]) -> bool {
    let mut reader = Reader::new(record);
    let mut first_kind = None;
    while let Ok(header) = MultiHeader::decode(&mut reader)
        && !header.done
        && let Ok(op) = MultiOp::decode_after(header, &mut reader)
    {
        // Reads and writes in one are found when the second kind comes.
        let is_mixed = *first_kind.get_or_insert(op.op().kind()) != op.op().kind();
        if let MultiOp::Create(request) | MultiOp::Create2(request) | MultiOp::CreateContainer(request) = op {
            // Flags that mean nothing are found before the list, those of a time to live after it.
            match request.acl {
                _ if !(0..=6).contains(&request.flags) => return false,
                None => return true,
                Some(_) if 4 < request.flags => return false,
                Some(_) => {}
            }
        }
        if is_mixed {
            return false;
        }
    }
    false
}

/// Prepares the operations one after the other, each against what the earlier ones did, and encodes the body of the
/// transaction into `body`, which holds `bytes_max` at most. `Ok(false)`: one of them failed and the body says which;
/// whatever `view` was made to show must be taken back, as it must on an error, which is one of the whole request.
pub fn prepare(
    write: &Write<'_, '_>,
    header: &TxnHeader,
    view: &mut impl View,
    scratch: &mut Scratch,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, Code> {
    let multi = MultiVec::<MultiOp<'_>>::decode(&mut Reader::new(write.body)).map_err(|_| Code::MarshallingError)?;
    let spoils = |op: MultiOp<'_>| has_unreadable_flags(&op) || lacks_path(&op);
    if multi.kind() == Some(OpKind::Read) || multi.iter().any(spoils) {
        return Err(Code::MarshallingError);
    }
    body.clear();
    let mut failed = false;
    let mut ephemeral_bytes_left = write.ephemeral_bytes_left;
    let mut writer = MultiTxnWriter::new(body);
    for op in multi.iter() {
        if failed {
            writer.push(&Txn::Error { code: Code::RuntimeInconsistency.raw() });
            continue;
        }
        let write = Write { ephemeral_bytes_left, ..*write };
        match decide(&write, op, view, scratch) {
            Ok(txn) => {
                if let Err(unfit) = effects(header, &txn, view) {
                    panic!("prepared a part of a multi that does not fit what it was decided on: {unfit}");
                }
                if let Txn::Create { path, ephemeral: true, .. } = &txn {
                    ephemeral_bytes_left -= ephemeral_bytes(path);
                }
                writer.push(&txn);
            }
            // A null where something is needed: in the reference the whole request ends there.
            Err(Code::MarshallingError) => return Err(Code::MarshallingError),
            Err(code) => {
                writer.push(&Txn::Error { code: code.raw() });
                failed = true;
            }
        }
        if bytes_max < writer.bytes() {
            // It would not fit the log. Only numbers and identities in the place of `auth` make a multi grow this much.
            return Err(Code::MarshallingError);
        }
    }
    Ok(!failed)
}

/// A null path spoils the whole request, wherever it stands.
fn lacks_path(op: &MultiOp<'_>) -> bool {
    match op {
        MultiOp::Create(request) | MultiOp::Create2(request) | MultiOp::CreateContainer(request) => {
            request.path.is_none()
        }
        MultiOp::CreateTtl(request) => request.path.is_none(),
        MultiOp::Delete(request) => request.path.is_none(),
        MultiOp::SetData(request) => request.path.is_none(),
        MultiOp::Check(request) => request.path.is_none(),
        MultiOp::GetData(request) | MultiOp::GetChildren(request) => request.path.is_none(),
    }
}

/// In a multi the flags of these decide what comes to be, and the reference reads them with the request: those that it
/// cannot mean make the request unreadable.
fn has_unreadable_flags(op: &MultiOp<'_>) -> bool {
    match op {
        MultiOp::Create(request) | MultiOp::Create2(request) | MultiOp::CreateContainer(request) => {
            !(0..=4).contains(&request.flags)
        }
        _ => false,
    }
}

fn decide<'a>(
    write: &Write<'a, '_>,
    op: MultiOp<'a>,
    view: &impl View,
    scratch: &'a mut Scratch,
) -> Result<Txn<'a>, Code> {
    let create = |kind: CreateKind, request: CreateRequest<'a>, scratch| {
        let CreateRequest { path, data, acl, .. } = request;
        let verdict = verdict(write, kind, path.as_deref(), acl.as_ref());
        super::create(&Write { verdict, ..*write }, Creation { kind, path, data, acl }, view, scratch)
    };
    match op {
        MultiOp::Create(request) => create(kind(Op::Create, request.flags), request, scratch),
        MultiOp::Create2(request) => create(kind(Op::Create2, request.flags), request, scratch),
        MultiOp::CreateContainer(request) => {
            let kind =
                CreateKind { node: Created::Container, op: Op::CreateContainer, ..kind(Op::Create, request.flags) };
            create(kind, request, scratch)
        }
        MultiOp::CreateTtl(request) => {
            let kind = match request.flags {
                // Without a time to live it is a create like any other.
                0..=4 => kind(Op::Create, request.flags),
                flags => CreateKind::of_ttl(flags, request.ttl_ms, write.policy.extended_types)?,
            };
            let (path, data, acl, flags) = (request.path, request.data, request.acl, request.flags);
            create(kind, CreateRequest { path, data, acl, flags }, scratch)
        }
        MultiOp::Delete(request) => {
            let verdict = Verdict::of_delete(request.path.as_deref());
            super::delete(&Write { verdict, ..*write }, request, view)
        }
        MultiOp::SetData(request) => {
            let verdict = Verdict::of_full(request.path.as_deref());
            super::set_data(&Write { verdict, ..*write }, request, view)
        }
        MultiOp::Check(request) => {
            let verdict = Verdict::of_full(request.path.as_deref());
            super::check(&Write { verdict, ..*write }, request, view)
        }
        MultiOp::GetData(_) | MultiOp::GetChildren(_) => Err(Code::MarshallingError),
    }
}

/// What flags from 0 to 4 make of a create inside a multi.
fn kind(op: Op, flags: i32) -> CreateKind {
    let (node, op) = match flags {
        1 | 3 => (Created::Ephemeral, op),
        4 => (Created::Container, Op::CreateContainer),
        _ => (Created::Persistent, op),
    };
    CreateKind { node, sequential: matches!(flags, 2 | 3), op }
}

fn verdict(
    write: &Write<'_, '_>,
    kind: CreateKind,
    path: Option<&str>,
    acl: Option<&zorilla_proto::client::AclVec<'_>>,
) -> Verdict {
    Verdict::of_create(path, kind.sequential, acl, &write.policy.rules, write.who)
}
