//! Who may do what: identities of connections, the credentials that add to them, and permission checks against the ACL of
//! a znode (`semantics.md` 4).
//!
//! Pure. Knows the schemes `world`, `auth`, `ip`, `digest`, `super`, `ensemble` and `key`. An ACL that names another scheme is
//! refused, as by the reference without a provider for it.

mod acl;
mod digest;
mod ip;
mod key;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use hashbrown::HashSet;
use zorilla_proto::client::AclVec;
use zorilla_proto::jute;

pub use acl::{AclFault, OPEN_ACL, READ_ACL};
pub use key::PATH as KEY_PATH;

use crate::limits;
use crate::settings::{AuthSettings, DigestAlg};

/// May read data, children and stat.
pub const READ: i32 = 1;
/// May set data.
pub const WRITE: i32 = 2;
/// May create children.
pub const CREATE: i32 = 4;
/// May delete children.
pub const DELETE: i32 = 8;
/// May set the ACL.
pub const ADMIN: i32 = 16;

// ---- identities ------------------------------------------------------------------------------------------

/// One identity of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    scheme: Cow<'static, str>,
    id: String,
    /// Of the scheme `ip`: the address that `id` spells.
    address: Option<IpAddr>,
}

impl Identity {
    /// What vouches for it: `ip`, `digest`, `super`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Who it is, in the words of the scheme.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// An identity of a scheme other than `ip`.
    fn new(scheme: &'static str, id: String) -> Identity {
        Identity { scheme: Cow::Borrowed(scheme), id, address: None }
    }

    fn of_address(address: IpAddr) -> Identity {
        Identity { scheme: Cow::Borrowed("ip"), id: ip::text(address), address: Some(address) }
    }

    fn bytes(&self) -> usize {
        self.scheme.len() + self.id.len()
    }

    /// The hash by which the reference orders the identities of a connection.
    fn hash(&self) -> u32 {
        fn of(text: &str) -> u32 {
            text.encode_utf16().fold(0, |hash: u32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
        }
        let pair = 17_u32.wrapping_mul(37).wrapping_add(of(self.scheme()));
        let hash = pair.wrapping_mul(37).wrapping_add(of(self.id()));
        hash ^ (hash >> 16)
    }
}

/// The identities of one connection (`semantics.md` 4.1). It only ever gains some, each once.
///
/// A request travels with those its connection had when it was read: a clone shares them, and is not changed by what the
/// connection gains later.
///
/// Invariant: in the order in which the reference iterates over them, which whoAmI and the expansion of `auth` show.
#[derive(Clone, Debug)]
pub struct Identities {
    list: Arc<[Identity]>,
    is_super: bool,
    /// The hashes of all of them, where there are many: an ACL may name thousands, and each is looked for.
    hashes: Option<Arc<Hashes>>,
}

#[derive(Debug, Default)]
struct Hashes {
    state: RandomState,
    known: HashSet<u64, RandomState>,
}

/// Up to this many identities are compared one by one.
const FEW_IDENTITIES: usize = 8;

impl Identities {
    /// What a connection has from the start. An IPv4 address inside IPv6 is that IPv4 address, as a socket for both reports it.
    pub fn of_peer(address: IpAddr) -> Identities {
        Identities::from_list(Arc::new([Identity::of_address(address.to_canonical())]))
    }

    fn from_list(list: Arc<[Identity]>) -> Identities {
        let is_super = list.iter().any(|identity| identity.scheme() == "super");
        let hashes = (FEW_IDENTITIES < list.len()).then(|| {
            let mut hashes = Hashes::default();
            for identity in &*list {
                let hash = hashes.state.hash_one((identity.scheme().as_bytes(), identity.id().as_bytes()));
                hashes.known.insert(hash);
            }
            Arc::new(hashes)
        });
        Identities { list, is_super, hashes }
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Identity> {
        self.list.iter()
    }

    /// Whether one of them may do everything.
    pub fn is_super(&self) -> bool {
        self.is_super
    }

    /// Whether there is one of this scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.iter().any(|identity| identity.scheme() == scheme)
    }

