//! Every key that ZooKeeper 3.9 gives a meaning in `zoo.cfg`, and what becomes of it here.
//!
//! One table, so that an unknown key is really unknown, a known one that is not acted on says so, and a typo
//! can be answered with the nearest key. Families of keys (`server.1`, `ssl.keyStore.location`) are listed by
//! their prefix.

/// What this server does about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has the meaning that `docs/configuration.md` gives it.
    Acts,
    /// It belongs to an ensemble; a standalone server needs none of it, and neither did the Java server.
    EnsembleOnly,
    /// It is not acted on, which the text says; the server starts.
    Ignored(&'static str),
    /// Somebody relies on it for safety, so a server that ignored it would be worse than none: with a value that
    /// asks for it the server does not start.
    Refused(&'static str),
}

/// How the value of a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whatever the text says; looked at, if at all, by who uses it.
    Text,
    /// Text of a key that the Java server reads from the file only: no flag sets it.
    OfFile,
    /// A decimal number that fits 32 bits; read from the file only.
    Number,
    /// `true` or `false` in any letter case; everything else is a fault, as for the Java server. Read from the file
    /// only.
    Truth,
    /// `true` in any letter case; everything else means false, as for the Java server.
    Switch,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The key, or the beginning of a family of keys when it ends in `*`.
    pub key: &'static str,
    /// How its value is written.
    pub form: Form,
    /// What becomes of it.
    pub fate: Fate,
}

impl Known {
    /// Whether the key is no property: to a Java server a flag of that name means nothing.
    pub fn is_file_only(&self) -> bool {
        matches!(self.form, Form::OfFile | Form::Number | Form::Truth)
    }
}

/// The row of `key`; `None` when nobody gives it a meaning.
pub fn find(key: &str) -> Option<&'static Known> {
    let exact = KNOWN.iter().find(|known| known.key == key);
    exact.or_else(|| KNOWN.iter().find(|known| known.key.strip_suffix('*').is_some_and(|start| key.starts_with(start))))
}

/// The key that `key` is another name for, or `key` itself.
///
/// The manual of ZooKeeper lists some options under names that its own parser does not know, and a file often has
/// the property's full name, `zookeeper.` before the key. The Java server ignores both in silence; what was
/// meant is plain, so it is taken as meant.
pub fn meant(key: &str) -> &str {
    let key = match key.strip_prefix("zookeeper.") {
        Some(rest) if find(real(rest)).is_some() => rest,
        _ => key,
    };
    real(key)
}

/// The key that the manual of ZooKeeper calls `key`, or `key` itself.
pub fn real(key: &str) -> &str {
    MANUAL_NAMES.iter().find(|(name, _)| *name == key).map_or(key, |(_, real)| real)
}

/// The known key that looks most like an unknown one, if one of those `among` which to look does at all.
pub fn nearest(key: &str, among: impl Fn(&Known) -> bool) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    let length = key.chars().count();
    let tolerance = (length / 4).clamp(1, 3);
    let names = KNOWN.iter().filter(|known| among(known)).map(|known| known.key).filter(|name| !name.ends_with('*'));
    // As many changes as the lengths differ at least: a giant key is near to none, and not worth the comparison.
    let names = names.filter(|name| name.chars().count().abs_diff(length) <= tolerance);
    let distances = names.map(|name| (distance(&key, &name.to_ascii_lowercase()), name));
    distances.filter(|(distance, _)| *distance <= tolerance).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// The fewest insertions, removals, replacements and swaps of neighbours that turn one text into the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row];
        for column in 1..=to.len() {
            let replaced = last[column - 1] + usize::from(from[row - 1] != to[column - 1]);
            let mut fewest = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped = 1 < row && 1 < column && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1];
            if swapped {
                fewest = fewest.min(before_last[column - 2] + 1);
            }
            current.push(fewest);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

