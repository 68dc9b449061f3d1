//! tonic over a Unix socket: what its code generator makes of a service with one unary method, written by hand, so
//! that nobody needs `protoc`. The encoding is prost's.

use std::convert::Infallible;
use std::future::{Ready, ready as at_once};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::measure::{Outcome, Task};
use crate::peers::ready;
use crate::tasks::{Caller, block_on, drive};

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    bytes: Bytes,
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "peers.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let mut unary = tonic::server::Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(unary.unary(Echo, request).await)
        })
    }
}

impl UnaryService<Payload> for Echo {
    type Response = Payload;
    type Future = Ready<Result<Response<Payload>, Status>>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        at_once(Ok(Response::new(request.into_inner())))
    }
}

pub(crate) fn serve(path: &Path) -> Outcome<()> {
    block_on(async {
        let incoming = UnixListenerStream::new(UnixListener::bind(path)?);
        ready("");
        Ok(Server::builder().add_service(Echo).serve_with_incoming(incoming).await?)
    })?
}

pub(crate) fn client(path: &Path, task: Task) -> Outcome<()> {
    block_on(drive(task, async || {
        let path = PathBuf::from(path);
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is asked for and not used.
        Ok(EchoClient {
            channel: Endpoint::try_from("http://localhost")?.connect_with_connector(connect).await?,
        })
    }))?
}

struct EchoClient {
    channel: Channel,
}

impl Caller for EchoClient {
    async fn call(&self, payload: &Bytes) -> Outcome<()> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let request = Request::new(Payload { bytes: payload.clone() });
        let path = PathAndQuery::from_static("/peers.Echo/Echo");
        let codec = ProstCodec::<Payload, Payload>::default();
        let reply = client.unary(request, path, codec).await?.into_inner();
        if reply.bytes.len() == payload.len() { Ok(()) } else { Err("the echo has another length".into()) }
    }
}
