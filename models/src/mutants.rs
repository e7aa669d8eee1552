//! The same source with one fault each, made by `build.rs`: what a model must not pass.

#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/mutants.rs"));
