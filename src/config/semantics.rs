//! The [`Settings`], read from the flags and lines that count.
//!
//! Properties that the Java server reads leniently are read strictly where a misreading would do harm: a number that
//! cannot be read or cannot be meant refuses the start (there it silently means the default). Switches mean what they
//! mean there, because a file may rely on it, and say so when the word is a strange one.

use super::report::{ConfigError, Warning};
use super::value::Value;
use super::{Line, Lines};
use crate::settings::{AuthSettings, ConnectionThrottle, ContainerSettings, DigestAlg, RequestLimits, Settings};

/// The package of the Java server's own classes for schemes of authentication.
const PROVIDERS: &str = "org.apache.zookeeper.server.auth.";
/// The package of its watch managers.
const WATCH_MANAGERS: &str = "org.apache.zookeeper.server.watch.";

/// Reads them all.
pub(super) fn settings(lines: &Lines<'_>, warnings: &mut Vec<Warning>) -> Result<Settings, ConfigError> {
    let unset = Settings::default();
    let auth = auth(lines, warnings)?;
    Ok(Settings {
        skip_acl: lines.value("skipACL").is_some_and(|value| {
            warnings.extend(value.doubted(["yes", "no"]));
            value.found == "yes"
        }),
        extended_types: lines.switch("extendedTypesEnabled", unset.extended_types),
        enforce_quota: lines.switch("enforceQuota", unset.enforce_quota),
        enforced_schemes: enforced_schemes(lines, &auth)?,
        auth,
        reconfig_enabled: lines.truth("reconfigEnabled", unset.reconfig_enabled)?,
        close_session_txn: lines.switch("closeSessionTxn.enabled", unset.close_session_txn),
        digest: lines.switch("digest.enabled", unset.digest),
        persistent_watches: persistent_watches(lines)?,
        local_sessions: lines.truth("localSessionsEnabled", unset.local_sessions)?,
        local_sessions_upgrading: lines.truth("localSessionsUpgradingEnabled", unset.local_sessions_upgrading)?,
        containers: containers(lines)?,
        limits: limits(lines, warnings)?,
        throttle: throttle(lines, warnings)?,
    })
}

impl Lines<'_> {
    fn switch(&self, key: &str, unset: bool) -> bool {
        self.value(key).map_or(unset, |value| value.switch())
    }

    fn truth(&self, key: &str, unset: bool) -> Result<bool, ConfigError> {
        self.value(key).map_or(Ok(unset), |value| value.truth())
    }

    fn count(&self, key: &str, of_what: &str, unset: u32) -> Result<u32, ConfigError> {
        self.value(key).map_or(Ok(unset), |value| value.count(of_what))
    }

    fn count_from(&self, least: u32, key: &str, of_what: &str, unset: u32) -> Result<u32, ConfigError> {
        self.value(key).map_or(Ok(unset), |value| value.count_from(least, of_what))
    }

    fn share(&self, key: &str, unset: f64) -> Result<f64, ConfigError> {
        self.value(key).map_or(Ok(unset), |value| value.share())
    }
}

fn auth(lines: &Lines<'_>, warnings: &mut Vec<Warning>) -> Result<AuthSettings, ConfigError> {
    let mut auth = AuthSettings {
        digest_enabled: lines.switch("DigestAuthenticationProvider.enabled", true),
        ..AuthSettings::default()
    };
    if let Some(value) = lines.value("DigestAuthenticationProvider.digestAlg") {
        auth.digest_alg = digest_alg(&value)?;
    }
    for line in lines.lines.iter().filter(|line| line.key.starts_with("authProvider.")) {
        add_provider(&mut auth, line)?;
    }
    if let Some(value) = lines.value("ensembleAuthName") {
        match &mut auth.ensemble_names {
            Some(names) => *names = listed(value.found),
            None => warnings.push(value.ignored("no authProvider makes a scheme `ensemble`")),
        }
    }
    if let Some(value) = lines.value("DigestAuthenticationProvider.superDigest") {
        let hash_length = auth.digest_alg.bytes().div_ceil(3) * 4;
        match value.found.split(':').collect::<Vec<_>>().as_slice() {
            [_, hash] if hash.len() == hash_length => {}
            [_, _] => warnings.push(value.ignored(
                "no credential has that identity: the part after its colon has not the length of a hash in base64 \
                 by digestAlg",
            )),
            _ => warnings.push(value.ignored("no credential has that identity: expected user:hash")),
        }
        auth.super_digest = Some(value.found.to_owned());
    }
    Ok(auth)
}

