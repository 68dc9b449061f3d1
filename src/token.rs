//! Keys that both sides know, from files that only their user reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sidewire_platform::{create_private_file, read_private_file};
use sidewire_wire::PROOF_LEN;
use subtle::ConstantTimeEq;

/// A key of 32 random bytes that a server and its clients know, and nobody else: for endpoints where the system does not
/// say who is at the other end, `tcp:` above all. Each side proves to the other one that it knows the key, without
/// showing it (HMAC-SHA-256 under the key, of both hellos with their random numbers), before anything is executed; see
/// [the protocol](crate::protocol::reference). For [`Listen::token`](crate::Listen::token) and
/// [`Connect::token`](crate::Connect::token).
///
/// What it does not do: nothing that follows is encrypted or signed. Whoever is dialled in place of the server, while that
/// runs, can pass both hellos and the proofs on, and then read and write what he likes. So a client has to know the port:
/// a server has one that is its own, not one that it has got by port 0 in an earlier run, and its clients write
/// `127.0.0.1` or `[::1]`, not `localhost`, which is both. One key serves one server, since all who have it stand for each
/// other. Strangers can't get in, but can take up to three quarters of the places, each for some seconds
/// ([`ListenerLimits`](crate::ListenerLimits)), and a client that knows the key is then told to try again.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Key(Key),
    File(PathBuf),
}

impl Token {
    /// This key, however both sides have got it. It should be random: all of what it protects hangs on that.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Token {
        Token(Source::Key(Key(key)))
    }

    /// The key in this file. A server creates the file with a new key if it is not there, for its own user alone, when it
    /// begins to listen, and leaves it there when it ends; clients read it whenever they connect.
    ///
    /// Put it where nobody else may put files: beside a `local:` server's socket, or into the app's own folder.
    ///
    /// # Errors
    /// Listening or connecting fails with [`is_invalid_input`](crate::Error::is_invalid_input) if others may read or write
    /// the file, if it belongs to another user, or if it does not hold 32 bytes; connecting with
    /// [`is_not_listening`](crate::Error::is_not_listening) if it is not there.
    ///
    /// # Platform-specific behavior
    /// Unix: the file is created with mode 0600; one that has any bit of 0077, or belongs to neither this user nor root, is
    /// not used, nor a symbolic link. What an access control list allows beyond the mode is not looked at (macOS, NFS).
    /// Windows: it is created with a descriptor of this user and SYSTEM; one that allows anybody else but the Administrators
    /// anything is not used, nor a link. Integrity levels don't count: a process of the same user with a lower one than the
    /// server's can read the file.
    pub fn file(path: impl Into<PathBuf>) -> Token {
        Token(Source::File(path.into()))
    }

    /// As a server has it.
    pub(crate) fn of_server(&self) -> io::Result<Arc<dyn sidewire_wire::Token>> {
        self.key(|path| {
            let mut key = [0; PROOF_LEN];
            getrandom::fill(&mut key).map_err(io::Error::other)?;
            match create_private_file(path, &key) {
                // Somebody else was faster: then that one counts.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
                created => created.map(|()| Key(key)),
            }
        })
    }

    /// As a client has it.
    pub(crate) fn of_client(&self) -> io::Result<Arc<dyn sidewire_wire::Token>> {
        self.key(read)
    }

    fn key(&self, from: impl FnOnce(&Path) -> io::Result<Key>) -> io::Result<Arc<dyn sidewire_wire::Token>> {
        let key = match &self.0 {
            Source::Key(key) => key.clone(),
            Source::File(path) => from(path).map_err(|error| {
                let kind = match error.kind() {
                    io::ErrorKind::NotFound => io::ErrorKind::NotFound,
                    _ => io::ErrorKind::InvalidInput,
                };
                io::Error::new(kind, format!("the token file {}: {error}", path.display()))
            })?,
        };
        Ok(Arc::new(key))
    }
}

fn read(path: &Path) -> io::Result<Key> {
    let bytes = read_private_file(path, PROOF_LEN)?;
    let found = bytes.len();
    let key = bytes.try_into();
    key.map(Key).map_err(|_| io::Error::other(format!("it holds {found} bytes, and a key has {PROOF_LEN}")))
}

/// The key itself is shown to nobody.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Key(key) => key.fmt(f),
            Source::File(path) => f.debug_tuple("Token").field(path).finish(),
        }
    }
}

#[derive(Clone)]
struct Key([u8; PROOF_LEN]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl sidewire_wire::Token for Key {
    fn prove(&self, pieces: &[&[u8]]) -> [u8; PROOF_LEN] {
        // A key of one block of the hash or less is taken as it is (RFC 2104, 2).
        let mut block = [0; 64];
        block[..PROOF_LEN].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        pieces.iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes().into()
    }

    fn is_same(&self, ours: &[u8; PROOF_LEN], theirs: &[u8; PROOF_LEN]) -> bool {
        ours.ct_eq(theirs).into()
    }
}

#[cfg(test)]
mod tests {
    use sidewire_wire::Token as _;

    use super::*;

    /// By Python's hmac module: `hmac.new(bytes(range(32)), b"serverab", "sha256")`.
    #[test]
    fn a_proof_is_hmac_sha_256() {
        let key = Key(std::array::from_fn(|at| at as u8));
        let proof = key.prove(&[b"server", b"a", b"b"]);
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f07d3271b9a81bdf04be4f1bdb560ed866a17bfa8df18907c82b261bb0781c25");
        assert!(key.is_same(&proof, &key.prove(&[b"serverab"])));
        assert!(!key.is_same(&proof, &key.prove(&[b"clientab"])));
    }

    #[test]
    fn a_server_makes_the_file_and_both_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = Token::file(folder.path().join("key"));
        assert_eq!(token.of_client().expect_err("none").kind(), io::ErrorKind::NotFound);
        let proofs = [token.of_server(), token.of_server(), token.of_client()]
            .map(|key| key.expect("a key").prove(&[b"x"]));
        assert_eq!(proofs, [proofs[0]; 3]);
        let other = Token::file(folder.path().join("another")).of_server().expect("a key");
        assert_ne!(other.prove(&[b"x"]), proofs[0]);
        create_private_file(&folder.path().join("short"), b"12345").expect("a file");
        let short = Token::file(folder.path().join("short"));
        for error in [short.of_server().expect_err("short"), short.of_client().expect_err("short")] {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains("short") && text.contains("5 bytes"), "{text}");
        }
    }

    #[test]
    fn no_key_is_shown() {
        let token = Token::new([7; 32]);
        assert_eq!(format!("{token:?} {:?}", token.of_client().expect("a key")), "Token(..) Token(..)");
    }
}
