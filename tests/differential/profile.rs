//! The configurations that both servers are started with, and what a stream may expect of each.

/// One configuration.
#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    /// What it is there for.
    pub about: &'static str,
    /// Lines of zoo.cfg.
    pub cfg: &'static [&'static str],
    /// Properties that only a flag can set.
    pub flags: &'static [&'static str],
    /// How often it is chosen, against the others.
    pub weight: u32,
    pub traits: Traits,
}

/// What the generator must know.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Hard quotas refuse, by what is applied: one write at a time.
    pub enforce_quota: bool,
    /// `super:test` is the super user.
    pub has_super: bool,
    /// Nothing is answered before a digest identity.
    pub enforced_auth: bool,
    /// Containers and TTL znodes go away within a moment; sessions may be short.
    pub quick: bool,
}

const PLAIN: Traits = Traits { enforce_quota: false, has_super: true, enforced_auth: false, quick: false };

/// `super:test`, hashed with SHA-1.
const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
/// The same with SHA-256.
const SUPER_SHA256: &str =
    "DigestAuthenticationProvider.superDigest=super:wjySwxg860UATFtciuZ1lpzrCHrPeov6SPu/ZD56uig=";

/// No reaper during a stream: its tries take zxids at moments nobody can foresee.
const NO_REAPER: &str = "znode.container.checkIntervalMs=100000000";

pub const PROFILES: &[Profile] = &[
    Profile {
        name: "defaults",
        about: "what a fresh installation does, with a super user to look at everything",
        cfg: &[SUPER],
        flags: &[NO_REAPER],
        weight: 10,
        traits: PLAIN,
    },
    Profile {
        name: "extended",
        about: "TTL znodes, hard quotas, reconfig asked for",
        cfg: &[SUPER, "extendedTypesEnabled=true", "enforceQuota=true", "reconfigEnabled=true"],
        flags: &[NO_REAPER],
        weight: 12,
        traits: Traits { enforce_quota: true, ..PLAIN },
    },
    Profile {
        name: "quick",
        about: "the reaper and expiry at work",
        cfg: &[SUPER, "extendedTypesEnabled=true", "minSessionTimeout=200", "maxSessionTimeout=60000"],
        flags: &["znode.container.checkIntervalMs=100"],
        weight: 1,
        traits: Traits { quick: true, ..PLAIN },
    },
    Profile {
        name: "enforced",
        about: "no service without a digest identity",
        cfg: &[SUPER, "enforce.auth.enabled=true", "enforce.auth.schemes=digest"],
        flags: &[NO_REAPER],
        weight: 4,
        traits: Traits { enforced_auth: true, ..PLAIN },
    },
    Profile {
        name: "skipacl",
        about: "lists are examined and not obeyed",
        cfg: &[SUPER, "skipACL=yes", "reconfigEnabled=true"],
        flags: &[NO_REAPER],
        weight: 2,
        traits: PLAIN,
    },
    Profile {
        name: "local",
        about: "local sessions that may not become global",
        cfg: &[SUPER, "localSessionsEnabled=true"],
        flags: &[NO_REAPER],
        weight: 2,
        traits: PLAIN,
    },
    Profile {
        name: "upgrading",
        about: "local sessions that become global with their first ephemeral znode",
        cfg: &[SUPER, "localSessionsEnabled=true", "localSessionsUpgradingEnabled=true"],
        flags: &[NO_REAPER],
        weight: 2,
        traits: PLAIN,
    },
    Profile {
        name: "sha256",
        about: "another digest, ephemerals listed when a session's end is applied, no tree digest",
        cfg: &[
            SUPER_SHA256,
            "DigestAuthenticationProvider.digestAlg=SHA-256",
            "closeSessionTxn.enabled=false",
            "digest.enabled=false",
        ],
        flags: &[NO_REAPER],
        weight: 2,
        traits: PLAIN,
    },
    Profile {
        name: "nodigest",
        about: "the digest scheme switched off: nobody is anybody",
        cfg: &["DigestAuthenticationProvider.enabled=false"],
        flags: &[NO_REAPER],
        weight: 2,
        traits: Traits { has_super: false, ..PLAIN },
    },
    Profile {
        name: "oneshot",
        about: "the watch manager that keeps no persistent watches",
        cfg: &[SUPER, "watchManagerName=org.apache.zookeeper.server.watch.WatchManagerOptimized"],
        flags: &[NO_REAPER],
        weight: 2,
        traits: PLAIN,
    },
];

pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
