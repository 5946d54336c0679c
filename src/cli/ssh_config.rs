//! `weir ssh-config`: settings with which plain ssh, and all that runs it, reach targets as
//! `LOGIN@TARGET.weir`.
//!
//! The gateway is told the target by the name in TLS (SNI), in which `weir proxy-command` wraps the
//! connection: OpenSSH before 10 sends the user name as it was typed and nothing else that a
//! gateway could know the target by.

use std::path::Path;

use crate::cli::args::access;
use crate::cli::certificate;
use crate::cli::client::CallError;
use crate::cli::client::Client;
use crate::cli::encode;
use crate::cli::files;
use crate::cli::home::own_program;
use crate::cli::print;
use crate::cli::profile::Profile;

/// Prints the settings, or installs them.
pub(super) fn run(args: &access::SshConfig) -> Result<(), CallError> {
    let client = Client::new(&args.gateway)?;
    let about = client.link().about()?;
    let known_hosts = certificate::known_hosts(&client, &about)?;
    let dir = certificate::own_dir(&client)?;
    let (key, certificate) = certificate::ssh_files(&dir);
    let text = Settings {
        program: &own_program(),
        profile: client.profile(),
        suffix: suffix(&args.suffix)?,
        gateway: certificate::gateway_name(&about)?,
        known_hosts: &known_hosts,
        key: &key,
        certificate: &certificate,
        user: client.home().user(),
    }
    .text()?;
    // Sockets of shared connections are there: without it, ssh would not connect at all.
    let folder = client.home().user().join(".ssh");
    files::private_dir(&folder).or_else(|error| match error {
        // Many a ~/.ssh lets others look at its names.
        files::FileError::Open { .. } => Ok(()),
        files::FileError::Io { .. }
        | files::FileError::Foreign { .. }
        | files::FileError::Odd { .. } => Err(error),
    })?;
    if !args.install {
        print::raw(&text);
        return Ok(());
    }
    let own = dir.join("ssh_config");
    files::write(&own, 0o600, text.as_bytes())?;
    let main = folder.join("config");
    // A link leads to where the file really is: that one is written.
    let main = std::fs::canonicalize(&main).unwrap_or(main);
    let old = files::read_open(&main)?.unwrap_or_default();
    let old = String::from_utf8(old.to_vec()).map_err(|_| {
        CallError::Usage(format!(
            "{} is not UTF-8: include {} by hand",
            main.display(),
            own.display()
        ))
    })?;
    if let Some(new) = included(&old, &own)? {
        files::write(&main, 0o600, new.as_bytes())?;
    }
    print::line(&format!("{} is included from {}", own.display(), main.display()));
    print::line(&format!("try: ssh LOGIN@TARGET.{}", args.suffix));
    Ok(())
}

/// What is in the settings.
#[derive(Debug)]
struct Settings<'a> {
    program: &'a str,
    profile: &'a Profile,
    suffix: &'a str,
    gateway: &'a str,
    known_hosts: &'a Path,
    key: &'a Path,
    certificate: &'a Path,
    user: &'a Path,
}

impl Settings<'_> {
    fn text(&self) -> Result<String, CallError> {
        let Self { suffix, gateway, .. } = self;
        let renew = self.command("ssh-certificate --quiet")?;
        let carry = self.command("proxy-command")?;
        // A quote would end the word that `exec` is; what is quoted for the shell has single ones.
        if renew.contains('"') {
            return Err(CallError::Usage(format!("ssh cannot be told this path: {renew}")));
        }
        Ok(format!(
            "# Targets of {url} as LOGIN@TARGET.{suffix}, written by `weir ssh-config`.\n\
             # The certificate is renewed before it is used. Without a login, ssh shows a link.\n\
             Match originalhost *.{suffix},!*.*.{suffix} exec \"{renew}\"\n  \
               IdentityFile {key}\n  CertificateFile {certificate}\n  IdentitiesOnly yes\n\
             Match originalhost *.{suffix},!*.*.{suffix}\n  \
               ProxyCommand {carry} -- %n\n  HostKeyAlias {gateway}\n  \
               UserKnownHostsFile {known_hosts}\n  StrictHostKeyChecking yes\n  \
               UpdateHostKeys no\n  ControlMaster auto\n  ControlPath {control}\n  \
               ControlPersist 10m\nMatch all\n",
            url = self.profile.gateway,
            key = quoted(self.key)?,
            certificate = quoted(self.certificate)?,
            known_hosts = quoted(self.known_hosts)?,
            // Short: the name of a socket has 108 bytes at most.
            control = control(self.user)?,
        ))
    }

    /// A command line of this program for the shell, in which ssh reads `%` as a token. The gateway
    /// is named in full, so that variables of the environment do not lead elsewhere.
    fn command(&self, verb: &str) -> Result<String, CallError> {
        let mut command = format!("{} {verb}", encode::quoted(self.program));
        for word in self.profile.flags() {
            command.push(' ');
            command.push_str(&encode::quoted(&word));
        }
        plain(&command)?;
        Ok(command.replace('%', "%%"))
    }
}

impl Profile {
    /// The options that name this profile, whatever the environment says.
    pub(super) fn flags(&self) -> Vec<String> {
        let mut flags = vec![
            "--profile".to_owned(),
            self.name.clone(),
            "--gateway".to_owned(),
            self.gateway.clone(),
        ];
        if let Some(file) = &self.ca_file {
            flags.extend(["--ca-file".to_owned(), file.display().to_string()]);
        }
        flags
    }
}