const NOT_YET: Fate = Fate::Ignored("it is not acted on yet");
const OLD_TTL: Fate = Fate::Ignored("data directories of the Java server, which 3.5.3 wrote so, are not read yet");
const ONE_LOG: Fate = Fate::Ignored("the log of this server needs no such setting");
const SNAPSHOTS: Fate = Fate::Ignored(
    "a snapshot writes only what has changed; zorilla.snapshot.txns and .bytes say how often there is one",
);
const JAVA_ONLY: Fate = Fate::Ignored("it tunes the Java server's threads or classes and has no counterpart here");
const NO_SASL: Fate = Fate::Ignored("SASL is not served yet");
const NO_TLS: Fate = Fate::Ignored("TLS is not served yet");
const NO_ADMIN: Fate = Fate::Ignored("there is no AdminServer yet; use the four-letter words");
const CLIENT_SIDE: Fate = Fate::Ignored("it is read by clients, not by servers");

const fn known(key: &'static str, form: Form, fate: Fate) -> Known {
    Known { key, form, fate }
}

use Fate::{Acts, EnsembleOnly, Ignored, Refused};
use Form::{Number, OfFile, Switch, Text, Truth};

/// In the order of the reference's own documentation: basics, ensemble, housekeeping, then the properties.
const KNOWN: &[Known] = &[
    known("dataDir", OfFile, Acts),
    known("dataLogDir", OfFile, Acts),
    known("clientPort", Number, Acts),
    known("clientPortAddress", OfFile, Acts),
    known("clientPortListenBacklog", Number, Acts),
    known("tickTime", Number, Acts),
    known("minSessionTimeout", Number, Acts),
    known("maxSessionTimeout", Number, Acts),
    known("maxClientCnxns", Number, Acts),
    known("4lw.commands.whitelist", Text, Acts),
    known("preAllocSize", Text, Acts),
    known("jute.maxbuffer", Text, Acts),
    known("standaloneEnabled", Truth, Acts),
    known("server.*", OfFile, Acts),
    known("zorilla.countGateFaults", Switch, Acts),
    known("zorilla.driver", Text, Acts),
    known("zorilla.workers", Text, Acts),
    known("zorilla.snapshot.txns", Text, Acts),
    known("zorilla.snapshot.bytes", Text, Acts),
    known("zorilla.snapshot.quietMs", Text, Acts),
    // Security that a file asks for and that would be missing.
    known("secureClientPort", Number, Refused("TLS is not served yet, so its clients could not connect")),
    known("secureClientPortAddress", OfFile, Refused("TLS is not served yet, so its clients could not connect")),
    known(
        "sessionRequireClientSASLAuth",
        Switch,
        Refused("SASL is not served yet, so it could not be required (Authentication scheme sasl is not available.)"),
    ),
    known("dynamicConfigFile", OfFile, Refused("it defines an ensemble, and ensembles are not served yet")),
    // Ensembles.
    known("initLimit", Number, EnsembleOnly),
    known("syncLimit", Number, EnsembleOnly),
    known("connectToLearnerMasterLimit", Number, EnsembleOnly),
    known("electionAlg", Number, EnsembleOnly),
    known("peerType", OfFile, EnsembleOnly),
    known("observerMasterPort", Number, EnsembleOnly),
    known("quorumListenOnAllIPs", Truth, EnsembleOnly),
    known("reconfigEnabled", Truth, Acts),
    known("localSessionsEnabled", Truth, EnsembleOnly),
    known("localSessionsUpgradingEnabled", Truth, EnsembleOnly),
    known("syncEnabled", Truth, EnsembleOnly),
    known("oraclePath", OfFile, EnsembleOnly),
    known("multiAddress.enabled", Truth, EnsembleOnly),
    known("multiAddress.reachabilityCheckEnabled", Truth, EnsembleOnly),
    known("multiAddress.reachabilityCheckTimeoutMs", Number, EnsembleOnly),
    known("sslQuorum", Truth, EnsembleOnly),
    known("portUnification", Truth, EnsembleOnly),
    known("sslQuorumReloadCertFiles", Truth, EnsembleOnly),
    known("quorum.cnxn.threads.size", Number, EnsembleOnly),
    known("quorum.auth.enableSasl", Truth, EnsembleOnly),
    known("quorum.auth.learnerRequireSasl", Truth, EnsembleOnly),
    known("quorum.auth.serverRequireSasl", Truth, EnsembleOnly),
    known("quorum.auth.learner.saslLoginContext", OfFile, EnsembleOnly),
    known("quorum.auth.server.saslLoginContext", OfFile, EnsembleOnly),
    known("quorum.auth.kerberos.servicePrincipal", OfFile, EnsembleOnly),
    known("group*", OfFile, EnsembleOnly),
    known("weight*", OfFile, EnsembleOnly),
    // Housekeeping.
    known("autopurge.snapRetainCount", Number, NOT_YET),
    known("autopurge.purgeInterval", Number, NOT_YET),
    known("jvm.pause.monitor", Truth, JAVA_ONLY),
    known("jvm.pause.sleep.time.ms", Number, JAVA_ONLY),
    known("jvm.pause.info-threshold.ms", Number, JAVA_ONLY),
    known("jvm.pause.warn-threshold.ms", Number, JAVA_ONLY),
    known("metricsProvider.*", OfFile, Ignored("no metrics provider is served yet; `mntr` prints what is measured")),
    // Limits and connections.
    known("globalOutstandingLimit", Text, Acts),
    known("maxCnxns", Text, Acts),
    known("clientTcpKeepAlive", Switch, NOT_YET),
    known("tcpKeepAlive", Switch, EnsembleOnly),
    known("serverCnxnFactory", Text, JAVA_ONLY),
    known("nio.numSelectorThreads", Text, JAVA_ONLY),
    known("nio.numWorkerThreads", Text, JAVA_ONLY),
    known("nio.sessionlessCnxnTimeout", Text, Acts),
    known("nio.directBufferBytes", Text, JAVA_ONLY),
    known("nio.shutdownTimeout", Text, JAVA_ONLY),
    known("netty.advancedFlowControl.enabled", Switch, JAVA_ONLY),
    known("netty.server.outstandingHandshake.limit", Text, NO_TLS),
    known("netty.server.earlyDropSecureConnectionHandshakes", Switch, NO_TLS),
    known("largeRequestThreshold", Text, Acts),
    known("largeRequestMaxBytes", Text, Acts),
    known("jute.maxbuffer.extrasize", Text, ONE_LOG),
    known("intBufferStartingSizeBytes", Text, JAVA_ONLY),
    known("maxResponseCacheSize", Text, JAVA_ONLY),
    known("maxGetChildrenResponseCacheSize", Text, JAVA_ONLY),
    known("connection_throttle_tokens", Text, Acts),
    known("connection_throttle_fill_time", Text, Acts),
    known("connection_throttle_fill_count", Text, Acts),
    known("connection_throttle_freeze_time", Text, Acts),
    known("connection_throttle_drop_increase", Text, Acts),
    known("connection_throttle_drop_decrease", Text, Acts),
    known("connection_throttle_decrease_ratio", Text, Acts),
    known("connection_throttle_weight_enabled", Switch, Acts),
    known("connection_throttle_global_session_weight", Text, Acts),
    known("connection_throttle_renew_session_weight", Text, Acts),
    known("connection_throttle_local_session_weight", Text, Acts),
    known("request_throttle_max_requests", Text, Acts),
    known("request_throttle_stall_time", Text, Acts),
    known("request_throttle_drop_stale", Switch, Acts),
    known("request_stale_connection_check", Switch, Acts),
    known("request_stale_latency_check", Switch, Acts),
    known("request_throttler.shutdownTimeout", Text, JAVA_ONLY),
    known("throttled_op_wait_time", Text, Acts),
    // Storage.
    known("snapCount", Text, SNAPSHOTS),
    known("snapSizeLimitInKb", Text, SNAPSHOTS),
    known("txnLogSizeLimitInKb", Text, Ignored("segments of the log have one size, set by preAllocSize")),
    known("commitLogCount", Text, EnsembleOnly),
    known("snapshotSizeFactor", Text, EnsembleOnly),
    known("forceSync", Text, Ignored("every acknowledged write is synced; there is no way to turn that off")),
    known("fsync.warningthresholdms", Text, NOT_YET),
    known("flushDelay", Text, ONE_LOG),
    known("maxWriteQueuePollTime", Text, ONE_LOG),
    known("maxBatchSize", Text, ONE_LOG),
    known("snapshot.compression.method", Text, NOT_YET),
    known("snapshot.trust.empty", Switch, Acts),
    known("datadir.autocreate", Switch, NOT_YET),
    known("db.autocreate", Switch, NOT_YET),
    known("digest.enabled", Switch, Acts),
    known("serializeLastProcessedZxid.enabled", Switch, NOT_YET),
    known("closeSessionTxn.enabled", Switch, Acts),
    // Quorum, election, learners.
    known("leaderServes", Text, EnsembleOnly),
    known("cnxTimeout", Text, EnsembleOnly),
    known("quorumCnxnTimeoutMs", Text, EnsembleOnly),
    known("electionPortBindRetry", Text, EnsembleOnly),
    known("fastleader.minNotificationInterval", Text, EnsembleOnly),
    known("fastleader.maxNotificationInterval", Text, EnsembleOnly),
    known("leader.*", Text, EnsembleOnly),
    known("learner.*", Text, EnsembleOnly),
    known("leaderConnectDelayDuringRetryMs", Text, EnsembleOnly),
    known("forceSnapshotSync", Switch, EnsembleOnly),
    known("forward_learner_requests_to_commit_processor_disabled", Switch, EnsembleOnly),
    known("follower.*", Text, EnsembleOnly),
    known("observer.*", Text, EnsembleOnly),
    known("observerMaster.sizeLimit", Text, EnsembleOnly),
    known("commitProcessor.*", Text, JAVA_ONLY),
    known("messageTracker.*", Text, EnsembleOnly),
    // Znodes, watches, quotas.
    known("extendedTypesEnabled", Switch, Acts),
    known("emulate353TTLNodes", Switch, OLD_TTL),
    known("enforceQuota", Switch, Acts),
    known("enableEagerACLCheck", Switch, EnsembleOnly),
    known("skipACL", Text, Acts),
    known("watchManagerName", Text, Acts),
    known("watcherCleanThreshold", Text, JAVA_ONLY),
    known("watcherCleanIntervalInSeconds", Text, JAVA_ONLY),
    known("watcherCleanThreadsNum", Text, JAVA_ONLY),
    known("maxInProcessingDeadWatchers", Text, JAVA_ONLY),
    known("bitHashCacheSize", Text, JAVA_ONLY),
    known("znode.container.checkIntervalMs", Text, Acts),
    known("znode.container.maxPerMinute", Text, Acts),
    known("znode.container.maxNeverUsedIntervalMs", Text, Acts),
    known("readonlymode.enabled", Switch, EnsembleOnly),
    // Authentication.
    known("DigestAuthenticationProvider.enabled", Switch, Acts),
    known("DigestAuthenticationProvider.superDigest", Text, Acts),
    known("DigestAuthenticationProvider.digestAlg", Text, Acts),
    known("enforce.auth.enabled", Switch, Acts),
    known("SASLAuthenticationProvider.superPassword", Text, NO_SASL),
    known("X509AuthenticationProvider.superUser", Text, NO_TLS),
    known("superUser", Text, NO_SASL),
    known("superUser.*", Text, NO_SASL),
    known("IPAuthenticationProvider.usexforwardedfor", Switch, NO_ADMIN),
    known("authProvider.*", Text, Acts),
    known("ensembleAuthName", Text, Acts),
    known("enforce.auth.schemes", Text, Acts),
    known("allowSaslFailedClients", Switch, NO_SASL),
    known("sasl.serverconfig", Text, NO_SASL),
    known("letAnySaslUserDoX", Text, NO_SASL),
    known("kerberos.*", Text, NO_SASL),
    known("security.auth_to_local", Text, NO_SASL),
    known("requireKerberosConfig", Text, NO_SASL),
    known("kinit", Text, NO_SASL),
    // TLS.
    known("ssl.*", Text, NO_TLS),
    known("client.portUnification", Switch, NO_TLS),
    known("client.certReload", Switch, NO_TLS),
    known("fips-mode", Switch, NO_TLS),
    // Administration, auditing, diagnostics.
    known("admin.*", Text, NO_ADMIN),
    known("audit.enable", Switch, NOT_YET),
    known("audit.impl.class", Text, NOT_YET),
    known("pathStats.*", Text, NOT_YET),
    known("jmx.log4j.*", Text, JAVA_ONLY),
    known("root.logger", Text, JAVA_ONLY),
    known("log.*", Text, JAVA_ONLY),
    known("tracelog.*", Text, JAVA_ONLY),
    known("auditlog.*", Text, JAVA_ONLY),
    known("console.threshold", Text, JAVA_ONLY),
    known("follower.nodelay", Switch, EnsembleOnly),
    known("leader.nodelay", Switch, EnsembleOnly),
    // Clients.
    known("client.secure", Switch, CLIENT_SIDE),
    known("clientCnxnSocket", Text, CLIENT_SIDE),
    known("sasl.client*", Text, CLIENT_SIDE),
    known("server.principal", Text, CLIENT_SIDE),
    known("server.realm", Text, CLIENT_SIDE),
    known("request.timeout", Text, CLIENT_SIDE),
    known("disableAutoWatchReset", Switch, CLIENT_SIDE),
];

