//! Makes the mutants: the server's source with one fault each.
//!
//! An edit names a text that stands in the file exactly once; when the source changes so that it does not any more, the
//! build says which mutant has to follow. So a mutant differs from what is shipped by its fault and by nothing else.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

const WAKE: &str = "wake";
const MAILBOX: &str = "mailbox";
const WATCH: &str = "watch";

/// The files, by the module that each becomes.
const FILES: [(&str, &str); 3] =
    [(WAKE, "../src/wake.rs"), (MAILBOX, "../src/worker/mailbox.rs"), (WATCH, "../src/watch.rs")];

/// Modules within them that lie in files of their own: of which file, as it declares them, and where they are.
const PARTS: [(&str, &str, &str); 1] =
    [("../src/watch.rs", "#[path = \"watch/pool.rs\"]\nmod pool;", "../src/watch/pool.rs")];

struct Mutant {
    name: &'static str,
    module: &'static str,
    /// What stands there, and what the fault makes of it.
    edits: &'static [(&'static str, &'static str)],
}

const MUTANTS: &[Mutant] = &[
    // ---- the sleeper
    Mutant {
        name: "no_fence_in_wake",
        module: WAKE,
        edits: &[("fence(Ordering::SeqCst);\n        // Only the first", "// Only the first")],
    },
    Mutant {
        name: "no_fence_before_the_look",
        module: WAKE,
        edits: &[("fence(Ordering::SeqCst);\n        if idle()", "if idle()")],
    },
    Mutant {
        name: "look_before_the_announcement",
        module: WAKE,
        edits: &[
            ("self.asleep.store(true, ", "let idle = idle();\n        self.asleep.store(true, "),
            ("if idle() {", "if idle {"),
        ],
    },
    Mutant {
        name: "ring_only_if_announced",
        module: WAKE,
        edits: &[("self.bell.ring();\n    }\n\n", "self.wake();\n    }\n\n")],
    },
    // ---- room in a mailbox
    Mutant {
        name: "flag_after_the_second_look",
        module: MAILBOX,
        edits: &[(
            "self.wanted.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n        room()",
            "let room = room();\n        self.wanted.store(true, Ordering::Relaxed);\n        room",
        )],
    },
    Mutant { name: "no_second_look", module: MAILBOX, edits: &[("fence(Ordering::SeqCst);\n        room()", "false")] },
    Mutant {
        name: "no_fence_before_the_second_look",
        module: MAILBOX,
        edits: &[("fence(Ordering::SeqCst);\n        room()", "room()")],
    },
    Mutant {
        name: "no_fence_in_give_back",
        module: MAILBOX,
        edits: &[("fence(Ordering::SeqCst);\n        self.wanted.load", "self.wanted.load")],
    },
    Mutant {
        name: "flag_never_looked_at",
        module: MAILBOX,
        edits: &[("self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::Relaxed)", "false")],
    },
    // ---- posts
    Mutant {
        name: "counted_after_the_push",
        module: MAILBOX,
        edits: &[(
            concat!(
                "self.bytes.fetch_add(bytes, Ordering::AcqRel);\n",
                "        self.queue.push(post).inspect_err(|_| {\n",
                "            self.bytes.fetch_sub(bytes, Ordering::AcqRel);\n",
                "        })"
            ),
            "self.queue.push(post)?;\n        self.bytes.fetch_add(bytes, Ordering::AcqRel);\n        Ok(())",
        )],
    },
    Mutant {
        name: "count_kept_of_a_post_handed_back",
        module: MAILBOX,
        edits: &[(".inspect_err(|_| {\n            self.bytes.fetch_sub(bytes, Ordering::AcqRel);\n        })", "")],
    },
    // ---- interest
    Mutant {
        name: "raise_in_two_steps",
        module: WATCH,
        edits: &[(
            "let before = counter.fetch_add(1, Ordering::Relaxed);",
            concat!(
                "let before = counter.load(Ordering::Relaxed);\n",
                "            counter.store(before + 1, Ordering::Relaxed);"
            ),
        )],
    },
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let sources = FILES.map(|(module, path)| {
        println!("cargo::rerun-if-changed={path}");
        (module, path, inline(path, &read(path)))
    });
    let mut out = String::new();
    for mutant in MUTANTS {
        writeln!(out, "pub mod {} {{", mutant.name).expect("a string takes text");
        for (module, path, text) in &sources {
            let mut text = text.clone();
            if *module == mutant.module {
                for (from, to) in mutant.edits {
                    let found = text.matches(from).count();
                    assert!(found == 1, "models/build.rs: {}: {path} has {found} times, not once: {from}", mutant.name);
                    text = text.replace(from, to);
                }
            }
            write_module(&mut out, module, &text);
        }
        out.push_str("}\n");
    }
    let folder = env::var_os("OUT_DIR").expect("cargo names a folder for what is built");
    fs::write(Path::new(&folder).join("mutants.rs"), out).expect("the folder can be written");
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Puts the text of [`PARTS`] where the file at `path` names them.
fn inline(path: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for (_, declared, part) in PARTS.iter().filter(|(whole, ..)| *whole == path) {
        println!("cargo::rerun-if-changed={part}");
        assert!(text.matches(declared).count() == 1, "models/build.rs: {path} does not say once: {declared}");
        let name = declared.rsplit(' ').next().expect("the declaration ends with a name").trim_end_matches(';');
        let mut module = String::new();
        write_module(&mut module, name, &read(part));
        text = text.replace(declared, &module);
    }
    text
}

/// A file as a module beside the others of its mutant.
fn write_module(out: &mut String, module: &str, text: &str) {
    writeln!(out, "pub mod {module} {{").expect("a string takes text");
    // Text that is included cannot begin with the docs of a module.
    for line in text.lines().filter(|line| !line.starts_with("//!")) {
        let line = line.replace("crate::wake::", "super::wake::").replace("crate::watch::", "super::watch::");
        // The unit tests stay with the source.
        if line == "#[cfg(test)]" {
            break;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out.push_str("}\n");
}
