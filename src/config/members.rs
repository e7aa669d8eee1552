//! The `server.N` lines of an ensemble, as far as a server that serves alone must understand them: who votes, and
//! where the only member is reached by clients.

use std::net::SocketAddr;

use super::report::ConfigError;
use super::value::Value;

/// What one line says.
pub(super) struct Member {
    /// Whether it votes; an observer does not.
    pub is_participant: bool,
    /// The part after the `;`.
    pub client: Option<SocketAddr>,
}

/// Whether a key names a member. `server.principal` and `server.realm` are read by clients.
pub(super) fn is_member(key: &str) -> bool {
    key.starts_with("server.") && key != "server.principal" && key != "server.realm"
}

/// Reads `host:quorumPort:electionPort[:role][|…][;[clientHost:]clientPort]`.
pub(super) fn parse(value: &Value<'_>, key: &str) -> Result<Member, ConfigError> {
    let id = key.strip_prefix("server.").unwrap_or(key);
    if id.parse::<i64>().is_err() {
        let java = format!("For input string: \"{id}\"");
        return Err(value.expected("a number after `server.` in the key", Some(java)));
    }
    let malformed = || {
        let java = format!(
            "{} does not have the form server_config or server_config;client_config where server_config is the pipe \
             separated list of host:port:port or host:port:port:type and client_config is port or host:port",
            value.found
        );
        value.expected("host:quorumPort:electionPort[:role][;[clientHost:]clientPort]", Some(java))
    };
    let (addresses, client) = match value.found.split_once(';') {
        Some((_, client)) if client.contains(';') => return Err(malformed()),
        Some((addresses, client)) => (addresses, Some(client)),
        None => (value.found, None),
    };
    let mut is_participant = true;
    for address in addresses.split('|') {
        let fields = fields(address).ok_or_else(malformed)?;
        let role = match fields.as_slice() {
            [_, quorum, election] | [_, quorum, election, _] => {
                let (Some(quorum), Some(election)) = (port(quorum), port(election)) else {
                    return Err(malformed());
                };
                if quorum == election {
                    let java = format!(
                        "Client and election port must be different! Please update the configuration file on {key}"
                    );
                    return Err(value.expected("two different ports", Some(java)));
                }
                fields.get(3)
            }
            _ => return Err(malformed()),
        };
        is_participant = match role.map(|role| role.to_lowercase()).as_deref() {
            None | Some("participant") => true,
            Some("observer") => false,
            Some(_) => {
                let java = format!("Unrecognised peertype: {}", role.unwrap_or(&""));
                return Err(value.expected("the role observer or participant", Some(java)));
            }
        };
    }
    let client = match client.map(|text| fields(text).ok_or_else(malformed)).transpose()?.as_deref() {
        None => None,
        Some([text]) => Some(("0.0.0.0", port(text).ok_or_else(malformed)?)),
        Some([host, text]) => Some((*host, port(text).ok_or_else(malformed)?)),
        Some(_) => return Err(malformed()),
    };
    let resolve = |(host, port)| Value { place: value.place, key: value.key, found: host }.resolve(port);
    Ok(Member { is_participant, client: client.map(resolve).transpose()? })
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok()
}

/// Splits at colons, but not inside the brackets of an IPv6 address, which are dropped. `None`: a bracket that
/// is not closed, or one that no colon follows.
fn fields(text: &str) -> Option<Vec<&str>> {
    let Some(rest) = text.strip_prefix('[') else {
        return Some(text.split(':').collect());
    };
    let (host, ports) = rest.split_once("]:")?;
    Some(std::iter::once(host).chain(ports.split(':')).collect())
}
