//! A PostgreSQL client that sends exactly the messages it is told to and keeps every byte it gets:
//! for what no driver does on purpose.

use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::demo::Demo;
use crate::demo::PATIENCE_S;

/// A message of the server: its type and its body.
pub type Message = (char, Vec<u8>);

/// A connection, signed in.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
    /// Every byte that came, after TLS.
    pub seen: Vec<u8>,
    /// What `BackendKeyData` said: process and key.
    pub key: Vec<u8>,
}

/// The port, in the clear.
pub fn plain(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(PATIENCE_S))).unwrap();
    stream
}

/// A client's message of the type `tag`.
pub fn message(tag: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(tag).unwrap()];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A Query.
pub fn query(text: &str) -> Vec<u8> {
    message('Q', &zero(text))
}

/// A Parse without types.
pub fn parse(name: &str, text: &str) -> Vec<u8> {
    message('P', &[zero(name), zero(text), vec![0, 0]].concat())
}

/// A Bind without values; `binary`: every result in binary.
pub fn bind(portal: &str, statement: &str, binary: bool) -> Vec<u8> {
    let results = [0, 1, 0, u8::from(binary)];
    message('B', &[&zero(portal)[..], &zero(statement), &[0, 0, 0, 0], &results].concat())
}

/// An Execute.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message('E', &[&zero(portal)[..], &rows.to_be_bytes()].concat())
}

/// A Describe or Close of a statement (`S`) or portal (`P`).
pub fn of(tag: char, what: char, name: &str) -> Vec<u8> {
    message(tag, &[vec![u8::try_from(what).unwrap()], zero(name)].concat())
}

/// A Sync.
pub fn sync() -> Vec<u8> {
    message('S', &[])
}

/// A startup packet of version 3.0.
pub fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for (name, value) in pairs {
        body.extend(zero(name));
        body.extend(zero(value));
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend(body);
    packet
}

fn zero(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// A field of an error or notice: `C` is the SQLSTATE, `M` the message.
pub fn field(body: &[u8], name: char) -> String {
    let mut fields = body.split(|byte| *byte == 0);
    let found = fields.find(|field| field.first() == u8::try_from(name).ok().as_ref());
    found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
}

/// The values of a `DataRow`, as text.
pub fn cells(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            cells.push(None);
            rest = behind;
            continue;
        };
        cells.push(Some(String::from_utf8_lossy(&behind[..length]).into_owned()));
        rest = &behind[length..];
    }
    cells
}

/// The types of messages, in order.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|(tag, _)| *tag).collect()
}

/// The SQLSTATE of the first error among messages.
pub fn state_of(messages: &[Message]) -> String {
    let error = messages.iter().find(|(tag, _)| *tag == 'E');
    error.map(|(_, body)| field(body, 'C')).unwrap_or_default()
}

/// The first value of every row among messages.
pub fn rows(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|(tag, _)| *tag == 'D');
    rows.map(|(_, body)| cells(body).swap_remove(0).unwrap_or_default()).collect()
}

impl Wire {
    /// Does TLS; no startup packet is sent yet.
    pub fn encrypted(demo: &Demo) -> Self {
        let mut stream = plain(demo.port());
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"S");
        Self::over(stream, demo)
    }

    /// Does TLS over a connection on which the server has said yes to it.
    pub fn over(stream: TcpStream, demo: &Demo) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(demo.ca_file()).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(tls, stream);
        Self { stream, buffer: Vec::new(), seen: Vec::new(), key: Vec::new() }
    }

    /// Signs in as a person.
    pub fn of(demo: &Demo, person: &str) -> Self {
        let mut wire = Self::encrypted(demo);
        wire.send(&startup(&[("user", person), ("database", "customers")]));
        let (tag, body) = wire.read().expect("a password request");
        assert!(tag == 'R' && body == [0, 0, 0, 3], "{tag} {body:?}");
        wire.send(&message('p', &zero(demo.token(person))));
        let messages = wire.until('Z');
        let key = messages.iter().find(|(tag, _)| *tag == 'K').expect("a key");
        wire.key.clone_from(&key.1);
        wire
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// The next message; `None`: the connection ended.
    pub fn read(&mut self) -> Option<Message> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap());
                let end = usize::try_from(length).unwrap() + 1;
                if self.buffer.len() >= end {
                    let whole = self.buffer.drain(..end).collect::<Vec<_>>();
                    return Some((char::from(whole[0]), whole[5..].to_vec()));
                }
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => {
                    self.seen.extend(&chunk[..count]);
                    self.buffer.extend(&chunk[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let ended = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
                    assert!(ended.contains(&error.kind()), "{error}");
                    return None;
                }
            }
        }
    }

    /// All messages up to the first of the type `last`.
    pub fn until(&mut self, last: char) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let Some(message) = self.read() else {
                panic!("the connection ended after {messages:?}")
            };
            let done = message.0 == last;
            messages.push(message);
            if done {
                return messages;
            }
        }
    }

    /// Sends messages and takes the answers up to `ReadyForQuery`.
    pub fn ask(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.send(bytes);
        self.until('Z')
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.read()).collect()
    }
}
