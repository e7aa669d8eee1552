//! Flags of the command line, `-Dname=value` as a JVM takes them, and which setting each of them means.
//!
//! To the Java server a flag is a system property. Most properties have the prefix `zookeeper.`, and the key of the
//! file is the rest of the name; some have none, and the file of a Java server cannot set those. Some keys are no
//! properties at all: a Java server reads them from the file only, and a flag of that name does nothing.

use super::keys;

/// One `-Dname=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// What stands before the first `=`.
    pub name: String,
    /// What stands behind it; empty when there is none.
    pub value: String,
}

impl Flag {
    /// Takes apart what follows the `-D`. As to a JVM, everything is a flag.
    pub fn of(text: &str) -> Flag {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Flag { name: name.to_owned(), value: value.to_owned() }
    }

    /// The flag as it was typed, without its value.
    pub(super) fn typed(&self) -> String {
        typed(&self.name)
    }
}

/// What the name of a flag means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This key.
    Key(String),
    /// A key that only the file can set.
    FileOnly,
    /// A setting of ZooKeeper or of this server that does not exist; with the flag that was perhaps meant.
    Unknown(Option<String>),
    /// Nothing that concerns this server.
    Foreign,
}

/// The prefix of the properties that the file names without it.
const PREFIX: &str = "zookeeper.";

/// Properties without that prefix.
const BARE: &[&str] = &[
    "jute.maxbuffer",
    "znode.container.checkIntervalMs",
    "znode.container.maxPerMinute",
    "znode.container.maxNeverUsedIntervalMs",
    "readonlymode.enabled",
    "follower.nodelay",
    "leader.nodelay",
    "zorilla.countGateFaults",
    "zorilla.driver",
    "zorilla.workers",
];

/// Properties that have two names, with and without the prefix.
const BOTH: &[&str] =
    &["fsync.warningthresholdms", "leader.closeSocketAsync", "learner.closeSocketAsync", "learner.asyncSending"];

/// What a name without the prefix begins with when nobody but ZooKeeper or this server would read it.
const OURS: &[&str] = &["znode.", "jute.", "readonlymode.", "zorilla."];

/// Finds out what the flag `name` means.
pub(super) fn meaning(name: &str) -> Meaning {
    let key = match name.strip_prefix(PREFIX) {
        Some(rest) => keys::real(rest),
        None if BARE.contains(&name) || BOTH.contains(&name) => name,
        None if OURS.iter().any(|start| name.starts_with(start)) => return Meaning::Unknown(nearest(name)),
        None => return Meaning::Foreign,
    };
    match keys::find(key) {
        Some(_) if name.starts_with(PREFIX) && BARE.contains(&key) => Meaning::Unknown(Some(typed(key))),
        Some(known) if known.is_file_only() => Meaning::FileOnly,
        Some(_) => Meaning::Key(key.to_owned()),
        None => Meaning::Unknown(nearest(key)),
    }
}

fn nearest(key: &str) -> Option<String> {
    let nearest = keys::nearest(key, |known| !known.is_file_only())?;
    Some(if BARE.contains(&nearest) { typed(nearest) } else { format!("-D{PREFIX}{nearest}") })
}

fn typed(name: &str) -> String {
    format!("-D{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_taken_apart_at_the_first_equals_sign() {
        for (text, name, value) in
            [("a=b", "a", "b"), ("a", "a", ""), ("a=", "a", ""), ("a=b=c", "a", "b=c"), ("=b", "", "b"), ("", "", "")]
        {
            assert_eq!(Flag::of(text), Flag { name: name.into(), value: value.into() }, "{text:?}");
        }
    }

    #[test]
    fn every_bare_name_is_a_known_key_that_is_not_of_the_file_only() {
        for name in BARE.iter().chain(BOTH) {
            assert!(keys::find(name).is_some_and(|known| !known.is_file_only()), "{name}");
        }
    }
}
