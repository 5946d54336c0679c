//! A well-informed insider's attempts, byte by byte: what no client library would send.

use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use crate::demo::Demo;
use crate::demo::finish;
use crate::parts;

/// A PostgreSQL session over TLS for scripts: `Session()`, `send(bytes)`, and `answers(n)`, which reads
/// up to the n-th `ReadyForQuery`, or until something is held.
const SESSION: &str = r#"
import os, socket, ssl, struct
def message(tag, body): return tag + struct.pack('>I', len(body) + 4) + body
def text(words): return words.encode() + b'\0'
def query(sql): return message(b'Q', text(sql))
def parse(name, sql): return message(b'P', text(name) + text(sql) + b'\0\0')
def bind(portal, name): return message(b'B', text(portal) + text(name) + b'\0' * 6)
def execute(portal): return message(b'E', text(portal) + b'\0' * 4)
def close(name): return message(b'C', b'S' + text(name))
SYNC = message(b'S', b'')
class Session:
    def __init__(self):
        plain = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), timeout=60)
        plain.sendall(struct.pack('>II', 8, 80877103))
        assert plain.recv(1) == b'S'
        trust = ssl.create_default_context(cafile=os.environ['CA'])
        self.stream = trust.wrap_socket(plain, server_hostname='localhost').makefile('rwb')
        body = struct.pack('>I', 196608) + b''.join(map(text, ['user', 'alice', 'database', 'customers', '']))
        self.send(struct.pack('>I', len(body) + 4) + body)
        assert self.read()[0] == b'R'
        self.send(message(b'p', text(os.environ['TOKEN'])))
        self.answers(1)
    def send(self, data):
        self.stream.write(data)
        self.stream.flush()
    def read(self):
        tag, length = struct.unpack('>cI', self.stream.read(5))
        return tag, self.stream.read(length - 4)
    def answers(self, count):
        all = b''
        while count:
            tag, body = self.read()
            all += tag + b' ' + body + b'\n'
            if tag == b'Z': count -= 1
            if tag == b'N' and b'held as' in body: break
        return all.decode(errors='replace')
"#;

/// Runs a script as alice; it must succeed. What it printed.
fn alice(demo: &Demo, script: &str) -> String {
    let mut python = Command::new(parts::part("WEIR_PYTHON"))
        .arg("-")
        .env("PORT", demo.port().to_string())
        .env("CA", demo.ca_file())
        .env("TOKEN", demo.token("alice"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(format!("{SESSION}\n{script}").as_bytes()).unwrap();
    drop(stdin);
    let ran = finish(python);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

#[test]
fn what_an_execute_names_cannot_be_prepared_anew_behind_its_bind() {
    let out = alice(
        Demo::shared(),
        r#"
s = Session()
s.send(parse('s', "SELECT name FROM customers") + parse('x', 'EXECUTE s') + bind('p', 'x')
       + close('s') + parse('s', "SELECT email FROM customers") + execute('p') + SYNC)
print(s.answers(1))
s.send(parse('t', "SELECT 1") + parse('y', 'EXECUTE t') + bind('p', 'y') + close('t')
       + parse('t', "UPDATE customers SET city = 'attack-1' WHERE id = 3") + execute('p') + SYNC)
print(s.answers(1))
s.send(parse('u', "SELECT 'as ever'") + parse('z', 'EXECUTE u') + bind('p', 'z') + execute('p') + SYNC)
print(s.answers(1))
"#,
    );
    assert!(!out.contains("@example"), "a masked value: {out}");
    assert!(!out.contains("UPDATE 1"), "a change that nobody approved: {out}");
    assert_eq!(out.matches("prepared anew").count(), 2, "{out}");
    assert!(out.contains("as ever"), "{out}");
}

#[test]
fn a_prepare_that_fails_does_not_hide_what_its_name_means() {
    let out = alice(
        Demo::shared(),
        r#"
for run in [bind('p', 's') + execute('p') + SYNC, query('EXECUTE s')]:
    s = Session()
    s.send(parse('s', "UPDATE customers SET city = 'attack-2' WHERE id = 3") + SYNC)
    s.answers(1)
    s.send(query("PREPARE s AS SELECT 1") + run)
    print(s.answers(2))
"#,
    );
    assert!(!out.contains("UPDATE 1"), "a change that nobody approved: {out}");
    assert_eq!(out.matches("held as").count(), 2, "{out}");
}
