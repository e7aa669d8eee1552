//! One value as it was typed, and the ways to read it. Every way that fails says where the value stands, what was
//! expected and what was found, with the Java server's words where it has some.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::SEGMENT_BLOCK_BYTES;
use super::report::{ConfigError, Place, Warning};
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, TICK_MS_MAX};

/// One value, with what a message about it needs.
pub(super) struct Value<'a> {
    pub place: &'a Place,
    /// The key as typed.
    pub key: &'a str,
    pub found: &'a str,
}

impl Value<'_> {
    pub fn expected(&self, expected: &str, java: Option<String>) -> ConfigError {
        ConfigError::BadValue {
            place: self.place.clone(),
            key: self.key.into(),
            expected: expected.into(),
            found: self.found.into(),
            java: java.map(String::into_boxed_str),
        }
    }

    pub fn not_served(&self, why: impl Into<String>) -> ConfigError {
        ConfigError::NotServed { place: self.place.clone(), key: self.key.to_owned(), why: why.into() }
    }

    pub fn ignored(&self, why: &'static str) -> Warning {
        Warning::Ignored { place: self.place.clone(), key: self.key.to_owned(), why }
    }

    /// `expected` is what the value should have been, `used` what stands in for it.
    pub fn corrected(&self, expected: &'static str, used: impl ToString) -> Warning {
        Warning::Corrected {
            place: self.place.clone(),
            key: self.key.to_owned(),
            expected,
            found: self.found.to_owned(),
            used: used.to_string(),
        }
    }

    /// What Java's `parseInt` takes: decimal digits with an optional sign, within 32 bits.
    pub fn number(&self) -> Result<i32, ConfigError> {
        let java = || Some(format!("For input string: \"{}\"", self.found));
        self.found.parse().map_err(|_| self.expected("a whole number", java()))
    }

    /// At least one of a thing.
    pub fn amount(&self, of: &str) -> Result<u64, ConfigError> {
        let amount = self.found.parse().ok().filter(|amount| 0 < *amount);
        amount.ok_or_else(|| self.expected(&format!("a whole number of {of}, at least 1"), None))
    }

    fn number_from(&self, range: RangeInclusive<i32>, expected: &str) -> Result<u32, ConfigError> {
        match self.number() {
            Ok(number) if range.contains(&number) => Ok(number as u32),
            Ok(_) => Err(self.expected(expected, None)),
            Err(ConfigError::BadValue { java, .. }) => Err(self.expected(expected, java.map(String::from))),
            Err(other) => Err(other),
        }
    }

    pub fn truth(&self) -> Result<bool, ConfigError> {
        match self.found.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => {
                let java = format!("Invalid option {} for {}. Choose 'true' or 'false.'", self.found, self.key);
                Err(self.expected("true or false", Some(java)))
            }
        }
    }

    /// Only `true`, in any letter case, turns a switch on.
    pub fn switch(&self) -> bool {
        self.found.eq_ignore_ascii_case("true")
    }

    /// What is to be said about a switch that is turned by neither of its `words`: the one that turns it on and the one
    /// that turns it off.
    pub fn doubted(&self, words: [&'static str; 2]) -> Option<Warning> {
        let is_plain = words.iter().any(|word| self.found.eq_ignore_ascii_case(word));
        (!is_plain).then(|| Warning::NotASwitch {
            place: self.place.clone(),
            key: self.key.to_owned(),
            found: self.found.to_owned(),
            words,
        })
    }

    pub fn port(&self) -> Result<u16, ConfigError> {
        let number = self.number()?;
        u16::try_from(number).map_err(|_| {
            let java = format!("port out of range:{number}");
            self.expected("a port from 0 (any free one) to 65535", Some(java))
        })
    }

    pub fn tick_ms(&self) -> Result<u32, ConfigError> {
        let expected = format!("a whole number of milliseconds from 1 to {TICK_MS_MAX}");
        match self.number_from(1..=TICK_MS_MAX as i32, &expected) {
            Err(_) if self.number().is_ok_and(|number| number == 0) => {
                Err(self.expected(&expected, Some("tickTime is not set".into())))
            }
            ticks => ticks,
        }
    }

    /// Zero and, as for the Java server, every negative number mean no limit.
    pub fn client_cnxns(&self) -> Result<u32, ConfigError> {
        let expected = "a whole number of connections per client address, or 0 for no limit";
        self.number_from(i32::MIN..=i32::MAX, expected).map(|_| self.number().map_or(0, |number| number.max(0) as u32))
    }

    /// `None` is −1: computed from the tick.
    pub fn session_timeout_ms(&self, least: i32) -> Result<Option<u32>, ConfigError> {
        if self.number().is_ok_and(|number| number == -1) {
            return Ok(None);
        }
        let expected = format!("a whole number of milliseconds, at least {least}, or -1 to compute it from tickTime");
        self.number_from(least..=i32::MAX, &expected).map(Some)
    }

    pub fn path(&self, warnings: &mut Vec<Warning>) -> Result<PathBuf, ConfigError> {
        if self.found.is_empty() {
            let java = format!("{} is not set", self.key);
            return Err(self.expected("the path of a directory", Some(java)));
        }
        let path = PathBuf::from(self.found);
        warn_if_relative(&path, warnings);
        Ok(path)
    }

    pub fn resolve(&self, port: u16) -> Result<SocketAddr, ConfigError> {
        let host = self.found.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(self.found);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::from((ip, port)));
        }
        let addrs: Vec<_> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        // A name with addresses of both families means the IPv4 one, as it does to the Java server.
        let chosen = addrs.iter().find(|addr| addr.is_ipv4()).or(addrs.first());
        chosen.copied().ok_or_else(|| {
            let java = format!("{host}: Name or service not known");
            self.expected("an address of this machine, or a host name that resolves to one", Some(java))
        })
    }

    /// What Java's `Long.decode` takes: an optional sign, then decimal, `0x` or `#` hexadecimal or leading-`0` octal.
    fn decoded(&self) -> Option<i64> {
        let (is_negative, digits) = match self.found.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, self.found.strip_prefix('+').unwrap_or(self.found)),
        };
        let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")).or(digits.strip_prefix('#'))
        {
            Some(hex) => (hex, 16),
            None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
            None => (digits, 10),
        };
        let is_plain = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
        let magnitude = i64::from_str_radix(digits, radix).ok().filter(|_| is_plain)?;
        Some(if is_negative { -magnitude } else { magnitude })
    }

    /// A number of a property, which for the Java server has 32 bits.
    pub fn integer(&self, range: RangeInclusive<i32>, of_what: &str) -> Result<i32, ConfigError> {
        let number = self.decoded().and_then(|number| i32::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            let expected = match (*least, *most) {
                (i32::MIN, i32::MAX) => format!("a whole number of {of_what}"),
                (_, i32::MAX) => format!("a whole number of {of_what}, at least {least}"),
                _ => format!("a whole number of {of_what} from {least} to {most}"),
            };
            self.expected(&expected, None)
        })
    }

    /// A number of which every negative one means 0, as for the Java server.
    pub fn count(&self, of_what: &str) -> Result<u32, ConfigError> {
        self.integer(i32::MIN..=i32::MAX, of_what).map(|number| number.max(0) as u32)
    }

    /// A number of which only `range`, that has no negative ones, can be meant.
    pub fn count_from(&self, least: u32, of_what: &str) -> Result<u32, ConfigError> {
        self.integer(least as i32..=i32::MAX, of_what).map(|number| number as u32)
    }

    /// A share or a probability.
    pub fn share(&self) -> Result<f64, ConfigError> {
        let share = self.found.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| self.expected("a number from 0 to 1, such as 0.02", None))
    }

    pub fn bytes(&self, range: RangeInclusive<usize>) -> Result<usize, ConfigError> {
        let bytes = self.decoded().and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| range.contains(bytes));
        bytes.ok_or_else(|| {
            self.expected(&format!("a whole number of bytes from {} to {}", range.start(), range.end()), None)
        })
    }

    /// `preAllocSize` counts KiB. A size that suits the Java server and not this log is moved and reported, so
    /// that one file serves both.
    pub fn segment_bytes(&self, warnings: &mut Vec<Warning>) -> Result<u64, ConfigError> {
        let Some(kib) = self.decoded().and_then(|kib| u64::try_from(kib).ok()).filter(|kib| *kib != 0) else {
            return Err(self.expected("a whole number of KiB, at least 1", None));
        };
        let wanted = kib.saturating_mul(1024);
        let whole_blocks = wanted.checked_next_multiple_of(SEGMENT_BLOCK_BYTES).unwrap_or(SEGMENT_BYTES_MAX);
        let used = whole_blocks.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        if used != wanted {
            warnings.push(Warning::Adjusted {
                place: self.place.clone(),
                key: self.key.to_owned(),
                found: self.found.to_owned(),
                used: format!("{} KiB", used / 1024),
            });
        }
        Ok(used)
    }
}

// A segment of any permitted size is a whole number of blocks.
const _: () = assert!(SEGMENT_BYTES_MIN.is_multiple_of(SEGMENT_BLOCK_BYTES));
const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(SEGMENT_BLOCK_BYTES));
// Twenty ticks fit the 32 bits that a session timeout has on the wire.
const _: () = assert!(TICK_MS_MAX <= i32::MAX as u32 / 20);

pub(super) fn warn_if_relative(path: &Path, warnings: &mut Vec<Warning>) {
    if path.is_relative() && !path.starts_with(".") {
        warnings.push(Warning::RelativePath { path: path.to_owned() });
    }
}