/// Names in the manual of ZooKeeper that are not the key its parser knows.
const MANUAL_NAMES: &[(&str, &str)] = &[
    ("connectionMaxTokens", "connection_throttle_tokens"),
    ("connectionTokenFillTime", "connection_throttle_fill_time"),
    ("connectionTokenFillCount", "connection_throttle_fill_count"),
    ("connectionFreezeTime", "connection_throttle_freeze_time"),
    ("connectionDropIncrease", "connection_throttle_drop_increase"),
    ("connectionDropDecrease", "connection_throttle_drop_decrease"),
    ("connectionDecreaseRatio", "connection_throttle_decrease_ratio"),
    ("requestThrottleLimit", "request_throttle_max_requests"),
    ("requestThrottleStallTime", "request_throttle_stall_time"),
    ("requestThrottleDropStale", "request_throttle_drop_stale"),
    ("requestStaleLatencyCheck", "request_stale_latency_check"),
    ("requestStaleConnectionCheck", "request_stale_connection_check"),
    ("throttledOpWaitTime", "throttled_op_wait_time"),
    ("advancedFlowControlEnabled", "netty.advancedFlowControl.enabled"),
    ("outstandingHandshake.limit", "netty.server.outstandingHandshake.limit"),
    ("maxConcurrentSnapSyncs", "leader.maxConcurrentSnapSyncs"),
    ("maxConcurrentDiffSyncs", "leader.maxConcurrentDiffSyncs"),
    ("maxTimeToWaitForEpoch", "leader.maxTimeToWaitForEpoch"),
    ("enforce.auth.scheme", "enforce.auth.schemes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice() {
        let mut keys: Vec<_> = KNOWN.iter().map(|known| known.key).collect();
        keys.sort();
        let listed = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), listed);
    }

    #[test]
    fn an_exact_row_wins_over_its_family() {
        assert_eq!(find("server.principal").unwrap().fate, CLIENT_SIDE);
        assert_eq!(find("server.1").unwrap().fate, Acts);
        assert_eq!(find("ssl.quorum.keyStore.location").unwrap().fate, NO_TLS);
        assert!(find("sslx").is_none());
    }

    #[test]
    fn every_name_of_the_manual_leads_to_a_known_key() {
        for (name, real) in MANUAL_NAMES {
            assert!(find(name).is_none(), "{name} is known by itself");
            assert!(find(real).is_some(), "{real} is not known");
            assert_eq!(meant(name), *real);
        }
    }

    #[test]
    fn the_full_name_of_a_property_is_taken_for_the_key() {
        assert_eq!(meant("zookeeper.preAllocSize"), "preAllocSize");
        assert_eq!(meant("zookeeper.connectionMaxTokens"), "connection_throttle_tokens");
        assert_eq!(meant("zookeeper.nonsense"), "zookeeper.nonsense");
        assert_eq!(meant("tickTime"), "tickTime");
    }

    #[test]
    fn a_typo_is_answered_with_the_nearest_key() {
        assert_eq!(nearest("tickTme", |_| true), Some("tickTime"));
        assert_eq!(nearest("ticktime", |_| true), Some("tickTime"));
        assert_eq!(nearest("dataDri", |_| true), Some("dataDir"));
        assert_eq!(nearest("maxClientConns", |_| true), Some("maxClientCnxns"));
        assert_eq!(nearest("4lw.command.whitelist", |_| true), Some("4lw.commands.whitelist"));
        assert_eq!(nearest("somethingElseEntirely", |_| true), None);
        assert_eq!(nearest("", |_| true), None);
        assert_eq!(nearest("tickTme", |known| !known.is_file_only()), None);
    }

    #[test]
    fn distances_count_swaps_once() {
        for (from, to, expected) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
