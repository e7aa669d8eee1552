//! Models of what the server's threads share, explored by `loom`.
//!
//! Each scenario is run once with the source as it is, where it must pass in every order, and again for each fault that
//! it guards against, where `loom` must find an order that fails. A fault in the source is one of
//! `zorilla_models::mutants`; a fault in the use of the source is a variant of the scenario's `Driver`. Nobody has
//! timeouts here: a wake-up that is lost leaves a thread asleep, and `loom` reports the deadlock.
//!
//! Small models are explored whole. In the others a thread is interrupted at most four times, in the one of posts at
//! most twice, within one order; the faults are found within the same bounds.

mod gate;
mod posts;
mod room;
mod sleeper;
mod subject;

/// Explores a model whole.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    loom::model(model);
}

/// Explores every order with at most this many involuntary switches between threads; voluntary ones do not count, nor
/// does what a load may return.
fn explore_bounded(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}
