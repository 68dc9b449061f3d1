//! ttrpc over a Unix socket, its async half: what its code generator makes of a service with one method, written by
//! hand. The message is protobuf's own for bytes.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use protobuf::well_known_types::wrappers::BytesValue;
use ttrpc::r#async::{Client, MethodHandler, Server, Service, TtrpcContext};
use ttrpc::context::Context;

use crate::measure::{Outcome, Task};
use crate::peers::ready;
use crate::tasks::{Caller, block_on, drive};

struct Echo;

impl Echo {
    async fn echo(&self, _: &TtrpcContext, request: BytesValue) -> ttrpc::Result<BytesValue> {
        Ok(request)
    }
}

struct EchoMethod {
    service: Arc<Echo>,
}

#[async_trait]
impl MethodHandler for EchoMethod {
    async fn handler(&self, ctx: TtrpcContext, req: ttrpc::Request) -> ttrpc::Result<ttrpc::Response> {
        ttrpc::async_request_handler!(self, ctx, req, BytesValue, echo);
    }
}

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(async {
        let method: Box<dyn MethodHandler + Send + Sync> = Box::new(EchoMethod { service: Arc::new(Echo) });
        let service =
            Service { methods: HashMap::from([("Echo".to_owned(), method)]), streams: HashMap::new() };
        let services = HashMap::from([("peers.Echo".to_owned(), service)]);
        let mut server = Server::new().bind(&address(path))?.register_service(services);
        server.start().await?;
        ready("");
        std::future::pending::<()>().await;
        Ok(())
    })?
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    block_on(drive(task, async || Ok(EchoClient { client: Client::connect(&address(path)).await? })))?
}

fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

struct EchoClient {
    client: Client,
}

impl EchoClient {
    async fn echo(&self, ctx: Context, req: &BytesValue) -> ttrpc::Result<BytesValue> {
        let mut reply = BytesValue::new();
        ttrpc::async_client_request!(self, ctx, req, "peers.Echo", "Echo", reply);
    }
}

impl Caller for EchoClient {
    async fn call(&self, payload: &Bytes) -> Outcome<()> {
        let request = BytesValue { value: payload.to_vec(), ..BytesValue::default() };
        let reply = self.echo(ttrpc::context::with_timeout(0), &request).await?;
        if reply.value.len() == payload.len() { Ok(()) } else { Err("the echo has another length".into()) }
    }
}
