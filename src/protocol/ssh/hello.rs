//! Who asks, for which login at which target, until the session stands.
//!
//! The user name is `login@target`. There are three ways in:
//!
//! ```text
//! publickey              an OpenSSH certificate of the gateway's; a plain key is no sign-in
//! keyboard-interactive   a link and a code to sign in with in a browser, while the connection waits;
//!                        or a session credential, or a provider's token where the target takes it
//! password               the same two, for clients that can only do that (`sshpass`, libraries)
//! ```
//!
//! A rejection never says what was wrong, and takes [`REJECTION_MS`], whatever it was. Once
//! somebody is verified they are signed in, even where the session is then refused: so that they
//! can be told why, on stderr and with an exit status, as every other refusal. Without a session
//! there is no guard, no leg, and nothing to ask.
//!
//! russh calls this inside the connection's loop, which reads nothing meanwhile. So a wait for a
//! person is cut into rounds of [`ROUND_MS`]: each ends with a question without prompts, which a
//! client answers by itself (RFC 4256 §3.4), and which fails when the client is gone.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::MethodKind;
use russh::MethodSet;
use russh::keys::Certificate;
use russh::server;
use russh::server::Auth;
use russh::server::PublicKeyOffer;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::model::Origin;
use crate::model::Protocol;
use crate::model::Refusal;
use crate::model::TargetName;
use crate::model::login::Use;
use crate::model::refusal::IntoRefusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::ssh::Dials;
use crate::protocol::ssh::Limits;
use crate::protocol::ssh::activity::Activity;
use crate::protocol::ssh::algorithms;
use crate::protocol::ssh::link::Session;
use crate::protocol::ssh::overheard::Overheard;
use crate::session::Admitted;
use crate::session::Asks;
use crate::session::Claim;
use crate::session::Gateway;
use crate::session::Invitation;
use crate::session::invitation::OPEN_S_MAX;
use crate::target::Reach;

/// Longest user name that is looked at, in bytes.
const USER_BYTES_MAX: usize = 128;
/// How long a rejected sign-in takes, in milliseconds, whatever was wrong.
const REJECTION_MS: u64 = 1_000;
/// How long one round of waiting for a person takes, in milliseconds.
const ROUND_MS: u64 = 1_000;
/// Most plain keys that are refused before keys are not asked for any more: certificates come first
/// in OpenSSH's order, unless they are in an agent.
const KEYS_MAX: u32 = 3;
/// Most keys and certificates that are offered in a connection; offers are no tries.
const OFFERS_MAX: u32 = 32;

/// Most times that keyboard-interactive begins in a connection; a question is no rejection, and each
/// may invite somebody.
pub(super) const ASKS_MAX: u32 = 16;

/// What [`super::Server::serve`] and a connection's handler share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What came of signing in; `None` before.
    pub(super) entry: watch::Sender<Option<Entry>>,
    /// When a client that has not signed in is sent away.
    pub(super) patience: watch::Sender<Instant>,
    pub(super) activity: Arc<Activity>,
    pub(super) tasks: TaskTracker,
}

/// What came of signing in.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A session.
    Session(Arc<Session>),
    /// None, and why.
    Refused(Refusal),
}

/// One client's sign-in.
pub(super) struct Hello {
    pub(super) gateway: Arc<Gateway>,
    pub(super) origin: Origin,
    /// The target that the connection itself is for, by its name in TLS.
    pub(super) at: Option<TargetName>,
    pub(super) limits: Limits,
    pub(super) dials: Arc<Dials>,
    pub(super) shared: Arc<Shared>,
    /// What the client says that it is.
    pub(super) program: Overheard,
    /// When the latest sign-in ends that waits for nobody.
    pub(super) soon: Instant,
    pub(super) tried: Tried,
}

/// What a client has tried so far.
#[derive(Default)]
pub(super) struct Tried {
    offers: u32,
    keys: u32,
    asks: u32,
    /// The person who was asked said no, or nobody came: it is not begun again.
    over: bool,
    /// A certificate was shown and not accepted.
    certificate: bool,
    /// Whom keyboard-interactive waits for, under the user name that was given.
    waiting: Option<(String, Invitation)>,
}

