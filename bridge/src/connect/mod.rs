//! `sidewire-bridge connect`: a local endpoint whose calls go to whoever serves the app, wherever that is.

mod answering;
mod calls;
mod events;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sidewire::{Access, App, DESCRIPTION, Endpoint, EndpointKind, Limits, Listen, Server, Token, WhenSlow};
use tokio::task::unconstrained;

use crate::broker::Broker;
use crate::message::Subjects;
use crate::options::{self, BrokerOptions, Who};
use crate::{Result, Stop, say, stopped};
use calls::{Bounds, Calls};
use relay::Relay;

/// Offers a local endpoint whose calls go to whoever serves NAME
///
/// When it is open it prints a line `listening ENDPOINT`. It serves until Ctrl-C, SIGTERM or SIGHUP; what was asked by
/// then has two seconds to be answered. While the broker is away calls are answered busy (-6), not executed.
///
/// Exit status: 0 stopped
///              1 the endpoint could not be opened, or the broker is not there or does not want us
///              2 usage: a bad endpoint or argument
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where to listen: local:NAME, unix:/PATH, abstract:NAME, pipe:NAME, tcp:HOST:PORT
    #[arg(value_name = "ENDPOINT")]
    endpoint: Endpoint,
    #[command(flatten)]
    broker: BrokerOptions,
    /// Who may connect to the endpoint
    #[arg(long, value_name = "WHO", default_value = "same-user")]
    access: Who,
    /// Serve only clients that prove that they know the key in this file, which is made if it is not there
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The largest type and topic that is passed on
    #[arg(long, value_name = "TYPE", default_value_t = 255)]
    max_type: u16,
    /// How long nothing is heard of a call before it counts as lost, and is answered timed out (-7): a serving bridge says
    /// every 2 seconds that it still has it
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = options::seconds)]
    silence: Duration,
    /// The most calls that may be open; more are answered busy (-6)
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_calls: u32,
}

/// What open calls may have brought along together.
const MAX_BYTES: usize = 64 << 20;
/// Calls of one client that leave for the broker together, if so many have come: it has the first while the next are taken.
const TOGETHER: usize = 32;
/// For what was asked before the end.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Args, mut stop: Stop) -> Result<()> {
    if args.endpoint.kind() != EndpointKind::Stream {
        return Err(format!("{}: calls are passed on from streams only", args.endpoint));
    }
    let broker = Broker::connect(&args.broker, options::WAITING_PARTS).await?;
    let subjects = Subjects::of(&args.broker.app);
    let bounds = Bounds { silence: args.silence, calls: args.max_calls as usize, bytes: MAX_BYTES };
    let (calls, mut replies) = Calls::open(&broker, &subjects, bounds).await?;
    // Before anybody can subscribe, so that no event is missed behind that.
    let mut news = broker.subscribe(&subjects.events(), None).await?;
    let (settled, nobody) = (calls.subject(0), subjects.line("nobody.nobody"));
    tokio::select! {
        settled = broker.settle(&mut replies, &settled, &nobody) => settled?,
        () = unconstrained(events::pass_over(&mut news)) => {}
        () = stopped(&mut stop) => return Ok(()),
        why = broker.closed() => return Err(why),
    }
    let relay = Relay::new(broker.clone(), subjects, Arc::clone(&calls), args.broker.app.clone());
    let mut server = listen(&args, Arc::new(relay))?;
    let remote = server.remote().map_err(|error| error.to_string())?;
    // All that has come is taken before more is read.
    let tasks = [
        tokio::spawn(unconstrained(Arc::clone(&calls).take_replies(replies))),
        tokio::spawn(unconstrained(events::pass_on(news, remote.clone()))),
        tokio::spawn(Arc::clone(&calls).watch_for_silence()),
    ];
    // In a task of its own: nothing else is looked at each time that a call comes.
    let mut serving = tokio::spawn(serve(server));
    let ended = tokio::select! {
        () = stopped(&mut stop) => Ok(()),
        why = broker.closed() => Err(why),
        served = &mut serving => {
            let why = served.unwrap_or_else(|error| Err(error.to_string())).err().unwrap_or_default();
            return Err(format!("{}: {why}", args.endpoint));
        }
    };
    // What was asked is answered, as far as that goes; then nobody hears from us any more.
    if remote.stop_within(GRACE).is_ok() {
        let _ = serving.await;
    }
    let _ = tokio::time::timeout(GRACE, broker.client.flush()).await;
    tasks.iter().for_each(|task| task.abort());
    ended
}

/// The local server.
fn listen(args: &Args, relay: Arc<Relay>) -> Result<Server<()>> {
    let failed = |error: sidewire::Error| error.to_string();
    let mut limits = Limits::default();
    limits.turn_frames = TOGETHER;
    let mut server = Server::builder(()).limits(limits).types(usize::from(DESCRIPTION) + 1);
    server = server.app(App::new(&args.broker.app, ""));
    let mut server = server.build().map_err(failed)?;
    for msg_type in (0..=args.max_type).chain([DESCRIPTION]) {
        let (relay, subject) = (Arc::clone(&relay), relay.subject(msg_type));
        server.on(msg_type, move |(), request, reply| relay.ask(&subject, request, reply));
    }
    (0..=args.max_type).for_each(|topic| server.topic(topic, WhenSlow::DropNewest));
    let mut listen = Listen::on(args.endpoint.clone()).map_err(failed)?;
    listen = match (&args.token_file, args.access) {
        (Some(file), _) => listen.token(Token::file(file)),
        (None, who) => listen.access(Access::from(who)),
    };
    let bound = server.listen(listen).map_err(failed)?;
    say(&format!("listening {bound}"));
    Ok(server)
}

/// Serves until it is stopped: in this thread, so that a call does not have to wake another one on its way out and on its way
/// back, or where loops have no descriptor in one of its own.
async fn serve(mut server: Server<()>) -> Result<()> {
    let served = match server.run_async().await {
        Err(error) if error.is_unsupported() => tokio::task::spawn_blocking(move || server.run()).await,
        served => Ok(served),
    };
    match served {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
