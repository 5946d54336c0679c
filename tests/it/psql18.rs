//! psql 18, which logs in by OAuth: it shows an address and a code, and waits until somebody has
//! entered it there.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::demo::PATIENCE_S;
use crate::demo::Ran;
use crate::parts;

/// psql 18, without a conninfo yet.
pub fn psql18() -> Command {
    let mut psql = parts::ending_with_us("KILL", &parts::part("WEIR_PSQL18"));
    psql.arg("-X").stdin(Stdio::null());
    // Only then does libpq take another CA than the system's, or an issuer without TLS. It also
    // makes it print what it sends.
    psql.env("PGOAUTHDEBUG", "UNSAFE").env("PGCONNECT_TIMEOUT", "60");
    psql
}

/// A psql 18 that is logging in. Dropping it ends it.
pub struct LoggingIn {
    child: Child,
    /// Where to go.
    pub url: String,
    /// What to enter there.
    pub code: String,
    rest: Option<BufReader<ChildStderr>>,
    /// What it has written to its standard error until it showed the code.
    pub said: String,
}

impl LoggingIn {
    /// Starts psql with `conninfo` (with `oauth_issuer` and `oauth_client_id`), `ca_file` being
    /// whom it trusts as issuer, and waits until it shows what to enter. It must.
    pub fn start(conninfo: &str, ca_file: Option<&str>, sql: &str) -> Self {
        let mut psql = psql18();
        psql.args(["-A", "-t", "-c", sql, conninfo]);
        if let Some(ca_file) = ca_file {
            psql.env("PGOAUTHCAFILE", ca_file);
        }
        psql.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = parts::spawn(psql);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut psql = Self {
            child,
            url: String::new(),
            code: String::new(),
            rest: None,
            said: String::new(),
        };
        while psql.code.is_empty() {
            let begin = psql.said.len();
            let count = stderr.read_line(&mut psql.said).unwrap();
            assert_ne!(count, 0, "psql showed no code: {}", psql.said);
            let line = psql.said[begin..].strip_prefix("Visit ");
            let shown = line.and_then(|line| line.split_once(" and enter the code: "));
            if let Some((url, code)) = shown {
                (psql.url, psql.code) = (url.to_owned(), code.trim().to_owned());
            }
        }
        psql.rest = Some(stderr);
        psql
    }

    /// Waits until it ends.
    pub fn finish(mut self) -> Ran {
        // Both streams at once, lest it wait for us to read the other.
        let out = reading(self.child.stdout.take().unwrap());
        let err = reading(self.rest.take().unwrap());
        let patience = Duration::from_secs(PATIENCE_S);
        let out = out.recv_timeout(patience).expect("psql goes on and on");
        let err = self.said.clone() + &err.recv_timeout(patience).unwrap();
        Ran { out, err, code: self.child.wait().unwrap().code().unwrap_or(-1) }
    }
}

fn reading(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let _ended = stream.read_to_string(&mut text);
        let _nobody_waits = sender.send(text);
    });
    text
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
