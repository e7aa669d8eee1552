//! A directory for one test, gone when its last user is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The directory. A server holds on to the one it runs in, so it never disappears below a running process.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one of its own, also when tests of this or another process run at the same time. The name is for whoever
    /// looks at what a killed test left behind.
    pub fn new(name: &str) -> Arc<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zorilla-test-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Arc::new(Scratch(path))
    }

    /// Where something of this name is in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
