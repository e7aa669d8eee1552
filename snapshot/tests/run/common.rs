//! Runs from lists of entries, and a model of what a stack of them says.

use std::collections::BTreeMap;
use std::path::Path;

use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_snapshot::{Entry, Meta, NodeVersion, Run, RunId, Spec, Value, What, Writer};

pub const SEED: u64 = 0x5eed;
pub const STORE: u128 = 77;

/// A stand-in for the digest of a znode.
pub fn digest_of(parent: &str, name: &str, version: &NodeVersion) -> u64 {
    let path: u64 = parent.bytes().chain(name.bytes()).map(u64::from).sum();
    path.wrapping_mul(31).wrapping_add(version.prefix_crc.into()).wrapping_add(version.mzxid.raw() << 8)
}

pub fn spec(run: u64) -> Spec {
    Spec { run: RunId(run), store: STORE, seed: SEED, identity: 1000 + run, digest_of }
}

/// What a layer says of a path; the key is (parent, name).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Absent,
    Present { version: NodeVersion, acl: Vec<u8>, data: Data },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    Lower,
    Own(Option<Vec<u8>>),
}

pub type Layer = BTreeMap<(String, String), Said>;

pub fn version(czxid: u64, data: Option<&[u8]>) -> NodeVersion {
    NodeVersion {
        czxid: Zxid::from_raw(czxid),
        mzxid: Zxid::from_raw(czxid),
        pzxid: Zxid::from_raw(czxid),
        ctime_ms: 1_700_000_000_000 + czxid as i64,
        mtime_ms: 1_700_000_000_000 + czxid as i64,
        version: 0,
        children_created: 0,
        aversion: 0,
        owner: 0,
        data_bytes: data.map_or(0, |data| data.len() as u32),
        data_is_null: data.is_none(),
        children: 0,
        prefix_crc: czxid as u32 ^ 0x1234,
    }
}

pub fn meta(zxid: u64, digest: u64) -> Meta {
    Meta {
        zxid: Zxid::from_raw(zxid),
        digest,
        store: STORE,
        sessions: vec![(SessionId::from_raw(9), 4000)],
        owners: vec![(SessionId::from_raw(9), 1, 17)],
        quotas: vec!["/quota".to_owned()],
        digests: vec![(Zxid::from_raw(zxid), digest)],
        ..Meta::default()
    }
}

pub fn hash(path: &str) -> u64 {
    zorilla_snapshot::path_hash(SEED, path)
}

pub fn path_of((parent, name): &(String, String)) -> String {
    if name.is_empty() { String::new() } else { format!("{parent}/{name}") }
}

/// The bytes of a run.
pub fn encode(run: u64, layer: &Layer, digest: u64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), spec(run));
    for ((parent, name), said) in layer {
        let what = match said {
            Said::Absent => What::Absent,
            Said::Present { version, acl, data } => {
                let acl = writer.acl(acl, acl.len() as u32).unwrap();
                let value = match data {
                    Data::Lower => Value::Lower,
                    Data::Own(None) => Value::Null,
                    Data::Own(Some(data)) => Value::Plain(data),
                };
                What::Present { version: *version, acl, value }
            }
        };
        writer.push(&Entry { parent, name, what }).unwrap();
    }
    let (written, bytes) = writer.finish(&meta(run, digest)).unwrap();
    assert_eq!((written.bytes, written.entries), (bytes.len() as u64, layer.len() as u64));
    bytes
}

pub fn open(run: u64, bytes: Vec<u8>) -> Run {
    Run::from_bytes(Path::new("/test/run"), RunId(run), bytes).unwrap()
}

/// What a run says of one path, read back.
pub fn said(run: &Run, entry: zorilla_snapshot::EntryRef<'_>) -> Said {
    let Some(version) = entry.version() else { return Said::Absent };
    let (count, raw) = run.acl(entry.acl().unwrap()).unwrap();
    assert_eq!(count as usize, raw.len());
    let data = match run.warm(|| entry.value()).unwrap() {
        Value::Lower => Data::Lower,
        Value::Null => Data::Own(None),
        Value::Plain(data) => Data::Own(Some(data.to_vec())),
        Value::Packed { zstd, bytes } => Data::Own(Some(Value::unpack(zstd, bytes).unwrap())),
    };
    Said::Present { version, acl: raw.to_vec(), data }
}

/// Everything a run says, in order.
pub fn layer_of(run: &Run) -> Layer {
    let mut entries = run.entries();
    let mut layer = Layer::new();
    while let Some(entry) = run.warm(|| entries.next()).unwrap() {
        let key = (entry.parent().to_owned(), entry.name().to_owned());
        assert!(layer.last_key_value().is_none_or(|(last, _)| *last < key), "{key:?} is out of order");
        layer.insert(key, said(run, entry));
    }
    layer
}

/// The layers merged, the newest first.
pub fn merged(layers: &[Layer], is_bottom: bool) -> Layer {
    let mut all = Layer::new();
    for layer in layers.iter().rev() {
        for (key, said) in layer {
            let mut said = said.clone();
            if let (Said::Present { data: data @ Data::Lower, .. }, Some(Said::Present { data: below, .. })) =
                (&mut said, all.get(key))
            {
                *data = below.clone();
            }
            all.insert(key.clone(), said);
        }
    }
    if is_bottom {
        all.retain(|_, said| *said != Said::Absent);
    }
    all
}

pub fn digest(layer: &Layer) -> u64 {
    layer.iter().fold(0, |sum, ((parent, name), said)| match said {
        Said::Absent => sum,
        Said::Present { version, .. } => sum.wrapping_add(digest_of(parent, name, version)),
    })
}
