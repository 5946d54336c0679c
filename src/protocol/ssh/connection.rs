//! One client's connection: its sign-in, its channels, and what they ask for.
//!
//! russh calls this inside the connection's loop, so nothing here waits for anybody, save for a
//! sign-in ([`Hello`]), and [`STUCK_MS`] where a client sends on a full channel.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::Channel;
use russh::ChannelId;
use russh::ChannelOpenFailure;
use russh::ChannelWriteHalf;
use russh::Pty;
use russh::Sig;
use russh::keys::Certificate;
use russh::server;
use russh::server::Auth;
use russh::server::ChannelOpenHandle;
use russh::server::Msg;
use russh::server::PublicKeyOffer;
use russh::server::VerifiedPublicKey;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::ssh::Limits;
use crate::protocol::ssh::WINDOW_BYTES;
use crate::protocol::ssh::client::Client;
use crate::protocol::ssh::hello::Entry;
use crate::protocol::ssh::hello::Hello;
use crate::protocol::ssh::hello::Shared;
use crate::protocol::ssh::hello::shown;
use crate::protocol::ssh::inbox::Inbox;
use crate::protocol::ssh::inbox::Size;
use crate::protocol::ssh::link;
use crate::protocol::ssh::link::Session;
use crate::protocol::ssh::refuse::Words;
use crate::protocol::ssh::upstream::Run;
use crate::protocol::ssh::upstream::Start;
use crate::protocol::ssh::upstream::Terminal;

/// How long the loop waits for a full channel at each packet, in milliseconds. Together with a
/// window of [`TRICKLE_BYTES`] a client that goes on sending costs next to nothing.
const STUCK_MS: u64 = 5;
/// The window of a client whose channel is full, in bytes: russh grants no less and still goes on.
const TRICKLE_BYTES: u32 = 2;
/// Packets up to this size wait at a full channel, in bytes; larger ones were granted before.
const SMALL_BYTES: usize = 64;
/// Most channels in one connection's life.
const CHANNELS_IN_ALL_MAX: u32 = 4_096;
/// Most things that are refused and recorded besides commands, before the connection ends.
const REFUSED_MAX: u32 = 100;
/// Most environment variables of a channel.
const VARIABLES_MAX: usize = 32;
/// Longest value of one, in bytes.
const VALUE_BYTES_MAX: usize = 256;
/// Longest name of a terminal, in bytes.
const TERMINAL_BYTES_MAX: usize = 64;

/// One client's connection, as russh's server role drives it.
pub(super) struct Connection {
    pub(super) hello: Hello,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
    pub(super) channels: HashMap<ChannelId, Open>,
    pub(super) opened: u32,
    pub(super) refused: u32,
}

/// An open channel.
pub(super) struct Open {
    inbox: Arc<Inbox>,
    terminal: Option<Terminal>,
    environment: Vec<(String, String)>,
    /// Taken by the one command that a channel runs (RFC 4254 §6.5).
    write: Option<ChannelWriteHalf<Msg>>,
}

impl Connection {
    fn session(&self) -> Option<Arc<Session>> {
        match &*self.shared.entry.borrow() {
            Some(Entry::Session(session)) => Some(Arc::clone(session)),
            Some(Entry::Refused(_)) | None => None,
        }
    }

    /// Records that something was refused which is no command. A client that goes on and on is
    /// disconnected, so that it cannot fill the trail.
    fn refuse(&mut self, what: &str) -> Result<(), russh::Error> {
        self.shared.activity.now();
        self.refused = self.refused.saturating_add(1);
        if self.refused > REFUSED_MAX {
            return Err(russh::Error::Disconnect);
        }
        if let Some(session) = self.session() {
            let refusal = Refusal::new(
                RefusalCode::Unsupported,
                "this gateway carries commands and shells; no forwarding, no agent, no X11",
            );
            if session.guard.refused(what, &refusal).is_err() {
                return Err(russh::Error::Disconnect);
            }
        }
        Ok(())
    }

    /// A channel that runs nothing yet.
    fn unbegun(&mut self, channel: ChannelId) -> Option<&mut Open> {
        self.shared.activity.now();
        self.channels.get_mut(&channel).filter(|open| open.write.is_some())
    }

