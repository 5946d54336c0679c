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
    rest: BufReader<ChildStderr>,
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
        let mut rest = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let begin = said.len();
            assert_ne!(rest.read_line(&mut said).unwrap(), 0, "psql showed no code: {said}");
            let line = &said[begin..];
            let shown = line
                .strip_prefix("Visit ")
                .and_then(|line| line.split_once(" and enter the code: "));
            if let Some((url, code)) = shown {
                let (url, code) = (url.to_owned(), code.trim().to_owned());
                return Self { child, url, code, rest, said };
            }
        }
    }

    /// Waits until it ends.
    pub fn finish(mut self) -> Ran {
        // Both streams at once, lest it wait for us to read the other.
        let (sender, out) = mpsc::channel();
        let mut stdout = self.child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            let _ended = stdout.read_to_string(&mut text);
            let _nobody_waits = sender.send(text);
        });
        let mut err = self.said.clone();
        self.rest.read_to_string(&mut err).unwrap();
        let patience = Duration::from_secs(PATIENCE_S);
        let out = out.recv_timeout(patience).unwrap();
        Ran { out, err, code: self.child.wait().unwrap().code().unwrap_or(-1) }
    }
}

impl Drop for LoggingIn {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
