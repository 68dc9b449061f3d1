//! tarpc over a Unix socket, with bincode: the quicker of the two encodings that it brings.

use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use tarpc::serde_transport::unix;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};

use crate::measure::{Outcome, Task};
use crate::peers::ready;
use crate::tasks::{Caller, block_on, drive};

#[tarpc::service]
trait Echo {
    async fn echo(payload: Bytes) -> Bytes;
}

#[derive(Clone)]
struct Server;

impl Echo for Server {
    async fn echo(self, _: context::Context, payload: Bytes) -> Bytes {
        payload
    }
}

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(async {
        let mut incoming = unix::listen(path, Bincode::default).await?;
        ready("");
        while let Some(transport) = incoming.next().await {
            let requests = BaseChannel::with_defaults(transport?).execute(Server.serve());
            tokio::spawn(requests.for_each(|answer| async {
                tokio::spawn(answer);
            }));
        }
        Ok(())
    })?
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    block_on(drive(task, async || {
        let transport = unix::connect(path, Bincode::default).await?;
        Ok(EchoClient::new(client::Config::default(), transport).spawn())
    }))?
}

impl Caller for EchoClient {
    async fn call(&self, payload: &Bytes) -> Outcome<()> {
        let reply = self.echo(context::current(), payload.clone()).await?;
        if reply.len() == payload.len() { Ok(()) } else { Err("the echo has another length".into()) }
    }
}