    /// Whether exactly this is one of them.
    fn contains(&self, scheme: &[u8], id: &[u8]) -> bool {
        if let Some(hashes) = &self.hashes
            && !hashes.known.contains(&hashes.state.hash_one((scheme, id)))
        {
            return false;
        }
        self.iter().any(|one| one.id().as_bytes() == id && one.scheme().as_bytes() == scheme)
    }

    /// Scheme and user of each, as whoAmI tells them (`client-protocol.md` 9.21): of `digest` without the hash, and
    /// nobody for a scheme without a provider, such as `super`.
    pub fn whoami<'a>(&'a self, rules: &'a Rules) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> {
        self.iter().map(|identity| {
            let user = match rules.provider(identity.scheme().as_bytes()) {
                Some(Provider::Digest(_)) => digest::user(identity.id()),
                Some(Provider::Ip | Provider::Ensemble(_) | Provider::Key) => identity.id(),
                None => "",
            };
            (identity.scheme(), user)
        })
    }

    /// Those that stand behind the scheme `auth` in an ACL.
    fn authenticating<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = &'a Identity> {
        self.iter()
            .filter(|one| matches!(rules.provider(one.scheme().as_bytes()), Some(Provider::Digest(_) | Provider::Key)))
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.iter().filter_map(|identity| identity.address)
    }

    /// `false`: there are as many as a connection may have.
    fn add(&mut self, identity: Identity) -> bool {
        if self.list.contains(&identity) {
            return true;
        }
        let bytes: usize = self.iter().map(Identity::bytes).sum();
        if limits::IDENTITIES_MAX <= self.list.len() || limits::IDENTITY_BYTES_MAX < bytes + identity.bytes() {
            return false;
        }
        let mut list = self.list.to_vec();
        list.push(identity);
        // The reference keeps them in a hash table that starts with 16 places and doubles when three quarters are taken.
        let mut places = 16;
        while places / 4 * 3 <= list.len() {
            places *= 2;
        }
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        list.sort_by_key(|identity| identity.hash() % places);
        *self = Identities::from_list(list.into());
        true
    }
}

impl PartialEq for Identities {
    fn eq(&self, other: &Identities) -> bool {
        self.list == other.list
    }
}

impl Eq for Identities {}

// ---- rules -----------------------------------------------------------------------------------------------

/// What came of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
    /// The connection has gained what the credential gives.
    Ok,
    /// AUTHFAILED, then the connection is closed.
    Failed,
    /// The connection is closed without an answer: the client meant another ensemble.
    CloseSilently,
}

/// The settings that decide about permissions. Built once, shared by all who decide.
#[derive(Clone, Debug)]
pub struct Rules {
    skip_acl: bool,
    enforced: Option<Vec<String>>,
    digest: Option<DigestRules>,
    ensemble: Option<EnsembleRules>,
    key: bool,
}

#[derive(Clone, Debug)]
struct DigestRules {
    alg: DigestAlg,
    super_id: Option<String>,
}

#[derive(Clone, Debug)]
struct EnsembleRules {
    /// Empty: any name will do.
    names: Vec<String>,
}

