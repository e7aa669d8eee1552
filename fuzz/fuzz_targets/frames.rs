//! Frames, the handshake, headers and what is common to many records.

#![no_main]

// Each target needs one of the lists.
#[allow(dead_code)]
#[path = "../../proto/tests/decoders/mod.rs"]
mod decoders;

use std::sync::LazyLock;

use decoders::Decoder;
use libfuzzer_sys::fuzz_target;

static DECODERS: LazyLock<Vec<Decoder>> = LazyLock::new(decoders::connection);

fuzz_target!(|bytes: &[u8]| {
    if let Some((choice, bytes)) = bytes.split_first() {
        let decoder = DECODERS[usize::from(*choice) % DECODERS.len()];
        decoder.read(bytes);
        decoder.check(bytes);
    }
});