    /// Begins what a channel asks to run. The request is granted first: on its failure OpenSSH dies
    /// without a text, and here the reason comes on stderr, with a status.
    fn begin(
        &mut self,
        channel: ChannelId,
        run: Run,
        session: &mut server::Session,
    ) -> Result<(), russh::Error> {
        let Some(open) = self.unbegun(channel) else { return session.channel_failure(channel) };
        let Some(write) = open.write.take() else { return session.channel_failure(channel) };
        let inbox = Arc::clone(&open.inbox);
        let (terminal, environment) = (open.terminal.take(), std::mem::take(&mut open.environment));
        let start = Start { terminal, environment, run };
        session.channel_success(channel)?;
        let activity = Arc::clone(&self.shared.activity);
        let client = Client { write, handle: session.handle(), inbox, activity };
        let entry = self.shared.entry.borrow().clone();
        self.shared.tasks.spawn(async move {
            match entry {
                Some(Entry::Session(session)) => link::carry(&session, &client, start).await,
                Some(Entry::Refused(refusal)) => {
                    client.send_refusal_without_session(Words::refusal(&refusal)).await;
                    client.close().await;
                }
                // russh asks for nothing before somebody is signed in.
                None => client.close().await,
            }
        });
        Ok(())
    }
}

impl Drop for Connection {
    /// The client is gone: everything that waits for it must know.
    fn drop(&mut self) {
        for open in self.channels.values() {
            open.inbox.close();
        }
    }
}

/// Whether a variable of the client's environment may reach a target: locale, nothing that a shell
/// or a program takes for an instruction. `TERM` comes with the terminal.
fn may_pass(name: &str, value: &str) -> bool {
    let locale = name == "LANG"
        || name.strip_prefix("LC_").is_some_and(|rest| {
            !rest.is_empty() && rest.len() <= 32 && rest.bytes().all(|b| b.is_ascii_uppercase())
        });
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"_-.@:".contains(&b);
    locale && value.len() <= VALUE_BYTES_MAX && value.bytes().all(harmless)
}

fn is_terminal_name(name: &str) -> bool {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"_-.+".contains(&b);
    (1..=TERMINAL_BYTES_MAX).contains(&name.len()) && name.bytes().all(harmless)
}

type Handled = Result<(), russh::Error>;

