//! A client that does nothing wrong: one session on one connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use zorilla_proto::client::{
    AclVec, ConnectResponse, CreateRequest, PathWatchRequest, Request, Response, SetDataRequest,
};
use zorilla_proto::{Op, Reader, SessionId};

use super::wire::{Reply, connect_request, framed, next_frame};

/// What a client needs to come back to its session on another connection.
#[derive(Clone, Copy)]
pub struct Session {
    pub id: SessionId,
    pub password: [u8; 16],
}

impl Session {
    /// None yet: whoever connects with it gets a new one.
    pub const NEW: Session = Session { id: SessionId::NONE, password: [0; 16] };
}

pub struct Client {
    pub stream: TcpStream,
    pub session: Session,
    /// Of the request sent last.
    xid: i32,
}

impl Client {
    /// Begins or resumes a session on a fresh connection. When it is not valid, the id that came back is `NONE`.
    pub fn begin(mut stream: TcpStream, session: Session, timeout_ms: i32) -> io::Result<Client> {
        stream.write_all(&framed(&connect_request(session.id, &session.password, timeout_ms)))?;
        let mut client = Client { stream, session, xid: 0 };
        let payload = client.frame()?;
        let response = ConnectResponse::decode(&mut Reader::new(&payload)).expect("a connect response");
        client.session = Session { id: response.session, password: response.password };
        Ok(client)
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        next_frame(&mut self.stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Sends requests back to back.
    pub fn send<'a>(&mut self, requests: impl IntoIterator<Item = Request<'a>>) {
        let mut out = Vec::new();
        for request in requests {
            self.xid += 1;
            request.encode_frame(self.xid, &mut out);
        }
        self.stream.write_all(&out).expect("requests can be sent");
    }

    /// The next reply, to whatever was asked first.
    pub fn reply(&mut self) -> io::Result<Reply> {
        self.frame().map(|payload| Reply::decode(&payload))
    }

    /// Sends a request that nothing is under way before, and takes its reply.
    #[track_caller]
    pub fn ask(&mut self, request: Request<'_>) -> Reply {
        self.send([request]);
        let reply = self.reply().expect("a reply");
        assert_eq!(reply.xid, self.xid);
        reply
    }

    /// Creates a znode that everybody may use: its path, or an error code.
    #[track_caller]
    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Result<String, i32> {
        let request = CreateRequest { path: Some(path.into()), data: Some(data), acl: Some(AclVec::OPEN), flags };
        let reply = self.ask(Request::Create(request));
        if reply.code != 0 {
            return Err(reply.code);
        }
        match Response::decode(Op::Create, &mut Reader::new(&reply.body)) {
            Ok(Response::Path(created)) => Ok(created.path.expect("a path").into_owned()),
            other => panic!("{other:?} answers a create"),
        }
    }

    /// Writes a znode, whatever its version: the error code.
    #[track_caller]
    pub fn set(&mut self, path: &str, data: &[u8]) -> i32 {
        self.ask(set(path, data)).code
    }

    /// Data and version, or an error code.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Result<(Vec<u8>, i32), i32> {
        let reply = self.ask(get(path));
        if reply.code != 0 {
            return Err(reply.code);
        }
        match Response::decode(Op::GetData, &mut Reader::new(&reply.body)) {
            Ok(Response::GetData(found)) => Ok((found.data.unwrap_or_default().to_vec(), found.stat.version)),
            other => panic!("{other:?} answers a getData"),
        }
    }

    /// Ends the session, and the connection with it: the error code.
    #[track_caller]
    pub fn close(mut self) -> i32 {
        let code = self.ask(Request::CloseSession).code;
        assert_eq!(self.stream.read(&mut [0]).expect("the end"), 0, "the server ends the connection");
        code
    }
}

/// The request of [`Client::set`].
pub fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData(SetDataRequest { path: Some(path.into()), data: Some(data), version: -1 })
}

/// The request of [`Client::get`].
pub fn get(path: &str) -> Request<'_> {
    Request::GetData(PathWatchRequest { path: Some(path.into()), watch: false })
}
