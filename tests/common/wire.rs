//! Frames, handshakes and replies, as bytes on a connection.

use std::io::{self, Read};
use std::net::TcpStream;

use zorilla_proto::client::{ConnectRequest, ReplyHeader};
use zorilla_proto::{Reader, SessionId, Zxid};

/// A payload as a frame.
pub fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as i32).to_be_bytes()[..], payload].concat()
}

/// The payload of the next frame; `None` when the connection has ended in order instead.
///
/// An end between the bytes of a frame is `UnexpectedEof`, whatever the kind of end.
pub fn next_frame(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let got = stream.read(&mut length)?;
    if got == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[got..])?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut payload).map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error))?;
    Ok(Some(payload))
}

/// The payload of a handshake that asks for a session: a new one, or this one again.
pub fn connect_request(session: SessionId, password: &[u8; 16], timeout_ms: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms,
        session,
        password: Some(password),
        read_only: Some(false),
    };
    request.encode(&mut out);
    out
}

/// What a server sent behind a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub code: i32,
    pub body: Vec<u8>,
}

impl Reply {
    /// Takes the payload of a frame apart.
    pub fn decode(payload: &[u8]) -> Reply {
        let ReplyHeader { xid, zxid, code } =
            ReplyHeader::decode(&mut Reader::new(payload)).expect("a reply has a header");
        Reply { xid, zxid, code, body: payload[ReplyHeader::BYTES..].to_vec() }
    }
}
