//! Sockets. A thin layer over `mio`: readiness in, bytes to and from whoever asked for them. Knows no protocol.

pub mod client;
