//! The scheme `digest`: a user name and the hash of a whole `user:password` (`semantics.md` 4.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Digest as _;

use crate::settings::DigestAlg;

/// The id that a credential gives: `user:hash`. There is no user database, so every credential gives one.
///
/// `user` is what stands before the first `:`, or all of it; the hash is that of the whole credential, in Base64.
pub(super) fn id(alg: DigestAlg, credential: &str) -> String {
    let mut id = format!("{}:", user(credential));
    hash(alg, credential.as_bytes(), &mut id);
    id
}

fn hash(alg: DigestAlg, credential: &[u8], out: &mut String) {
    match alg {
        DigestAlg::Md5 => STANDARD.encode_string(md5::Md5::digest(credential), out),
        DigestAlg::Sha1 => STANDARD.encode_string(sha1::Sha1::digest(credential), out),
        DigestAlg::Sha224 => STANDARD.encode_string(sha2::Sha224::digest(credential), out),
        DigestAlg::Sha256 => STANDARD.encode_string(sha2::Sha256::digest(credential), out),
        DigestAlg::Sha384 => STANDARD.encode_string(sha2::Sha384::digest(credential), out),
        DigestAlg::Sha512 => STANDARD.encode_string(sha2::Sha512::digest(credential), out),
        DigestAlg::Sha512_224 => STANDARD.encode_string(sha2::Sha512_224::digest(credential), out),
        DigestAlg::Sha512_256 => STANDARD.encode_string(sha2::Sha512_256::digest(credential), out),
        DigestAlg::Sha3_224 => STANDARD.encode_string(sha3::Sha3_224::digest(credential), out),
        DigestAlg::Sha3_256 => STANDARD.encode_string(sha3::Sha3_256::digest(credential), out),
        DigestAlg::Sha3_384 => STANDARD.encode_string(sha3::Sha3_384::digest(credential), out),
        DigestAlg::Sha3_512 => STANDARD.encode_string(sha3::Sha3_512::digest(credential), out),
    }
}

/// What stands before the first `:` of an id or credential.
pub(super) fn user(id: &str) -> &str {
    id.split_once(':').map_or(id, |(user, _)| user)
}

/// Whether an ACL entry may have this id: two parts around `:`, where the reference drops empty parts at the end first.
pub(super) fn is_valid(id: &str) -> bool {
    id.trim_end_matches(':').matches(':').count() == 1
}
