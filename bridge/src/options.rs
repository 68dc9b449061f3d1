//! What the command line says of the broker and of the local side, and what is refused of it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use clap::ValueEnum;
use sidewire::Access;

use crate::Result;

/// The broker, and who we are to it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BrokerOptions {
    /// The broker: nats://HOST:PORT, tls://HOST:PORT; said again, others of the same cluster
    #[arg(long = "nats", value_name = "URL", required = true, value_parser = url)]
    urls: Vec<ServerAddr>,
    /// What the server is called there: letters, digits, - and _
    #[arg(long, value_name = "NAME", value_parser = app)]
    pub(crate) app: String,
    /// Our user's name; needs --password-file
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// Our password is the first line of this file
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Our NKEY's seed (SU...) is the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "creds_file"])]
    nkey_file: Option<PathBuf>,
    /// Our credentials, a JWT and its NKEY, as nsc writes them
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    creds_file: Option<PathBuf>,
    /// Trust the brokers whose certificate is signed by one in this file (PEM), besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate (PEM), for brokers that ask for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Talk to a broker on another machine without TLS: whoever is on the way reads and changes what goes there,
    /// passwords included
    #[arg(long)]
    plaintext_beyond_loopback: bool,
}

/// Waiting for an answer of the broker. Behind two pings without one it is lost, and connected to anew.
const PING: Duration = Duration::from_secs(5);
/// Commands that wait for the connection. A call takes one, so more than calls may be open.
const WAITING_COMMANDS: usize = 4096;
/// Messages of one subscription that wait to be looked at, which whoever hears them does at once and to the last one. Those
/// beyond are dropped, counted and logged.
pub(crate) const WAITING_MESSAGES: usize = 8192;
/// The same where replies come in parts: more than the client reads in one go (8 MiB), however small they are.
pub(crate) const WAITING_PARTS: usize = 1 << 17;

impl BrokerOptions {
    /// What is connected to, for people. No secret is in it.
    pub(crate) fn name(&self) -> String {
        let urls = self.urls.iter().map(|url| format!("{}://{}", url.scheme(), place(url)));
        urls.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn urls(&self) -> &[ServerAddr] {
        &self.urls
    }

    /// How to connect. So many messages of each subscription may wait.
    ///
    /// # Errors
    /// If it would be in the clear beyond this machine, or a file can't be read.
    pub(crate) async fn options(&self, waiting: usize) -> Result<ConnectOptions> {
        let is_encrypted = self.is_encrypted();
        self.check_plaintext(is_encrypted)?;
        let mut options = ConnectOptions::new()
            .name(format!("sidewire-bridge {}", self.app))
            .require_tls(is_encrypted)
            .ping_interval(PING)
            .client_capacity(WAITING_COMMANDS)
            .subscription_capacity(waiting)
            .reconnect_delay_callback(|attempts| Duration::from_millis(50 * attempts.clamp(1, 20) as u64));
        if !is_encrypted {
            // A broker on loopback may name others, which are none of those that were asked for.
            options = options.ignore_discovered_servers();
        }
        if let (Some(user), Some(file)) = (&self.user, &self.password_file) {
            options = options.user_and_password(user.clone(), first_line(file, "the password")?);
        }
        if let Some(file) = &self.nkey_file {
            options = options.nkey(first_line(file, "the NKEY's seed")?);
        }
        if let Some(file) = &self.creds_file {
            let loaded = options.credentials_file(file).await;
            options = loaded.map_err(|error| format!("read the credentials {}: {error}", file.display()))?;
        }
        if let Some(file) = &self.tls_ca {
            options = options.add_root_certificates(file.clone());
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(options)
    }

    fn is_encrypted(&self) -> bool {
        self.tls_ca.is_some() || self.tls_cert.is_some() || self.urls.iter().all(ServerAddr::tls_required)
    }

    fn check_plaintext(&self, is_encrypted: bool) -> Result<()> {
        let beyond = self.urls.iter().find(|url| !is_loopback(url.host()));
        match beyond {
            Some(url) if !is_encrypted && !self.plaintext_beyond_loopback => Err(format!(
                "nats://{} is on another machine, and nothing on the way would be encrypted: say tls://{0}, or \
                 --plaintext-beyond-loopback if that is meant",
                place(url)
            )),
            _ => Ok(()),
        }
    }
}

/// Host and port.
fn place(url: &ServerAddr) -> String {
    match url.host() {
        host if host.contains(':') => format!("[{host}]:{}", url.port()),
        host => format!("{host}:{}", url.port()),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn first_line(file: &Path, what: &str) -> Result<String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("read {what} from {}: {error}", file.display()))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(format!("{what} is to be the first line of {}, which is empty", file.display())),
    }
}

/// What is said of a wrong one does not repeat it: it may have a password in it.
fn url(text: &str) -> std::result::Result<ServerAddr, String> {
    let url: ServerAddr =
        text.parse().map_err(|_| "expected nats://HOST:PORT or tls://HOST:PORT".to_owned())?;
    if url.username().is_some() || url.password().is_some() {
        return Err("a command line is no place for secrets: use --user and --password-file".into());
    }
    if url.is_websocket() || url.host().is_empty() {
        return Err("expected nats://HOST:PORT or tls://HOST:PORT".into());
    }
    Ok(url)
}

/// A name that is one token of a subject, and a name of a NATS service.
fn app(text: &str) -> std::result::Result<String, String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(is_fine) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits, - and _".into()),
    }
}

/// Who may be at the other end of the local side.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Who {
    /// Processes of the same user, root and SYSTEM
    SameUser,
    /// Every process that reaches the endpoint
    Anyone,
}

impl From<Who> for Access {
    fn from(who: Who) -> Access {
        match who {
            Who::SameUser => Access::SameUser,
            Who::Anyone => Access::Anyone,
        }
    }
}

/// A time in seconds, such as 0.5.
pub(crate) fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, from 0.1 to 86400".into())
}

#[cfg(test)]
mod tests {
    use super::{app, is_loopback, url};

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["0.0.0.0", "localhost.example", "127.0.0.1.example", "10.0.0.1", "::", "::ffff:127.0.0.1"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
        for text in ["nats://me:hunter2@127.0.0.1", "nats://hunter2@127.0.0.1", "http://me:hunter2@x"] {
            let why = url(text).expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(url("127.0.0.1:4222").is_ok());
    }

    #[test]
    fn names_are_one_token_of_a_subject() {
        assert!(app("a-Store_2").is_ok());
        for name in ["", "a.b", "a b", "*", ">", "ä", &"x".repeat(65)] {
            assert!(app(name).is_err(), "{name:?}");
        }
    }
}
