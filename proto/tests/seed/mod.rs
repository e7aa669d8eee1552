//! The seed of a random test: a new one each run, or the one that is to be replayed.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// The seed that `ZORILLA_FUZZ_SEED` gives, else a new one. Prints it with the command that replays `test`.
pub fn seed(test: &str) -> u64 {
    let seed = number("ZORILLA_FUZZ_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("seed {seed:#x}; replay: ZORILLA_FUZZ_SEED={seed:#x} cargo test -p zorilla-proto --test {test}");
    seed
}

/// The number that the environment gives under `name`, in decimal or in hex.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name}: expected a number such as 17 or 0x11, found {text:?}")))
}
