//! The wire: ZooKeeper's records as values, and values as bytes. Nothing else.
//!
//! Guarantees: decoders borrow from the bytes they are given and never allocate on valid UTF-8; no input
//! makes them panic, and none makes them allocate more than a small multiple of its own length. Encoders
//! append to a buffer the caller owns. What one direction writes, the other reads back as the same value.
//!
//! Refuses to know: sockets, files, clocks, and what an operation *means*. Path rules, permissions and the
//! order in which a server checks things belong to the server.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] | zxids, session ids and the password that follows from one |
//! | [`jute`] | the encoding itself: integers, strings, buffers, vectors |
//! | [`frame`] | where one message ends and the next begins |
//! | [`op`] | the one table of opcodes |
//! | [`code`] | the error codes |
//! | [`stat`] | a znode's statistics |
//! | [`client`] | what clients and servers say to each other |
//! | [`txn`] | what servers write into logs and proposals |
//! | [`limits`] | the named maxima |

#![forbid(unsafe_code)]

pub mod client;
pub mod code;
pub mod frame;
pub mod ids;
pub mod jute;
pub mod limits;
pub mod op;
pub mod stat;
pub mod txn;

pub use client::{Acl, AclVec, StringVec};
pub use code::Code;
pub use ids::{SessionId, Zxid};
pub use jute::{DecodeError, DecodeErrorKind, Reader};
pub use op::{Op, OpKind};
pub use stat::Stat;
pub use txn::{Txn, TxnDigest, TxnHeader};