/// `authProvider.N=class`. A class that is not here would leave ACLs unchecked that somebody relies on, so the server
/// does not start without it.
fn add_provider(auth: &mut AuthSettings, line: &Line) -> Result<(), ConfigError> {
    let value = line.value();
    match value.found.strip_prefix(PROVIDERS) {
        // A provider that is named exists even if the switch of the built-in one is off.
        Some("DigestAuthenticationProvider") => auth.digest_enabled = true,
        Some("IPAuthenticationProvider") => {}
        Some("EnsembleAuthenticationProvider") => auth.ensemble_names = Some(Vec::new()),
        Some("KeyAuthenticationProvider") => auth.key_enabled = true,
        Some("SASLAuthenticationProvider") => {
            return Err(value.not_served("SASL is not served yet, so its clients could not authenticate"));
        }
        Some("X509AuthenticationProvider") => {
            return Err(value.not_served("TLS is not served yet, so its clients could not authenticate"));
        }
        _ => {
            let expected = format!(
                "{PROVIDERS} with DigestAuthenticationProvider, IPAuthenticationProvider, \
                 EnsembleAuthenticationProvider or KeyAuthenticationProvider; classes of others cannot be loaded"
            );
            return Err(value.expected(&expected, Some(format!("Problems loading {}", value.found))));
        }
    }
    Ok(())
}

/// By the names that Java 17 gives the algorithms.
fn digest_alg(value: &Value<'_>) -> Result<DigestAlg, ConfigError> {
    Ok(match value.found.to_ascii_uppercase().as_str() {
        "MD5" => DigestAlg::Md5,
        "SHA" | "SHA1" | "SHA-1" => DigestAlg::Sha1,
        "SHA-224" | "SHA224" => DigestAlg::Sha224,
        "SHA-256" | "SHA256" => DigestAlg::Sha256,
        "SHA-384" | "SHA384" => DigestAlg::Sha384,
        "SHA-512" | "SHA512" => DigestAlg::Sha512,
        "SHA-512/224" | "SHA512/224" => DigestAlg::Sha512_224,
        "SHA-512/256" | "SHA512/256" => DigestAlg::Sha512_256,
        "SHA3-224" => DigestAlg::Sha3_224,
        "SHA3-256" => DigestAlg::Sha3_256,
        "SHA3-384" => DigestAlg::Sha3_384,
        "SHA3-512" => DigestAlg::Sha3_512,
        _ => {
            let java = format!("don't support this ACL digest algorithm: {} in the current environment", value.found);
            return Err(value.expected(
                "SHA1, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/224, SHA-512/256, SHA3-224, SHA3-256, SHA3-384, \
                 SHA3-512 or MD5",
                Some(java),
            ));
        }
    })
}

/// A scheme that does not exist cannot be enforced, and nobody could get in.
fn enforced_schemes(lines: &Lines<'_>, auth: &AuthSettings) -> Result<Option<Vec<String>>, ConfigError> {
    let Some(enabled) = lines.value("enforce.auth.enabled").filter(Value::switch) else { return Ok(None) };
    let schemes = lines.value("enforce.auth.schemes");
    let names = schemes.as_ref().map(|value| listed(value.found)).unwrap_or_default();
    let exists = |name: &str| match name {
        "ip" => true,
        "digest" => auth.digest_enabled,
        "ensemble" => auth.ensemble_names.is_some(),
        "key" => auth.key_enabled,
        _ => false,
    };
    match (schemes, names.iter().find(|name| !exists(name))) {
        (Some(schemes), Some(missing)) => {
            let java = format!("Authentication scheme {missing} is not available.");
            Err(schemes.expected("schemes that are served, commas between", Some(java)))
        }
        _ if names.is_empty() => {
            let java = "zookeeper.enforce.auth.enabled is true zookeeper.enforce.auth.schemes must be  configured.";
            Err(enabled.expected("enforce.auth.schemes beside it", Some(java.into())))
        }
        _ => Ok(Some(names)),
    }
}

fn persistent_watches(lines: &Lines<'_>) -> Result<bool, ConfigError> {
    let Some(value) = lines.value("watchManagerName") else { return Ok(true) };
    match value.found.strip_prefix(WATCH_MANAGERS) {
        Some("WatchManager") => Ok(true),
        Some("WatchManagerOptimized") => Ok(false),
        _ => Err(value.expected(
            &format!("{WATCH_MANAGERS}WatchManager or {WATCH_MANAGERS}WatchManagerOptimized"),
            Some(format!("Couldn't instantiate {}", value.found)),
        )),
    }
}

