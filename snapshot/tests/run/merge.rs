//! A run says what was written into it, and a merge of several what they say together.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::{
    Data, Layer, Said, digest, digest_of, encode, hash, layer_of, merged, open, path_of, said, spec, version,
};
use proptest::prelude::*;
use zorilla_proto::ids::{SessionId, Zxid};
use zorilla_snapshot::{CONTAINER_OWNER, Merge, Progress, Run, Writer};

/// Paths of few components, so that layers meet.
fn key() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a-"), Just("é"), Just("zz"), Just("0000000001")];
    prop::collection::vec(name, 0..4).prop_map(|mut names| match names.pop() {
        None => (String::new(), String::new()),
        Some(name) => (names.iter().map(|name| format!("/{name}")).collect(), name.to_owned()),
    })
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Some),
        // Compressible, and not.
        (4000..9000usize).prop_map(|bytes| Some(vec![7; bytes])),
        (4096..6000usize).prop_map(|bytes| {
            let mut word = 1u64;
            let noise = std::iter::from_fn(|| {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(99);
                Some((word >> 56) as u8)
            });
            Some(noise.take(bytes).collect())
        }),
    ]
}

fn own() -> impl Strategy<Value = Said> {
    let owner = prop_oneof![3 => Just(0), 1 => Just(5i64), 1 => Just(9), 1 => Just(CONTAINER_OWNER), 1 => Just((0xff << 56) | 77)];
    (data(), any::<u32>(), any::<[i32; 3]>(), any::<[u32; 2]>(), owner, any::<bool>(), 0..3usize).prop_map(
        |(data, czxid, [a, b, c], [d, e], owner, is_as_created, acl)| {
            let mut version = version(czxid.into(), data.as_deref());
            if !is_as_created {
                version.mzxid = Zxid::from_raw(d.into());
                version.pzxid = Zxid::from_raw(u64::from(e) << 32);
                version.mtime_ms = i64::from(d) * 1000;
                (version.version, version.children_created, version.aversion, version.children) = (a, b, c, e);
            }
            version.owner = owner;
            Said::Present { version, acl: vec![1; acl], data: Data::Own(data) }
        },
    )
}

/// A layer over everything below it: what is there may be changed without its data, or deleted.
fn stack() -> impl Strategy<Value = Vec<Layer>> {
    let layer = prop::collection::btree_map(key(), (own(), any::<[bool; 2]>()), 0..60);
    prop::collection::vec(layer, 1..5).prop_map(|drawn| {
        let mut layers: Vec<Layer> = Vec::new();
        for drawn in drawn {
            let below = merged(&layers, true);
            let layer = drawn.into_iter().map(|(key, (mut said, [lower, absent]))| {
                match below.get(&key) {
                    Some(_) if absent => said = Said::Absent,
                    Some(Said::Present { version: old, .. }) if lower => {
                        let Said::Present { version, data, .. } = &mut said else { unreachable!("drawn as present") };
                        (version.data_bytes, version.data_is_null) = (old.data_bytes, old.data_is_null);
                        *data = Data::Lower;
                    }
                    _ => {}
                }
                (key, said)
            });
            layers.insert(0, layer.collect());
        }
        layers
    })
}

