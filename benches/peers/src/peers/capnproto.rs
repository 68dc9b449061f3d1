//! Cap'n Proto's RPC between two parties, as in its examples: on Tokio's `LocalSet`, read through a buffer.

use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures::AsyncReadExt;
use futures::io::{BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::echo_capnp::echo;
use crate::measure::{Outcome, Task};
use crate::peers::ready;
use crate::tasks::{Caller, block_on, drive};

struct Echo;

impl echo::Server for Echo {
    async fn echo(
        self: Rc<Self>,
        request: echo::EchoParams,
        mut reply: echo::EchoResults,
    ) -> Result<(), capnp::Error> {
        reply.get().set_payload(request.get()?.get_payload()?);
        Ok(())
    }
}

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(LocalSet::new().run_until(async {
        let listener = UnixListener::bind(path)?;
        let echo: echo::Client = capnp_rpc::new_client(Echo);
        ready("");
        loop {
            let network = network(listener.accept().await?.0, Side::Server);
            spawn_local(RpcSystem::new(network, Some(echo.clone().client)));
        }
    }))?
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    block_on(LocalSet::new().run_until(drive(task, async || {
        let mut system = RpcSystem::new(network(UnixStream::connect(path).await?, Side::Client), None);
        let echo: echo::Client = system.bootstrap(Side::Server);
        spawn_local(system);
        Ok(echo)
    })))?
}

fn network(stream: UnixStream, side: Side) -> Box<twoparty::VatNetwork<impl futures::AsyncRead + Unpin>> {
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    Box::new(twoparty::VatNetwork::new(reader, writer, side, Default::default()))
}

impl Caller for echo::Client {
    async fn call(&self, payload: &Bytes) -> Outcome<()> {
        let mut request = self.echo_request();
        request.get().set_payload(payload);
        let reply = request.send().promise.await?;
        if reply.get()?.get_payload()?.len() == payload.len() {
            Ok(())
        } else {
            Err("the echo has another length".into())
        }
    }
}
