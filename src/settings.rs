//! What changes the meaning of requests, and the limits that a client can run into: plain values.
//!
//! `config` reads them from flags and from the file and checks them; who acts on one finds here what it means and what
//! it is when nobody set it. The defaults are those of ZooKeeper 3.9. A name in parentheses is the property as a JVM
//! takes it (`-Dname=value`); a file may leave out the prefix `zookeeper.`. Parses nothing.

use crate::limits::SESSIONLESS_MS_MAX;

/// Everything that changes what a request does or what it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Permissions are not checked; ACL lists still are (`zookeeper.skipACL=yes`; default no).
    pub skip_acl: bool,
    /// TTL znodes can be created (`zookeeper.extendedTypesEnabled`; default false).
    pub extended_types: bool,
    /// Hard quotas refuse writes (`zookeeper.enforceQuota`; default false).
    pub enforce_quota: bool,
    /// Which credentials are accepted and what they become.
    pub auth: AuthSettings,
    /// A connection may do nothing before it has an identity of one of these schemes; `None`: it may.
    /// (`zookeeper.enforce.auth.enabled` with `zookeeper.enforce.auth.schemes`; default off. Never empty.)
    pub enforced_schemes: Option<Vec<String>>,
    /// The operation reconfig is not switched off; a standalone server has no use for it and refuses it all the same,
    /// with another error (`reconfigEnabled`, only in the file; default false).
    pub reconfig_enabled: bool,
    /// The transaction that closes a session lists the ephemeral znodes that go with it
    /// (`zookeeper.closeSessionTxn.enabled`; default true).
    pub close_session_txn: bool,
    /// Transactions carry the digest of the tree after them (`zookeeper.digest.enabled`; default true).
    pub digest: bool,
    /// Persistent watches can be set. The watch manager `WatchManagerOptimized` keeps only standard ones
    /// (`zookeeper.watchManagerName`; default true).
    pub persistent_watches: bool,
    /// New sessions are local to the server they are opened at (`localSessionsEnabled`, only in the file; default
    /// false). Only members of an ensemble have local sessions: a standalone server, here as in the reference, opens
    /// every session by a transaction whatever this says.
    pub local_sessions: bool,
    /// A local session becomes a global one with its first ephemeral znode (`localSessionsUpgradingEnabled`, only in
    /// the file; default false). Like [`Settings::local_sessions`] it is about ensembles.
    pub local_sessions_upgrading: bool,
    /// When containers and TTL znodes are removed.
    pub containers: ContainerSettings,
    /// How much clients may ask for at once.
    pub limits: RequestLimits,
    /// How fast they may connect.
    pub throttle: ConnectionThrottle,
}

/// Which credentials are accepted and what they become.
///
/// The schemes `world`, `auth` and `ip` always exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthSettings {
    /// The scheme `digest` exists (`zookeeper.DigestAuthenticationProvider.enabled`; default true).
    pub digest_enabled: bool,
    /// How it hashes (`zookeeper.DigestAuthenticationProvider.digestAlg`; default SHA1).
    pub digest_alg: DigestAlg,
    /// The digest identity that may do everything, `user:hash`
    /// (`zookeeper.DigestAuthenticationProvider.superDigest`; default none).
    pub super_digest: Option<String>,
    /// The scheme `ensemble` exists, and accepts these names; any if there are none. `None`: it does not exist.
    /// (`zookeeper.authProvider.N=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider` with
    /// `zookeeper.ensembleAuthName`, commas between the names; default `None`.)
    pub ensemble_names: Option<Vec<String>>,
    /// The scheme `key` exists: the data of the znode `/key` is a number, and a credential must be a multiple of it
    /// (`zookeeper.authProvider.N=org.apache.zookeeper.server.auth.KeyAuthenticationProvider`; default false).
    pub key_enabled: bool,
}

/// The hash of the scheme `digest`. What Java calls MD2 is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name says it all")]
pub enum DigestAlg {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl DigestAlg {
    /// The length of a hash.
    pub const fn bytes(self) -> usize {
        match self {
            DigestAlg::Md5 => 16,
            DigestAlg::Sha1 => 20,
            DigestAlg::Sha224 | DigestAlg::Sha512_224 | DigestAlg::Sha3_224 => 28,
            DigestAlg::Sha256 | DigestAlg::Sha512_256 | DigestAlg::Sha3_256 => 32,
            DigestAlg::Sha384 | DigestAlg::Sha3_384 => 48,
            DigestAlg::Sha512 | DigestAlg::Sha3_512 => 64,
        }
    }
}

/// When containers and TTL znodes are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerSettings {
    /// Milliseconds between two looks for candidates, at least 1; the first look comes after as long
    /// (`znode.container.checkIntervalMs`; default 60,000).
    pub check_interval_ms: u64,
    /// Removals submitted in a minute, at least 1 (`znode.container.maxPerMinute`; default 10,000).
    pub per_minute_max: u32,
    /// A container that never had a child is removed this many milliseconds after its last change; 0: never
    /// (`znode.container.maxNeverUsedIntervalMs`; default 0).
    pub never_used_ms: u64,
}