fn containers(lines: &Lines<'_>) -> Result<ContainerSettings, ConfigError> {
    let ContainerSettings { check_interval_ms, per_minute_max, never_used_ms } = ContainerSettings::default();
    let ms = |least, key, unset: u64| lines.count_from(least, key, "milliseconds", unset as u32).map(u64::from);
    Ok(ContainerSettings {
        check_interval_ms: ms(1, "znode.container.checkIntervalMs", check_interval_ms)?,
        per_minute_max: lines.count_from(1, "znode.container.maxPerMinute", "removals in a minute", per_minute_max)?,
        never_used_ms: ms(0, "znode.container.maxNeverUsedIntervalMs", never_used_ms)?,
    })
}

fn limits(lines: &Lines<'_>, warnings: &mut Vec<Warning>) -> Result<RequestLimits, ConfigError> {
    let unset = RequestLimits::default();
    let mut limits = RequestLimits {
        outstanding_max: lines
            .value("globalOutstandingLimit")
            .map(|value| value.count_from(0, "requests"))
            .transpose()?
            .or(unset.outstanding_max),
        in_process_max: lines.count("request_throttle_max_requests", "requests", unset.in_process_max)?,
        stall_ms: lines.count_from(1, "request_throttle_stall_time", "milliseconds", unset.stall_ms)?,
        drop_stale: lines.switch("request_throttle_drop_stale", unset.drop_stale),
        stale_latency_check: lines.switch("request_stale_latency_check", unset.stale_latency_check),
        stale_connection_check: lines.switch("request_stale_connection_check", unset.stale_connection_check),
        throttled_wait_ms: lines.count("throttled_op_wait_time", "milliseconds", unset.throttled_wait_ms)?,
        sessionless_timeout_ms: lines.count_from(
            1,
            "nio.sessionlessCnxnTimeout",
            "milliseconds",
            unset.sessionless_timeout_ms,
        )?,
        ..unset
    };
    let any = i32::MIN..=i32::MAX;
    if let Some(value) = lines.value("maxCnxns") {
        match u32::try_from(value.integer(any.clone(), "connections")?) {
            Ok(connections) => limits.cnxns_max = connections,
            Err(_) => warnings.push(value.corrected("a number of connections, or 0 for no limit", limits.cnxns_max)),
        }
    }
    if let Some(value) = lines.value("largeRequestThreshold") {
        match value.integer(any.clone(), "bytes")? {
            bytes if bytes == -1 || 0 < bytes => limits.large_request_threshold = bytes,
            _ => warnings.push(value.corrected("a number of bytes, or -1 for none", limits.large_request_threshold)),
        }
    }
    if let Some(value) = lines.value("largeRequestMaxBytes") {
        match value.integer(any, "bytes")? {
            bytes @ 1.. => limits.large_request_bytes_max = bytes as u64,
            _ => warnings.push(value.corrected("a number of bytes, at least 1", limits.large_request_bytes_max)),
        }
    }
    Ok(limits)
}

fn throttle(lines: &Lines<'_>, warnings: &mut Vec<Warning>) -> Result<ConnectionThrottle, ConfigError> {
    let unset = ConnectionThrottle::default();
    let mut weight = |kind: &str, unset: u32, least: u32| {
        let Some(value) = lines.value(&format!("connection_throttle_{kind}_session_weight")) else {
            return Ok(unset.max(least));
        };
        let typed = value.integer(i32::MIN..=i32::MAX, "tokens")?;
        let used = match u32::try_from(typed) {
            Ok(typed @ 1..) if typed < least => {
                warnings.push(value.corrected("at least the weight of a local session", least));
                least
            }
            Ok(typed @ 1..) => typed,
            _ => {
                warnings.push(value.corrected("a number of tokens, at least 1", unset.max(least)));
                unset.max(least)
            }
        };
        Ok(used)
    };
    let local_weight = weight("local", unset.local_weight, 1)?;
    Ok(ConnectionThrottle {
        tokens: lines.count_from(0, "connection_throttle_tokens", "tokens", unset.tokens)?,
        fill_ms: lines.count_from(1, "connection_throttle_fill_time", "milliseconds", unset.fill_ms)?,
        fill_count: lines.count_from(0, "connection_throttle_fill_count", "tokens", unset.fill_count)?,
        freeze_ms: lines
            .value("connection_throttle_freeze_time")
            .map_or(Ok(unset.freeze_ms), |value| value.integer(-1..=i32::MAX, "milliseconds"))?,
        drop_increase: lines.share("connection_throttle_drop_increase", unset.drop_increase)?,
        drop_decrease: lines.share("connection_throttle_drop_decrease", unset.drop_decrease)?,
        decrease_ratio: lines.share("connection_throttle_decrease_ratio", unset.decrease_ratio)?,
        weight_enabled: lines.switch("connection_throttle_weight_enabled", unset.weight_enabled),
        global_weight: weight("global", unset.global_weight, local_weight)?,
        renew_weight: weight("renew", unset.renew_weight, local_weight)?,
        local_weight,
    })
}

