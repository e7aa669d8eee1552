//! The record of every request.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zorilla_fuzz::feed(zorilla_fuzz::Group::Requests, bytes));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    zorilla_fuzz::needs_cargo_fuzz()
}
