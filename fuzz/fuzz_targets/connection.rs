//! Frames, the handshake, headers and what is common to many records.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zorilla_fuzz::feed(zorilla_fuzz::Group::Connection, bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    zorilla_fuzz::needs_cargo_fuzz()
}
