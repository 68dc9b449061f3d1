//! zbus from peer to peer, without a bus between: an interface and its proxy, on Tokio. Bytes by `serde_bytes`, as its
//! documents say.

use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::Bytes;
use serde_bytes::ByteBuf;
use zbus::connection::Builder;
use zbus::proxy::CacheProperties;
use zbus::{Connection, Guid};

use crate::measure::{Outcome, Task};
use crate::peers::ready;
use crate::tasks::{Caller, block_on, drive};

struct Echo;

#[zbus::interface(name = "peers.Echo")]
impl Echo {
    async fn echo(&self, payload: ByteBuf) -> ByteBuf {
        payload
    }
}

#[zbus::proxy(interface = "peers.Echo", default_path = "/peers", default_service = "peers.Echo")]
trait Echo {
    async fn echo(&self, payload: &serde_bytes::Bytes) -> zbus::Result<ByteBuf>;
}

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(async {
        let listener = tokio::net::UnixListener::bind(path)?;
        let guid = Guid::generate();
        ready("");
        loop {
            let stream = listener.accept().await?.0.into_std()?;
            let guid = guid.clone();
            tokio::spawn(async move {
                let builder = Builder::unix_stream(stream).server(guid).p2p().serve_at("/peers", Echo);
                let connection = builder.build().await?;
                connection.closed().await;
                zbus::Result::Ok(())
            });
        }
    })?
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    block_on(drive(task, async || {
        let connection = Builder::unix_stream(UnixStream::connect(path)?).p2p().build().await?;
        let proxy = EchoProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        Ok(EchoClient { proxy, _connection: connection })
    }))?
}

struct EchoClient {
    proxy: EchoProxy<'static>,
    _connection: Connection,
}

impl Caller for EchoClient {
    async fn call(&self, payload: &Bytes) -> Outcome<()> {
        let reply = self.proxy.echo(serde_bytes::Bytes::new(payload)).await?;
        if reply.len() == payload.len() { Ok(()) } else { Err("the echo has another length".into()) }
    }
}
