//! Tasks on one connection: calls at a time, a time limit, events, and handlers that are async themselves.
//!
//! cargo run --features tokio --example async

mod support;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sidewire::tokio::Client;
use sidewire::{Running, Server, WhenSlow};
use support::{finish, print};
use tokio::runtime::{Builder, Handle};

/// Takes as many milliseconds as the payload says.
const WAIT: u16 = 1;
/// An event: somebody has waited.
const WAITED: u16 = 2;

fn main() -> ExitCode {
    finish("async", "", Some(run()))
}

fn run() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let name = format!("local:async-{}", std::process::id());
    let server = serve(&name, runtime.handle())?;
    runtime.block_on(ask(&name))?;
    server.stop()?;
    Ok(())
}

/// The server has a loop of its own. A handler that has to wait leaves that to a task, which answers in the end, and
/// notices if nobody waits for the answer any more.
fn serve(name: &str, runtime: &Handle) -> Result<Running<()>, Box<dyn Error>> {
    let mut server = Server::new(());
    server.topic(WAITED, WhenSlow::DropNewest);
    let (runtime, remote) = (runtime.clone(), server.remote()?);
    server.on(WAIT, move |(), request, reply| {
        let millis: u64 = std::str::from_utf8(request.payload()).unwrap_or_default().parse().unwrap_or(0);
        let (responder, remote) = (reply.defer()?, remote.clone());
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            responder.reply(format!("waited {millis} ms"));
            remote.publish(WAITED, millis.to_string())
        });
        Ok(())
    });
    server.listen(name)?;
    Ok(server.spawn()?)
}

async fn ask(name: &str) -> Result<(), Box<dyn Error>> {
    let client = Arc::new(Client::connect(name).await?);
    let mut waited = client.subscribe(WAITED).await?;

    // Ten tasks share the connection, and wait at the same time.
    let tasks: Vec<_> = (1..=10)
        .map(|number| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.call(WAIT, (number * 10).to_string()).await })
        })
        .collect();
    for task in tasks {
        print(format!("{}\n", String::from_utf8_lossy(task.await??.payload())))?;
    }

    // An event of each.
    for _ in 0..10 {
        waited.next().await.ok_or("the events end")??;
    }
    print("10 events\n")?;

    // One that takes too long: the server is told, and the connection stays good.
    let error = client.request(WAIT).timeout(Duration::from_millis(20)).send("60000").await;
    print(format!("too long: {}\n", error.is_err_and(|error| error.is_timeout())))?;
    print(format!("{}\n", String::from_utf8_lossy(client.call(WAIT, "1").await?.payload())))?;
    Ok(())
}
