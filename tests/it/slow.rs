//! A slow line: what stands between two peers passes bytes on at a pace that a test sets. It changes
//! none, loses none, and answers nothing itself.

use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a slow line passes something on, in milliseconds.
const TICK_MS: u64 = 50;
/// As many bytes at a time as there are.
const FAST: usize = 64 * 1024;

/// A line to a port of this machine.
pub struct Line {
    port: u16,
    /// How many bytes pass at a time, each way of each connection.
    bytes: Arc<AtomicUsize>,
}

impl Line {
    /// A line to `port`, which is fast until it is told to be slow.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let line = listener.local_addr().unwrap().port();
        let bytes = Arc::new(AtomicUsize::new(FAST));
        let pace = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port)))
                else {
                    continue;
                };
                pass(&client, &server, &pace);
                pass(&server, &client, &pace);
            }
        });
        Self { port: line, bytes }
    }

    /// Where it begins.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on so many bytes pass every 50 ms, each way of each connection.
    pub fn slow(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::SeqCst);
    }

    /// From now on all passes at once.
    pub fn fast(&self) {
        self.slow(FAST);
    }
}

fn pass(from: &TcpStream, to: &TcpStream, pace: &Arc<AtomicUsize>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let pace = Arc::clone(pace);
    std::thread::spawn(move || {
        let mut part = vec![0; FAST];
        loop {
            let bytes = pace.load(Ordering::SeqCst);
            match from.read(&mut part[..bytes]) {
                Ok(0) | Err(_) => break,
                Ok(read) if to.write_all(&part[..read]).is_err() => break,
                Ok(_) if bytes < FAST => std::thread::sleep(Duration::from_millis(TICK_MS)),
                Ok(_) => {}
            }
        }
        let _maybe_gone = to.shutdown(Shutdown::Write);
        let _maybe_gone = from.shutdown(Shutdown::Read);
    });
}