/// Names between commas, blanks around them dropped.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Flag};
    use crate::ops::four_letter::Word;

    fn read(flags: &[&str], lines: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::of(flag)).collect();
        let file = format!("dataDir=/d\nclientPort=1\n{lines}");
        Config::from_bytes(Path::new("zoo.cfg"), file.as_bytes(), false, &flags)
    }

    /// What the flags and the lines become, and what is said about them beyond the relative name of the file.
    #[track_caller]
    fn settings(flags: &[&str], lines: &str) -> (Settings, Vec<String>) {
        let (config, warnings) = read(flags, lines).unwrap_or_else(|error| panic!("{flags:?} {lines:?}: {error}"));
        (config.settings, warnings[1..].iter().map(Warning::to_string).collect())
    }

    #[track_caller]
    fn fault(flags: &[&str], lines: &str) -> String {
        match read(flags, lines) {
            Ok((config, _)) => panic!("{flags:?} {lines:?} became {config:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// One key with the change that a value of it makes, as a flag and as a line, in every spelling.
    #[track_caller]
    fn acts(flag: &str, key: &str, value: &str, change: impl Fn(&mut Settings)) {
        let mut expected = Settings::default();
        change(&mut expected);
        assert_ne!(expected, Settings::default(), "{key}={value} is the default");
        let key_and_value = format!("{key}={value}");
        for (flags, lines) in [
            (vec![format!("{flag}={value}")], String::new()),
            (vec![], key_and_value.clone()),
            (vec![], format!("zookeeper.{key_and_value}")),
        ] {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            assert_eq!(settings(&flags, &lines), (expected.clone(), vec![]), "{flags:?} {lines:?}");
        }
    }

    #[track_caller]
    fn property_acts(key: &str, value: &str, change: impl Fn(&mut Settings)) {
        acts(&format!("zookeeper.{key}"), key, value, change);
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(settings(&[], ""), (Settings::default(), vec![]));
        let (config, warnings) = Config::embedded_default().with_flags(&[]).unwrap();
        assert_eq!((config, warnings), (Config::embedded_default(), vec![]));
    }

    #[test]
    fn every_property_acts_as_a_flag_and_as_a_line() {
        property_acts("skipACL", "yes", |all| all.skip_acl = true);
        property_acts("extendedTypesEnabled", "true", |all| all.extended_types = true);
        property_acts("enforceQuota", "true", |all| all.enforce_quota = true);
        property_acts("closeSessionTxn.enabled", "false", |all| all.close_session_txn = false);
        property_acts("digest.enabled", "False", |all| all.digest = false);
        property_acts("watchManagerName", "org.apache.zookeeper.server.watch.WatchManagerOptimized", |all| {
            all.persistent_watches = false;
        });
        property_acts("DigestAuthenticationProvider.enabled", "false", |all| all.auth.digest_enabled = false);
        property_acts("DigestAuthenticationProvider.digestAlg", "sha3-256", |all| {
            all.auth.digest_alg = DigestAlg::Sha3_256;
        });
        property_acts("DigestAuthenticationProvider.superDigest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=", |all| {
            all.auth.super_digest = Some("super:D/InIHSb7yEEbrWz8b9l71RjZJU=".into());
        });
        property_acts("authProvider.1", "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider", |all| {
            all.auth.ensemble_names = Some(vec![])
        });
        property_acts("authProvider.any", "org.apache.zookeeper.server.auth.KeyAuthenticationProvider", |all| {
            all.auth.key_enabled = true;
        });
        property_acts("globalOutstandingLimit", "0x20", |all| all.limits.outstanding_max = Some(32));
        property_acts("maxCnxns", "9", |all| all.limits.cnxns_max = 9);
        property_acts("largeRequestThreshold", "1024", |all| all.limits.large_request_threshold = 1024);
        property_acts("largeRequestMaxBytes", "4096", |all| all.limits.large_request_bytes_max = 4096);
        property_acts("request_throttle_max_requests", "010", |all| all.limits.in_process_max = 8);
        property_acts("request_throttle_stall_time", "7", |all| all.limits.stall_ms = 7);
        property_acts("request_throttle_drop_stale", "false", |all| all.limits.drop_stale = false);
        property_acts("request_stale_latency_check", "true", |all| all.limits.stale_latency_check = true);
        property_acts("request_stale_connection_check", "false", |all| all.limits.stale_connection_check = false);
        property_acts("throttled_op_wait_time", "5", |all| all.limits.throttled_wait_ms = 5);
        property_acts("nio.sessionlessCnxnTimeout", "500", |all| all.limits.sessionless_timeout_ms = 500);
        property_acts("connection_throttle_tokens", "3", |all| all.throttle.tokens = 3);
        property_acts("connection_throttle_fill_time", "10", |all| all.throttle.fill_ms = 10);
        property_acts("connection_throttle_fill_count", "0", |all| all.throttle.fill_count = 0);
        property_acts("connection_throttle_freeze_time", "100", |all| all.throttle.freeze_ms = 100);
        property_acts("connection_throttle_drop_increase", "0.5", |all| all.throttle.drop_increase = 0.5);
        property_acts("connection_throttle_drop_decrease", "1e-3", |all| all.throttle.drop_decrease = 0.001);
        property_acts("connection_throttle_decrease_ratio", "1", |all| all.throttle.decrease_ratio = 1.0);
        property_acts("connection_throttle_weight_enabled", "true", |all| all.throttle.weight_enabled = true);
        property_acts("connection_throttle_global_session_weight", "9", |all| all.throttle.global_weight = 9);
        property_acts("connection_throttle_renew_session_weight", "9", |all| all.throttle.renew_weight = 9);
        property_acts("connection_throttle_local_session_weight", "2", |all| all.throttle.local_weight = 2);
    }

    #[test]
    fn a_property_without_the_prefix_is_a_flag_without_it_and_a_line_all_the_same() {
        for (key, change) in [
            ("znode.container.checkIntervalMs", (|all| all.containers.check_interval_ms = 77) as fn(&mut Settings)),
            ("znode.container.maxPerMinute", |all| all.containers.per_minute_max = 77),
            ("znode.container.maxNeverUsedIntervalMs", |all| all.containers.never_used_ms = 77),
        ] {
            acts(key, key, "77", change);
        }
        let (config, _) = read(&["jute.maxbuffer=4096"], "").unwrap();
        assert_eq!(config.jute_maxbuffer, 4096);
        let (config, _) = read(&["readonlymode.enabled=true"], "4lw.commands.whitelist=ruok").unwrap();
        assert!([Word::Isro, Word::Ruok, Word::Srvr].iter().all(|word| config.four_letter.allows(*word)));
        assert!(!config.four_letter.allows(Word::Mntr));
        assert!(!read(&["readonlymode.enabled=True"], "").unwrap().0.four_letter.allows(Word::Isro));
    }

    #[test]
    fn keys_of_the_file_act_there_and_not_as_flags() {
        let mut expected = Settings::default();
        (expected.reconfig_enabled, expected.local_sessions, expected.local_sessions_upgrading) = (true, true, true);
        let lines = "reconfigEnabled=true\nlocalSessionsEnabled=TRUE\nlocalSessionsUpgradingEnabled=true";
        assert_eq!(settings(&[], lines), (expected, vec![]));
        for flag in ["zookeeper.reconfigEnabled=true", "zookeeper.tickTime=1", "zookeeper.dataDir=/x"] {
            let (config, warnings) = read(&[flag], "").unwrap();
            assert_eq!((config.tick_ms, config.settings), (3000, Settings::default()), "{flag}");
            let name = flag.split('=').next().unwrap();
            assert!(
                warnings.iter().any(|warning| warning
                    .to_string()
                    .starts_with(&format!("command line: -D{name} changes nothing: no flag sets it"))),
                "{warnings:?}"
            );
        }
        assert!(fault(&[], "reconfigEnabled=yes").contains("Choose 'true' or 'false.'"));
    }

    #[test]
    fn the_file_overrides_flags_and_the_last_flag_earlier_ones() {
        let (one, warnings) = settings(&["zookeeper.skipACL=yes"], "skipACL=no");
        assert!(!one.skip_acl);
        assert_eq!(
            warnings,
            ["zoo.cfg line 3: skipACL counts, not the flag -Dzookeeper.skipACL: the file is read after the flags"]
        );
        assert_eq!(settings(&["zookeeper.maxCnxns=5"], "zookeeper.maxCnxns=5").1, Vec::<String>::new());
        let (one, warnings) = settings(&["zookeeper.maxCnxns=5", "zookeeper.maxCnxns=x", "zookeeper.maxCnxns=6"], "");
        assert_eq!((one.limits.cnxns_max, warnings), (6, vec![]));
        // What the line overrides is not looked at.
        assert_eq!(settings(&["zookeeper.maxCnxns=x"], "maxCnxns=7").0.limits.cnxns_max, 7);
    }

    #[test]
    fn flags_act_with_arguments_and_with_nothing() {
        let flags =
            ["zookeeper.skipACL=yes", "jute.maxbuffer=2048", "zookeeper.4lw.commands.whitelist=*"].map(Flag::of);
        let arguments = Config::from_args("1".as_ref(), "/d".as_ref(), None, None).unwrap();
        for config in [Config::embedded_default(), arguments] {
            let (with_flags, warnings) = config.clone().with_flags(&flags).unwrap();
            assert_eq!(warnings, []);
            assert!(with_flags.settings.skip_acl && with_flags.four_letter.allows(Word::Wchs));
            assert_eq!(with_flags.jute_maxbuffer, 2048);
            assert_eq!((with_flags.source, with_flags.data_dir), (config.source, config.data_dir));
        }
    }

    #[test]
    fn unknown_flags_are_mentioned_if_they_are_ours() {
        for (flag, said) in [
            ("zookeeper.skipAcl=yes", "-Dzookeeper.skipAcl: no such setting; did you mean -Dzookeeper.skipACL?"),
            (
                "zookeeper.jute.maxbuffer=1",
                "-Dzookeeper.jute.maxbuffer: no such setting; did you mean -Djute.maxbuffer?",
            ),
            (
                "jute.maxbuffer.extrasize=1",
                "-Djute.maxbuffer.extrasize: no such setting; did you mean -Dzookeeper.jute.maxbuffer.extrasize?",
            ),
            (
                "znode.container.maxPerMinutes=1",
                "-Dznode.container.maxPerMinutes: no such setting; did you mean -Dznode.container.maxPerMinute?",
            ),
            ("zookeeper.zookeeper.skipACL=yes", "-Dzookeeper.zookeeper.skipACL: no such setting."),
            ("zookeeper.=1", "-Dzookeeper.: no such setting."),
        ] {
            let (found, warnings) = settings(&[flag], "");
            assert_eq!(warnings, [format!("command line: {said} The flag is ignored.")], "{flag}");
            assert_eq!(found, Settings::default(), "{flag}");
            let strict = Config::from_bytes(Path::new("zoo.cfg"), b"dataDir=/d", true, &[Flag::of(flag)]);
            assert!(strict.unwrap_err().to_string().contains(said), "{flag}");
        }
        for flag in ["java.awt.headless=true", "log4j.configuration=file:/x", "skipACL=yes", "", "=", "juted"] {
            assert_eq!(settings(&[flag], ""), (Settings::default(), vec![]), "{flag}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_read_or_meant_refuse_the_start_and_name_the_place() {
        assert_eq!(
            fault(&[], "globalOutstandingLimit=1OOO"),
            "zoo.cfg line 3: globalOutstandingLimit: expected a whole number of requests, at least 0, found \"1OOO\""
        );
        assert_eq!(
            fault(&["znode.container.maxPerMinute=0"], ""),
            "command line: -Dznode.container.maxPerMinute: expected a whole number of removals in a minute, at least \
             1, found \"0\""
        );
        assert_eq!(
            fault(&["zookeeper.connection_throttle_drop_increase=2"], ""),
            "command line: -Dzookeeper.connection_throttle_drop_increase: expected a number from 0 to 1, such as \
             0.02, found \"2\""
        );
        assert!(
            fault(&["jute.maxbuffer="], "").starts_with("command line: -Djute.maxbuffer: expected a whole number of")
        );
        for line in [
            "globalOutstandingLimit=-1",
            "globalOutstandingLimit=2147483648",
            "maxCnxns=",
            "maxCnxns=1.5",
            "largeRequestThreshold=1k",
            "largeRequestMaxBytes=99999999999",
            "request_throttle_max_requests=many",
            "request_throttle_stall_time=0",
            "throttled_op_wait_time=1s",
            "nio.sessionlessCnxnTimeout=0",
            "connection_throttle_tokens=-3",
            "connection_throttle_fill_time=0",
            "connection_throttle_fill_count=-1",
            "connection_throttle_freeze_time=-2",
            "connection_throttle_drop_decrease=NaN",
            "connection_throttle_decrease_ratio=-0.1",
            "connection_throttle_local_session_weight=one",
            "znode.container.checkIntervalMs=0",
            "znode.container.maxNeverUsedIntervalMs=-5",
        ] {
            let message = fault(&[], line);
            let (key, _) = line.split_once('=').unwrap();
            assert!(message.starts_with(&format!("zoo.cfg line 3: {key}: expected a ")), "{line}: {message}");
        }
    }

    #[test]
    fn numbers_that_the_java_server_corrects_are_corrected_and_mentioned() {
        for (line, said) in [
            ("maxCnxns=-5", "expected a number of connections, or 0 for no limit, found \"-5\"; 0"),
            ("largeRequestThreshold=0", "expected a number of bytes, or -1 for none, found \"0\"; -1"),
            ("largeRequestMaxBytes=-1", "expected a number of bytes, at least 1, found \"-1\"; 104857600"),
            (
                "connection_throttle_global_session_weight=-1",
                "expected a number of tokens, at least 1, found \"-1\"; 3",
            ),
            ("connection_throttle_local_session_weight=0", "expected a number of tokens, at least 1, found \"0\"; 1"),
        ] {
            let (found, warnings) = settings(&[], line);
            let (key, _) = line.split_once('=').unwrap();
            assert_eq!(warnings, [format!("zoo.cfg line 3: {key}: {said} is used, as by the Java server")]);
            assert_eq!(found, Settings::default(), "{line}");
        }
        let (found, warnings) = settings(
            &[],
            "connection_throttle_renew_session_weight=3\nconnection_throttle_local_session_weight=5\n\
             connection_throttle_global_session_weight=4",
        );
        assert_eq!((found.throttle.global_weight, found.throttle.renew_weight, found.throttle.local_weight), (5, 5, 5));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for line in ["request_throttle_max_requests=-1", "throttled_op_wait_time=-1"] {
            assert_eq!(settings(&[], line), (Settings::default(), vec![]), "{line}");
        }
    }

    #[test]
    fn a_switch_with_a_strange_word_is_off_and_mentioned() {
        let (found, warnings) = settings(&["zookeeper.digest.enabled=yes", "zookeeper.enforceQuota"], "skipACL=true");
        let expected = Settings { digest: false, ..Settings::default() };
        assert_eq!(found, expected);
        let said = |place, found, on, off| {
            format!("{place}: expected {on} or {off}, found {found:?}, which like all but {on} means {off}")
        };
        assert_eq!(
            warnings,
            [
                said("command line: -Dzookeeper.digest.enabled", "yes", "true", "false"),
                said("command line: -Dzookeeper.enforceQuota", "", "true", "false"),
                said("zoo.cfg line 3: skipACL", "true", "yes", "no"),
            ]
        );
        assert_eq!(settings(&[], "skipACL=YES").0, Settings::default(), "this word is compared letter by letter");
        assert_eq!(settings(&[], "sessionRequireClientSASLAuth=yes").1.len(), 1);
    }

    #[test]
    fn algorithms_have_the_names_that_java_gives_them() {
        for (name, alg) in [
            ("SHA", DigestAlg::Sha1),
            ("sha1", DigestAlg::Sha1),
            ("SHA-1", DigestAlg::Sha1),
            ("SHA-224", DigestAlg::Sha224),
            ("sha256", DigestAlg::Sha256),
            ("SHA-384", DigestAlg::Sha384),
            ("SHA-512", DigestAlg::Sha512),
            ("SHA-512/224", DigestAlg::Sha512_224),
            ("SHA512/256", DigestAlg::Sha512_256),
            ("SHA3-224", DigestAlg::Sha3_224),
            ("SHA3-384", DigestAlg::Sha3_384),
            ("SHA3-512", DigestAlg::Sha3_512),
            ("md5", DigestAlg::Md5),
        ] {
            let line = format!("DigestAuthenticationProvider.digestAlg={name}");
            assert_eq!(settings(&[], &line).0.auth.digest_alg, alg, "{name}");
        }
        for name in ["", "FOO", "SHA3256", "SHA_256", "MD2", "SHA256 "] {
            let message = fault(&[&format!("zookeeper.DigestAuthenticationProvider.digestAlg={name}")], "");
            let start = "command line: -Dzookeeper.DigestAuthenticationProvider.digestAlg: expected SHA1, SHA-224, ";
            assert!(message.starts_with(start), "{message}");
            assert!(message.contains("don't support this ACL digest algorithm: "), "{message}");
        }
    }

    #[test]
    fn a_super_digest_that_nobody_can_have_is_mentioned() {
        let hash = "D/InIHSb7yEEbrWz8b9l71RjZJU=";
        for (digest, rest, mentioned) in [
            (format!("root:{hash}"), "", false),
            ("garbage".into(), "", true),
            (format!("super:x:{hash}"), "", true),
            ("super:test".into(), "", true),
            (format!("super:{hash}"), "DigestAuthenticationProvider.digestAlg=SHA-256", true),
        ] {
            let (found, warnings) =
                settings(&[&format!("zookeeper.DigestAuthenticationProvider.superDigest={digest}")], rest);
            assert_eq!(!warnings.is_empty(), mentioned, "{digest}: {warnings:?}");
            assert_eq!(found.auth.super_digest, Some(digest));
        }
    }

    #[test]
    fn providers_are_known_by_the_names_of_their_classes() {
        let provider = |class: &str| format!("authProvider.1=org.apache.zookeeper.server.auth.{class}");
        for class in ["IPAuthenticationProvider", "DigestAuthenticationProvider"] {
            assert_eq!(settings(&[], &provider(class)), (Settings::default(), vec![]), "{class}");
        }
        let lines = format!("DigestAuthenticationProvider.enabled=false\n{}", provider("DigestAuthenticationProvider"));
        assert!(settings(&[], &lines).0.auth.digest_enabled, "named, it exists");
        let lines = format!("{}\nensembleAuthName= blue,, green ,", provider("EnsembleAuthenticationProvider"));
        assert_eq!(settings(&[], &lines).0.auth.ensemble_names, Some(vec!["blue".into(), "green".into()]));
        let (found, warnings) = settings(&[], "ensembleAuthName=blue");
        assert_eq!((found, warnings.len()), (Settings::default(), 1));
        for (class, words) in [
            ("SASLAuthenticationProvider", "zoo.cfg line 3: authProvider.1: SASL is not served yet"),
            ("X509AuthenticationProvider", "zoo.cfg line 3: authProvider.1: TLS is not served yet"),
            ("Other", "zoo.cfg line 3: authProvider.1: expected org.apache.zookeeper.server.auth. with "),
        ] {
            let message = fault(&[], &provider(class));
            assert!(message.starts_with(words), "{message}");
        }
        for class in ["", "com.example.Kerberos", "DigestAuthenticationProvider"] {
            let message = fault(&[&format!("zookeeper.authProvider.x={class}")], "");
            assert!(message.starts_with("command line: -Dzookeeper.authProvider.x: expected "), "{message}");
            assert!(message.ends_with(&format!("(Problems loading {class})")), "{message}");
        }
    }

    #[test]
    fn only_schemes_that_exist_can_be_enforced() {
        let on = "enforce.auth.enabled=true";
        let schemes = |lines: &str| settings(&[], lines).0.enforced_schemes;
        assert_eq!(schemes("enforce.auth.schemes=digest"), None);
        assert_eq!(schemes("enforce.auth.enabled=false\nenforce.auth.schemes=nonsense"), None);
        assert_eq!(
            schemes(&format!("{on}\nenforce.auth.schemes=digest,, ip")),
            Some(vec!["digest".into(), "ip".into()])
        );
        assert_eq!(schemes(&format!("{on}\nenforce.auth.scheme=ip")), Some(vec!["ip".into()]));
        let key = "authProvider.1=org.apache.zookeeper.server.auth.KeyAuthenticationProvider";
        assert_eq!(schemes(&format!("{on}\n{key}\nenforce.auth.schemes=key")), Some(vec!["key".into()]));
        for lines in [on.to_owned(), format!("{on}\nenforce.auth.schemes="), format!("{on}\nenforce.auth.schemes=,")] {
            let message = fault(&[], &lines);
            assert!(
                message.starts_with("zoo.cfg line 3: enforce.auth.enabled: expected enforce.auth.schemes"),
                "{message}"
            );
            assert!(message.contains("zookeeper.enforce.auth.schemes must be  configured."), "{message}");
        }
        for scheme in ["sasl", "x509", "key", "ensemble", "world", "Digest"] {
            let message = fault(&[], &format!("{on}\nenforce.auth.schemes=ip,{scheme}"));
            assert!(
                message.starts_with("zoo.cfg line 4: enforce.auth.schemes: expected schemes that are"),
                "{message}"
            );
            assert!(message.ends_with(&format!("(Authentication scheme {scheme} is not available.)")), "{message}");
        }
        let lines = format!("{on}\nenforce.auth.schemes=digest\nDigestAuthenticationProvider.enabled=false");
        assert!(fault(&[], &lines).contains("Authentication scheme digest is not available."));
        assert!(fault(&["zookeeper.sessionRequireClientSASLAuth=true"], "").contains("SASL is not served yet"));
    }

    #[test]
    fn watch_managers_are_known_by_the_names_of_their_classes() {
        let manager = |class: &str| format!("watchManagerName={class}");
        let known = manager("org.apache.zookeeper.server.watch.WatchManager");
        assert_eq!(settings(&[], &known), (Settings::default(), vec![]));
        for class in ["", "WatchManager", "com.example.Watches"] {
            assert!(fault(&[], &manager(class)).ends_with(&format!("(Couldn't instantiate {class})")), "{class}");
        }
    }
}