fn check(run: &Run, layer: &Layer) {
    assert_eq!(layer_of(run), *layer);
    for (key, expected) in layer {
        let path = path_of(key);
        let found = run.warm(|| run.find(&path, hash(&path))).unwrap();
        assert_eq!(said(run, found.expect("it was written")), *expected, "{path}");
        assert!(run.warm(|| run.find(&format!("{path}/none"), hash(&format!("{path}/none")))).unwrap().is_none());
    }
    let parents: BTreeSet<&str> = layer.keys().map(|(parent, _)| parent.as_str()).collect();
    for parent in parents {
        let expected: Vec<&str> =
            layer.keys().filter(|(p, name)| p == parent && !name.is_empty()).map(|(_, name)| name.as_str()).collect();
        let mut children = run.warm(|| run.children(parent, hash(parent))).unwrap().expect("it has children");
        let mut found = Vec::new();
        loop {
            // Every listing can be taken up again at any place.
            let place = children.place();
            children = run.warm(|| run.children_from(parent, hash(parent), place)).unwrap().unwrap();
            let Some(child) = run.warm(|| children.next()).unwrap() else { break };
            found.push(child.name());
        }
        assert_eq!(found, expected, "children of {parent}");
    }
    assert!(run.warm(|| run.children("/nobody", hash("/nobody"))).unwrap().is_none());
    for owner in [5, 9, 6] {
        let range = run.warm(|| run.ephemerals(SessionId::from_raw(owner))).unwrap();
        let found: Vec<String> = range
            .map(|index| {
                let entry = run.warm(|| run.ephemeral(index)).unwrap();
                assert_eq!(entry.version().unwrap().owner, owner);
                format!("{}/{}", entry.parent(), entry.name())
            })
            .collect();
        let expected: Vec<String> = layer
            .iter()
            .filter(|(_, said)| matches!(said, Said::Present { version, .. } if version.owner == owner))
            .map(|((parent, name), _)| format!("{parent}/{name}"))
            .collect();
        assert_eq!(found, expected, "ephemerals of {owner}");
    }
    let reapable = layer.values().filter(|said| matches!(said, Said::Present { version, .. } if version.owner < -1));
    assert_eq!(run.reapables_count(), reapable.count() as u64);
    for index in 0..run.reapables_count() {
        assert!(run.warm(|| run.reapable(index)).unwrap().version().unwrap().owner < -1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn runs_say_what_was_written_and_merges_what_they_say_together(layers in stack(), from in 0..4usize, upto in 1..5usize, step in 1..5000usize) {
        let whole = |upper: &[Layer]| digest(&merged(upper, true));
        let runs: Vec<Arc<Run>> = (0..layers.len())
            .map(|index| {
                let number = (layers.len() - index) as u64;
                Arc::new(open(number, encode(number, &layers[index], whole(&layers[index..]))))
            })
            .collect();
        for (run, layer) in runs.iter().zip(&layers) {
            check(run, layer);
        }
        let from = from.min(layers.len() - 1);
        let upto = (from + upto).min(layers.len());
        let is_bottom = upto == layers.len();
        let mut merge = Merge::new(runs[from..upto].to_vec(), is_bottom, digest_of, Writer::new(Vec::new(), spec(99)));
        while merge.step(step).unwrap() == Progress::More {}
        let run = open(99, merge.into_sink().unwrap());
        check(&run, &merged(&layers[from..upto], is_bottom));
        prop_assert_eq!(run.meta().zxid, runs[from].meta().zxid);
        prop_assert_eq!(&run.meta().sessions, &runs[from].meta().sessions);
    }
}

#[test]
fn a_large_run_is_found_through_its_index() {
    let layer: Layer = (0..30_000u64)
        .map(|index| {
            let said = Said::Present {
                version: version(index, Some(b"v")),
                acl: Vec::new(),
                data: Data::Own(Some(b"v".to_vec())),
            };
            ((format!("/p{}", index % 7), format!("node-{index:010}")), said)
        })
        .collect();
    let run = open(1, encode(1, &layer, 0));
    run.verify().unwrap();
    for (key, expected) in &layer {
        let path = path_of(key);
        let found = run.find(&path, hash(&path)).expect("every block was brought in").expect("it was written");
        assert_eq!(said(&run, found), *expected);
        let other = format!("{path}x");
        assert!(run.find(&other, hash(&other)).unwrap().is_none());
    }
    assert!(run.file_bytes() < 30_000 * 60, "{} bytes for 30,000 znodes of one byte", run.file_bytes());
}

#[test]
fn entries_out_of_order_are_refused() {
    use zorilla_snapshot::{Entry, What};
    for (first, second) in
        [(("/a", "b"), ("/a", "b")), (("/a", "b"), ("/a", "a")), (("/b", "a"), ("/a", "b")), (("/a", "a"), ("/b", ""))]
    {
        let mut writer = Writer::new(Vec::new(), spec(1));
        let entry = |(parent, name)| Entry { parent, name, what: What::Absent };
        writer.push(&entry(first)).unwrap();
        let error = writer.push(&entry(second)).unwrap_err().to_string();
        assert!(error.contains("cannot follow"), "{error}");
    }
}

#[test]
fn a_merge_that_loses_a_znode_is_found_out() {
    let said = |n| Said::Present { version: version(n, None), acl: Vec::new(), data: Data::Own(None) };
    let layer: Layer = (1..50).map(|n| ((String::new(), format!("n{n}")), said(n))).collect();
    let right = digest(&layer);
    for (recorded, is_right) in [(right, true), (right ^ 1, false)] {
        let run = Arc::new(open(1, encode(1, &layer, recorded)));
        let mut merge = Merge::new(vec![run], true, digest_of, Writer::new(Vec::new(), spec(2)));
        let result = loop {
            match merge.step(100) {
                Ok(Progress::More) => {}
                other => break other,
            }
        };
        assert_eq!(result.is_ok(), is_right, "{result:?}");
    }
}