/// What the server knows about a scheme that it serves.
enum Provider<'r> {
    Digest(&'r DigestRules),
    Ip,
    Ensemble(&'r EnsembleRules),
    Key,
}

impl Rules {
    /// The rules of a server. `enforced`: the schemes of which a connection needs one before anything else.
    pub fn new(settings: &AuthSettings, skip_acl: bool, enforced: Option<&[String]>) -> Rules {
        let AuthSettings { digest_enabled, digest_alg, super_digest, ensemble_names, key_enabled } = settings;
        Rules {
            skip_acl,
            enforced: enforced.map(<[String]>::to_vec),
            digest: digest_enabled.then(|| DigestRules { alg: *digest_alg, super_id: super_digest.clone() }),
            ensemble: ensemble_names.clone().map(|names| EnsembleRules { names }),
            key: *key_enabled,
        }
    }

    /// The rules of a server without settings.
    pub const fn open() -> Rules {
        let digest = Some(DigestRules { alg: DigestAlg::Sha1, super_id: None });
        Rules { skip_acl: false, enforced: None, digest, ensemble: None, key: false }
    }

    fn provider(&self, scheme: &[u8]) -> Option<Provider<'_>> {
        match scheme {
            b"digest" => self.digest.as_ref().map(Provider::Digest),
            b"ip" => Some(Provider::Ip),
            b"ensemble" => self.ensemble.as_ref().map(Provider::Ensemble),
            b"key" => self.key.then_some(Provider::Key),
            _ => None,
        }
    }

    /// Takes an auth packet (`client-protocol.md` 12.1) of the connection from `peer`, and gives it the identities that the
    /// credential is good for.
    ///
    /// The scheme `key` is refused here: see [`Rules::needs_key`]. More than [`limits::IDENTITIES_MAX`], or [`limits::IDENTITY_BYTES_MAX`] of text, is refused.
    pub fn authenticate(
        &self,
        identities: &mut Identities,
        scheme: Option<&str>,
        credential: Option<&[u8]>,
        peer: IpAddr,
    ) -> AuthOutcome {
        let added = match (scheme.and_then(|scheme| self.provider(scheme.as_bytes())), credential) {
            (Some(Provider::Digest(rules)), Some(credential)) => {
                let id = digest::id(rules.alg, &jute::text(credential));
                let is_super = rules.super_id.as_ref() == Some(&id);
                (!is_super || identities.add(Identity::new("super", String::new())))
                    && identities.add(Identity::new("digest", id))
            }
            (Some(Provider::Ip), _) => identities.add(Identity::of_address(peer.to_canonical())),
            (Some(Provider::Ensemble(rules)), credential) => match credential {
                None | Some([]) => true,
                Some(name) => {
                    let name = jute::text(name);
                    if !rules.names.is_empty() && !rules.names.iter().any(|known| *known == name) {
                        return AuthOutcome::CloseSilently;
                    }
                    true
                }
            },
            (Some(Provider::Key), _) => false,
            (Some(Provider::Digest(_)), None) | (None, _) => false,
        };
        if added { AuthOutcome::Ok } else { AuthOutcome::Failed }
    }

    /// Whether an auth packet of this scheme goes to [`Rules::authenticate_by_key`], with the data of [`KEY_PATH`].
    pub fn needs_key(&self, scheme: Option<&str>) -> bool {
        self.key && scheme == Some("key")
    }

    /// As [`Rules::authenticate`], for the scheme `key`. `key`: the data of the znode [`KEY_PATH`]; `None` without it.
    pub fn authenticate_by_key(
        &self,
        identities: &mut Identities,
        credential: Option<&[u8]>,
        key: Option<&[u8]>,
    ) -> AuthOutcome {
        let is_accepted = self.key && credential.is_some_and(|credential| key::accepts(key, credential));
        if is_accepted && identities.add(Identity::new("key", String::new())) {
            AuthOutcome::Ok
        } else {
            AuthOutcome::Failed
        }
    }

    /// Whether a connection has an identity of a scheme that is enforced (`semantics.md` 4.7). If not, its requests, except
    /// for auth and sasl, are answered with -124 and it is closed.
    pub fn satisfies_enforced(&self, identities: &Identities) -> bool {
        self.enforced.as_ref().is_none_or(|schemes| schemes.iter().any(|scheme| identities.has_scheme(scheme)))
    }
}

// ---- without settings and identities ---------------------------------------------------------------------

static OPEN: Rules = Rules::open();
static NOBODY: LazyLock<Identities> = LazyLock::new(|| Identities::from_list(Arc::new([])));

/// As [`Rules::allows`], by the default rules and for a connection without identities.
pub fn allows(acl: &[u8], wanted: i32) -> bool {
    OPEN.allows(acl, wanted, &NOBODY)
}

/// As [`Rules::check`], by the default rules and for a connection without identities.
pub fn check(acl: Option<&AclVec<'_>>) -> Result<(), AclFault> {
    OPEN.check(acl, &NOBODY)
}

/// As [`Rules::canonical`], by the default rules and for a connection without identities.
pub fn canonical<'b>(acl: &AclVec<'_>, buffer: &'b mut Vec<u8>) -> AclVec<'b> {
    OPEN.canonical(acl, &NOBODY, buffer)
}
