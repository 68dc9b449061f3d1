//! A server's socket in the file system: bound, looked after, bound again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::Stat;
use socket2::Socket;

use super::folders::Folders;
use super::identity::euid;
use super::lifecycle::{self, LOCK_PATIENCE, Role};
use super::local::{self, Files};
use super::lock::PathLock;
use super::placed::{Placed, SocketFile};
use super::rights::Rights;
use crate::peer::Address;

/// What a bound socket has in the file system, and how it got there.
///
/// Drop this before the socket; see [`SocketFile`](super::placed::SocketFile).
#[derive(Debug)]
pub(super) struct BoundPath {
    files: Files,
    location: Location,
    role: Role,
    rights: Rights,
    /// Whose files they are.
    uid: u32,
}

/// Where to bind.
#[derive(Debug)]
pub(super) enum Location {
    Path(PathBuf),
    Local { name: String, folders: Folders },
}

impl Location {
    fn bind(&self, role: Role, rights: Rights, patience: Duration) -> io::Result<(Socket, Files)> {
        match self {
            Location::Path(path) => lifecycle::bind(path, role, rights, patience)
                .map(|(socket, file)| (socket, Files { links: Vec::new(), socket: file })),
            Location::Local { name, folders } => local::bind(name, folders, role, rights, patience),
        }
    }
}

impl BoundPath {
    pub(super) fn bind(location: Location, role: Role, rights: Rights) -> io::Result<(Socket, BoundPath)> {
        let (socket, files) = location.bind(role, rights, LOCK_PATIENCE)?;
        Ok((socket, BoundPath { files, location, role, rights, uid: euid() }))
    }

    /// Of a socket that another has bound, by this name, and passes on. The files stay the other's until they are
    /// [ours](BoundPath::own).
    pub(super) fn take_over(
        location: Location,
        role: Role,
        rights: Rights,
        name: &Address,
    ) -> io::Result<BoundPath> {
        let (path, folders) = match (&location, name) {
            (Location::Path(path), _) => (path.clone(), None),
            (Location::Local { name, folders }, Address::Path(path)) => (path.clone(), Some((name, folders))),
            (Location::Local { .. }, _) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let _lock = PathLock::acquire(&path, LOCK_PATIENCE)?;
        let found = Placed::look(&path)?;
        let Some(placed) = Placed::socket(&path, &found) else { return Err(lifecycle::in_the_way(&path)) };
        let links = folders.map_or_else(Vec::new, |(name, folders)| local::links_to(&path, name, folders));
        let files = Files { links, socket: SocketFile::of_another(placed) };
        Ok(BoundPath { files, location, role, rights, uid: euid() })
    }

    /// They are ours from now on.
    pub(super) fn own(&mut self) -> io::Result<()> {
        self.files.links.iter_mut().for_each(SocketFile::own);
        self.files.socket.own();
        self.files.socket.set_rights(self.rights)
    }

    /// They are another's from now on.
    pub(super) fn disown(self) {
        let Files { links, socket } = self.files;
        links.into_iter().for_each(SocketFile::disown);
        socket.disown();
    }

    /// Whether this is our socket's file, by whatever way it was found.
    pub(super) fn is(&self, found: &Stat) -> bool {
        self.files.socket.is(found)
    }

    /// Looks whether the path still leads to us, and if not, binds a new socket in its place, by the
    /// rules of [`BoundPath::bind`] but without waiting for anybody. `None`: all is well. Else
    /// [`adopt`](BoundPath::adopt) what comes.
    pub(super) fn renew(&mut self) -> io::Result<Option<(Socket, Files)>> {
        if self.files.socket.is_in_place()? {
            if let Location::Local { folders, .. } = &self.location {
                self.files.restore_links(folders);
            }
            return Ok(None);
        }
        if euid() != self.uid {
            let text = "the socket's file has gone, and a new one would belong to another user";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        self.location.bind(self.role, self.rights, Duration::ZERO).map(Some)
    }

    /// These are the files from now on.
    pub(super) fn adopt(&mut self, files: Files) {
        let former = std::mem::replace(&mut self.files, files);
        former.socket.disown();
        for link in former.links {
            // What is at these paths was put there just now, perhaps under the same number.
            match self.files.paths().any(|path| path == link.path()) {
                true => link.disown(),
                false => drop(link),
            }
        }
    }
}
