//! What somebody who waits for an import sees.

use indicatif::{ProgressBar, ProgressStyle};

/// Told how far an import is.
pub trait Progress {
    /// The next file, with its size.
    fn begin(&mut self, what: &str, bytes: u64);
    /// So much of it is read.
    fn reached(&mut self, bytes: u64);
    /// All is done, or nothing more will be.
    fn end(&mut self);
}

/// Nobody waits.
#[derive(Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&mut self, _what: &str, _bytes: u64) {}
    fn reached(&mut self, _bytes: u64) {}
    fn end(&mut self) {}
}

/// A bar on standard error. Where that is no terminal nothing is shown.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Bar {
        let style = ProgressStyle::with_template("{msg}  {wide_bar} {bytes} of {total_bytes}, {eta}")
            .expect("the template of the bar is well-formed");
        // Hidden by itself where standard error is no terminal.
        Bar(ProgressBar::new(0).with_style(style))
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, bytes: u64) {
        self.0.set_message(what.to_owned());
        self.0.set_length(bytes);
        self.0.set_position(0);
        self.0.reset_eta();
    }

    fn reached(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}
