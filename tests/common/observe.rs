//! What an operator can see of a server from outside: its answer to a word, and the memory it takes.

use std::io::{Read, Write};

use super::server::Server;

impl Server {
    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> String {
        let mut stream = self.socket();
        stream.write_all(word.as_bytes()).expect("a word can be sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Memory of one kind, as the kernel names it: `VmRSS`, `RssAnon`.
    pub fn memory_kib(&self, kind: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':')).expect("its memory");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    }
}