/// `login@target`, read strictly: one `@`, and a target's name behind it. The login is compared
/// with the catalogue once somebody is admitted.
fn asked(user: &str) -> Option<(&str, TargetName)> {
    let (login, target) = user.split_once('@').filter(|_| user.len() <= USER_BYTES_MAX)?;
    Some((login, target.parse().ok()?))
}

/// Which login at which target: by the user name, or by the connection; by both only if they agree.
fn asked_at<'u>(user: &'u str, at: Option<&TargetName>) -> Option<(&'u str, TargetName)> {
    match at {
        Some(at) if !user.contains('@') => {
            Some((user, at.clone())).filter(|_| (1..=USER_BYTES_MAX).contains(&user.len()))
        }
        Some(at) => asked(user).filter(|(_, target)| target == at),
        None => asked(user),
    }
}

impl Hello {
    fn asked<'u>(&self, user: &'u str) -> Option<(&'u str, TargetName)> {
        asked_at(user, self.at.as_ref())
    }

    /// A key is offered, alone or in a certificate: russh does not say which. So its owner is asked
    /// to prove it, where that can be verified; nothing comes of a plain key even then.
    pub(super) fn offered(&mut self, offer: &PublicKeyOffer<'_>) -> Auth {
        self.tried.offers = self.tried.offers.saturating_add(1);
        if algorithms::is_users(offer.algorithm) && self.tried.offers <= OFFERS_MAX {
            return Auth::Accept;
        }
        self.plain_key()
    }

    /// A plain key is no sign-in, whoever has it.
    pub(super) fn plain_key(&mut self) -> Auth {
        self.tried.keys = self.tried.keys.saturating_add(1);
        let others = [MethodKind::KeyboardInteractive, MethodKind::Password];
        let enough = self.tried.keys >= KEYS_MAX;
        rejected(enough.then(|| MethodSet::from(others.as_slice())))
    }

    /// A certificate, whose key the client has proved. russh has looked at its time and at its
    /// authority's signature, whoever that is; whose it is and whether it still counts is verified
    /// here. Its bytes are written anew, as an authority writes them: any others fail there.
    pub(super) async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Auth {
        let wait = rejection();
        if let Ok(blob) = certificate.to_bytes() {
            let claim = Claim::SshCertificate { blob: &blob, address: self.origin.address };
            if self.sign_in(user, &claim).await {
                return Auth::Accept;
            }
        }
        self.tried.certificate = true;
        wait.await;
        rejected(None)
    }

    /// A password, or what was typed at the prompt.
    pub(super) async fn secret(&mut self, user: &str, secret: &str) -> Auth {
        let wait = rejection();
        if self.sign_in(user, &Claim::Secret(secret.trim())).await {
            return Auth::Accept;
        }
        wait.await;
        rejected(None)
    }

    /// Whether somebody answered a link of this connection's with no, or nobody did in time.
    pub(super) fn is_over(&self) -> bool {
        self.tried.over
    }

    /// Keyboard-interactive begins: a link is shown, and perhaps a prompt. Whoever abandons it and
    /// begins again for the same user name (RFC 4252 §5.1) is shown the same link.
    pub(super) fn ask(&mut self, user: &str) -> Auth {
        self.tried.asks = self.tried.asks.saturating_add(1);
        if self.tried.asks > ASKS_MAX {
            self.tried.waiting = None;
            return rejected(None);
        }
        let mut lines =
            vec![format!("Weir gateway {}: what is done here is recorded.", self.gateway.name)];
        if self.tried.certificate {
            lines.push("The certificate was not accepted: run `weir login`.".to_owned());
        }
        let Some((_, target)) = self.asked(user) else {
            self.tried.waiting = None;
            lines.push(format!("{}: {}", WHICH.0, self.usage()));
            return self.question(&lines, Some("Session credential: "));
        };
        let now = self.gateway.parts.clock.now();
        let kept = self.tried.waiting.take();
        let kept = kept.filter(|(whose, kept)| whose == user && now < kept.until());
        let invited = match kept {
            Some((_, invitation)) => Ok(invitation),
            None => self.gateway.invite(Asks {
                protocol: Some(Protocol::Ssh),
                target: Some(target.to_string()),
                origin: self.origin.clone(),
                program: self.program.said(),
            }),
        };
        let prompt = self.takes_tokens().then_some("Press Enter to go on, or paste a token: ");
        match invited {
            Ok(invitation) => {
                lines.push(format!("To sign in, open {}", invitation.url()));
                lines.push(format!("It has to show the code {}.", invitation.code()));
                if prompt.is_none() {
                    lines.push("This connection goes on by itself then.".to_owned());
                }
                self.tried.waiting = Some((user.to_owned(), invitation));
            }
            Err(refusal) => lines.push(told(&refusal)),
        }
        self.question(&lines, prompt)
    }

    /// An answer to the question: what was typed, or nothing, and then one more round is waited.
    pub(super) async fn answer(&mut self, user: &str, mut answers: server::Response<'_>) -> Auth {
        self.wait_until(self.latest());
        let (typed, more) = (answers.next(), answers.next());
        let typed = Zeroizing::new(typed.map(|typed| typed.to_vec()).unwrap_or_default());
        let Ok(typed) = std::str::from_utf8(&typed) else { return rejected(None) };
        if more.is_some() {
            return rejected(None);
        }
        if !typed.trim().is_empty() {
            return self.secret(user, typed).await;
        }
        let waiting = self.tried.waiting.as_mut().filter(|(whose, _)| whose == user);
        let Some((_, invitation)) = waiting else {
            // Nobody is waited for, and what there was to say has been read. OpenSSH would begin
            // again, twice: where somebody has answered, there is no method left.
            rejection().await;
            return rejected(self.tried.over.then(MethodSet::empty));
        };
        let until = invitation.until();
        let round = Duration::from_millis(ROUND_MS);
        let refusal = match tokio::time::timeout(round, invitation.answered()).await {
            Ok(Ok(verified)) => {
                self.tried.waiting = None;
                let (gateway, origin) = (&self.gateway, &self.origin);
                self.enter(user, |target| gateway.admit(&verified, target, Protocol::Ssh, origin));
                return Auth::Accept;
            }
            Ok(Err(refusal)) => refusal,
            Err(_) if self.gateway.parts.clock.now() < until => return self.question(&[], None),
            Err(_) => Refusal::new(RefusalCode::Unauthenticated, "nobody signed in in time")
                .hint("connect again, and open the link that is shown"),
        };
        // The next answer finds nobody waiting, and ends it.
        self.tried.waiting = None;
        self.tried.over = true;
        self.question(&[told(&refusal)], None)
    }

    /// Verifies a claim and enters the session that `user` names. `false`: it is not verified.
    async fn sign_in(&self, user: &str, claim: &Claim<'_>) -> bool {
        let target = self.asked(user).map(|(_, target)| target);
        let target = target.as_ref().map(TargetName::as_str);
        let usage = Use::Target(Protocol::Ssh);
        let Ok(verified) = self.gateway.verify(claim, usage, target, &self.origin).await else {
            return false;
        };
        let (gateway, origin) = (&self.gateway, &self.origin);
        self.enter(user, |target| gateway.admit(&verified, target, Protocol::Ssh, origin));
        true
    }

    /// Enters the session that `user` names, for somebody who is verified and whom `admit` admits;
    /// or keeps why there is none.
    fn enter(&self, user: &str, admit: impl FnOnce(&str) -> Result<Admitted, Refusal>) {
        let entry = match self.asked(user) {
            Some((login, target)) => {
                admit(target.as_str()).and_then(|admitted| self.session(admitted, login))
            }
            None => Err(Refusal::new(RefusalCode::Malformed, WHICH.1).hint(self.usage())),
        };
        let entry = entry.map_or_else(Entry::Refused, |session| Entry::Session(Arc::new(session)));
        self.shared.entry.send_replace(Some(entry));
    }

    /// The session of somebody who was admitted. Which logins are offered is told only to them.
    fn session(&self, admitted: Admitted, login: &str) -> Result<Session, Refusal> {
        let Admitted { guard, target } = admitted;
        let Reach::Ssh(ssh) = target.reach() else {
            guard.ending("the target does not speak SSH");
            return Err(Refusal::new(RefusalCode::NoTarget, "this target does not speak SSH"));
        };
        let ssh = ssh.clone();
        let Some(login) = ssh.login(login) else {
            let refusal = Refusal::new(
                RefusalCode::Denied,
                format!("the login `{}` is not offered by `{}`", shown(login), target.name()),
            )
            .hint("ask the platform team which logins this target offers");
            guard.refused("the login that was asked for", &refusal).map_err(|e| e.refusal())?;
            guard.ending("its login is not offered");
            return Err(refusal);
        };
        let opening = self.dials.of(target.name());
        Ok(Session { guard, target, ssh, login, opening })
    }

    /// A question. Without a prompt clients show its lines and answer at once.
    fn question(&self, lines: &[String], prompt: Option<&'static str>) -> Auth {
        let latest = self.latest();
        let round =
            Instant::now().checked_add(Duration::from_secs(self.limits.silent_s_max.into()));
        let round = round.unwrap_or(latest).min(latest);
        self.wait_until(if prompt.is_some() { latest } else { round });
        let prompts = prompt.map(|prompt| (Cow::Borrowed(prompt), false)).into_iter().collect();
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Owned(lines.join("\n")),
            prompts: Cow::Owned(prompts),
        }
    }

    /// When the latest sign-in ends: whoever signs in with a browser gets the time for that.
    fn latest(&self) -> Instant {
        self.soon.checked_add(Duration::from_secs(OPEN_S_MAX)).unwrap_or(self.soon)
    }

    /// The client is sent away at `at`, unless it has signed in or another time was said.
    fn wait_until(&self, at: Instant) {
        self.shared.patience.send_replace(at);
    }

    /// Whether any target takes a provider's token. Not whether this one does: that would tell
    /// strangers which targets there are.
    fn takes_tokens(&self) -> bool {
        self.gateway.version().catalogue.targets().any(|target| target.provider_tokens())
    }

    fn usage(&self) -> String {
        format!("ssh <login>@<target>@{}", self.gateway.name)
    }
}