/// How much clients may ask for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests waiting or in process beyond which a connection that has some is not read
    /// (`zookeeper.globalOutstandingLimit`). `None`, the default: the server's own bounds on requests and bytes under way
    /// rule, per connection and per worker. They allow more than the 1000 of the reference, because what they keep small
    /// is memory, and deep pipelines are what makes writes cheap.
    pub outstanding_max: Option<u32>,
    /// Connections of all clients together; 0: no limit (`zookeeper.maxCnxns`; default 0).
    pub cnxns_max: u32,
    /// A request of more bytes is a large one; −1: none is (`zookeeper.largeRequestThreshold`; default −1, never 0).
    pub large_request_threshold: i32,
    /// Bytes of the large requests in process beyond which a connection that sends another is closed; at least 1
    /// (`zookeeper.largeRequestMaxBytes`; default 104,857,600).
    pub large_request_bytes_max: u64,
    /// Requests in process beyond which others wait in the throttler; 0: it is off
    /// (`zookeeper.request_throttle_max_requests`; default 0).
    pub in_process_max: u32,
    /// Milliseconds for which the throttler rests when that many are in process, unless one finishes
    /// (`zookeeper.request_throttle_stall_time`; default 100, at least 1).
    pub stall_ms: u32,
    /// The throttler drops stale requests (`zookeeper.request_throttle_drop_stale`; default true).
    pub drop_stale: bool,
    /// A request that waited longer than its session's timeout is stale (`zookeeper.request_stale_latency_check`;
    /// default false).
    pub stale_latency_check: bool,
    /// A request whose connection is closed is stale (`zookeeper.request_stale_connection_check`; default true).
    pub stale_connection_check: bool,
    /// A request that waited longer in the throttler, ms, is answered THROTTLEDOP; 0: none is
    /// (`zookeeper.throttled_op_wait_time`; default 0).
    pub throttled_wait_ms: u32,
    /// A connection that has not opened a session after this many milliseconds is closed
    /// (`zookeeper.nio.sessionlessCnxnTimeout`; default 10,000, at least 1).
    pub sessionless_timeout_ms: u32,
}

/// How fast clients may connect: a bucket of tokens, refilled as time goes by, of which every ConnectRequest takes
/// some. One that finds too few is closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionThrottle {
    /// Tokens in the full bucket, before weights; 0: everybody may connect (`zookeeper.connection_throttle_tokens`;
    /// default 0).
    pub tokens: u32,
    /// Milliseconds after which tokens are added (`zookeeper.connection_throttle_fill_time`; default 1, at least 1).
    pub fill_ms: u32,
    /// Tokens added then, before weights (`zookeeper.connection_throttle_fill_count`; default 1).
    pub fill_count: u32,
    /// Milliseconds between two changes of the probability of dropping; −1: nothing is dropped by chance
    /// (`zookeeper.connection_throttle_freeze_time`; default −1).
    pub freeze_ms: i32,
    /// What an empty bucket adds to that probability, from 0 to 1 (`zookeeper.connection_throttle_drop_increase`;
    /// default 0.02).
    pub drop_increase: f64,
    /// What a bucket that is full enough takes from it, from 0 to 1 (`zookeeper.connection_throttle_drop_decrease`;
    /// default 0.002).
    pub drop_decrease: f64,
    /// The share of the bucket that may be missing while it still counts as full enough, from 0 to 1
    /// (`zookeeper.connection_throttle_decrease_ratio`; default 0).
    pub decrease_ratio: f64,
    /// Kinds of sessions take different numbers of tokens, and the bucket and its refills are
    /// [`ConnectionThrottle::global_weight`] times as large (`zookeeper.connection_throttle_weight_enabled`; default
    /// false: each takes one).
    pub weight_enabled: bool,
    /// Tokens for a new global session, at least 1 (`zookeeper.connection_throttle_global_session_weight`; default 3).
    pub global_weight: u32,
    /// Tokens for a session that is resumed, at least 1 (`zookeeper.connection_throttle_renew_session_weight`;
    /// default 2).
    pub renew_weight: u32,
    /// Tokens for a new local session, at least 1 (`zookeeper.connection_throttle_local_session_weight`; default 1).
    pub local_weight: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            skip_acl: false,
            extended_types: false,
            enforce_quota: false,
            auth: AuthSettings::default(),
            enforced_schemes: None,
            reconfig_enabled: false,
            close_session_txn: true,
            digest: true,
            persistent_watches: true,
            local_sessions: false,
            local_sessions_upgrading: false,
            containers: ContainerSettings::default(),
            limits: RequestLimits::default(),
            throttle: ConnectionThrottle::default(),
        }
    }
}

impl Default for AuthSettings {
    fn default() -> AuthSettings {
        AuthSettings {
            digest_enabled: true,
            digest_alg: DigestAlg::Sha1,
            super_digest: None,
            ensemble_names: None,
            key_enabled: false,
        }
    }
}

impl Default for ContainerSettings {
    fn default() -> ContainerSettings {
        ContainerSettings { check_interval_ms: 60_000, per_minute_max: 10_000, never_used_ms: 0 }
    }
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            outstanding_max: None,
            cnxns_max: 0,
            large_request_threshold: -1,
            large_request_bytes_max: 100 << 20,
            in_process_max: 0,
            stall_ms: 100,
            drop_stale: true,
            stale_latency_check: false,
            stale_connection_check: true,
            throttled_wait_ms: 0,
            sessionless_timeout_ms: SESSIONLESS_MS_MAX as u32,
        }
    }
}

impl Default for ConnectionThrottle {
    fn default() -> ConnectionThrottle {
        ConnectionThrottle {
            tokens: 0,
            fill_ms: 1,
            fill_count: 1,
            freeze_ms: -1,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weight_enabled: false,
            global_weight: 3,
            renew_weight: 2,
            local_weight: 1,
        }
    }
}