/// A socket for connections that are shared; its name has a digest of host, port and user.
fn control(user: &Path) -> Result<String, CallError> {
    let path = quoted(&user.join(".ssh/weir-"))?;
    Ok(format!("{}%C\"", path.trim_end_matches('"')))
}

/// What names of targets end with: labels of a DNS name, not a pattern of ssh's.
fn suffix(text: &str) -> Result<&str, CallError> {
    let text = text.trim_start_matches('.');
    match text.parse::<crate::model::HostName>() {
        Ok(_) => Ok(text),
        Err(error) => Err(CallError::Usage(error.to_string())),
    }
}

/// A path as ssh reads it: within double quotes, `%` doubled.
pub(super) fn quoted(path: &Path) -> Result<String, CallError> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\\']));
    let text = text.ok_or_else(|| {
        CallError::Usage(format!("ssh cannot be told this path: {}", path.display()))
    })?;
    plain(text)?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

fn plain(text: &str) -> Result<(), CallError> {
    if text.chars().any(char::is_control) {
        return Err(CallError::Usage("ssh cannot be told a path with control signs".to_owned()));
    }
    Ok(())
}

/// The configuration with our file included first, where settings of no host precede it; `None`
/// where it is included already.
fn included(old: &str, own: &Path) -> Result<Option<String>, CallError> {
    let line = format!("Include {}", quoted(own)?);
    if old.lines().any(|kept| kept.trim() == line) {
        return Ok(None);
    }
    // First: ssh takes the first value it finds, and behind a `Host` it would be part of that.
    Ok(Some(format!("{line}\n{old}")))
}

/// The target's name in what ssh was asked for.
pub(super) fn target_of(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// What ssh makes of the settings for a host.
    fn meant(dir: &Path, program: &str, host: &str) -> String {
        let profile = Profile {
            name: "eu".to_owned(),
            gateway: "https://weir.example:8443".to_owned(),
            ca_file: Some(PathBuf::from("/a 100%/ca.pem")),
            provider: None,
            kept: true,
        };
        let settings = Settings {
            program,
            profile: &profile,
            suffix: "weir",
            gateway: "weir.example",
            known_hosts: &dir.join("known hosts"),
            key: &dir.join("id_ed25519"),
            certificate: &dir.join("id_ed25519-cert.pub"),
            user: dir,
        };
        let file = dir.join("config");
        fs::write(&file, settings.text().unwrap()).unwrap();
        let ran = Command::new("ssh").arg("-G").arg("-F").arg(&file).arg(host).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }

    #[test]
    fn ssh_goes_through_the_gateway_with_the_certificate_and_believes_its_hosts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let meant = meant(dir.path(), "/bin/true", "deploy@web-1.weir");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for line in [
            "user deploy",
            "hostkeyalias weir.example",
            "stricthostkeychecking true",
            "controlmaster auto",
            "controlpersist 600",
            "identitiesonly yes",
            &format!("identityfile {}", path("id_ed25519")),
            &format!("certificatefile {}", path("id_ed25519-cert.pub")),
        ] {
            assert!(meant.lines().any(|found| found == line), "no `{line}` in\n{meant}");
        }
        assert!(meant.contains(&path("known hosts")), "{meant}");
        let command = meant.lines().find_map(|line| line.strip_prefix("proxycommand ")).unwrap();
        assert!(command.starts_with("/bin/true proxy-command --profile eu --gateway https://"));
        assert!(command.contains("'/a 100%%/ca.pem'") && command.ends_with("-- %n"), "{command}");
    }

    #[test]
    fn without_a_login_ssh_still_goes_there_and_asks() {
        let dir = tempfile::tempdir().unwrap();
        let meant = meant(dir.path(), "/bin/false", "deploy@web-1.weir");
        assert!(meant.contains("proxycommand /bin/false") && !meant.contains("certificatefile"));
    }

    #[test]
    fn other_hosts_and_another_profiles_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for host in ["web-1.example", "weir", "web-1.us.weir", "web-1.weir.example"] {
            let meant = meant(dir.path(), "/bin/true", host);
            assert!(!meant.contains("proxycommand"), "{host}: {meant}");
            assert!(!meant.contains("hostkeyalias"), "{host}");
        }
    }

    #[test]
    fn it_is_included_once_and_what_was_there_stays() {
        let own = Path::new("/home/al ice/.local/state/weir/eu/ssh_config");
        let old = "# mine\nHost *\n  User root\n";
        let new = included(old, own).unwrap().unwrap();
        assert!(new.starts_with("Include \"/home/al ice/") && new.ends_with(old), "{new}");
        assert_eq!(included(&new, own).unwrap(), None);
    }

    #[test]
    fn what_ssh_cannot_read_is_refused() {
        for path in ["/a\"b", "/a\nb", "/a\\b"] {
            assert!(quoted(Path::new(path)).is_err(), "{path:?}");
        }
        for bad in ["*", "a b", "", "A", "we?r"] {
            assert!(suffix(bad).is_err(), "{bad:?}");
        }
        assert_eq!(suffix(".eu.weir").unwrap(), "eu.weir");
    }
}
