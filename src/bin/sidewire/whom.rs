//! Whom the commands of a client talk to, and how they are connected.

use std::path::PathBuf;
use std::time::Duration;

use sidewire::{Access, Client, Connect, Error, Token};

use crate::Who;
use crate::target::Target;

// Options of all commands that connect: a comment for the code, since one for people would be each command's.
#[derive(Default, clap::Args)]
pub(crate) struct Whom {
    /// Whose server it may be [default: same-user; anyone for tcp and others where nobody can tell]
    #[arg(long, value_name = "WHO")]
    access: Option<Who>,
    /// Talk to a server only that runs this program (an absolute path)
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Prove that we know the key in this file, and have the server prove the same: see
    /// serve --token-file
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    token_file: Option<PathBuf>,
}

impl Whom {
    /// Why that can't be asked for there.
    pub(crate) fn objection(&self, endpoint: &Target) -> Option<String> {
        let is_unverified = self.token_file.is_none() && !endpoint.can_verify_server();
        matches!((self.access, is_unverified), (Some(Who::SameUser), true)).then(|| {
            format!(
                "{endpoint}: nobody vouches for who serves there; add '--token-file FILE', \
                 or '--access anyone' if that may be anyone"
            )
        })
    }

    /// A connection with the usual options.
    pub(crate) fn connect_to(&self, target: impl Into<Target>, timeout: Duration) -> Result<Client, Error> {
        self.within(target, Some(timeout))?.open()
    }

    /// The same, to be opened with more options. Whose server it may be, unless we are told, depends on whether anybody
    /// can tell.
    pub(crate) fn within(
        &self,
        target: impl Into<Target>,
        timeout: Option<Duration>,
    ) -> Result<Connect, Error> {
        let target = target.into();
        let by_scheme = match target.can_verify_server() || self.token_file.is_some() {
            true => Access::SameUser,
            false => Access::Anyone,
        };
        let mut access = self.access.map_or(by_scheme, Access::from);
        if let Some(path) = &self.program {
            access = access.and_program(path);
        }
        let connect = target.connect()?.access(access).timeout(timeout).call_timeout(timeout);
        Ok(match &self.token_file {
            Some(file) => connect.token(Token::file(file)),
            None => connect,
        })
    }
}