/// That the user name does not say enough: at a prompt, and as a refusal.
const WHICH: (&str, &str) = (
    "The user name has to say which login at which target",
    "the user name must say which login at which target",
);

/// A refusal as a line of a question.
fn told(refusal: &Refusal) -> String {
    match &refusal.hint {
        Some(hint) => format!("{}: {hint}.", refusal.reason),
        None => format!("{}.", refusal.reason),
    }
}

fn rejected(proceed_with_methods: Option<MethodSet>) -> Auth {
    Auth::Reject { proceed_with_methods, partial_success: false }
}

/// Ends [`REJECTION_MS`] from now, so that all rejections take the same time.
fn rejection() -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(REJECTION_MS))
}

/// A client's text as a record may have it: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_for_a_target_needs_no_target_in_the_user_name_and_takes_no_other() {
        let at = "web-1".parse::<TargetName>().unwrap();
        assert_eq!(asked_at("deploy", Some(&at)), Some(("deploy", at.clone())));
        assert_eq!(asked_at("deploy@web-1", Some(&at)), Some(("deploy", at.clone())));
        for bad in ["deploy@web-2", "", "a@b@web-1", &"x".repeat(USER_BYTES_MAX + 1)] {
            assert!(asked_at(bad, Some(&at)).is_none(), "{bad:?}");
        }
        assert!(asked_at("deploy", None).is_none());
    }

    #[test]
    fn a_user_name_is_a_login_at_a_target() {
        let (login, target) = asked("deploy@web-1").unwrap();
        assert_eq!((login, target.as_str()), ("deploy", "web-1"));
        for bad in [
            "",
            "deploy",
            "@",
            "deploy@",
            "a@b@c",
            "deploy@WEB",
            "deploy@web_1",
            "deploy＠web-1",
            "deploy@web-1 ",
            "deploy@web-1\n",
            "deploy%web-1",
        ] {
            assert!(asked(bad).is_none(), "{bad:?}");
        }
        assert!(asked(&format!("{}@web-1", "x".repeat(USER_BYTES_MAX))).is_none());
    }
}
