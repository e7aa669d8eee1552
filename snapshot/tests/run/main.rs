//! Runs against a model, and damaged runs.

mod common;
mod damage;
mod merge;