impl server::Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.hello.offered(&offer))
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.hello.plain_key())
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, russh::Error> {
        Ok(self.hello.certificate(user, certificate).await)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.hello.secret(user, password).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<server::Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        match response {
            Some(answers) => Ok(self.hello.answer(user, answers).await),
            // Told already that nobody goes on from here; OpenSSH begins again all the same.
            None if self.hello.is_over() => Err(russh::Error::Disconnect),
            None => Ok(self.hello.ask(user)),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        self.shared.activity.now();
        self.channels.retain(|_, open| !open.inbox.is_done());
        self.opened = self.opened.saturating_add(1);
        if self.channels.len() >= self.limits.channels_max || self.opened > CHANNELS_IN_ALL_MAX {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return self.refuse("one channel too many");
        }
        let id = channel.id();
        // Nobody reads the half that would fill up and stop the loop: `data` takes everything.
        let (_, write) = channel.split();
        let open = Open {
            inbox: Arc::new(Inbox::new()),
            terminal: None,
            environment: Vec::new(),
            write: Some(write),
        };
        self.channels.insert(id, open);
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        self.refuse("an x11 channel")
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        self.refuse(&format!("a direct-tcpip channel to {}:{port}", shown(host)))
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        self.refuse("a forwarded-tcpip channel")
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Handled {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        self.refuse(&format!("a direct-streamlocal channel to {}", shown(path)))
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        modes: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Handled {
        let Some(open) = self.unbegun(channel).filter(|_| is_terminal_name(term)) else {
            return session.channel_failure(channel);
        };
        let size = Size { columns, rows, width_pixels, height_pixels };
        open.terminal = Some(Terminal { name: term.to_owned(), size, modes: modes.to_vec() });
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut server::Session,
    ) -> Handled {
        match self.unbegun(channel) {
            Some(open) if may_pass(name, value) && open.environment.len() < VARIABLES_MAX => {
                open.environment.push((name.to_owned(), value.to_owned()));
                session.channel_success(channel)
            }
            Some(_) | None => session.channel_failure(channel),
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut server::Session,
    ) -> Handled {
        self.begin(channel, Run::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        line: &[u8],
        session: &mut server::Session,
    ) -> Handled {
        self.begin(channel, Run::Exec(Bytes::copy_from_slice(line)), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut server::Session,
    ) -> Handled {
        self.begin(channel, Run::Subsystem(name.to_owned()), session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut server::Session,
    ) -> Handled {
        session.channel_failure(channel)?;
        self.refuse("x11 forwarding")
    }

    async fn agent_request(
        &mut self,
        _: ChannelId,
        _: &mut server::Session,
    ) -> Result<bool, russh::Error> {
        self.refuse("agent forwarding").map(|()| false)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut server::Session,
    ) -> Result<bool, russh::Error> {
        self.refuse(&format!("tcpip-forward of {}:{port}", shown(address))).map(|()| false)
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut server::Session,
    ) -> Result<bool, russh::Error> {
        self.refuse(&format!("streamlocal-forward of {}", shown(path))).map(|()| false)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        rows: u32,
        width_pixels: u32,
        height_pixels: u32,
        _: &mut server::Session,
    ) -> Handled {
        let size = Size { columns, rows, width_pixels, height_pixels };
        if let Some(open) = self.channels.get_mut(&channel) {
            match &mut open.terminal {
                Some(terminal) => terminal.size = size,
                None => open.inbox.resize(size),
            }
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _: &mut server::Session,
    ) -> Handled {
        self.shared.activity.now();
        // Names of a client's own are no signals that a target need hear of.
        if let Some(open) = self.channels.get(&channel)
            && !matches!(signal, Sig::Custom(_))
        {
            open.inbox.signal(signal);
        }
        Ok(())
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut server::Session) -> Handled {
        self.shared.activity.now();
        let Some(open) = self.channels.get(&channel) else { return Ok(()) };
        open.inbox.put(data);
        if data.len() <= SMALL_BYTES && open.inbox.is_full() {
            let stuck = Duration::from_millis(STUCK_MS);
            if tokio::time::timeout(stuck, open.inbox.room()).await.is_err() {
                tracing::trace!("a channel is full");
            }
        }
        Ok(())
    }

    /// What a client may send once it has used up its window: next to nothing while a channel of
    /// the connection is full (russh has one number for all of them).
    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        let full = self.channels.values().any(|open| open.inbox.is_full());
        if full { TRICKLE_BYTES } else { u32::try_from(WINDOW_BYTES).unwrap_or(u32::MAX) }
    }

    async fn channel_eof(&mut self, channel: ChannelId, _: &mut server::Session) -> Handled {
        if let Some(open) = self.channels.get(&channel) {
            open.inbox.end();
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut server::Session) -> Handled {
        self.shared.activity.now();
        if let Some(open) = self.channels.remove(&channel) {
            open.inbox.close();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locale_passes_from_the_environment() {
        assert!(may_pass("LANG", "de_DE.UTF-8") && may_pass("LC_ALL", "C"));
        for (name, value) in [
            ("PATH", "/tmp"),
            ("LD_PRELOAD", "/x"),
            ("BASH_ENV", "/x"),
            ("LC_", "C"),
            ("LC_x", "C"),
            ("TERM", "xterm"),
            ("LANG", "() { :;}"),
            ("LANG", "/etc/x"),
            ("LANGUAGE", "C"),
            ("lang", "C"),
            ("LANG", "a\nb"),
        ] {
            assert!(!may_pass(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_terminal_has_a_name_that_is_no_path() {
        assert!(is_terminal_name("xterm-256color"));
        for bad in ["", "../x", "a b", "a\u{1b}", &"x".repeat(65)] {
            assert!(!is_terminal_name(bad), "{bad:?}");
        }
    }
}
